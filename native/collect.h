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
  int64_t count;  // rows of 16 scores in scratch.rows
  Lanes top;      // largest packed score
  Lanes kappa;    // of the packed scores, exact up to rounding
  Lanes level;    // what a candidate's packed score exceeds
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

inline Collected collect(const PackedKeys& keys, int64_t key_count, int64_t topk,
                         const uint32_t* lanes, const double* errors, const float* maxima,
                         Scratch& scratch) {
  const int64_t blocks = keys.blocks;
  float error_bounds[kLanes];
  for (int l = 0; l < kLanes; l++)
    error_bounds[l] = __builtin_isinf(errors[l]) ? 0.f : static_cast<float>(errors[l] * 1.0001);
  const Lanes e = load(error_bounds);

  const Lanes top = largest(maxima, blocks);
  // A first guess from the right is as good as one from the left: Newton lands below the root.
  Lanes kappa = newton_step(maxima, blocks, top - broadcast(scratch.gap));
  kappa = climb(maxima, blocks, max(kappa, top - broadcast(1.f)), 2);
  Lanes bound = kappa;
  const bool truncated = topk > 0 && topk < key_count;
  if (truncated && topk <= blocks) bound = max(bound, below_kth(maxima, blocks, kappa, top, topk));
  Lanes level = level_for(bound, top, e);

  int64_t hits = 0;
  for (int64_t b = 0; b < blocks; b++) {
    scratch.hits[hits] = static_cast<int32_t>(b);
    hits += exceeding(load(maxima + b * kLanes), level) != 0;
  }

  // Where many keys pass, the bound is raised on the way by what has been collected.
  int64_t count = 0, full = 512;
  for (int64_t h = 0; h < hits; h++) {
    const int64_t block = scratch.hits[h];
    if (h && exceeding(load(maxima + block * kLanes), level) == 0) continue;  // level has risen
    count = append_block(keys, lanes, block, key_count - block * kLanes, level, scratch.rows,
                         scratch.row_places, count);
    if (count >= full) {
      kappa = climb(scratch.rows, count, kappa, 2);
      bound = max(bound, kappa);
      if (truncated && topk < count)
        bound = max(bound, below_kth(scratch.rows, count, bound, top, topk));
      level = level_for(bound, top, e);
      count = keep_rows(scratch.rows, scratch.row_places, count, level);
      full = larger<int64_t>(512, 2 * count);
    }
  }
  kappa = climb(scratch.rows, count, kappa, 64);
  bound = max(bound, kappa);
  if (truncated && topk < count)
    bound = max(bound, below_kth(scratch.rows, count, bound, top, topk));
  scratch.gap = larger(1e-3f, 1.5f * sum(top - kappa) / kLanes);
  return {count, top, kappa, level_for(bound, top, e)};
}

}  // namespace hspan::HSPAN_ISA
