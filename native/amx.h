// The screen on AMX: sixteen keys by sixteen queries in one instruction.
//
// A tile of keys has one key a row, sixteen words of it; a tile of queries has one word a row, of
// sixteen queries. Their product is a tile of scores, one key a row, one query a column: what the
// vector kernels hold in sixteen registers.
#pragma once

#include "pack.h"

#if defined(HSPAN_EMULATE_AMX)
#include "amx_emulated.h"
#endif

namespace hspan::HSPAN_ISA {

// The unit is configured while this lives. The system's permission has been asked for before
// (dispatch.cpp).
class TileUnit {
 public:
  TileUnit() {
    struct {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } shape;
    static_assert(sizeof shape == 64, "as the processor reads it");
    _tile_loadconfig(&shape);
  }
  ~TileUnit() { _tile_release(); }
  TileUnit(const TileUnit&) = delete;
  TileUnit& operator=(const TileUnit&) = delete;
};

constexpr int64_t kTileWords = 256;

HSPAN_INLINE Lanes largest_of_tile(const float* scores) {
  Lanes a = load(scores), b = load(scores + kLanes);
#pragma GCC unroll 7
  for (int k = 2; k < kLanes; k += 2) {
    a = max(a, load(scores + k * kLanes));
    b = max(b, load(scores + (k + 1) * kLanes));
  }
  return max(a, b);
}

// Scores of two blocks of keys against two tiles of queries end up in tiles 0 to 3. What was there
// before goes to out, each tile just before it is needed again: stores then wait for nothing, and
// overlap with products.
HSPAN_INLINE void multiply_tiles(const uint32_t* keys0, const uint32_t* keys1,
                                 const uint32_t* lanes0, const uint32_t* lanes1, int64_t words,
                                 float* out) {
  _tile_loadd(4, keys0, 64);
  _tile_loadd(6, lanes0, 64);
  _tile_stored(0, out, 64);
  _tile_zero(0);
  _tile_dpbf16ps(0, 4, 6);
  _tile_loadd(5, keys1, 64);
  _tile_stored(1, out + kTileWords, 64);
  _tile_zero(1);
  _tile_dpbf16ps(1, 5, 6);
  _tile_loadd(7, lanes1, 64);
  _tile_stored(2, out + 2 * kTileWords, 64);
  _tile_zero(2);
  _tile_dpbf16ps(2, 4, 7);
  _tile_stored(3, out + 3 * kTileWords, 64);
  _tile_zero(3);
  _tile_dpbf16ps(3, 5, 7);
  for (int64_t w = kTileWords; w < words * kLanes; w += kTileWords) {
    _tile_loadd(4, keys0 + w, 64);
    _tile_loadd(6, lanes0 + w, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, keys1 + w, 64);
    _tile_dpbf16ps(1, 5, 6);
    _tile_loadd(7, lanes1 + w, 64);
    _tile_dpbf16ps(2, 4, 7);
    _tile_dpbf16ps(3, 5, 7);
  }
}

// Fills maxima[tile][block] for count tiles, and tops[tile] with the largest of them, panel of keys
// by panel, so that a panel stays in the first-level cache while every tile passes over it.
inline void screen(const PackedKeys& keys, const uint32_t* lanes, int count, float* maxima,
                   float* tops) {
  const int64_t words = keys.words_per_key, block_words = words * kLanes;
  constexpr int64_t kPanelBytes = 12 << 10;
  const int64_t panel = larger<int64_t>(4, kPanelBytes / (block_words * 4) / 2 * 2);
  for (int t = 0; t < count; t++) store(tops + t * kLanes, broadcast(-__FLT_MAX__));
  alignas(64) float scores[4 * kTileWords], nowhere[kLanes] = {};
  // Where the maxima of the scores in tiles 0 to 3 go: nowhere at first.
  float *target[4] = {nowhere, nowhere, nowhere, nowhere}, *top[2] = {nowhere, nowhere};
  const auto finish = [&] {
    for (int i = 0; i < 2; i++) {
      const Lanes a = largest_of_tile(scores + 2 * i * kTileWords);
      const Lanes b = largest_of_tile(scores + (2 * i + 1) * kTileWords);
      store(target[2 * i], a);
      store(target[2 * i + 1], b);
      store(top[i], max(load(top[i]), max(a, b)));
    }
  };
  for (int64_t first = 0; first < keys.blocks; first += panel) {
    const int64_t last = smaller(first + panel, keys.blocks);
    for (int t = 0; t < count; t += 2) {
      // What is missing from a pair is replaced by its other half: computed twice, stored twice.
      const int t1 = smaller(t + 1, count - 1);
      for (int64_t b = first; b < last; b += 2) {
        const int64_t b1 = smaller(b + 1, last - 1);
        multiply_tiles(keys.words + b * block_words, keys.words + b1 * block_words,
                       lanes + t * block_words, lanes + t1 * block_words, words, scores);
        finish();
        target[0] = maxima + (t * keys.blocks + b) * kLanes;
        target[1] = maxima + (t * keys.blocks + b1) * kLanes;
        target[2] = maxima + (t1 * keys.blocks + b) * kLanes;
        target[3] = maxima + (t1 * keys.blocks + b1) * kLanes;
        top[0] = tops + t * kLanes;
        top[1] = tops + t1 * kLanes;
      }
    }
  }
  _tile_stored(0, scores, 64);
  _tile_stored(1, scores + kTileWords, 64);
  _tile_stored(2, scores + 2 * kTileWords, 64);
  _tile_stored(3, scores + 3 * kTileWords, 64);
  finish();
}

constexpr int kTilesAtOnce = 4;

// Multiplies a block of keys by a few tiles of queries: scores[tile][key][query].
inline void score_block(const PackedKeys& keys, int64_t block,
                        const uint32_t* const (&lanes)[kTilesAtOnce], float* scores) {
  const int64_t block_words = keys.words_per_key * kLanes;
  const uint32_t* key = keys.words + block * block_words;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t w = 0; w < block_words; w += kTileWords) {
    _tile_loadd(4, key + w, 64);
    _tile_loadd(5, lanes[0] + w, 64);
    _tile_dpbf16ps(0, 4, 5);
    _tile_loadd(6, lanes[1] + w, 64);
    _tile_dpbf16ps(1, 4, 6);
    _tile_loadd(7, lanes[2] + w, 64);
    _tile_dpbf16ps(2, 4, 7);
    _tile_loadd(5, lanes[3] + w, 64);
    _tile_dpbf16ps(3, 4, 5);
  }
  _tile_stored(0, scores, 64);
  _tile_stored(1, scores + kTileWords, 64);
  _tile_stored(2, scores + 2 * kTileWords, 64);
  _tile_stored(3, scores + 3 * kTileWords, 64);
}

constexpr int kBlocksAtOnce = 4;

// Multiplies some blocks of keys, scores[block][key][query].
inline void score_blocks(const PackedKeys& keys, const uint32_t* lanes, const int32_t* blocks,
                         int count, float* scores) {
  const int64_t block_words = keys.words_per_key * kLanes;
  const uint32_t* words[kBlocksAtOnce];
  for (int i = 0; i < kBlocksAtOnce; i++)
    words[i] = keys.words + blocks[smaller(i, count - 1)] * block_words;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t w = 0; w < block_words; w += kTileWords) {
    _tile_loadd(6, lanes + w, 64);
    _tile_loadd(4, words[0] + w, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, words[1] + w, 64);
    _tile_dpbf16ps(1, 5, 6);
    _tile_loadd(4, words[2] + w, 64);
    _tile_dpbf16ps(2, 4, 6);
    _tile_loadd(5, words[3] + w, 64);
    _tile_dpbf16ps(3, 5, 6);
  }
  _tile_stored(0, scores, 64);
  _tile_stored(1, scores + kTileWords, 64);
  _tile_stored(2, scores + 2 * kTileWords, 64);
  _tile_stored(3, scores + 3 * kTileWords, 64);
}

}  // namespace hspan::HSPAN_ISA
