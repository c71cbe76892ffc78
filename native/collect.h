// Step 4, collect: the blocks whose maximum passes the bound are multiplied again, and the keys in
// them that pass it are kept, with their scores, for sixteen queries at once.
#pragma once

#include "bound.h"
#include "screen.h"

namespace hspan::HSPAN_ISA {

// The level, per query, that a packed score must exceed to be of interest, given a lower bound of
// the kappa of packed scores: an element of the support has
//   s~ >= s - e > kappa - e >= (bound - e) - e.
// The slack covers rounding in the bound itself: of scores, and of sums of up to 10^5 excesses.
HSPAN_INLINE Lanes level_for(Lanes kappa, Lanes top, Lanes errors) {
  const Lanes size = max(top, broadcast(0.f) - top);
  const Lanes slack = fma(broadcast(2e-6f), size, broadcast(1e-4f) * (top - kappa));
  return kappa - errors - errors - slack - broadcast(1e-30f);
}

struct Collected {
  int64_t count;    // rows of 16 scores in scratch.rows
  Lanes top;        // largest packed score
  Lanes kappa;      // a lower bound of the packed scores' own
  Lanes level;      // what a candidate's packed score exceeds
  float hit_share;  // of the blocks, those multiplied again
};

HSPAN_INLINE int64_t keep_rows(float* rows, int32_t* places, int64_t count, Lanes level) {
  int64_t kept = 0;
  for (int64_t r = 0; r < count; r++) {
    const Lanes row = load(rows + r * kLanes);
    const int32_t place = places[r];
    store(rows + kept * kLanes, row);
    places[kept] = place;
    kept += exceeding(row, level) != 0;
  }
  return kept;
}

// Multiplies up to kBlocksAtOnce blocks of keys again and appends the keys that exceed the level.
inline int64_t append_blocks(const PackedKeys& keys, const uint32_t* lanes, const int32_t* blocks,
                             int number, int64_t key_count, Lanes level, float* rows,
                             int32_t* places, int64_t count) {
  alignas(64) float scores[kBlocksAtOnce * kLanes * kLanes];
  score_blocks(keys, lanes, blocks, number, scores);
  for (int i = 0; i < number; i++) {
    const int32_t first = blocks[i] * kLanes;
    const int limit = static_cast<int>(smaller<int64_t>(kLanes, key_count - first));
    for (int k = 0; k < limit; k++) {
      const Lanes row = load(scores + (i * kLanes + k) * kLanes);
      store(rows + count * kLanes, row);
      places[count] = first + k;
      count += exceeding(row, level) != 0;
    }
  }
  return count;
}

// The share of blocks with candidates above which everything is collected at once.
constexpr float kScreenPays = 0.5f;
constexpr float kFirstGap = 0.25f;

struct Bounds {
  Lanes top;    // largest packed score, or less
  Lanes kappa;  // lower bound of the packed scores' kappa
  Lanes bound;  // of what may take part: above kappa where topk says so
};

// Bounds from some of the scores, kappa starting from a lower bound.
HSPAN_INLINE Bounds raise(const float* rows, int64_t count, Bounds from, int64_t topk, int steps,
                          Lanes enough) {
  from.kappa = climb(rows, count, from.kappa, steps, enough);
  from.bound = max(from.bound, from.kappa);
  if (topk && topk < count)
    from.bound = max(from.bound, below_kth(rows, count, from.bound, from.top, topk));
  return from;
}

// Bounds from block maxima, or from all scores.
HSPAN_INLINE Bounds first_bounds(const float* rows, int64_t count, float gap, int64_t topk) {
  const Lanes top = largest(rows, count);
  // A first guess from the right is as good as one from the left: Newton lands below the root.
  const Lanes kappa = max(newton_step(rows, count, top - broadcast(gap)), top - broadcast(1.f));
  return raise(rows, count, {top, kappa, kappa}, topk, 12, broadcast(0.02f) * (top - kappa));
}

// All scores of a tile, without a screen: the rows are the keys.
inline int64_t collect_all(const PackedKeys& keys, const uint32_t* lanes, int64_t key_count,
                           Scratch& scratch) {
  for (int64_t b = 0; b < keys.blocks; b += kBlocksAtOnce) {
    int32_t blocks[kBlocksAtOnce];
    const int number = static_cast<int>(smaller<int64_t>(kBlocksAtOnce, keys.blocks - b));
    for (int i = 0; i < number; i++) blocks[i] = static_cast<int32_t>(b + i);
    // Rows have room for a few blocks more.
    score_blocks(keys, lanes, blocks, number, scratch.rows + b * kLanes * kLanes);
  }
  for (int64_t j = 0; j < key_count; j++) scratch.row_places[j] = static_cast<int32_t>(j);
  return key_count;
}

// maxima: of the tile's blocks, or null to do without a screen.
inline Collected collect(const PackedKeys& keys, int64_t key_count, int64_t topk,
                         const uint32_t* lanes, const double* errors, const float* maxima,
                         Scratch& scratch) {
  const int64_t blocks = keys.blocks;
  if (topk >= key_count) topk = 0;
  float error_bounds[kLanes];
  for (int l = 0; l < kLanes; l++)
    error_bounds[l] = __builtin_isinf(errors[l]) ? 0.f : static_cast<float>(errors[l] * 1.0001);
  const Lanes e = load(error_bounds);
  float* rows = scratch.rows;
  int32_t* places = scratch.row_places;

  Bounds b;
  int64_t count = 0;
  float hit_share = 1;
  if (maxima) {
    b = first_bounds(maxima, blocks, scratch.gap, topk);
    Lanes level = level_for(b.bound, b.top, e);
    int64_t hits = 0;
    for (int64_t block = 0; block < blocks; block++) {
      scratch.hits[hits] = static_cast<int32_t>(block);
      hits += exceeding(load(maxima + block * kLanes), level) != 0;
    }
    hit_share = static_cast<float>(hits) / static_cast<float>(blocks);
    // Where many keys pass, the bounds are raised on the way by what has been collected.
    int64_t full = 512;
    for (int64_t h = 0; h < hits;) {
      int32_t chosen[kBlocksAtOnce];
      int number = 0;
      for (; h < hits && number < kBlocksAtOnce; h++) {  // the level may have risen since
        chosen[number] = scratch.hits[h];
        number += exceeding(load(maxima + scratch.hits[h] * kLanes), level) != 0;
      }
      if (number == 0) break;
      count = append_blocks(keys, lanes, chosen, number, key_count, level, rows, places, count);
      if (count < full) continue;
      b = raise(rows, count, b, topk, 2, broadcast(0.f));
      level = level_for(b.bound, b.top, e);
      count = keep_rows(rows, places, count, level);
      full = larger<int64_t>(512, 2 * count);
    }
  } else {
    count = collect_all(keys, lanes, key_count, scratch);
    b = first_bounds(rows, count, scratch.gap, topk);
    count = keep_rows(rows, places, count, level_for(b.bound, b.top, e));
  }
  // Exactness comes later: here a bound is good enough once it is as sharp as the scores.
  b = raise(rows, count, b, topk, 64, max(e, broadcast(0.01f) * (b.top - b.kappa)));
  scratch.gap = larger(1e-6f, 1.5f * sum(b.top - b.kappa) / kLanes);
  const Lanes level = level_for(b.bound, b.top, e);
  count = keep_rows(rows, places, count, level);
  return {count, b.top, b.kappa, level, hit_share};
}

}  // namespace hspan::HSPAN_ISA
