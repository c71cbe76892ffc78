// Products of bf16 pairs with sums in float32, for rows of keys that lie anywhere.
//
// Rows come in lists: of an image's keys, only those that a tile of queries looks at. Three products
// make up the backward pass: sums over channels, dP = V dO^T; over keys, dQ = dS^T K; over queries,
// dK = dS Q and dV = P dO. Each has a form in vectors and one in AMX tiles.
#pragma once

#include "pairs.h"

#if defined(HSPAN_PAIRS)

namespace hspan::HSPAN_ISA {

#if defined(HSPAN_AMX)

constexpr int kRowsAtOnce = 16;    // whose products are computed in one go
constexpr int kTilesTogether = 2;  // of queries, so that sums over queries have all of their depth
constexpr int kDeep = 32;          // sums over keys take a multiple of so many

// products[tile][row][lane] for sixteen rows. words: a multiple of 16. Lanes [tiles, tile_stride].
inline void multiply_rows(const uint32_t* const (&rows)[kRowsAtOnce], const uint32_t* lanes,
                          int64_t tile_stride, int64_t words,
                          float (&products)[kTilesTogether][kRowsAtOnce][kLanes]) {
  alignas(64) uint32_t keys[kTileWords];
  _tile_zero(0);
  _tile_zero(1);
  for (int64_t w = 0; w < words; w += kLanes) {
    for (int k = 0; k < kRowsAtOnce; k++)
      __builtin_memcpy(keys + k * kLanes, rows[k] + w, kLanes * 4);
    _tile_loadd(4, keys, 64);
    _tile_loadd(6, lanes + w * kLanes, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, lanes + tile_stride + w * kLanes, 64);
    _tile_dpbf16ps(1, 4, 7);
  }
  _tile_stored(0, products[0], 64);
  _tile_stored(1, products[1], 64);
}

// Where a sum over keys stands: query by query.
constexpr int64_t sum_at(int64_t lane, int64_t channel, int64_t columns) {
  return lane * columns + channel;
}

// sums += slopes * keys: slopes [pairs, 16 lanes], keys [pairs, stride], both in pairs of keys.
// pairs and columns are multiples of 16.
inline void add_over_keys(const uint32_t* slopes, const uint32_t* keys, int64_t stride,
                          int64_t pairs, int64_t, int64_t columns, float* sums) {
  alignas(64) uint32_t turned[kTileWords];
  for (int64_t p = 0; p < pairs; p += kLanes) {
    transpose_words(slopes + p * kLanes, kLanes, turned);
    _tile_loadd(4, turned, 64);
    for (int64_t c = 0; c < columns; c += kLanes) {
      _tile_loadd(0, sums + c, columns * 4);
      _tile_loadd(5, keys + p * stride + c, stride * 4);
      _tile_dpbf16ps(0, 4, 5);
      _tile_stored(0, sums + c, columns * 4);
    }
  }
}

// to[rows[r]] += the sum over queries of weights[r] * values, in pairs of queries: weights [count
// rounded up to 16, 32], values [16, stride]. columns is a multiple of 16.
inline void add_over_queries(const int32_t* rows, int64_t count, const uint16_t* weights,
                             const uint32_t* values, int64_t stride, int64_t columns, float* to,
                             int64_t to_stride) {
  alignas(64) float sums[kTileWords];
  for (int64_t r = 0; r < count; r += kLanes) {
    const int64_t last = smaller<int64_t>(kLanes, count - r);
    _tile_loadd(4, weights + r * 2 * kLanes, 64);
    for (int64_t c = 0; c < columns; c += kLanes) {
      _tile_zero(0);
      _tile_loadd(5, values + c, stride * 4);
      _tile_dpbf16ps(0, 4, 5);
      _tile_stored(0, sums, 64);
      for (int64_t k = 0; k < last; k++) {
        float* row = to + rows[r + k] * to_stride + c;
        store(row, load(row) + load(sums + k * kLanes));
      }
    }
  }
}

#else

constexpr int kRowsAtOnce = 8;
constexpr int kTilesTogether = 1;
constexpr int kDeep = 2;

// products[tile][row][lane] for eight rows.
HSPAN_INLINE void multiply_rows(const uint32_t* const (&rows)[kRowsAtOnce], const uint32_t* lanes,
                                int64_t, int64_t words,
                                float (&products)[kTilesTogether][kRowsAtOnce][kLanes]) {
  Lanes sums[kRowsAtOnce];
#pragma GCC unroll 8
  for (int k = 0; k < kRowsAtOnce; k++) sums[k] = broadcast(0.f);
  for (int64_t w = 0; w < words; w++)
#pragma GCC unroll 8
    for (int k = 0; k < kRowsAtOnce; k++) sums[k] = dot(sums[k], lanes + w * kLanes, rows[k][w]);
#pragma GCC unroll 8
  for (int k = 0; k < kRowsAtOnce; k++) store(products[0][k], sums[k]);
}

// Where a sum over keys stands: lane by lane.
constexpr int64_t sum_at(int64_t lane, int64_t channel, int64_t) {
  return channel * kLanes + lane;
}

template <int Channels>
HSPAN_INLINE void add_channels_over_keys(const uint32_t* slopes, const uint32_t* keys,
                                         int64_t stride, int64_t pairs, float* to) {
  Lanes sums[Channels];
#pragma GCC unroll 16
  for (int c = 0; c < Channels; c++) sums[c] = load(to + c * kLanes);
  for (int64_t p = 0; p < pairs; p++)
#pragma GCC unroll 16
    for (int c = 0; c < Channels; c++)
      sums[c] = dot(sums[c], slopes + p * kLanes, keys[p * stride + c]);
#pragma GCC unroll 16
  for (int c = 0; c < Channels; c++) store(to + c * kLanes, sums[c]);
}

// sums += slopes * keys: slopes [pairs, 16 lanes], keys [pairs, stride], both in pairs of keys.
// Sums has room for a multiple of 16 channels.
inline void add_over_keys(const uint32_t* slopes, const uint32_t* keys, int64_t stride,
                          int64_t pairs, int64_t channels, int64_t, float* sums) {
  int64_t c = 0;
  for (; c + 8 < channels; c += 16)
    add_channels_over_keys<16>(slopes, keys + c, stride, pairs, sums + c * kLanes);
  if (c < channels)
    add_channels_over_keys<8>(slopes, keys + c, stride, pairs, sums + c * kLanes);
}

template <int Vectors>
HSPAN_INLINE void add_columns_over_queries(const int32_t* rows, int64_t count,
                                           const uint16_t* weights, const uint32_t* values,
                                           int64_t stride, float* to, int64_t to_stride) {
  __m512bh pairs[8][Vectors];
#pragma GCC unroll 8
  for (int p = 0; p < 8; p++)
#pragma GCC unroll 3
    for (int v = 0; v < Vectors; v++)
      pairs[p][v] = (__m512bh)_mm512_loadu_si512(values + p * stride + v * kLanes);
  for (int64_t r = 0; r < count; r++) {
    float* row = to + rows[r] * to_stride;
    if (r + 6 < count) prefetch(to + rows[r + 6] * to_stride, Vectors * 64);
    __m512 sums[Vectors];
#pragma GCC unroll 3
    for (int v = 0; v < Vectors; v++) sums[v] = _mm512_loadu_ps(row + v * kLanes);
#pragma GCC unroll 8
    for (int p = 0; p < 8; p++) {
      const uint32_t word = word_at(weights + r * kLanes + 2 * p);
      const __m512bh weight = (__m512bh)_mm512_set1_epi32(static_cast<int>(word));
#pragma GCC unroll 3
      for (int v = 0; v < Vectors; v++) sums[v] = _mm512_dpbf16_ps(sums[v], pairs[p][v], weight);
    }
#pragma GCC unroll 3
    for (int v = 0; v < Vectors; v++) _mm512_storeu_ps(row + v * kLanes, sums[v]);
  }
}

// to[rows[r]] += the sum over queries of weights[r] * values, in pairs of queries: weights [count,
// 16], values [8, stride]. columns is a multiple of 16.
inline void add_over_queries(const int32_t* rows, int64_t count, const uint16_t* weights,
                             const uint32_t* values, int64_t stride, int64_t columns, float* to,
                             int64_t to_stride) {
  int64_t c = 0;
  for (; c + 2 * kLanes <= columns; c += 2 * kLanes)
    add_columns_over_queries<2>(rows, count, weights, values + c, stride, to + c, to_stride);
  if (c < columns)
    add_columns_over_queries<1>(rows, count, weights, values + c, stride, to + c, to_stride);
}

#endif

}  // namespace hspan::HSPAN_ISA

#endif
