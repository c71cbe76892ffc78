#include "dispatch.h"
#include "export.h"
#include "kernels.h"

HSPAN_API float hspan_sum(const float* values, long count, int level) noexcept;
float hspan_sum(const float* values, long count, int level) noexcept {
  return hspan::choose(level).sum(values, count);
}
