// Attention over sequences so short that all weights fit a core's caches, in calls that are bf16
// throughout, on AMX: forward and backward as products of whole matrices.
//
// Patches that networks train on are such sequences, and their queries look at a large part of the
// keys. Nothing is screened, nothing is kept for the backward pass, and matrices are read and written
// in bf16 as they are. Products of bf16 numbers are exact, and their sums in float32 good enough for
// an output in bf16. Weights, and gradients of scores, are rounded to bf16, as autocast would round
// them for softmax.
//
// Sizes are filled up with zeros to multiples of 32, so that products come in blocks of two by two
// tiles. Queries come in groups of 32, too, sixteen to a lane of vectors.
#pragma once

#include "bound.h"
#include "features.h"
#include "threshold.h"

#if defined(HSPAN_AMX)

namespace hspan::HSPAN_ISA {

constexpr int64_t kGroup = 32;  // queries; and keys or channels that come in one block

// Rows of a matrix that a sum runs along, and of one whose rows, in pairs, it runs across.
struct Left {
  const uint16_t* at;
  int64_t stride;
};
struct Right {
  const uint32_t* at;
  int64_t stride;  // from one pair to the next
  int64_t deep;    // from sixteen pairs to the next
  int64_t beside;  // from sixteen columns to the next
};

// Leaves a block of the product in tiles 0 to 3, row by row. steps: of 32 terms.
HSPAN_INLINE void multiply(Left left, Right right, int64_t steps) {
  const int64_t rows = left.stride * 2, pairs = right.stride * 4;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t s = 0; s < steps; s++, left.at += 32, right.at += right.deep) {
    _tile_loadd(4, left.at, rows);
    _tile_loadd(6, right.at, pairs);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, right.at + right.beside, pairs);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, left.at + 16 * left.stride, rows);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
}

// Copies a matrix, zeros around it. Returns false where a number isn't finite: zeros would not keep
// it out of sums.
inline bool take_rows(const uint16_t* from, int64_t rows, int64_t columns, uint16_t* to) {
  const int64_t stride = whole(columns, kGroup);
  uint32_t most = 0;
  for (int64_t d = 0; d < columns; d += 32)
    take_pixels(from + d, columns, rows, channels_from(d, columns), to + d, stride);
  for (int64_t i = 0; i < rows * stride; i++)
    most = larger<uint32_t>(most, to[i] & 0x7fffu);
  clear(to + rows * stride, (whole(rows, kGroup) - rows) * stride);
  return most < 0x7f80u;
}

// Pairs of rows: [rows / 2, columns] words.
inline void pair_rows(const uint16_t* from, int64_t rows, int64_t columns, uint32_t* to) {
  for (int64_t r = 0; r < rows; r += 2, to += columns)
    for (int64_t c = 0; c < columns; c += 32) {
      uint32_t words[2][kLanes];
      __builtin_memcpy(words[0], from + r * columns + c, sizeof words[0]);
      __builtin_memcpy(words[1], from + (r + 1) * columns + c, sizeof words[1]);
      interleave(words[0], words[1], kLanes, to + c);
    }
}

// Pairs of columns of sixteen rows at a time: [rows / 16, columns / 2, 16] words.
inline void turn_rows(const uint16_t* from, int64_t rows, int64_t columns, uint32_t* to) {
  alignas(64) uint32_t words[kTileWords];
  for (int64_t r = 0; r < rows; r += kLanes)
    for (int64_t c = 0; c < columns; c += 32, to += kTileWords) {
      for (int64_t i = 0; i < kLanes; i++)
        __builtin_memcpy(words + i * kLanes, from + (r + i) * columns + c, 64);
      transpose_words(words, kLanes, to);
    }
}

HSPAN_INLINE Right paired(const uint32_t* at, int64_t columns) {
  return {at, columns, kLanes * columns, kLanes};
}
HSPAN_INLINE Right turned(const uint32_t* at, int64_t columns) {
  return {at, kLanes, kTileWords, columns / 2 * kLanes};
}

// products[tile][row][lane] of all rows with a group of queries. Both are channels wide.
inline void multiply_group(const uint16_t* rows, int64_t count, const uint32_t* queries,
                           int64_t channels, float* products) {
  const Right right = turned(queries, channels);
  for (int64_t r = 0; r < count; r += kGroup) {
    float* to = products + r * kLanes;
    multiply({rows + r * channels, channels}, right, channels / 32);
    _tile_stored(0, to, 64);
    _tile_stored(1, to + count * kLanes, 64);
    _tile_stored(2, to + kTileWords, 64);
    _tile_stored(3, to + count * kLanes + kTileWords, 64);
  }
}

// A product's rows in bf16, without what was filled up.
inline void put_product(Left left, Right right, int64_t steps, int64_t rows, int64_t columns,
                        uint16_t* to) {
  alignas(64) float sums[4][kTileWords];
  for (int64_t r = 0; r < rows; r += kGroup)
    for (int64_t c = 0; c < columns; c += kGroup) {
      Right part = right;
      part.at += c / kLanes * right.beside;
      multiply({left.at + r * left.stride, left.stride}, part, steps);
      _tile_stored(0, sums[0], 64);
      _tile_stored(1, sums[1], 64);
      _tile_stored(2, sums[2], 64);
      _tile_stored(3, sums[3], 64);
      const int64_t count = channels_from(c, columns);
      for (int64_t i = 0; i < smaller(kGroup, rows - r); i++) {
        const float* row = sums[i / kLanes * 2] + i % kLanes * kLanes;
        alignas(64) uint16_t halves[2 * kLanes];
        store_halves(halves, load(row));
        store_halves(halves + kLanes, load(row + kTileWords));
        put_pixels(halves, 0, 1, count, to + (r + i) * columns + c, 0);
      }
    }
}

// Limits of a tile of queries from the scores of count keys, which become relative to the largest.
// Returns false where float32 isn't exact enough. scales: how large scores can be, query by query.
inline bool find_limits(float* rows, int64_t count, const float* scales, Lanes& top, Lanes& kappa) {
  top = largest(rows, count);
  for (int64_t r = 0; r < count; r++) store(rows + r * kLanes, load(rows + r * kLanes) - top);
  float members[kLanes];
  kappa = climb(rows, count, broadcast(-1.f), 100, broadcast(1e-6f));
  kappa = last_step(rows, count, kappa, members);
  double rounding = 0;
  for (int l = 0; l < kLanes; l++) rounding += kRounding * scales[l] * members[l] / kLanes;
  return rounding < kNegligibleInHalves;
}

// Scores relative to the largest become weights, zeros for lanes that aren't among the queries.
inline void apply_limits(float* rows, int64_t count, Lanes kappa, unsigned queries) {
  const Lanes zero = broadcast(0.f);
  for (int64_t r = 0; r < count; r++) {
    float* row = rows + r * kLanes;
    store(row, keep_lanes(queries, max(load(row) - kappa, zero)));
  }
}

// Rows [keys, 16] of a tile of queries as queries' rows [16, keys] in bf16, zeros behind count.
inline void turn_weights(const float* rows, int64_t count, uint16_t* to) {
  const int64_t keys = whole(count, kGroup);
  alignas(64) uint32_t pairs[kTileWords], columns[kTileWords];
  for (int64_t k = 0; k < keys; k += 32) {
    for (int p = 0; p < kLanes; p++) {
      const int64_t r = k + 2 * p;
      store_pairs(pairs + p * kLanes,
                  r < count ? load(rows + r * kLanes) : broadcast(0.f),
                  r + 1 < count ? load(rows + (r + 1) * kLanes) : broadcast(0.f));
    }
    transpose_words(pairs, kLanes, columns);
    for (int64_t l = 0; l < kLanes; l++)
      __builtin_memcpy(to + l * keys + k, columns + l * kLanes, 64);
  }
}

inline float length_of(const uint16_t* row, int64_t columns) {
  Lanes total = broadcast(0.f);
  for (int64_t c = 0; c < columns; c += kLanes) {
    const Lanes x = load_halves(row + c);
    total = fma(x, x, total);
  }
  return __builtin_sqrtf(sum(total));
}

HSPAN_INLINE unsigned some_lanes(int64_t count) {
  return count >= kLanes ? 0xffffu : (1u << larger<int64_t>(count, 0)) - 1;
}

inline bool short_forward(const ShortImage& image, const ShortScratch& scratch, float* limits,
                          uint16_t* out) {
  const int64_t channels = whole(image.channels, kGroup), depth = whole(image.value_channels, kGroup);
  const int64_t queries = whole(image.queries, kGroup), keys = whole(image.keys, kGroup);
  if (!take_rows(image.query, image.queries, image.channels, scratch.query) ||
      !take_rows(image.key, image.keys, image.channels, scratch.key) ||
      !take_rows(image.value, image.keys, image.value_channels, scratch.value))
    return false;
  float longest = 0;
  for (int64_t k = 0; k < image.keys; k++)
    longest = larger(longest, length_of(scratch.key + k * channels, channels));

  const TileUnit unit;
  turn_rows(scratch.query, queries, channels, scratch.query_lanes);
  pair_rows(scratch.value, keys, depth, scratch.value_pairs);
  for (int64_t q = 0; q < queries; q += kGroup) {
    multiply_group(scratch.key, keys, scratch.query_lanes + q * channels / 2, channels, scratch.rows);
    for (int64_t t = 0; t < 2; t++) {
      const int64_t first = q + t * kLanes;
      float scales[kLanes], tops[kLanes], kappas[kLanes];
      for (int64_t l = 0; l < kLanes; l++)
        scales[l] = longest * length_of(scratch.query + (first + l) * channels, channels);
      float* rows = scratch.rows + t * keys * kLanes;
      Lanes top, kappa;
      if (!find_limits(rows, image.keys, scales, top, kappa)) return false;
      apply_limits(rows, image.keys, kappa, 0xffffu);
      turn_weights(rows, image.keys, scratch.group + t * kLanes * keys);
      store(tops, top);
      store(kappas, kappa);
      for (int64_t l = 0; l < smaller<int64_t>(kLanes, image.queries - first); l++) {
        limits[2 * (first + l)] = tops[l];
        limits[2 * (first + l) + 1] = kappas[l];
      }
    }
    put_product({scratch.group, keys}, paired(scratch.value_pairs, depth), keys / 32,
                smaller(kGroup, image.queries - q), image.value_channels,
                out + q * image.value_channels);
  }
  return true;
}

// Limits of a tile of queries; returns false where one isn't finite.
inline bool read_limits(const float* limits, int64_t queries, Lanes& top, Lanes& kappa) {
  float tops[kLanes] = {}, kappas[kLanes] = {}, zero = 0;
  for (int64_t l = 0; l < smaller<int64_t>(kLanes, queries); l++) {
    tops[l] = limits[2 * l];
    kappas[l] = limits[2 * l + 1];
    zero += 0.f * tops[l] + 0.f * kappas[l];
  }
  top = load(tops);
  kappa = load(kappas);
  return zero == 0;
}

// Gradients of a tile's weights become those of its scores, Eq. (19): less their mean over the
// support, zero outside.
inline void differentiate_weights(const float* weights, int64_t count, float* slopes) {
  const Lanes zero = broadcast(0.f);
  Lanes total = zero, number = zero;
  for (int64_t r = 0; r < count; r++) {
    const unsigned members = exceeding(load(weights + r * kLanes), zero);
    total = total + keep_lanes(members, load(slopes + r * kLanes));
    number = number + keep_lanes(members, broadcast(1.f));
  }
  const Lanes mean = total / max(number, broadcast(1.f));
  for (int64_t r = 0; r < count; r++) {
    const unsigned members = exceeding(load(weights + r * kLanes), zero);
    store(slopes + r * kLanes, keep_lanes(members, load(slopes + r * kLanes) - mean));
  }
}

// A tile's rows [keys, 16] in bf16, beside those of other tiles, zeros below count.
inline void put_tile(const float* rows, int64_t count, int64_t stride, uint16_t* to) {
  for (int64_t r = 0; r < whole(count, kGroup); r++)
    store_halves(to + r * stride, r < count ? load(rows + r * kLanes) : broadcast(0.f));
}

inline bool short_backward(const ShortImage& image, const ShortScratch& scratch, const float* limits,
                           const uint16_t* grad, uint16_t* d_query, uint16_t* d_key,
                           uint16_t* d_value) {
  const int64_t channels = whole(image.channels, kGroup), depth = whole(image.value_channels, kGroup);
  const int64_t queries = whole(image.queries, kGroup), keys = whole(image.keys, kGroup);
  if (!take_rows(image.query, image.queries, image.channels, scratch.query) ||
      !take_rows(image.key, image.keys, image.channels, scratch.key) ||
      !take_rows(image.value, image.keys, image.value_channels, scratch.value) ||
      !take_rows(grad, image.queries, image.value_channels, scratch.grad))
    return false;

  const TileUnit unit;
  turn_rows(scratch.query, queries, channels, scratch.query_lanes);
  turn_rows(scratch.grad, queries, depth, scratch.grad_lanes);
  pair_rows(scratch.key, keys, channels, scratch.key_pairs);
  for (int64_t q = 0; q < queries; q += kGroup) {
    multiply_group(scratch.key, keys, scratch.query_lanes + q * channels / 2, channels, scratch.rows);
    multiply_group(scratch.value, keys, scratch.grad_lanes + q * depth / 2, depth, scratch.slopes);
    for (int64_t t = 0; t < 2; t++) {
      const int64_t first = q + t * kLanes;
      float *rows = scratch.rows + t * keys * kLanes, *slopes = scratch.slopes + t * keys * kLanes;
      Lanes top, kappa;
      if (!read_limits(limits + 2 * first, image.queries - first, top, kappa)) return false;
      for (int64_t r = 0; r < image.keys; r++)
        store(rows + r * kLanes, load(rows + r * kLanes) - top);
      apply_limits(rows, image.keys, kappa, some_lanes(image.queries - first));
      differentiate_weights(rows, image.keys, slopes);
      put_tile(rows, image.keys, queries, scratch.weights + first);
      put_tile(slopes, image.keys, queries, scratch.d_scores + first);
      turn_weights(slopes, image.keys, scratch.group + t * kLanes * keys);
    }
    put_product({scratch.group, keys}, paired(scratch.key_pairs, channels), keys / 32,
                smaller(kGroup, image.queries - q), image.channels, d_query + q * image.channels);
  }
  pair_rows(scratch.query, queries, channels, scratch.query_pairs);
  put_product({scratch.d_scores, queries}, paired(scratch.query_pairs, channels), queries / 32,
              image.keys, image.channels, d_key);
  pair_rows(scratch.grad, queries, depth, scratch.grad_pairs);
  put_product({scratch.weights, queries}, paired(scratch.grad_pairs, depth), queries / 32,
              image.keys, image.value_channels, d_value);
  return true;
}

}  // namespace hspan::HSPAN_ISA

#endif
