// Step 2 of long sequences: all scores are bounded by a third of the product, and only the blocks
// of keys that may matter are multiplied in full.
//
// Let B [C, 31] have orthonormal columns. What a query and a key have in B is multiplied, of the rest
// only the norms (Cauchy and Schwarz):
//   q k <= (B^T q) (B^T k) + |q - B B^T q| |k - B B^T k|,
// which is a score of 32 channels. It goes through the same pack and the same screen. Being a bound
// from above, it says nothing about kappa; so the blocks that promise most are multiplied first, and
// kappa of their scores rules out most of the others: those whose bound it exceeds.
//
// Where features have little outside B, as photographs' have, a sixth of the blocks is left.
#pragma once

#include "collect.h"
#include "project.h"

namespace hspan::HSPAN_ISA {

// Projects and packs a tile of queries. Those whose projections could be lost at an end of float32's
// range have no bound: their errors are infinite.
inline void pack_prefixes(const Image<float>& image, const Prefix& prefix, int64_t tile, int t,
                          Scratch& scratch) {
  for (int l = 0; l < kLanes; l += 4) {
    const float* rows[4];
    for (int r = 0; r < 4; r++) rows[r] = query_row(image, tile * kLanes + l + r);
    project_rows(rows, nullptr, image.channels, prefix, scratch.projected + l * kPrefix);
    for (int r = 0; r < 4; r++) {
      float* left = scratch.projected + (l + r) * kPrefix + kDirections;
      if (!(*left == 0 || (*left > 1e-14f && *left < 1e12f))) *left = __builtin_inff();
    }
  }
  const Image<float> projected{kLanes, 0, kPrefix, 0, 0, false, scratch.projected, nullptr, nullptr,
                               nullptr, nullptr};
  pack_queries(projected, prefix.keys, 0, t, scratch.prefixes);
}

inline void pack_prefixes(const Image<double>&, const Prefix&, int64_t, int, Scratch&) {}

// What the bound of a block must exceed, less the block's margin, if its keys may be in the support.
struct PrefixLevel {
  Margins margins;
  Lanes low;

  PrefixLevel(const PackedQueries& prefixes, int t, Lanes least) : margins(prefixes, t) {
    float bounds[kLanes];
    store(bounds, least);
    for (int l = 0; l < kLanes; l++)
      if (__builtin_isinf(prefixes.errors[t * kLanes + l])) bounds[l] = -__builtin_inff();
    low = load(bounds);
  }
  HSPAN_INLINE bool passes(const Prefix& prefix, int64_t block, Lanes largest) const {
    return exceeding(largest + margins.of_block(prefix.keys, block), low) != 0;
  }
};

// So many blocks at most are multiplied before there is a bound.
constexpr int64_t kPromising = 64;

// Lists blocks whose bounds are among the largest: whichever they are, their scores bound kappa.
inline int64_t list_promising(const float* bounds, int64_t blocks, Lanes top, float gap,
                              int32_t* hits) {
  Lanes level = first_bounds(bounds, blocks, top, gap).kappa;
  int64_t number = 0;
  for (int i = 0; i < 4; i++) {
    number = 0;
    for (int64_t block = 0; block < blocks; block++) {
      hits[number] = static_cast<int32_t>(block);
      number += exceeding(load(bounds + block * kLanes), level) != 0;
    }
    if (number <= kPromising) break;
    level = (level + top) * broadcast(0.5f);
  }
  return smaller(number, kPromising);
}

// Bounds from all scores of some blocks.
inline void begin_bounds(Collection& tile, const Search& search) {
  const Lanes top = largest(tile.rows, tile.count);
  const Bounds first = first_bounds(tile.rows, tile.count, top, search.gap);
  tile.bounds = sharper_bounds(tile.rows, tile.count, first, search.topk);
  tile.low = low_of(tile.bounds, tile.margins.most);
  tile.count = keep_rows(tile.rows, tile.places, tile.count, tile.low - tile.margins.most);
  tile.full = smaller(larger(kFirstFull, 2 * tile.count), tile.capacity);
}

// As screen_and_collect (attend.h), by prefixes.
inline void screen_prefixes_and_collect(const PackedKeys& keys, const Search& search, int count,
                                        Scratch& scratch, Collection* tiles) {
  const Prefix& prefix = *keys.prefix;
  const int64_t blocks = keys.blocks;
  screen(prefix.keys, scratch.prefixes.lanes, count, scratch.maxima, scratch.tops);
  for (int64_t block = 0; block < blocks; block++) scratch.askers[block] = 0;
  const Lanes lowest = broadcast(-__FLT_MAX__);
  for (int t = 0; t < count; t++) {
    give_room(tiles[t], t, scratch);
    tiles[t].bounds = {lowest, lowest, lowest};
    tiles[t].low = lowest;
    tiles[t].count = 0;
    tiles[t].full = tiles[t].capacity;
    tiles[t].overflown = false;
    const int64_t hits = list_promising(scratch.maxima + t * blocks * kLanes, blocks,
                                        load(scratch.tops + t * kLanes), search.gap, scratch.hits);
    ask_for(scratch, hits, t);
  }
  collect_blocks(keys, scratch.queries.lanes, search, scratch.askers, tiles);
  for (int t = 0; t < count; t++) {
    begin_bounds(tiles[t], search);
    const PrefixLevel level(scratch.prefixes, t, tiles[t].low);
    const float* bounds = scratch.maxima + t * blocks * kLanes;
    for (int64_t block = 0; block < blocks; block++) {
      const unsigned asked = scratch.askers[block] >> t & 1;
      const unsigned asks = !asked && level.passes(prefix, block, load(bounds + block * kLanes));
      const unsigned others = scratch.askers[block] & ~(1u << t);
      scratch.askers[block] = static_cast<uint16_t>(others | asks << t);
    }
  }
  collect_blocks(keys, scratch.queries.lanes, search, scratch.askers, tiles);
  for (int t = 0; t < count; t++)  // the largest score may have come last
    if (!tiles[t].overflown)
      tiles[t].bounds.top = max(tiles[t].bounds.top, largest(tiles[t].rows, tiles[t].count));
}

// The share of blocks that prefixes leave to a tile, packed as the scratch's first.
inline float share_left(const PackedKeys& keys, Lanes least, Scratch& scratch) {
  screen(keys.prefix->keys, scratch.prefixes.lanes, 1, scratch.maxima, scratch.tops);
  const PrefixLevel level(scratch.prefixes, 0, least);
  int64_t left = 0;
  for (int64_t block = 0; block < keys.blocks; block++)
    left += level.passes(*keys.prefix, block, load(scratch.maxima + block * kLanes));
  return static_cast<float>(left) / static_cast<float>(keys.blocks);
}

// Whether that beats a screen, which leaves hit_share of the blocks. Cycles a block and tile, of the
// screen and of a second look; here for Zen 4, where AMX is for Sapphire Rapids.
inline bool prefix_pays(const PackedKeys& keys, float hit_share, float left) {
#if defined(HSPAN_AMX)
  constexpr float kWord = 1, kScan = 20, kAgain = 60;
#else
  constexpr float kWord = kRegisters * 16, kScan = 16, kAgain = 60;
#endif
  const float words = static_cast<float>(keys.words_per_key);
  const float prefix_words = static_cast<float>(keys.prefix->keys.words_per_key);
  const float second = kWord * words + kAgain;
  const float screened = kWord * words + kScan + hit_share * second;
  return kWord * prefix_words + kScan + left * second < 0.9f * screened;
}

}  // namespace hspan::HSPAN_ISA
