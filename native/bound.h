// Step 3, bound: a lower bound of kappa from the block maxima, for sixteen queries at once.
//
// f(kappa) = sum max(s - kappa, 0) - 1 is convex and falling, so a Newton step from anywhere lands
// at or below its root, and steps from below climb towards it. The root for a subset of the scores
// never exceeds the root for all of them: more scores can only raise the level at which the excess
// sums to 1. Block maxima are such a subset, and they hold what matters.
#pragma once

#include "simd.h"

namespace hspan::HSPAN_ISA {

HSPAN_INLINE Lanes largest(const float* rows, int64_t count) {
  Lanes a = load(rows), b = a;
  int64_t r = 1;
  for (; r + 2 <= count; r += 2) {
    a = max(a, load(rows + r * kLanes));
    b = max(b, load(rows + (r + 1) * kLanes));
  }
  if (r < count) a = max(a, load(rows + r * kLanes));
  return max(a, b);
}

// Positive excesses of some rows over kappa.
HSPAN_INLINE Positive excess(const float* rows, int64_t count, Lanes kappa) {
  constexpr int kChains = kRegisters == 1 ? 4 : 2;  // of additions, none of which waits for another
  Positive sums[kChains];
  int64_t r = 0;
  for (; r + kChains <= count; r += kChains)
#pragma GCC unroll 4
    for (int i = 0; i < kChains; i++) sums[i].add(load(rows + (r + i) * kLanes) - kappa);
  for (; r < count; r++) sums[0].add(load(rows + r * kLanes) - kappa);
#pragma GCC unroll 4
  for (int i = 1; i < kChains; i++) sums[0].add(sums[i]);
  return sums[0];
}

// One Newton step from kappa, which must lie below the largest score of every lane. Equal numbers
// all round the same way, so that a long chain of additions drifts: sums are taken in pieces.
HSPAN_INLINE Lanes newton_step(const float* rows, int64_t count, Lanes kappa) {
  constexpr int64_t kPiece = 128;
  Positive all;
  for (int64_t r = 0; r < count; r += kPiece)
    all.add(excess(rows + r * kLanes, smaller(kPiece, count - r), kappa));
  const Lanes one = broadcast(1.f);
  return kappa + (all.sums() - one) / max(all.numbers(), one);
}

// The same with sums that are good to float32's last digit or two, for the last step of all. members:
// how many rows exceed kappa, lane by lane.
inline Lanes last_step(const float* rows, int64_t count, Lanes kappa, float (&members)[kLanes]) {
  constexpr int64_t kPiece = 8;
  double sums[kLanes] = {};
  Positive all;
  for (int64_t r = 0; r < count; r += kPiece) {
    const Positive piece = excess(rows + r * kLanes, smaller(kPiece, count - r), kappa);
    float part[kLanes];
    store(part, piece.sums());
    for (int l = 0; l < kLanes; l++) sums[l] += part[l];
    all.add(piece);
  }
  float change[kLanes];
  store(members, all.numbers());
  for (int l = 0; l < kLanes; l++)
    change[l] = static_cast<float>((sums[l] - 1) / larger(members[l], 1.f));
  return kappa + load(change);
}

// Climbs until some steps are done or no lane moves by more than enough. A step that rounding took
// past the root is followed by one that lands below it again, and rounds less, as less is left.
HSPAN_INLINE Lanes climb(const float* rows, int64_t count, Lanes kappa, int steps, Lanes enough) {
  for (int i = 0; i < steps; i++) {
    const Lanes next = newton_step(rows, count, kappa);
    const bool moved = exceeding(max(next - kappa, kappa - next), enough) != 0;
    kappa = next;
    if (!moved) break;
  }
  return kappa;
}

// A value that at least k of the rows exceed, lane by lane, or lower where there are fewer than k.
// By bisection between lower and the largest, counting.
HSPAN_INLINE Lanes below_kth(const float* rows, int64_t count, Lanes lower, Lanes top, int64_t k) {
  const Lanes wanted = broadcast(static_cast<float>(k) - 0.5f), half = broadcast(0.5f);
  const auto enough = [&](Lanes level) {
    Lanes number = broadcast(0.f);
    for (int64_t r = 0; r < count; r++)
      number = number + exceeds(load(rows + r * kLanes), level);
    return exceeds(number, wanted);
  };
  Lanes low = lower, high = top;
  const Lanes possible = enough(low);
  if (!exceeding(possible, broadcast(0.5f))) return lower;
  for (int i = 0; i < 12; i++) {
    const Lanes middle = (low + high) * half, yes = enough(middle);
    low = low + (middle - low) * yes;
    high = middle + (high - middle) * yes;
  }
  // low + (middle - low) may round above middle: step back by more than that.
  low = low - broadcast(1e-6f) * max(low, broadcast(0.f) - low);
  return lower + (max(low, lower) - lower) * possible;
}

}  // namespace hspan::HSPAN_ISA
