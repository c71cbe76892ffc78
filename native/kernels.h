// The table of kernels that each instruction set fills in.
#pragma once

namespace hspan {

struct Kernels {
  float (*sum)(const float* values, long count);
};

}  // namespace hspan
