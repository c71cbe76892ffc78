// Steps 5 to 7 once more, for queries that share their keys: sixteen at a time.
//
// Where supports are large (networks that have just begun to train) or neighbours look at the same
// keys, a collected row of sixteen scores has many members, and treating each alone costs more than
// treating the row: scores are computed again row by row (rescore.h), kappa is solved for all lanes
// at once, and a value is fetched once for all queries that look at it. Rows that are nearly full
// are multiplied with their values as matrices.
#pragma once

#include "gather.h"
#include "rescore.h"
#include "select.h"

namespace hspan::HSPAN_ISA {

// Whether weights and values are better multiplied as matrices than weight by weight. Cycles, measured
// on Sapphire Rapids with D from 48 to 192; the matrices' product reads every value once, in order.
HSPAN_INLINE bool are_full(double weights, int64_t rows, int64_t keys, int64_t depth) {
  constexpr int64_t kNear = 2 << 20;  // bytes of a second-level cache
  const double channels = static_cast<double>(depth), fetched = keys * depth * 4 > kNear ? 2 : 1;
  return weights * fetched * (6 + channels / 5) > 1.2 * static_cast<double>(rows) * channels;
}

// weights[l * stride ...] and keys_out[l * stride ...]: the positive weights of query l.
inline void deal_weights(const float* rows, const int32_t* keys, int64_t count, int64_t stride,
                         float* weights, int32_t* keys_out, int64_t (&counts)[kLanes]) {
  for (int l = 0; l < kLanes; l++) counts[l] = 0;
  int64_t r = 0;
#if defined(__AVX512F__)
  // Sixteen rows at once: what a lane keeps is packed to the left and stored whole, and the next
  // store overwrites what is too much.
  for (; r + kLanes <= count; r += kLanes) {
    const __m512i key = _mm512_loadu_si512(keys + r);
    __m512 w[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i++) w[i] = _mm512_loadu_ps(rows + (r + i) * kLanes);
    transpose(w);
#pragma GCC unroll 16
    for (int l = 0; l < kLanes; l++) {
      const __mmask16 kept = _mm512_cmp_ps_mask(w[l], _mm512_setzero_ps(), _CMP_GT_OQ);
      const int64_t at = l * stride + counts[l];
      _mm512_storeu_ps(weights + at, _mm512_maskz_compress_ps(kept, w[l]));
      _mm512_storeu_si512(keys_out + at, _mm512_maskz_compress_epi32(kept, key));
      counts[l] += __builtin_popcount(kept);
    }
  }
#endif
  for (; r < count; r++)
    for (unsigned m = exceeding(load(rows + r * kLanes), broadcast(0.f)); m; m &= m - 1) {
      const int l = __builtin_ctz(m);
      const int64_t at = l * stride + counts[l]++;
      weights[at] = rows[r * kLanes + l];
      keys_out[at] = keys[r];
    }
}

// out[D, 16] = sum over the rows of value[d] * weights: Channels channels at a time.
template <int Channels>
HSPAN_INLINE void multiply_channels(const float* values, int64_t depth, const int32_t* keys,
                                    const float* rows, int64_t count, bool add, float* out) {
  Lanes sums[Channels];
#pragma GCC unroll 16
  for (int d = 0; d < Channels; d++) sums[d] = broadcast(0.f);
  for (int64_t r = 0; r < count; r++) {
    const Lanes weights = load(rows + r * kLanes);
    const float* value = values + keys[r] * depth;
    if (r + 8 < count) __builtin_prefetch(values + keys[r + 8] * depth + Channels);
#pragma GCC unroll 16
    for (int d = 0; d < Channels; d++) sums[d] = fma(weights, broadcast(value[d]), sums[d]);
  }
#pragma GCC unroll 16
  for (int d = 0; d < Channels; d++)
    store(out + d * kLanes, add ? load(out + d * kLanes) + sums[d] : sums[d]);
}

// out[l][d] = sums[d][l], for some lanes.
inline void transpose_out(const float* sums, int64_t depth, int lanes,
                          float* const (&out)[kLanes]) {
  int64_t d = 0;
#if defined(__AVX512F__)
  for (; d + kLanes <= depth; d += kLanes) {
    __m512 part[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i++) part[i] = _mm512_loadu_ps(sums + (d + i) * kLanes);
    transpose(part);
    for (int l = 0; l < lanes; l++) _mm512_storeu_ps(out[l] + d, part[l]);
  }
#endif
  for (; d < depth; d++)
    for (int l = 0; l < lanes; l++) out[l][d] = sums[d * kLanes + l];
}

// Returns false where a value isn't finite: weights of zero would not keep it out.
inline bool multiply_values(const Image<float>& image, const int32_t* keys, const float* rows,
                            int64_t count, float* out) {
  constexpr int kChannels = kRegisters == 1 ? 16 : kRegisters == 2 ? 4 : 2;
  constexpr int64_t kPiece = 512;  // as in gather
  const int64_t depth = image.value_channels;
  for (int64_t r = 0; r < count; r += kPiece) {
    const int64_t n = smaller(kPiece, count - r);
    int64_t d = 0;
    for (; d + kChannels <= depth; d += kChannels)
      multiply_channels<kChannels>(image.value + d, depth, keys + r, rows + r * kLanes, n, r > 0,
                                   out + d * kLanes);
    for (; d < depth; d++)
      multiply_channels<1>(image.value + d, depth, keys + r, rows + r * kLanes, n, r > 0,
                           out + d * kLanes);
  }
  const Lanes zero = broadcast(0.f);
  Lanes even = zero, odd = zero;
  int64_t d = 0;
  for (; d + 2 <= depth; d += 2) {
    even = fma(load(out + d * kLanes), zero, even);
    odd = fma(load(out + (d + 1) * kLanes), zero, odd);
  }
  if (d < depth) even = fma(load(out + d * kLanes), zero, even);
  return sum(even + odd) == 0;
}

}  // namespace hspan::HSPAN_ISA
