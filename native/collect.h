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

  Margins() = default;
  Margins(const PackedQueries& queries, int t)
      : per_norm(load(queries.per_norm + t * kLanes)),
        per_error(load(queries.per_error + t * kLanes)) {
    float bounds[kLanes];
    for (int l = 0; l < kLanes; l++) {
      const double e = queries.errors[t * kLanes + l];
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

// What a packed score exceeds if its score can be in the support, as far as the margin goes.
HSPAN_INLINE Lanes low_of(const Bounds& b, Lanes margin) {
  return max(b.kappa, b.kth) - margin - slack(b.kappa, b.top);
}

// Which of sixteen rows exceed the level for some query, a bit each. Asked of all before any is
// copied: no comparison then waits for a copy.
HSPAN_INLINE unsigned rows_exceeding(const float* rows, Lanes level) {
  unsigned passing = 0;
#pragma GCC unroll 16
  for (int k = 0; k < kLanes; k++)
    passing |= static_cast<unsigned>(exceeding(load(rows + k * kLanes), level) != 0) << k;
  return passing;
}

// Keeps the rows that exceed the level, and what belongs to them. There is room for 16 rows more.
inline int64_t keep_rows(float* rows, int32_t* places, int64_t count, Lanes level) {
  int64_t kept = 0;
  for (int64_t r = 0; r < count; r += kLanes) {
    unsigned passing = rows_exceeding(rows + r * kLanes, level);
    if (count - r < kLanes) passing &= (1u << (count - r)) - 1;
    for (; passing; passing &= passing - 1, kept++) {
      const int64_t from = r + __builtin_ctz(passing);
      store(rows + kept * kLanes, load(rows + from * kLanes));
      places[kept] = places[from];
    }
  }
  return kept;
}

// What a tile has collected.
struct Collection {
  Margins margins;
  Bounds bounds;
  Lanes low;         // a lower bound of what the scores (not the packed ones) must exceed
  float* rows;       // [capacity + 64, 16] packed scores of the keys that passed the bound
  int32_t* places;   // [capacity + 64] where these keys stand in the blocks
  int64_t count;     // of rows
  int64_t full;      // when it has so many, the bound is raised
  int64_t capacity;
  bool overflown;    // more keys pass than there is room for: nothing is collected any more
};

// What is searched for.
struct Search {
  int64_t keys;  // M; those of the last block that are copies don't count
  int64_t topk;  // 0: every key takes part
  float gap;     // how far kappa may lie below the largest score: Newton's first guess
};

// The share of blocks with candidates above which everything is collected at once. On AMX a screen
// is cheaper than that: two tiles of queries share what it fetches of the keys.
#if defined(HSPAN_AMX)
constexpr float kScreenPays = 0.7f;
#else
constexpr float kScreenPays = 0.5f;
#endif
constexpr float kFirstGap = 0.25f;
constexpr int64_t kFirstFull = 512;  // rows

inline Collection new_collection(const Margins& margins, Bounds bounds, float* rows,
                                 int32_t* places, int64_t capacity) {
  const Lanes low = low_of(bounds, margins.most);
  return {margins, bounds, low, rows, places, 0, smaller(kFirstFull, capacity), capacity, false};
}

// Of the scratch, what belongs to tile t.
inline void give_room(Collection& tile, int t, Scratch& scratch) {
  tile.rows = scratch.collected + t * (scratch.capacity + 64) * kLanes;
  tile.places = scratch.collected_places + t * (scratch.capacity + 64);
  tile.capacity = scratch.capacity;
}

// Tile t asks for the blocks that it has listed.
inline void ask_for(Scratch& scratch, int64_t hits, int t) {
  for (int64_t h = 0; h < hits; h++)
    scratch.askers[scratch.hits[h]] |= static_cast<uint16_t>(1 << t);
}

// Bounds from one look at block maxima, or at all scores. A first guess from the right is as good as
// one from the left: Newton lands below the root.
HSPAN_INLINE Bounds first_bounds(const float* rows, int64_t count, Lanes top, float gap) {
  const Lanes kappa = max(newton_step(rows, count, top - broadcast(gap)), top - broadcast(1.f));
  return {top, kappa, broadcast(-__FLT_MAX__)};
}

// Sharper ones from the same rows, or from those of them that exceed kappa.
HSPAN_INLINE Bounds sharper_bounds(const float* rows, int64_t count, Bounds from, int64_t topk) {
  return raise(rows, count, from, topk, 12, broadcast(0.02f) * (from.top - from.kappa));
}

// Begins with the maxima of all blocks, which are overwritten, and lists the blocks in which a key
// may matter. Returns how many these are.
inline int64_t begin_collection(Collection& tile, const PackedKeys& keys, const Search& search,
                                float* maxima, Lanes top, int32_t* hits) {
  const Lanes most = tile.margins.most;
  Bounds b = first_bounds(maxima, keys.blocks, top, search.gap);
  // Few blocks reach the first bound, and bounds only rise: the others needn't be looked at again.
  const Lanes least = low_of(b, most) - most;
  int64_t reached = 0;
  for (int64_t block = 0; block < keys.blocks; block++) {
    const Lanes row = load(maxima + block * kLanes);
    store(maxima + reached * kLanes, row);
    hits[reached] = static_cast<int32_t>(block);
    reached += exceeding(row, least) != 0;
  }
  b = sharper_bounds(maxima, reached, b, search.topk);
  tile = new_collection(tile.margins, b, tile.rows, tile.places, tile.capacity);
  int64_t number = 0;
  for (int64_t r = 0; r < reached; r++) {
    hits[number] = hits[r];
    number += exceeding(load(maxima + r * kLanes) + tile.margins.of_block(keys, hits[r]),
                        tile.low) != 0;
  }
  return number;
}

// Raises the bound by what has been collected, and drops what it leaves behind.
inline void raise_bound(Collection& tile, const Search& search) {
  tile.bounds = raise(tile.rows, tile.count, tile.bounds, search.topk, 2, broadcast(0.f));
  tile.low = low_of(tile.bounds, tile.margins.most);
  tile.count = keep_rows(tile.rows, tile.places, tile.count, tile.low - tile.margins.most);
}

// Collects from a block of keys, scores[key][query].
inline void collect(Collection& tile, const PackedKeys& keys, int64_t block, const Search& search,
                    const float* scores) {
  unsigned passing = rows_exceeding(scores, tile.low - tile.margins.of_block(keys, block));
  const int32_t first = static_cast<int32_t>(block * kLanes);
  if (search.keys - first < kLanes) passing &= (1u << (search.keys - first)) - 1;
  float* row = tile.rows + tile.count * kLanes;
  int32_t* place = tile.places + tile.count;
  tile.count += __builtin_popcount(passing);
  for (; passing; passing &= passing - 1) {
    const int k = __builtin_ctz(passing);
    store(row, load(scores + k * kLanes));
    row += kLanes;
    *place++ = first + k;
  }
  if (tile.count < tile.full) return;
  raise_bound(tile, search);
  tile.full = larger(kFirstFull, 2 * tile.count);
  if (tile.full <= tile.capacity) return;
  tile.full = tile.capacity;
  if (search.keys < tile.capacity) return;  // room for all of them
  tile.overflown = true;
  tile.low = broadcast(__FLT_MAX__);
}

// The second look of all tiles at once: a block of keys is fetched for every tile that asks for it.
// askers[block]: the tiles, a bit each.
inline void collect_blocks(const PackedKeys& keys, const uint32_t* lanes, const Search& search,
                           const uint16_t* askers, Collection* tiles) {
  alignas(64) float scores[kTilesAtOnce * kLanes * kLanes];
  const int64_t block_words = keys.words_per_key * kLanes;
  const auto asked_from = [&](int64_t block) {
    while (block < keys.blocks && !askers[block]) block++;
    return block;
  };
  for (int64_t block = asked_from(0), next; block < keys.blocks; block = next) {
    next = asked_from(block + 1);
    // The screen has swept the caches since it saw these keys.
    if (next < keys.blocks) prefetch(keys.words + next * block_words, block_words * 4);
    for (unsigned left = askers[block]; left;) {
      int asking[kTilesAtOnce], number = 0;
      const uint32_t* packed[kTilesAtOnce];
      for (; left && number < kTilesAtOnce; left &= left - 1) asking[number++] = __builtin_ctz(left);
      for (int i = 0; i < kTilesAtOnce; i++)
        packed[i] = lanes + asking[smaller(i, number - 1)] * block_words;
      score_block(keys, block, packed, scores);
      for (int i = 0; i < number; i++)
        collect(tiles[asking[i]], keys, block, search, scores + i * kLanes * kLanes);
    }
  }
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

// Bounds as sharp as the packed scores allow, and only the keys that pass them. An element of the
// support has s > kappa, hence s~ + e > kappa, with e for its key.
inline void finish_collection(Collection& tile, const PackedKeys& keys) {
  const Margins& margins = tile.margins;
  Bounds& b = tile.bounds;
  // Exactness comes later: here a bound is good enough once it is as sharp as the scores. Where only k
  // take part, the k-th largest has been sought among these rows already.
  b.kappa = climb(tile.rows, tile.count, b.kappa, 64,
                  max(margins.most, broadcast(0.01f) * (b.top - b.kappa)));
  tile.low = low_of(b, margins.most);
  if (exceeding(margins.most, broadcast(0.02f) * (b.top - b.kappa))) {  // else nothing to gain
    tile.count = keep_rows(tile.rows, tile.places, tile.count, tile.low - margins.most);
    const Lanes sharp = sharpen(keys, margins, tile.rows, tile.places, tile.count, b.kappa);
    tile.low = max(tile.low, sharp - slack(b.kappa, b.top));
  }
  tile.count = keep_rows(tile.rows, tile.places, tile.count, tile.low - margins.most);
}

// All scores of a tile: the rows are the keys, and have room for a few blocks more. Returns the largest.
inline Lanes score_all(const PackedKeys& keys, const uint32_t* lanes, float* rows) {
  Lanes top = broadcast(-__FLT_MAX__);
  for (int64_t b = 0; b < keys.blocks; b += kBlocksAtOnce) {
    int32_t blocks[kBlocksAtOnce];
    const int number = static_cast<int>(smaller<int64_t>(kBlocksAtOnce, keys.blocks - b));
    for (int i = 0; i < number; i++) blocks[i] = static_cast<int32_t>(b + i);
    float* scores = rows + b * kLanes * kLanes;
    score_blocks(keys, lanes, blocks, number, scores);
    top = max(top, largest(scores, number * kLanes));
  }
  return top;
}

// Collects from all blocks, without a screen.
inline void collect_all(Collection& tile, const PackedKeys& keys, const uint32_t* lanes,
                        const Search& search, Scratch& scratch) {
  float* rows = scratch.rows;
  const Lanes top = score_all(keys, lanes, rows);
  Bounds b = first_bounds(rows, search.keys, top, search.gap);
  for (int64_t j = 0; j < search.keys; j++) scratch.row_places[j] = static_cast<int32_t>(j);
  tile = new_collection(tile.margins, b, rows, scratch.row_places, search.keys);
  tile.count = keep_rows(rows, tile.places, search.keys, tile.low - tile.margins.most);
  tile.bounds = sharper_bounds(rows, tile.count, b, search.topk);
  tile.low = low_of(tile.bounds, tile.margins.most);
  tile.count = keep_rows(rows, tile.places, tile.count, tile.low - tile.margins.most);
}

// Room between the candidates of one query and the next; vectors may be stored past the end.
inline int64_t stride_of(const PackedKeys& keys) { return (keys.blocks + 1) * kLanes; }

// The bits of the queries that have to look at the key of row r.
HSPAN_INLINE unsigned candidates_of(const Collection& found, const PackedKeys& keys, int64_t r) {
  return exceeding(load(found.rows + r * kLanes) + found.margins.of_key(keys, found.places[r]),
                   found.low);
}

}  // namespace hspan::HSPAN_ISA
