// The backward pass once more, for queries that share their keys: a tile at a time, in bf16 with
// sums in float32, as autocast has it.
//
// Weights of a tile's queries make dense rows of sixteen lanes, one row for every key that some
// query looks at; with these, Eq. (19) is products of matrices:
//   dP = V dO^T,  dS = dP - mean over the support, on the support,
//   dQ = dS^T K,  dK += dS Q,  dV += P dO.
// Entries that are zero are multiplied too: it pays where they are few enough (backward_tiles.cpp).
#pragma once

#include "pair_products.h"

#if defined(HSPAN_PAIRS)

namespace hspan::HSPAN_ISA {

constexpr int64_t kChunk = 64;  // rows whose second half of the work is done while they are cached
constexpr int kQueryPairs = kTilesTogether * kLanes / 2;

// The query at a lane of a tile; -1: none.
HSPAN_INLINE int64_t query_of(const Image<float>& image, int64_t tile, int lane) {
  const int64_t place = tile * kLanes + lane;
  if (place >= image.queries) return -1;
  return image.query_order ? image.query_order[place] : place;
}

// Rounded to nearest even: a weight is positive, and stays so.
HSPAN_INLINE uint16_t half_of_weight(float weight) {
  const uint32_t u = bits_of(weight);
  return static_cast<uint16_t>((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

// Lists the keys that some query of the tiles looks at, and deals the support's weights out to rows.
inline int64_t rows_from_support(const Image<float>& image, const Support<float>& support,
                                 int64_t tile, PairScratch& scratch) {
  uint8_t* seen = scratch.seen;
  for (int i = 0; i < kTilesTogether * kLanes; i++) {
    const int64_t query = query_of(image, tile + i / kLanes, i % kLanes);
    if (query < 0) continue;
    const int32_t* keys = support.indices + support.starts[query];
    const int32_t number = support.counts[query];
    for (int32_t j = 0; j < number; j++) seen[keys[j]] = 1;
  }
  const int64_t count = list_marks(seen, image.keys, scratch.rows);
  int32_t* row_of = scratch.row_of;
  for (int64_t r = 0; r < count; r++) row_of[scratch.rows[r]] = static_cast<int32_t>(r);
  for (int i = 0; i < kTilesTogether * kLanes; i++) {
    const int64_t query = query_of(image, tile + i / kLanes, i % kLanes);
    if (query < 0) continue;
    const int32_t* keys = support.indices + support.starts[query];
    const float* weights = support.weights + support.starts[query];
    uint16_t* to = scratch.weights + i;
    const int32_t number = support.counts[query];
    for (int32_t j = 0; j < number; j++)
      to[row_of[keys[j]] * kTilesTogether * kLanes] = half_of_weight(weights[j]);
  }
  return count;
}

// The same where the support wasn't kept: all keys are multiplied again, and the limits that the
// forward pass saved make weights of the scores.
inline int64_t rows_from_scores(const Image<float>& image, const PackedKeys& keys,
                                const float* limits, int64_t tile,
                                PairScratch& scratch) {
  Lanes top[kTilesTogether], kappa[kTilesTogether], level[kTilesTogether];
  for (int t = 0; t < kTilesTogether; t++) {
    float tops[kLanes], kappas[kLanes];
    for (int l = 0; l < kLanes; l++) {
      const int64_t query = query_of(image, tile + t, l);
      tops[l] = query < 0 ? __builtin_nanf("") : limits[2 * query];  // NaN: no weights
      kappas[l] = query < 0 ? 0 : limits[2 * query + 1];
    }
    top[t] = load(tops);
    kappa[t] = load(kappas);
    level[t] = top[t] + kappa[t] - slack(top[t] + kappa[t], top[t]);
    pack_queries(image, keys, smaller(tile + t, blocks_of(image.queries) - 1), t, scratch.queries);
  }
  int64_t count = 0;
  for (int64_t b = 0; b < keys.blocks; b += kBlocksAtOnce) {
    int32_t blocks[kBlocksAtOnce];
    const int number = static_cast<int>(smaller<int64_t>(kBlocksAtOnce, keys.blocks - b));
    for (int i = 0; i < number; i++) blocks[i] = static_cast<int32_t>(b + i);
    alignas(64) float scores[kTilesTogether][kBlocksAtOnce * kLanes * kLanes];
    for (int t = 0; t < kTilesTogether; t++)
      score_blocks(keys, scratch.queries.lanes + t * keys.words_per_key * kLanes, blocks, number, scores[t]);
    const int64_t places = smaller<int64_t>(number * kLanes, image.keys - b * kLanes);
    for (int64_t first = 0; first < places; first += kLanes) {
      // Few keys matter to some query: a comparison of all of them finds which.
      unsigned passing = 0;
      for (int t = 0; t < kTilesTogether; t++)
        passing |= rows_exceeding(scores[t] + first * kLanes, level[t]);
      if (places - first < kLanes) passing &= (1u << (places - first)) - 1;
      for (; passing; passing &= passing - 1) {
        const int64_t k = first + __builtin_ctz(passing), place = b * kLanes + k;
        unsigned members = 0;
        for (int t = 0; t < kTilesTogether; t++) {
          const Lanes excess = load(scores[t] + k * kLanes) - top[t] - kappa[t];
          const unsigned positive = exceeding(excess, broadcast(0.f));
          members |= positive;
          store_halves(scratch.weights + (count * kTilesTogether + t) * kLanes,
                       keep_lanes(positive, excess));
        }
        scratch.rows[count] = image.key_order ? image.key_order[place] : static_cast<int32_t>(place);
        count += members != 0;
      }
    }
  }
  for (int i = 0; i < kTilesTogether * kLanes; i++)  // what was written after the last row
    scratch.weights[count * kTilesTogether * kLanes + i] = 0;
  return count;
}

inline int64_t find_rows(const Image<float>& image, const TileWeights& from, int64_t tile,
                         PairScratch& scratch) {
  return from.support.starts ? rows_from_support(image, from.support, tile, scratch)
                             : rows_from_scores(image, *from.keys, from.limits, tile, scratch);
}

// Leaves no weights behind for the next tiles.
inline void clear_rows(int64_t count, PairScratch& scratch) {
  __builtin_memset(scratch.weights, 0, static_cast<uint64_t>(count) * kTilesTogether * kLanes * 2);
}

inline TileCounts count_tiles(const Image<float>& image, const TileWeights& from, int64_t tile,
                              PairScratch& scratch) {
  const TileUnit unit;
  const int64_t rows = find_rows(image, from, tile, scratch);
  int64_t weights = 0;
  for (int64_t i = 0; i < rows * kTilesTogether; i++)
    weights += __builtin_popcount(members_of(scratch.weights + i * kLanes));
  clear_rows(rows, scratch);
  return {static_cast<double>(rows), static_cast<double>(weights)};
}

// Packs queries and gradients of outputs: the latter by lanes, both in pairs of queries. A query
// without a support may hold NaN, which zeros keep from its neighbours.
inline void pack_tiles(const Image<float>& image, const PairedRows& rows, const float* grad,
                       const float* limits, int64_t tile, PairScratch& scratch) {
  const int64_t stride = rows.stride();
  for (int i = 0; i < kTilesTogether * kLanes; i++) {
    const int64_t query = query_of(image, tile + i / kLanes, i % kLanes);
    uint32_t* to = scratch.query_rows + i * stride;
    if (query < 0 || limits[2 * query] != limits[2 * query]) {
      __builtin_memset(to, 0, static_cast<uint64_t>(stride) * 4);
      continue;
    }
    pack_pairs_of_row(image.query + query * image.channels, nullptr, image.channels, rows.key_words, to);
    pack_pairs_of_row(grad + query * image.value_channels, nullptr, image.value_channels,
               rows.value_words, to + rows.key_words);
  }
  for (int t = 0; t < kTilesTogether; t++)
    for (int64_t w = 0; w < rows.value_words; w += kLanes)
      transpose_words(scratch.query_rows + t * kLanes * stride + rows.key_words + w, stride,
                      scratch.grad_lanes + (t * rows.value_words + w) * kLanes);
  for (int p = 0; p < kQueryPairs; p++)
    interleave(scratch.query_rows + 2 * p * stride, scratch.query_rows + (2 * p + 1) * stride,
               stride, scratch.query_pairs + 2 * p * stride);
}

// Gradients of the weights, zero outside the support, and their means, query by query.
inline void differentiate_rows(const PairedRows& rows, int64_t count, PairScratch& scratch,
                               Lanes (&means)[kTilesTogether]) {
  Lanes sums[kTilesTogether], numbers[kTilesTogether];
  for (int t = 0; t < kTilesTogether; t++) sums[t] = numbers[t] = broadcast(0.f);
  for (int64_t r = 0; r < count; r += kRowsAtOnce) {
    const uint32_t* values[kRowsAtOnce];
    for (int k = 0; k < kRowsAtOnce; k++)
      values[k] =
          rows.words + scratch.rows[smaller(r + k, count - 1)] * rows.stride() + rows.key_words;
    alignas(64) float slopes[kTilesTogether][kRowsAtOnce][kLanes];
    multiply_rows(values, scratch.grad_lanes, rows.value_words * kLanes, rows.product_words,
                  slopes);
    const int64_t last = smaller<int64_t>(kRowsAtOnce, count - r);
    for (int64_t k = 0; k < last; k++)
#pragma GCC unroll 2
      for (int t = 0; t < kTilesTogether; t++) {
        const int64_t at = (r + k) * kTilesTogether + t;
        const unsigned members = members_of(scratch.weights + at * kLanes);
        const Lanes slope = keep_lanes(members, load(slopes[t][k]));
        sums[t] = sums[t] + slope;
        numbers[t] = numbers[t] + keep_lanes(members, broadcast(1.f));
        store(scratch.slopes + at * kLanes, slope);
      }
  }
  for (int t = 0; t < kTilesTogether; t++)
    means[t] = sums[t] / max(numbers[t], broadcast(1.f));
}

// Rows [r, r + end) from gradients of weights to gradients of scores, in pairs of queries and in
// pairs of keys; their keys are paired too. Past the last row there are zeros.
inline void pair_rows(const PairedRows& rows, int64_t r, int64_t count, int64_t end,
                      const Lanes (&means)[kTilesTogether], PairScratch& scratch) {
  for (int64_t k = 0; k < end; k += 2) {
    for (int t = 0; t < kTilesTogether; t++) {
      Lanes slopes[2];
      for (int i = 0; i < 2; i++) {
        const int64_t at = (r + k + i) * kTilesTogether + t;
        const unsigned members = members_of(scratch.weights + at * kLanes);
        slopes[i] = keep_lanes(members, load(scratch.slopes + at * kLanes) - means[t]);
        store_halves(scratch.slope_halves + ((k + i) * kTilesTogether + t) * kLanes, slopes[i]);
      }
      store_pairs(scratch.slope_pairs + (t * kChunk + k) / 2 * kLanes, slopes[0], slopes[1]);
    }
    const int32_t* keys = scratch.rows + r;
    const int64_t last = count - r - 1;
    interleave(rows.words + keys[smaller(k, last)] * rows.stride(),
               rows.words + keys[smaller(k + 1, last)] * rows.stride(), rows.key_words,
               scratch.key_pairs + k * rows.key_words);
  }
}

inline void differentiate_tiles(const Image<float>& image, const PairedRows& rows,
                                const TileWeights& from, const float* grad, int64_t first,
                                int64_t last, PairScratch& scratch, float* d_query, float* to) {
  const TileUnit unit;
  const int64_t key_columns = rows.key_columns, to_stride = rows.columns();
  const int64_t pair_stride = 2 * rows.stride();
  for (int64_t tile = first; tile < last; tile += kTilesTogether) {
    pack_tiles(image, rows, grad, from.limits, tile, scratch);
    const int64_t count = find_rows(image, from, tile, scratch);
    Lanes means[kTilesTogether];
    differentiate_rows(rows, count, scratch, means);
    for (int64_t i = 0; i < kTilesTogether * key_columns * kLanes; i++) scratch.sums[i] = 0;
    for (int64_t r = 0; r < count; r += kChunk) {
      const int64_t n = smaller(kChunk, count - r), whole = (n + kDeep - 1) / kDeep * kDeep;
      pair_rows(rows, r, count, whole, means, scratch);
      for (int t = 0; t < kTilesTogether; t++)
        add_over_keys(scratch.slope_pairs + t * kChunk / 2 * kLanes, scratch.key_pairs,
                      2 * rows.key_words, whole / 2, image.channels, key_columns,
                      scratch.sums + t * key_columns * kLanes);
      add_over_queries(scratch.rows + r, n, scratch.slope_halves, scratch.query_pairs, pair_stride,
                       key_columns, to, to_stride);
      add_over_queries(scratch.rows + r, n, scratch.weights + r * kTilesTogether * kLanes,
                       scratch.query_pairs + 2 * rows.key_words, pair_stride, rows.value_columns,
                       to + key_columns, to_stride);
    }
    clear_rows(count, scratch);
    for (int i = 0; i < kTilesTogether * kLanes; i++) {
      const int64_t query = query_of(image, tile + i / kLanes, i % kLanes);
      if (query < 0) continue;
      const float* sums = scratch.sums + i / kLanes * key_columns * kLanes;
      for (int64_t c = 0; c < image.channels; c++)
        d_query[query * image.channels + c] = sums[sum_at(i % kLanes, c, key_columns)];
    }
  }
}

}  // namespace hspan::HSPAN_ISA

#endif
