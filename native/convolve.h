// 3x3 convolutions on AMX, of parts of images as features.h lays them out.
#pragma once

#include "features.h"

#if defined(HSPAN_AMX)

namespace hspan::HSPAN_ISA {

constexpr int64_t kDeepHalves = 32;  // channels that one instruction sums over
constexpr int64_t kTileHalves = 2 * kTileWords;

// How many places a tap lies away from the middle one.
HSPAN_INLINE int64_t offset_of(int tap, int64_t pitch) { return (tap / 3 - 1) * pitch + tap % 3 - 1; }

// Weights [C out, C in, 3, 3] as tiles of 16 pairs of channels in by 16 channels out, in the order in
// which convolve() reads them: [tiles out, taps, tiles in]. Turned, they map gradients of
// the output to gradients of the input. Only the channels [first, last) of [0, depth) that go out.
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

// Memory that will be written soon, fetched bit by bit while tiles are being multiplied: a write to
// what no cache holds would have to wait for it.
class Ahead {
 public:
  // Nothing, or the rows of a part that is as wide as its image; others don't lie side by side.
  Ahead() = default;
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

// Convolves the places [first, last) and hands the sums of sixteen channels to finish(place, channel,
// sums). The weights of these channels stay in the first-level cache while all places pass. What
// finish does to 48 places is spread over the products of the next 48: the two units then work at the
// same time.
template <class Finish>
HSPAN_INLINE void convolve(const Part& part, const uint16_t* from, const uint16_t* weights,
                           int64_t first, int64_t last, Ahead ahead, Finish finish) {
  const int64_t depth = part.depth, bytes = depth * 2, steps = depth / kDeepHalves;
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

// sums[tap][channel in][channel out] += the gradients of a convolution's weights, given its input
// channel by channel and pairs of the gradients of its output.
//
// A row of taps sees the same positions of the input at different times: one load serves three.
inline void add_weight_gradients(const Part& part, const uint16_t* turned, int64_t stride,
                                 const uint32_t* pairs, float* sums) {
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
        const uint16_t* input = turned + i * stride + shift;
        for (int64_t p = first; p < last; p += 32) {
          const uint32_t* gradient = pairs + p / 2 * depth + o;
          _tile_loadd(6, input + p, stride * 2);
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

// sums[channel] += the gradients of the output, which are those of the bias.
inline void add_bias_gradients(const Part& part, const uint16_t* places, float* sums) {
  for (int64_t d = 0; d < part.depth; d += kLanes) {
    Lanes total[2] = {broadcast(0.f), broadcast(0.f)};
    for (int64_t r = kHalo; r < part.height + kHalo; r++) {
      const uint16_t* at = places + (r * part.pitch + kHalo) * part.depth + d;
      for (int64_t c = 0; c + 2 <= part.width; c += 2, at += 2 * part.depth) {
        total[0] = total[0] + load_halves(at);
        total[1] = total[1] + load_halves(at + part.depth);
      }
      if (part.width % 2) total[0] = total[0] + load_halves(at);
    }
    store(sums + d, load(sums + d) + (total[0] + total[1]));
  }
}

}  // namespace hspan::HSPAN_ISA

#endif
