// Step 4, collect: the blocks whose maximum passes the bound are multiplied again, and the keys in
// them that pass it are kept, with their scores, for sixteen queries at once.
#pragma once

#include "bound.h"
#include "screen.h"

namespace hspan::HSPAN_ISA {

// How far a tile's packed scores can be from the scores, key by key.
struct Margins {
  Lanes per_norm, per_error;
  Lanes most;  // for any key

  Margins(const Scratch& scratch, int t)
      : per_norm(load(scratch.per_norm + t * kLanes)),
        per_error(load(scratch.per_error + t * kLanes)) {
    float bounds[kLanes];
    for (int l = 0; l < kLanes; l++) {
      const double e = scratch.errors[t * kLanes + l];
      bounds[l] = __builtin_isinf(e) ? 0.f : round_up(e);
    }
    most = load(bounds);
  }
  HSPAN_INLINE Lanes of_block(const PackedKeys& keys, int64_t block) const {
    return fma(per_norm, broadcast(keys.block_norms[block]),
               per_error * broadcast(keys.block_errors[block]));
  }
  HSPAN_INLINE Lanes of_key(const PackedKeys& keys, int64_t place) const {
    return fma(per_norm, broadcast(keys.norms[place]),
               per_error * broadcast(keys.errors[place]));
  }
};

// Rounding in the bounds themselves: of scores, and of sums of up to 10^5 excesses.
HSPAN_INLINE Lanes slack(Lanes kappa, Lanes top) {
  const Lanes size = max(top, broadcast(0.f) - top);
  return fma(broadcast(2e-6f), size, broadcast(1e-4f) * (top - kappa)) + broadcast(1e-30f);
}

struct Collected {
  int64_t count;    // rows of 16 scores in scratch.rows
  Lanes top;        // largest packed score
  Lanes low;        // a lower bound of what the scores (not the packed ones) must exceed
  float hit_share;  // of the blocks, those multiplied again
};

// The bits of the queries that have to look at the key of row r.
HSPAN_INLINE unsigned candidates_of(const Collected& found, const Margins& margins,
                                    const PackedKeys& keys, const Scratch& scratch, int64_t r) {
  return exceeding(load(scratch.rows + r * kLanes) + margins.of_key(keys, scratch.row_places[r]),
                   found.low);
}

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
  Lanes kth;    // lower bound of the k-th largest, where topk says that only k take part
};

// Bounds from some of the scores, kappa starting from a lower bound.
HSPAN_INLINE Bounds raise(const float* rows, int64_t count, Bounds from, int64_t topk, int steps,
                          Lanes enough) {
  from.kappa = climb(rows, count, from.kappa, steps, enough);
  if (topk && topk < count)
    from.kth = max(from.kth,
                   below_kth(rows, count, max(from.kth, from.kappa), from.top, topk));
  return from;
}

// Bounds from block maxima, or from all scores.
HSPAN_INLINE Bounds first_bounds(const float* rows, int64_t count, float gap, int64_t topk) {
  const Lanes top = largest(rows, count);
  // A first guess from the right is as good as one from the left: Newton lands below the root.
  const Lanes kappa = max(newton_step(rows, count, top - broadcast(gap)), top - broadcast(1.f));
  const Lanes nothing = broadcast(-__FLT_MAX__);
  return raise(rows, count, {top, kappa, nothing}, topk, 12, broadcast(0.02f) * (top - kappa));
}

// What a packed score exceeds if its score can be in the support, as far as the margin goes.
HSPAN_INLINE Lanes low_of(Bounds b, Lanes margin) {
  return max(b.kappa, b.kth) - margin - slack(b.kappa, b.top);
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

// A lower bound of the kappa of the scores themselves: that of the least that they can be. A step
// may start anywhere (bound.h); from a little below the packed scores' kappa it lands close.
inline Lanes sharpen(const PackedKeys& keys, const Margins& margins, const float* rows,
                     const int32_t* places, int64_t count, Lanes kappa) {
  constexpr int64_t kPiece = 128;  // as in newton_step
  const Lanes one = broadcast(1.f);
  Lanes low = kappa - broadcast(0.25f) * margins.most;
  for (int i = 0; i < 3; i++) {
    Positive all;
    for (int64_t r0 = 0; r0 < count; r0 += kPiece) {
      Positive piece;
      for (int64_t r = r0; r < smaller(r0 + kPiece, count); r++)
        piece.add(load(rows + r * kLanes) - margins.of_key(keys, places[r]) - low);
      all.add(piece);
    }
    low = low + (all.sums() - one) / max(all.numbers(), one);
  }
  return low;
}

// An element of the support has s > kappa, hence s~ + e > kappa, with e for its key. maxima: of the
// tile's blocks, or null to do without a screen.
inline Collected collect(const PackedKeys& keys, int64_t key_count, int64_t topk,
                         const uint32_t* lanes, const Margins& margins, const float* maxima,
                         Scratch& scratch) {
  const int64_t blocks = keys.blocks;
  if (topk >= key_count) topk = 0;
  float* rows = scratch.rows;
  int32_t* places = scratch.row_places;

  Bounds b;
  int64_t count = 0;
  float hit_share = 1;
  if (maxima) {
    b = first_bounds(maxima, blocks, scratch.gap, topk);
    Lanes low = low_of(b, margins.most);
    int64_t hits = 0;
    for (int64_t block = 0; block < blocks; block++) {
      scratch.hits[hits] = static_cast<int32_t>(block);
      hits += exceeding(load(maxima + block * kLanes) + margins.of_block(keys, block), low) != 0;
    }
    hit_share = static_cast<float>(hits) / static_cast<float>(blocks);
    // Where many keys pass, the bounds are raised on the way by what has been collected.
    int64_t full = 512;
    for (int64_t h = 0; h < hits;) {
      const Lanes level = low - margins.most;
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
      low = low_of(b, margins.most);
      count = keep_rows(rows, places, count, low - margins.most);
      full = larger<int64_t>(512, 2 * count);
    }
  } else {
    count = collect_all(keys, lanes, key_count, scratch);
    b = first_bounds(rows, count, scratch.gap, topk);
    count = keep_rows(rows, places, count, low_of(b, margins.most) - margins.most);
  }
  // Exactness comes later: here a bound is good enough once it is as sharp as the scores.
  b = raise(rows, count, b, topk, 64, max(margins.most, broadcast(0.01f) * (b.top - b.kappa)));
  scratch.gap = larger(1e-6f, 1.5f * sum(b.top - b.kappa) / kLanes);
  Lanes low = low_of(b, margins.most);
  if (exceeding(margins.most, broadcast(0.02f) * (b.top - b.kappa)))  // else nothing to gain
    low = max(low, sharpen(keys, margins, rows, places, count, b.kappa) - slack(b.kappa, b.top));
  count = keep_rows(rows, places, count, low - margins.most);
  return {count, b.top, low, hit_share};
}

}  // namespace hspan::HSPAN_ISA
