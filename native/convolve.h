// 3x3 convolutions on AMX, of parts of images as features.h lays them out: nine products of matrices,
// each of all places with one tap's weights. What that computes between two rows is nonsense, and
// nobody reads it.
#pragma once

#include "features.h"

#if defined(HSPAN_AMX)

namespace hspan::HSPAN_ISA {

constexpr int kMatrices = kTaps;
constexpr int64_t kPartHalves = 200000;  // four of them fit in a core's second-level cache
constexpr int64_t kDeepHalves = 32;  // channels that one instruction sums over
constexpr int64_t kTileHalves = 2 * kTileWords;

// How many places a tap lies away from the middle one.
HSPAN_INLINE int64_t offset_of(int tap, int64_t pitch) { return (tap / 3 - 1) * pitch + tap % 3 - 1; }

// Weights [C out, C in, 3, 3] as tiles of 16 pairs of channels in by 16 channels out, in the order in
// which convolve() reads them: [tiles out, taps, tiles in].
inline void pack_weights(const float* weights, int64_t channels, int64_t depth, bool turned,
                         int64_t first, int64_t last, uint16_t* tiles) {
  const int64_t steps = depth / kDeepHalves;
  for (int64_t o = first; o < last; o++)
    for (int64_t i = 0; i < depth; i++) {
      const bool some = o < channels && i < channels;
      const float* taps = weights + (turned ? i * channels + o : o * channels + i) * kTaps;
      uint16_t* to = tiles + (o / 16 * kTaps * steps + i / 32) * kTileHalves + i % 32 / 2 * 32 +
                     o % 16 * 2 + i % 2;
      for (int t = 0; t < kTaps; t++)
        to[t * steps * kTileHalves] =
            some ? static_cast<uint16_t>(half_of(taps[turned ? kTaps - 1 - t : t])) : 0;
    }
}

// Matrices [taps, depth in, depth out] of gradients.
inline void unpack_gradients(const float* matrices, int64_t channels, int64_t depth, int64_t first,
                             int64_t last, float* d_weights) {
  for (int64_t o = first; o < last; o++)
    for (int64_t i = 0; i < channels; i++)
      for (int64_t t = 0; t < kTaps; t++)
        d_weights[(o * channels + i) * kTaps + t] = matrices[(t * depth + i) * depth + o];
}

// Memory that will be written soon, fetched bit by bit while tiles are being multiplied: a write to
// what no cache holds would have to wait for it.
class Ahead {
 public:
  // Nothing, or the rows of a part that is as wide as its image; others don't lie side by side.
  Ahead(const Features& image, const Part& part, const uint16_t* features) {
    if (!features || part.width != image.width) return;
    const int64_t row = image.width * image.channels;
    next_ = features + part.top * row;
    end_ = next_ + part.height * row;
  }
  HSPAN_INLINE void fetch_some() {
#pragma GCC unroll 3
    for (int k = 0; k < 3; k++, next_ += 32)
      if (next_ < end_) __builtin_prefetch(next_);
  }

 private:
  const uint16_t *next_ = nullptr, *end_ = nullptr;
};

using ConvolutionUnit = TileUnit;

// Convolves the rows of an area, all places but the first and the last of them, so that every
// neighbour exists, and hands the sums of sixteen channels to finish(place, channel, sums). The
// weights of these channels stay in the first-level cache while all places pass. What finish does to
// 48 places is spread over the products of the next 48: the two units then work at the same time.
//
// What the sums lead to will be written to the image at soon, unless that is null.
template <class Finish>
HSPAN_INLINE void convolve(const Features& image, const Part& part, const Area& area,
                           const uint16_t* from, const uint16_t* weights, void*,
                           const uint16_t* soon, Finish finish) {
  const int64_t depth = part.depth, bytes = depth * 2, steps = depth / kDeepHalves;
  const int64_t first = area.top * part.pitch + 1, last = area.bottom * part.pitch - 1;
  Ahead ahead(image, part, soon);
  alignas(64) float sums[2][3 * kTileWords];
  int64_t done = 0, done_place = 0, done_channel = 0;  // places whose sums wait, and where they are
  int64_t turn = 0;
  const auto finish_some = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < smaller(end, done); i++)
      finish(done_place + i, done_channel, load(sums[1 - turn] + i * kLanes));
  };
  for (int64_t o = 0; o < depth; o += kLanes)
    for (int64_t p = first; p < last; p += 48) {
      const uint16_t* tile = weights + o / kLanes * kTaps * steps * kTileHalves;
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      for (int t = 0; t < kTaps; t++) {
        const uint16_t* at = from + (p + offset_of(t, part.pitch)) * depth;
        for (int64_t s = 0; s < steps; s++, at += kDeepHalves, tile += kTileHalves) {
          _tile_loadd(7, tile, 64);
          _tile_loadd(4, at, bytes);
          _tile_dpbf16ps(0, 4, 7);
          _tile_loadd(5, at + 16 * depth, bytes);
          _tile_dpbf16ps(1, 5, 7);
          _tile_loadd(6, at + 32 * depth, bytes);
          _tile_dpbf16ps(2, 6, 7);
        }
        finish_some(6 * t, 6 * t + 6);
        ahead.fetch_some();
      }
      _tile_stored(0, sums[turn], 64);
      _tile_stored(1, sums[turn] + kTileWords, 64);
      _tile_stored(2, sums[turn] + 2 * kTileWords, 64);
      done = smaller<int64_t>(48, last - p);
      done_place = p;
      done_channel = o;
      turn = 1 - turn;
    }
  finish_some(0, 48);
}

// Pairs of neighbouring positions, [positions / 2, depth] words of one channel each; zero outside
// the part proper, and for kSpare positions after it.
inline void pair_positions(const Part& part, const uint16_t* places, uint32_t* pairs) {
  const int64_t depth = part.depth, half = part.pitch / 2;
  const auto wipe = [&](int64_t first, int64_t last) {
    __builtin_memset(pairs + first * depth, 0, static_cast<std::size_t>((last - first) * depth) * 4);
  };
  wipe(0, kHalo * half);
  for (int64_t r = kHalo; r < part.height + kHalo; r++) {
    const int64_t row = r * half, last = kHalo + part.width;
    wipe(row, row + kHalo / 2);
    for (int64_t c = kHalo; c < last; c += 2) {
      const uint16_t* low = places + (r * part.pitch + c) * depth;
      for (int64_t d = 0; d < depth; d += 32) {
        uint32_t words[2][kLanes] = {};
        __builtin_memcpy(words[0], low + d, sizeof words[0]);
        if (c + 1 < last) __builtin_memcpy(words[1], low + depth + d, sizeof words[1]);
        interleave(words[0], words[1], kLanes, pairs + (row + c / 2) * depth + d);
      }
    }
    wipe(row + (last + 1) / 2, row + half);
  }
  wipe((part.height + kHalo) * half, (part.height + 2 * kHalo) * half + kSpare / 2);
}

// Channel by channel, [depth, stride], all positions side by side, and some of the spare ones: they
// meet zeros, but must be numbers.
inline void turn_positions(const Part& part, const uint16_t* places, int64_t stride,
                           uint16_t* turned) {
  const int64_t depth = part.depth, count = (part.height + 2 * kHalo) * part.pitch;
  for (int64_t p = 0; p < count + 32; p += 32)
    for (int64_t d = 0; d < depth; d += 32) {
      alignas(64) uint32_t pairs[kLanes * 32], columns[kTileWords];
      for (int i = 0; i < kLanes; i++) {
        uint32_t words[2][kLanes];
        __builtin_memcpy(words[0], places + (p + 2 * i) * depth + d, sizeof words[0]);
        __builtin_memcpy(words[1], places + (p + 2 * i + 1) * depth + d, sizeof words[1]);
        interleave(words[0], words[1], kLanes, pairs + i * 32);
      }
      for (int64_t h = 0; h < 2; h++) {
        transpose_words(pairs + h * kLanes, 32, columns);
        for (int64_t c = 0; c < kLanes; c++)
          __builtin_memcpy(turned + (d + h * kLanes + c) * stride + p, columns + c * kLanes, 64);
      }
    }
}

// What the gradients of weights are made of.
struct TurnedPlaces {
  int64_t stride;
  uint32_t* pairs;   // [places / 2, depth]
  uint16_t* turned;  // [depth, stride]

  TurnedPlaces(void* own, const Part& part)
      // Rows that lie a multiple of 4 KiB apart would share their places in the first cache.
      : stride(whole(part.places() + kSpare, 64) + 32),
        pairs(static_cast<uint32_t*>(own)),
        turned(reinterpret_cast<uint16_t*>(pairs + (part.places() + kSpare) / 2 * part.depth)) {}

  static int64_t bytes(const Part& part) {
    const int64_t places = part.places() + kSpare;
    return (places + whole(places, 64) + 32) * part.depth * 2;
  }
};

inline int64_t own_bytes(const Part& largest, bool backward) {
  return backward ? TurnedPlaces::bytes(largest) : 0;
}

// sums[tap][channel in][channel out] += the gradients of a convolution's weights, given its input
// and the gradients of its output.
//
// A row of taps sees the same positions of the input at different times: one load serves three.
inline void add_weight_gradients(const Features&, const Part& part, const uint16_t* places,
                                 const uint16_t* gradients, void* own, float* sums) {
  const TurnedPlaces scratch(own, part);
  pair_positions(part, gradients, scratch.pairs);
  turn_positions(part, places, scratch.stride, scratch.turned);
  const int64_t depth = part.depth, bytes = depth * 4, pitch = part.pitch;
  const int64_t first = pitch, last = (part.height + 2 * kHalo - 1) * pitch;
  const int64_t row = pitch / 2 * depth;  // of pairs
  for (int64_t o = 0; o < depth; o += 32)
    for (int64_t i = 0; i < depth; i += 16)
      for (int64_t shift = -1; shift <= 1; shift++) {
        float* above = sums + ((shift + 1) * depth + i) * depth + o;
        float* level = above + 3 * depth * depth;
        float* below = level + 3 * depth * depth;
        _tile_loadd(0, above, bytes);
        _tile_loadd(1, above + 16, bytes);
        _tile_loadd(2, level, bytes);
        _tile_loadd(3, level + 16, bytes);
        _tile_loadd(4, below, bytes);
        _tile_loadd(5, below + 16, bytes);
        const uint16_t* input = scratch.turned + i * scratch.stride + shift;
        for (int64_t p = first; p < last; p += 32) {
          const uint32_t* gradient = scratch.pairs + p / 2 * depth + o;
          _tile_loadd(6, input + p, scratch.stride * 2);
          _tile_loadd(7, gradient + row, bytes);
          _tile_dpbf16ps(0, 6, 7);
          _tile_loadd(7, gradient + row + 16, bytes);
          _tile_dpbf16ps(1, 6, 7);
          _tile_loadd(7, gradient, bytes);
          _tile_dpbf16ps(2, 6, 7);
          _tile_loadd(7, gradient + 16, bytes);
          _tile_dpbf16ps(3, 6, 7);
          _tile_loadd(7, gradient - row, bytes);
          _tile_dpbf16ps(4, 6, 7);
          _tile_loadd(7, gradient - row + 16, bytes);
          _tile_dpbf16ps(5, 6, 7);
        }
        _tile_stored(0, above, bytes);
        _tile_stored(1, above + 16, bytes);
        _tile_stored(2, level, bytes);
        _tile_stored(3, level + 16, bytes);
        _tile_stored(4, below, bytes);
        _tile_stored(5, below + 16, bytes);
      }
}

}  // namespace hspan::HSPAN_ISA

#endif
