// All values times the weights of a tile of queries, in bf16 with sums in float32 (dense.h).
//
// The sums run over keys, so keys lie in pairs: a word holds a number of both. Weights are [pairs, 16
// queries]. Only units of kUnitPairs pairs in which some weight isn't zero are multiplied; they are
// listed, and their weights lie together. Both have a form in vectors and one in AMX tiles.
#pragma once

#include "collect.h"
#include "pairs.h"

#if defined(HSPAN_PAIRS)

namespace hspan::HSPAN_ISA {

#if defined(HSPAN_AMX)
constexpr int kUnitPairs = 16;  // that a tile instruction sums over
#else
constexpr int kUnitPairs = 1;
#endif

constexpr int64_t units_of(int64_t keys) {
  return (keys + 2 * kUnitPairs - 1) / (2 * kUnitPairs);
}

// Sixteen channels of a pair of keys, from channel d on; a key or a channel that isn't there is zero.
// Notes a number that isn't finite.
HSPAN_INLINE void pair_values(const float* low, const float* high, int64_t d, int64_t depth,
                              uint32_t* to, uint32_t& not_finite) {
  const int channels = static_cast<int>(smaller<int64_t>(kLanes, depth - d));
  for (int c = 0; c < channels; c++) {
    const uint32_t x = low ? bits_of(low[d + c]) : 0, y = high ? bits_of(high[d + c]) : 0;
    not_finite |= (x & 0x7f800000u) == 0x7f800000u || (y & 0x7f800000u) == 0x7f800000u;
    to[c] = x >> 16 | (y & 0xffff0000u);  // they are bf16 numbers already
  }
  for (int c = channels; c < kLanes; c++) to[c] = 0;
}

// The values, the keys in the order of their places: for AMX [D / 16, units] tiles of [16 channels,
// 16 pairs], else [pairs, D rounded up to 16]. Returns false where one isn't finite: a weight of
// zero would not keep it out.
inline bool pack_values(const Image<float>& image, uint32_t* words) {
  const int64_t units = units_of(image.keys), depth = image.value_channels;
  const auto row_at = [&](int64_t place) -> const float* {
    if (place >= image.keys) return nullptr;
    return image.value + (image.key_order ? image.key_order[place] : place) * depth;
  };
  uint32_t not_finite = 0;
  for (int64_t unit = 0; unit < units; unit++) {
    const float* rows[2 * kUnitPairs];
    for (int k = 0; k < 2 * kUnitPairs; k++) rows[k] = row_at(unit * 2 * kUnitPairs + k);
    for (int64_t d = 0; d < depth; d += kLanes) {
#if defined(HSPAN_AMX)
      uint32_t pairs[kTileWords];  // [16 pairs, 16 channels]
      for (int p = 0; p < kUnitPairs; p++)
        pair_values(rows[2 * p], rows[2 * p + 1], d, depth, pairs + p * kLanes, not_finite);
      transpose_words(pairs, kLanes, words + (d / kLanes * units + unit) * kTileWords);
#else
      pair_values(rows[0], rows[1], d, depth, words + unit * whole(depth, kLanes) + d, not_finite);
#endif
    }
  }
  return !not_finite;
}

// Lists the units with a row of scores that exceeds the level for some query. Rows are low from count
// up to a multiple of 32.
inline int64_t list_units(const float* rows, int64_t count, Lanes level, int32_t* units) {
  int64_t listed = 0;
  for (int64_t r = 0; r < count; r += 2 * kLanes) {
    unsigned passing = rows_exceeding(rows + r * kLanes, level);
    passing |= rows_exceeding(rows + (r + kLanes) * kLanes, level) << kLanes;
    const int32_t first = static_cast<int32_t>(r / (2 * kUnitPairs));
#if defined(HSPAN_AMX)
    units[listed] = first;
    listed += passing != 0;
#else
    for (passing = (passing | passing >> 1) & 0x55555555u; passing; passing &= passing - 1)
      units[listed++] = first + __builtin_ctz(passing) / 2;
#endif
  }
  return listed;
}

#if defined(HSPAN_AMX)

// sums [Tiles * 16 channels, 16 queries]. Values lie stride words apart from one tile of channels to
// the next.
template <int Tiles>
void multiply_values(const uint32_t* values, int64_t stride, const uint32_t* weights,
                     const int32_t* units, int64_t count, float* sums) {
  _tile_zero(0);
  if constexpr (Tiles > 1) _tile_zero(1);
  if constexpr (Tiles > 2) _tile_zero(2);
  if constexpr (Tiles > 3) _tile_zero(3);
  for (int64_t i = 0; i < count; i++) {
    const uint32_t* value = values + units[i] * kTileWords;
    _tile_loadd(4, weights + i * kTileWords, 64);
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

// sums [depth rounded up to 16, 16 queries] of the listed units.
inline void multiply_all_values(const PackedKeys& keys, int64_t count_of_keys, int64_t depth,
                                const uint32_t* weights, const int32_t* units, int64_t count,
                                float* sums) {
  const int64_t stride = units_of(count_of_keys) * kTileWords;
  for (int64_t d = 0; d < depth; d += 4 * kLanes) {
    const uint32_t* values = keys.values + d / kLanes * stride;
    float* to = sums + d * kLanes;
    const int64_t left = (depth - d + kLanes - 1) / kLanes;
    if (left >= 4)
      multiply_values<4>(values, stride, weights, units, count, to);
    else if (left == 3)
      multiply_values<3>(values, stride, weights, units, count, to);
    else if (left == 2)
      multiply_values<2>(values, stride, weights, units, count, to);
    else
      multiply_values<1>(values, stride, weights, units, count, to);
  }
}

#else

// sums [Channels, 16 queries]. Values lie stride words apart from one pair to the next.
template <int Channels>
HSPAN_INLINE void multiply_values(const uint32_t* values, int64_t stride, const uint32_t* weights,
                                  const int32_t* units, int64_t count, float* sums) {
  Lanes total[Channels];
#pragma GCC unroll 24
  for (int c = 0; c < Channels; c++) total[c] = broadcast(0.f);
  for (int64_t i = 0; i < count; i++) {
    const uint32_t* value = values + units[i] * stride;
#pragma GCC unroll 24
    for (int c = 0; c < Channels; c++) total[c] = dot(total[c], weights + i * kLanes, value[c]);
  }
#pragma GCC unroll 24
  for (int c = 0; c < Channels; c++) store(sums + c * kLanes, total[c]);
}

// sums [depth rounded up to 16, 16 queries] of the listed units.
inline void multiply_all_values(const PackedKeys& keys, int64_t, int64_t depth,
                                const uint32_t* weights, const int32_t* units, int64_t count,
                                float* sums) {
  const int64_t stride = whole(depth, kLanes);
  int64_t d = 0;
  for (; d + 24 <= stride; d += 24)
    multiply_values<24>(keys.values + d, stride, weights, units, count, sums + d * kLanes);
  if (d + 16 <= stride)
    multiply_values<16>(keys.values + d, stride, weights, units, count, sums + d * kLanes);
  else if (d < stride)
    multiply_values<8>(keys.values + d, stride, weights, units, count, sums + d * kLanes);
}

#endif

}  // namespace hspan::HSPAN_ISA

#endif
