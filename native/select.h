// Truncation for sixteen queries at once: all but each lane's k largest scores are struck out.
//
// Float32 scores lie within an error of the true ones, so they settle the order of all keys but the
// few whose scores lie about as high as the k-th largest: those are scored again in double. Where
// these are equal, too, the first ones count.
#pragma once

#include "rescore.h"

namespace hspan::HSPAN_ISA {

constexpr float kOut = -__FLT_MAX__;  // the score of a key that doesn't take part

// The k-th largest value of a lane is more than low and at most high.
struct Bracket {
  float low[kLanes], high[kLanes];
};

HSPAN_INLINE Lanes number_above(const float* rows, int64_t count, Lanes level) {
  Lanes even = broadcast(0.f), odd = even;
  int64_t r = 0;
  for (; r + 2 <= count; r += 2) {
    even = even + exceeds(load(rows + r * kLanes), level);
    odd = odd + exceeds(load(rows + (r + 1) * kLanes), level);
  }
  if (r < count) even = even + exceeds(load(rows + r * kLanes), level);
  return even + odd;
}

// Halves the brackets until few values are left in them, or they are narrower than the error.
// rows: at least k, none above 0.
inline Bracket bracket_kth(const float* rows, int64_t count, int64_t k, const float (&error)[kLanes]) {
  constexpr float kFew = 8;
  Lanes opposite = broadcast(0.f);
  for (int64_t r = 0; r < count; r++)
    opposite = max(opposite, broadcast(0.f) - load(rows + r * kLanes));
  Bracket bracket;
  float above_low[kLanes], above_high[kLanes] = {}, middle[kLanes];
  store(bracket.low, opposite);
  for (int l = 0; l < kLanes; l++) {
    bracket.low[l] = -1.001f * bracket.low[l] - error[l] - __FLT_MIN__;
    bracket.high[l] = 0;
    above_low[l] = static_cast<float>(count);
  }
  for (int i = 0; i < 40; i++) {
    bool done = true;
    for (int l = 0; l < kLanes; l++) {
      middle[l] = 0.5f * (bracket.low[l] + bracket.high[l]);
      done = done && (above_low[l] - above_high[l] <= kFew ||
                      bracket.high[l] - bracket.low[l] <= error[l]);
    }
    if (done) break;
    float above[kLanes];
    store(above, number_above(rows, count, load(middle)));
    for (int l = 0; l < kLanes; l++) {
      const bool enough = above[l] >= static_cast<float>(k);
      (enough ? bracket.low : bracket.high)[l] = middle[l];
      (enough ? above_low : above_high)[l] = above[l];
    }
  }
  return bracket;
}

// Strikes out the smaller ones of a lane's undecided scores, by what they are in double.
inline void settle(const Image<float>& image, int64_t query, const int32_t* keys,
                   const int32_t* undecided, const float* values, int64_t count, int64_t wanted,
                   int lane, float* rows, Scratch& scratch) {
  double* scores = scratch.scores;
  double kth = -__builtin_inf();
  int64_t ties = 0;
  for (int64_t j = 0; j < count; j++) scores[j] = 0;
  if (wanted < count) {
    for (int64_t c = 0; c < image.channels; c++)
      scratch.wide[c] = image.query[query * image.channels + c];
    for (int64_t j = 0; j < count; j++) {
      const float* key = image.key + keys[undecided[j]] * image.channels;
      const float* last = image.key + keys[undecided[j ? j - 1 : 0]] * image.channels;
      const bool same = j && are_same(key, last, image.channels);
      scores[j] = same ? scores[j - 1] : score(scratch.wide, key, image.channels);
      scratch.selection[j] = scores[j];
    }
    kth = kth_largest(scratch.selection, count, wanted);
    ties = wanted;
    for (int64_t j = 0; j < count; j++) ties -= scores[j] > kth;
  }
  for (int64_t j = 0; j < count; j++)
    if (scores[j] > kth || (scores[j] == kth && ties-- > 0))
      rows[undecided[j] * kLanes + lane] = values[j];
}

// Strikes out all but the k largest scores of every lane of a tile. rows: scores in float32, relative
// to each lane's largest; keys[r] is the key of row r; scales: how large a lane's scores can be.
// stride: between the lanes' parts of the scratch.
inline void keep_largest(const Image<float>& image, int64_t tile, const int32_t* keys, float* rows,
                         int64_t count, const double* scales, int64_t stride, Scratch& scratch) {
  const int64_t k = image.topk;
  if (k >= count) return;
  float error[kLanes];
  sum_errors(image.channels, scales, error);
  Bracket bracket = bracket_kth(rows, count, k, error);
  for (int l = 0; l < kLanes; l++) {
    bracket.low[l] -= 2 * error[l];
    bracket.high[l] += 2 * error[l];
  }
  const Lanes low = load(bracket.low), high = load(bracket.high), out = broadcast(kOut);
  const Lanes one = broadcast(1.f);
  float* values = static_cast<float*>(scratch.weights);
  int64_t undecided[kLanes] = {};
  Lanes decided = broadcast(0.f);
  for (int64_t r = 0; r < count; r++) {
    const Lanes row = load(rows + r * kLanes), in = exceeds(row, high);
    decided = decided + in;
    for (unsigned m = exceeding(row, low) & ~exceeding(row, high); m; m &= m - 1) {
      const int l = __builtin_ctz(m);
      const int64_t at = l * stride + undecided[l]++;
      scratch.candidates[at] = static_cast<int32_t>(r);
      values[at] = rows[r * kLanes + l];
    }
    store(rows + r * kLanes, row * in + out * (one - in));
  }
  float numbers[kLanes];
  store(numbers, decided);
  for (int l = 0; l < kLanes; l++)
    settle(image, query_at(image, tile * kLanes + l), keys, scratch.candidates + l * stride, values + l * stride,
           undecided[l], k - static_cast<int64_t>(numbers[l]), l, rows,
           scratch);
}

}  // namespace hspan::HSPAN_ISA
