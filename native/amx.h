// The screen and the second look on AMX: sixteen keys by sixteen queries in one instruction.
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

// Scores of two blocks of keys against two tiles of queries stay in tiles 0 to 3.
HSPAN_INLINE void multiply_tiles(const uint32_t* keys0, const uint32_t* keys1,
                                 const uint32_t* lanes0, const uint32_t* lanes1, int64_t words) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t w = 0; w < words * kLanes; w += kTileWords) {
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

// Fills maxima[tile][block] for count tiles, panel of keys by panel, so that a panel stays in the
// cache while every tile passes over it. The maxima of one set of scores are taken while the next
// set is being multiplied.
inline void screen(const PackedKeys& keys, const uint32_t* lanes, int count, float* maxima) {
  const int64_t words = keys.words_per_key, block_words = words * kLanes;
  constexpr int64_t kPanelBytes = 1 << 18;
  const int64_t panel = larger<int64_t>(4, kPanelBytes / (block_words * 4) / 2 * 2);
  alignas(64) float scores[2][4 * kTileWords];
  float* target[4] = {};  // where the maxima of the waiting scores go
  int turn = 0;
  bool waiting = false;
  const auto finish = [&](const float* from) {
    for (int i = 0; i < 4; i++) store(target[i], largest_of_tile(from + i * kTileWords));
  };
  for (int64_t first = 0; first < keys.blocks; first += panel) {
    const int64_t last = smaller(first + panel, keys.blocks);
    for (int t = 0; t < count; t += 2) {
      // What is missing from a pair is replaced by its other half: computed twice, stored twice.
      const int t1 = smaller(t + 1, count - 1);
      for (int64_t b = first; b < last; b += 2) {
        const int64_t b1 = smaller(b + 1, last - 1);
        multiply_tiles(keys.words + b * block_words, keys.words + b1 * block_words,
                       lanes + t * block_words, lanes + t1 * block_words, words);
        if (waiting) finish(scores[turn ^ 1]);
        float* out = scores[turn];
        _tile_stored(0, out, 64);
        _tile_stored(1, out + kTileWords, 64);
        _tile_stored(2, out + 2 * kTileWords, 64);
        _tile_stored(3, out + 3 * kTileWords, 64);
        target[0] = maxima + (t * keys.blocks + b) * kLanes;
        target[1] = maxima + (t * keys.blocks + b1) * kLanes;
        target[2] = maxima + (t1 * keys.blocks + b) * kLanes;
        target[3] = maxima + (t1 * keys.blocks + b1) * kLanes;
        waiting = true;
        turn ^= 1;
      }
    }
  }
  if (waiting) finish(scores[turn ^ 1]);
}

constexpr int kBlocksAtOnce = 4;

// Multiplies some blocks of keys again, scores[block][key][query].
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
