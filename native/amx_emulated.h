// AMX in plain C++, for tests of the code around it where the processor has none (HSPAN_EMULATE_AMX
// in CMakeLists.txt). Far too slow for anything else.
#pragma once

#include "pack.h"

namespace hspan::HSPAN_ISA {

struct EmulatedTile {
  uint32_t word[16][16];
};
inline EmulatedTile* emulated_tiles() {
  static thread_local EmulatedTile tiles[8];
  return tiles;
}

inline void _tile_loadconfig(const void*) {}
inline void _tile_release() {}
inline void _tile_zero(int t) { __builtin_memset(&emulated_tiles()[t], 0, sizeof(EmulatedTile)); }
inline void _tile_loadd(int t, const void* from, int64_t stride) {
  for (int r = 0; r < 16; r++)
    __builtin_memcpy(emulated_tiles()[t].word[r], static_cast<const char*>(from) + r * stride, 64);
}
inline void _tile_stored(int t, void* to, int64_t stride) {
  for (int r = 0; r < 16; r++)
    __builtin_memcpy(static_cast<char*>(to) + r * stride, emulated_tiles()[t].word[r], 64);
}
inline void _tile_dpbf16ps(int sum, int a, int b) {
  EmulatedTile* tiles = emulated_tiles();
  for (int m = 0; m < 16; m++)
    for (int k = 0; k < 16; k++)
      for (int n = 0; n < 16; n++) {
        const uint32_t x = tiles[a].word[m][k], y = tiles[b].word[k][n];
        float s = float_of(tiles[sum].word[m][n]);
        s += float_of(x << 16) * float_of(y << 16);
        s += float_of(x & 0xffff0000u) * float_of(y & 0xffff0000u);
        tiles[sum].word[m][n] = bits_of(s);
      }
}

}  // namespace hspan::HSPAN_ISA
