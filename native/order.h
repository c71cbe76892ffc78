// The order in which an image's pixels are processed.
#pragma once

#include <cstdint>

#include "memory.h"

namespace hspan {

// Sixteen pixels that share a tile should be alike: they then look at the same keys. Pixels are
// taken in squares of 4 by 4 instead of rows; what is left at the right and lower edge forms
// smaller rectangles. Returns nothing where the width doesn't divide the tokens.
inline Buffer<int32_t> square_order(int64_t tokens, int64_t width) {
  constexpr int64_t kSide = 4;
  if (width < kSide || tokens % width != 0) return {};
  const int64_t height = tokens / width;
  Buffer<int32_t> order(tokens);
  int64_t place = 0;
  for (int64_t y0 = 0; y0 < height; y0 += kSide)
    for (int64_t x0 = 0; x0 < width; x0 += kSide)
      for (int64_t y = y0; y < y0 + kSide && y < height; y++)
        for (int64_t x = x0; x < x0 + kSide && x < width; x++)
          order[place++] = static_cast<int32_t>(y * width + x);
  return order;
}

}  // namespace hspan
