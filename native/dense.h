// Steps 4 to 7 for queries that look at most of the blocks, in calls that are bf16 throughout: all
// scores, all weights, zeros included, and their product with all values, on AMX.
//
// So it is in networks that train from scratch. Products of bf16 numbers are exact, and their sums
// in float32 good enough for an output in bf16: nothing is multiplied again. Weights are rounded to
// bf16, as autocast would round them for softmax.
#pragma once

#include "pairs.h"
#include "rescore.h"
#include "tiles.h"

namespace hspan::HSPAN_ISA {

#if defined(HSPAN_AMX)

constexpr int64_t kKeysAtOnce = 32;  // that a tile instruction sums over

// Values in pairs of keys, channel by channel: words [D / 16, M / 32] tiles of [16 channels, 16
// pairs], the keys in the order of their places. Returns false where one isn't finite: a weight of
// zero would not keep it out.
inline bool pack_values(const Image<float>& image, uint32_t* words) {
  const int64_t groups = (image.keys + kKeysAtOnce - 1) / kKeysAtOnce, depth = image.value_channels;
  uint32_t not_finite = 0;
  for (int64_t group = 0; group < groups; group++) {
    const float* rows[kKeysAtOnce];
    for (int k = 0; k < kKeysAtOnce; k++) {
      const int64_t place = group * kKeysAtOnce + k;
      const int64_t key = image.key_order ? image.key_order[smaller(place, image.keys - 1)] : place;
      rows[k] = place < image.keys ? image.value + key * depth : nullptr;
    }
    for (int64_t d = 0; d < depth; d += kLanes) {
      const int channels = static_cast<int>(smaller<int64_t>(kLanes, depth - d));
      uint32_t pairs[kTileWords] = {};  // [16 pairs, 16 channels]
      for (int p = 0; p < kLanes; p++) {
        const float *low = rows[2 * p], *high = rows[2 * p + 1];
        for (int c = 0; c < channels; c++) {
          const uint32_t x = low ? bits_of(low[d + c]) : 0, y = high ? bits_of(high[d + c]) : 0;
          not_finite |= (x & 0x7f800000u) == 0x7f800000u || (y & 0x7f800000u) == 0x7f800000u;
          pairs[p * kLanes + c] = x >> 16 | (y & 0xffff0000u);  // they are bf16 numbers already
        }
      }
      transpose_words(pairs, kLanes, words + (d / kLanes * groups + group) * kTileWords);
    }
  }
  return !not_finite;
}

// sums [Tiles * 16 channels, 16 queries] of values times weights, over the listed groups of keys.
// Values lie stride words apart from one tile of channels to the next.
template <int Tiles>
void multiply_all(const uint32_t* values, int64_t stride, const uint32_t* weights,
                  const int32_t* groups, int64_t count, float* sums) {
  _tile_zero(0);
  if constexpr (Tiles > 1) _tile_zero(1);
  if constexpr (Tiles > 2) _tile_zero(2);
  if constexpr (Tiles > 3) _tile_zero(3);
  for (int64_t i = 0; i < count; i++) {
    const uint32_t* value = values + groups[i] * kTileWords;
    _tile_loadd(4, weights + groups[i] * kTileWords, 64);
    _tile_loadd(5, value, 64);
    _tile_dpbf16ps(0, 5, 4);
    if constexpr (Tiles > 1) _tile_loadd(6, value + stride, 64);
    if constexpr (Tiles > 1) _tile_dpbf16ps(1, 6, 4);
    if constexpr (Tiles > 2) _tile_loadd(7, value + 2 * stride, 64);
    if constexpr (Tiles > 2) _tile_dpbf16ps(2, 7, 4);
    if constexpr (Tiles > 3) _tile_loadd(5, value + 3 * stride, 64);
    if constexpr (Tiles > 3) _tile_dpbf16ps(3, 5, 4);
  }
  _tile_stored(0, sums, 64);
  if constexpr (Tiles > 1) _tile_stored(1, sums + kTileWords, 64);
  if constexpr (Tiles > 2) _tile_stored(2, sums + 2 * kTileWords, 64);
  if constexpr (Tiles > 3) _tile_stored(3, sums + 3 * kTileWords, 64);
}

// Copies the rows that exceed the level, less top; -1 where there are more than fit.
inline int64_t copy_rows(const float* rows, int64_t count, Lanes level, Lanes top, float* to,
                         int64_t room) {
  int64_t copied = 0;
  for (int64_t r = 0; r < count; r += kLanes) {
    if (copied + kLanes > room) return -1;
    unsigned passing = rows_exceeding(rows + r * kLanes, level);
    if (count - r < kLanes) passing &= (1u << (count - r)) - 1;
    for (; passing; passing &= passing - 1, copied++)
      store(to + copied * kLanes, load(rows + (r + __builtin_ctz(passing)) * kLanes) - top);
  }
  return copied;
}

// A tile of queries, tile of the image and t of the scratch. Returns false, and has written
// nothing, where that isn't exact enough or takes too much room.
inline bool attend_dense(const Image<float>& image, const PackedKeys& keys, float gap, int64_t tile,
                         int t, Scratch& scratch, float* out, float* limits) {
  const uint32_t* lanes = scratch.lanes + t * keys.words_per_key * kLanes;
  const int64_t groups = (image.keys + kKeysAtOnce - 1) / kKeysAtOnce, depth = image.value_channels;
  float* rows = scratch.rows;
  const Lanes top = score_all(keys, lanes, rows);
  for (int64_t j = image.keys; j < groups * kKeysAtOnce; j++)
    store(rows + j * kLanes, broadcast(-__FLT_MAX__));

  const Bounds first = first_bounds(rows, image.keys, top, gap);
  const Lanes low = first.kappa - slack(first.kappa, top);
  float* few = scratch.collected;
  const int64_t count = copy_rows(rows, image.keys, low, top, few, scratch.collected_rows);
  if (count < 0) return false;
  Lanes kappa = max(low - top, broadcast(-1.f));
  float members[kLanes];
  kappa = climb(few, count, kappa, 100, broadcast(-1e-4f) * kappa);
  kappa = last_step(few, count, kappa, members);
  double rounding = 0;
  for (int l = 0; l < kLanes; l++)
    rounding += kRounding * scratch.scales[t * kLanes + l] * members[l] / kLanes;
  if (!(rounding < kNegligibleInHalves)) return false;  // or a query can't be screened

  uint32_t* weights = reinterpret_cast<uint32_t*>(scratch.candidates);
  int64_t some = 0;
  for (int64_t group = 0; group < groups; group++) {
    const float* from = rows + group * kKeysAtOnce * kLanes;
    unsigned passing = 0;
#pragma GCC unroll 4
    for (int p = 0; p < kLanes; p++) {
      const Lanes zero = broadcast(0.f);
      const Lanes x = max(load(from + 2 * p * kLanes) - top - kappa, zero);
      const Lanes y = max(load(from + (2 * p + 1) * kLanes) - top - kappa, zero);
      passing |= exceeding(max(x, y), zero);
      store_pairs(weights + group * kTileWords + p * kLanes, x, y);
    }
    scratch.hits[some] = static_cast<int32_t>(group);
    some += passing != 0;
  }
  const int64_t stride = groups * kTileWords;
  for (int64_t d = 0; d < depth; d += 4 * kLanes) {
    const uint32_t* values = keys.values + d / kLanes * stride;
    float* sums = scratch.transposed + d * kLanes;
    const int64_t left = (depth - d + kLanes - 1) / kLanes;
    if (left >= 4)
      multiply_all<4>(values, stride, weights, scratch.hits, some, sums);
    else if (left == 3)
      multiply_all<3>(values, stride, weights, scratch.hits, some, sums);
    else if (left == 2)
      multiply_all<2>(values, stride, weights, scratch.hits, some, sums);
    else
      multiply_all<1>(values, stride, weights, scratch.hits, some, sums);
  }

  const double none[kLanes] = {};  // nothing is missing from scores of keys that aren't centred
  put_limits(image, tile, top, kappa, none, limits);
  float* outputs[kLanes] = {};
  const int queries = lanes_of(image, tile);
  for (int l = 0; l < queries; l++)
    outputs[l] = out + query_at(image, tile * kLanes + l) * depth;
  transpose_out(scratch.transposed, depth, queries, outputs);
  return true;
}

#else

inline bool attend_dense(const Image<float>&, const PackedKeys&, float, int64_t, int, Scratch&,
                         float*, float*) {
  return false;
}

#endif

inline bool attend_dense(const Image<double>&, const PackedKeys&, float, int64_t, int, Scratch&,
                         double*, double*) {
  return false;
}

}  // namespace hspan::HSPAN_ISA
