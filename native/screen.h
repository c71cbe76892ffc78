// Step 2, screen: all products of queries and keys, of which only block maxima are kept.
//
// This is where most of the time goes. Sixteen queries share a vector, so that a block's maximum
// is taken lane by lane and nothing ever moves across lanes.
#pragma once

#include "pack.h"

#if defined(HSPAN_AMX)
#include "amx.h"
#else

namespace hspan::HSPAN_ISA {

// sum += word * lanes, in float32: a word of one key against a word of sixteen queries.
#if defined(__AVX512BF16__)
HSPAN_INLINE Lanes dot(Lanes sum, const uint32_t* lanes, uint32_t word) {
  return {_mm512_dpbf16_ps(sum.v, (__m512bh)_mm512_loadu_si512(lanes),
                           (__m512bh)_mm512_set1_epi32(static_cast<int>(word)))};
}
#else
HSPAN_INLINE Lanes dot(Lanes sum, const uint32_t* lanes, uint32_t word) {
  return fma(load(reinterpret_cast<const float*>(lanes)), broadcast(float_of(word)), sum);
}
#endif

// Scores of Keys neighbouring keys against Tiles query tiles, all of them in registers.
template <int Keys, int Tiles>
HSPAN_INLINE void multiply(const uint32_t* key_words, const uint32_t* lanes, int64_t words,
                           Lanes (&scores)[Keys][Tiles]) {
#pragma GCC unroll 16
  for (int k = 0; k < Keys; k++)
#pragma GCC unroll 4
    for (int t = 0; t < Tiles; t++) scores[k][t] = broadcast(0.f);
  for (int64_t w = 0; w < words; w++) {
#pragma GCC unroll 16
    for (int k = 0; k < Keys; k++)
#pragma GCC unroll 4
      for (int t = 0; t < Tiles; t++)
        scores[k][t] =
            dot(scores[k][t], lanes + (t * words + w) * kLanes, key_words[w * kLanes + k]);
  }
}

// Keys x Tiles scores fill the registers, with room for the operands.
constexpr int kScreenKeys = kRegisters == 1 ? 8 : kRegisters == 2 ? 4 : 2;
constexpr int kScreenTiles = kRegisters == 1 ? 3 : 1;

template <int Tiles>
void screen_tiles(const PackedKeys& keys, const uint32_t* lanes, int64_t first, int64_t last,
                  float* maxima, float* tops) {
  const int64_t words = keys.words_per_key;
  Lanes largest[Tiles];
#pragma GCC unroll 4
  for (int t = 0; t < Tiles; t++) largest[t] = load(tops + t * kLanes);
  for (int64_t b = first; b < last; b++) {
    Lanes top[Tiles];
    for (int part = 0; part < kLanes; part += kScreenKeys) {
      Lanes scores[kScreenKeys][Tiles];
      multiply<kScreenKeys, Tiles>(keys.words + b * words * kLanes + part, lanes, words, scores);
#pragma GCC unroll 4
      for (int t = 0; t < Tiles; t++) {
        Lanes m = scores[0][t];
#pragma GCC unroll 8
        for (int k = 1; k < kScreenKeys; k++) m = max(m, scores[k][t]);
        top[t] = part ? max(top[t], m) : m;
      }
    }
#pragma GCC unroll 4
    for (int t = 0; t < Tiles; t++) {
      store(maxima + (t * keys.blocks + b) * kLanes, top[t]);
      largest[t] = max(largest[t], top[t]);
    }
  }
#pragma GCC unroll 4
  for (int t = 0; t < Tiles; t++) store(tops + t * kLanes, largest[t]);
}

// Fills maxima[tile][block] for count tiles, and tops[tile] with the largest of them, panel of keys
// by panel, so that a panel stays in the cache while every tile passes over it.
inline void screen(const PackedKeys& keys, const uint32_t* lanes, int count, float* maxima,
                   float* tops) {
  const int64_t words = keys.words_per_key;
  constexpr int64_t kPanelBytes = 1 << 18;
  const int64_t panel = larger<int64_t>(4, kPanelBytes / (words * kLanes * 4));
  for (int t = 0; t < count; t++) store(tops + t * kLanes, broadcast(-__FLT_MAX__));
  for (int64_t b = 0; b < keys.blocks; b += panel) {
    const int64_t end = smaller(b + panel, keys.blocks);
    int t = 0;
    for (; t + kScreenTiles <= count; t += kScreenTiles)
      screen_tiles<kScreenTiles>(keys, lanes + t * words * kLanes, b, end,
                                 maxima + t * keys.blocks * kLanes, tops + t * kLanes);
    for (; t < count; t++)
      screen_tiles<1>(keys, lanes + t * words * kLanes, b, end,
                      maxima + t * keys.blocks * kLanes, tops + t * kLanes);
  }
}

// Nothing to switch on; compare amx.h.
struct TileUnit {
  TileUnit() {}
};

constexpr int kBlocksAtOnce = 1;

// Multiplies a block of keys, scores[key][query].
HSPAN_INLINE void score_blocks(const PackedKeys& keys, const uint32_t* lanes,
                               const int32_t* blocks, int, float* scores) {
  constexpr int kKeys = kRegisters == 1 ? 16 : kScreenKeys;
  const uint32_t* words = keys.words + blocks[0] * keys.words_per_key * kLanes;
  for (int part = 0; part < kLanes; part += kKeys) {
    Lanes sums[kKeys][1];
    multiply<kKeys, 1>(words + part, lanes, keys.words_per_key, sums);
#pragma GCC unroll 16
    for (int k = 0; k < kKeys; k++) store(scores + (part + k) * kLanes, sums[k][0]);
  }
}

constexpr int kTilesAtOnce = 1;

// Multiplies a block of keys by a tile of queries.
HSPAN_INLINE void score_block(const PackedKeys& keys, int64_t block,
                              const uint32_t* const (&lanes)[kTilesAtOnce], float* scores) {
  const int32_t only = static_cast<int32_t>(block);
  score_blocks(keys, lanes[0], &only, 1, scores);
}

}  // namespace hspan::HSPAN_ISA

#endif
