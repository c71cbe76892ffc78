// The backward pass of an image in bf16, tile by tile; the work itself is in differentiate_tiles.h.
#pragma once

#include "kernels.h"

namespace hspan {

// Given: of the output, and from the forward pass. Wanted: of query, key and value.
struct TiledGradients {
  const float *grad, *limits;
  float *query, *key, *value;
};

// Computes the gradients of an image whose inputs are bf16 numbers, unless tiles can't be taken or,
// if they needn't be, are expected to be slower than the support's entries one by one: then returns
// false, having written nothing. support: all of the image's, or empty if it wasn't kept.
bool backward_tiles(const Kernels& kernels, const Image<float>& image,
                    const Support<float>& support, const TiledGradients& gradients, bool always,
                    int threads);

}  // namespace hspan
