// Step 4, collect: the blocks whose maximum passes the bound are multiplied again, and the keys in
// them that pass it are kept, with their scores, for sixteen queries at once.
#pragma once

#include "bound.h"
#include "screen.h"

namespace hspan::HSPAN_ISA {

// The level, per query, that a packed score must exceed to be of interest, given a lower bound of
// the kappa of packed scores: an element of the support has
//   s~ >= s - e > kappa - e >= (bound - e) - e.
// The slack covers rounding in the bound itself.
HSPAN_INLINE Lanes level_for(Lanes kappa, Lanes top, Lanes errors) {
  const Lanes slack = broadcast(1e-6f) * (max(top, broadcast(0.f) - top) + (top - kappa)) +
                      broadcast(1e-30f);
  return kappa - errors - errors - slack - slack;
}

struct Collected {
  int64_t count;    // rows of 16 scores in scratch.rows
  Lanes top;        // largest packed score
  Lanes kappa;      // of the packed scores, exact up to rounding
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

// Multiplies the blocks of 16 keys again and appends the keys that exceed the level.
inline int64_t append_block(const PackedKeys& keys, const uint32_t* lanes, int64_t block,
                            int64_t limit, Lanes level, float* rows, int32_t* places,
                            int64_t count) {
  constexpr int kKeys = kRegisters == 1 ? 16 : kScreenKeys;
  const uint32_t* words = keys.words + block * keys.words_per_key * kLanes;
  for (int part = 0; part < kLanes; part += kKeys) {
    Lanes scores[kKeys][1];
    multiply<kKeys, 1>(words + part, lanes, keys.words_per_key, scores);
#pragma GCC unroll 16
    for (int k = 0; k < kKeys; k++) {
      store(rows + count * kLanes, scores[k][0]);
      places[count] = static_cast<int32_t>(block * kLanes + part + k);
      count += exceeding(scores[k][0], level) != 0 && part + k < limit;
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
HSPAN_INLINE Bounds raise(const float* rows, int64_t count, Bounds from, int64_t topk, int steps) {
  from.kappa = climb(rows, count, from.kappa, steps);
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
  return raise(rows, count, {top, kappa, kappa}, topk, 2);
}

// All scores of a tile, without a screen: the rows are the keys.
inline int64_t collect_all(const PackedKeys& keys, const uint32_t* lanes, int64_t key_count,
                           Scratch& scratch) {
  const Lanes everything = broadcast(-__builtin_inff());
  int64_t count = 0;
  for (int64_t b = 0; b < keys.blocks; b++)
    count = append_block(keys, lanes, b, key_count - b * kLanes, everything, scratch.rows,
                         scratch.row_places, count);
  return count;
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
    for (int64_t h = 0; h < hits; h++) {
      const int64_t block = scratch.hits[h];
      if (exceeding(load(maxima + block * kLanes), level) == 0) continue;  // it has risen
      count = append_block(keys, lanes, block, key_count - block * kLanes, level, rows, places,
                           count);
      if (count < full) continue;
      b = raise(rows, count, b, topk, 2);
      level = level_for(b.bound, b.top, e);
      count = keep_rows(rows, places, count, level);
      full = larger<int64_t>(512, 2 * count);
    }
  } else {
    count = collect_all(keys, lanes, key_count, scratch);
    b = first_bounds(rows, count, scratch.gap, topk);
    count = keep_rows(rows, places, count, level_for(b.bound, b.top, e));
  }
  b = raise(rows, count, b, topk, 64);
  scratch.gap = larger(1e-6f, 1.5f * sum(b.top - b.kappa) / kLanes);
  const Lanes level = level_for(b.bound, b.top, e);
  count = keep_rows(rows, places, count, level);
  return {count, b.top, b.kappa, level, hit_share};
}

}  // namespace hspan::HSPAN_ISA
