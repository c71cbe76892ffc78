// Parts of an image of features, as 3x3 convolutions read them.
//
// A part lies in memory with two positions more on every side, and its channels, filled up with
// zeros to a multiple of 32, beside each other. Rows follow each other without gaps, so that all
// positions are one long sequence, and a neighbour is a fixed number of places away.
#pragma once

#include "pairs.h"

#if defined(HSPAN_PAIRS)

namespace hspan::HSPAN_ISA {

// How many of the 32 numbers from the d-th on are channels.
HSPAN_INLINE int64_t channels_from(int64_t d, int64_t channels) {
  return larger<int64_t>(0, smaller<int64_t>(32, channels - d));
}

// Copies pixels side by side, count of 32 numbers each; the rest becomes zero.
HSPAN_INLINE void take_pixels(const uint16_t* from, int64_t stride, int64_t pixels, int64_t count,
                              uint16_t* to, int64_t to_stride) {
#if defined(__AVX512BW__)
  const __mmask32 mask = count == 32 ? ~__mmask32{0} : (__mmask32{1} << count) - 1;
  for (int64_t c = 0; c < pixels; c++)
    _mm512_storeu_si512(to + c * to_stride, _mm512_maskz_loadu_epi16(mask, from + c * stride));
#else
  for (int64_t c = 0; c < pixels; c++)
    for (int64_t i = 0; i < 32; i++) to[c * to_stride + i] = i < count ? from[c * stride + i] : 0;
#endif
}

// Copies pixels side by side, count of 32 numbers each, and leaves the rest alone.
HSPAN_INLINE void put_pixels(const uint16_t* from, int64_t stride, int64_t pixels, int64_t count,
                             uint16_t* to, int64_t to_stride) {
#if defined(__AVX512BW__)
  const __mmask32 mask = count == 32 ? ~__mmask32{0} : (__mmask32{1} << count) - 1;
  for (int64_t c = 0; c < pixels; c++)
    _mm512_mask_storeu_epi16(to + c * to_stride, mask, _mm512_loadu_si512(from + c * stride));
#else
  for (int64_t c = 0; c < pixels; c++)
    for (int64_t i = 0; i < count; i++) to[c * to_stride + i] = from[c * stride + i];
#endif
}

HSPAN_INLINE Lanes load_halves(const uint16_t* from) {
#if defined(__AVX512BF16__)
  return {widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))};
#else
  float x[kLanes];
  for (int l = 0; l < kLanes; l++) x[l] = float_of(uint32_t{from[l]} << 16);
  return load(x);
#endif
}

HSPAN_INLINE void clear(uint16_t* from, int64_t count) {
  __builtin_memset(from, 0, static_cast<std::size_t>(count) * 2);
}

// Takes a part out of an image [H, W, C]; what lies outside the image is zero, and so are the spare
// places.
inline void take_part(const Features& image, const Part& part, const uint16_t* from,
                      uint16_t* to) {
  const int64_t depth = part.depth, pitch = part.pitch;
  for (int64_t r = 0; r < part.height + 2 * kHalo; r++, to += pitch * depth) {
    const int64_t y = part.top + r - kHalo;
    if (y < 0 || y >= image.height) {
      clear(to, pitch * depth);
      continue;
    }
    const int64_t x0 = part.left - kHalo;
    const int64_t first = larger<int64_t>(0, -x0);
    const int64_t last = smaller(part.width + 2 * kHalo, image.width - x0);
    clear(to, first * depth);
    const uint16_t* pixel = from + (y * image.width + x0 + first) * image.channels;
    for (int64_t d = 0; d < depth; d += 32)
      take_pixels(pixel + d, image.channels, last - first, channels_from(d, image.channels),
                  to + first * depth + d, depth);
    clear(to + last * depth, (pitch - last) * depth);
  }
  clear(to, kSpare * depth);
}

// Puts a part back, without its halo.
inline void put_part(const Features& image, const Part& part, const uint16_t* from, uint16_t* to) {
  for (int64_t r = 0; r < part.height; r++) {
    const uint16_t* place = from + ((r + kHalo) * part.pitch + kHalo) * part.depth;
    uint16_t* pixel = to + ((part.top + r) * image.width + part.left) * image.channels;
    for (int64_t d = 0; d < image.channels; d += 32)
      put_pixels(place + d, part.depth, part.width, channels_from(d, image.channels), pixel + d,
                 image.channels);
  }
}

// Rows and columns of a part.
struct Area {
  int64_t top, bottom, left, right;
};

HSPAN_INLINE Area without_halo(const Part& part) {
  return {kHalo, kHalo + part.height, kHalo, kHalo + part.width};
}

// Halo of one included, as far as it lies in the image.
HSPAN_INLINE Area inside(const Features& image, const Part& part) {
  return {part.top == 0 ? kHalo : kHalo - 1,
          part.height + kHalo + (part.top + part.height == image.height ? 0 : 1),
          part.left == 0 ? kHalo : kHalo - 1,
          part.width + kHalo + (part.left + part.width == image.width ? 0 : 1)};
}

// Makes zero what the next convolution reads and no pixel stands for.
inline void clear_outside(const Part& part, const Area& area, uint16_t* places) {
  const int64_t row = part.pitch * part.depth;
  clear(places + (area.top - 1) * row, row);
  for (int64_t r = area.top; r < area.bottom; r++) {
    clear(places + r * row, area.left * part.depth);
    clear(places + r * row + area.right * part.depth, (part.pitch - area.right) * part.depth);
  }
  clear(places + area.bottom * row, row);
}

// sums[channel] += the gradients of the output, which are those of the bias.
inline void add_bias_gradients(const Part& part, const uint16_t* places, float* sums) {
  for (int64_t d = 0; d < part.depth; d += kLanes) {
    Lanes total[2] = {broadcast(0.f), broadcast(0.f)};
    for (int64_t r = kHalo; r < part.height + kHalo; r++) {
      const uint16_t* at = places + (r * part.pitch + kHalo) * part.depth + d;
      for (int64_t c = 0; c + 2 <= part.width; c += 2, at += 2 * part.depth) {
        total[0] = total[0] + load_halves(at);
        total[1] = total[1] + load_halves(at + part.depth);
      }
      if (part.width % 2) total[0] = total[0] + load_halves(at);
    }
    store(sums + d, load(sums + d) + (total[0] + total[1]));
  }
}

}  // namespace hspan::HSPAN_ISA

#endif
