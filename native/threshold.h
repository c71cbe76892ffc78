// Steps 5 and 6, rescore and threshold: one query's candidates, exactly.
//
// Candidates are few, so their scores are computed again from the unrounded inputs, with products
// and sums in double where float32 could show, and kappa is solved on them: what the screen rounded
// leaves no trace.
#pragma once

#include "products.h"

namespace hspan::HSPAN_ISA {

constexpr int kSums = 8;  // independent partial sums: one register of doubles

HSPAN_INLINE double total_of(const double (&s)[kSums]) {
  return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}

#if defined(__AVX512F__)
HSPAN_INLINE __m512d eight(const float* x, __mmask8 mask) {
  return _mm512_cvtps_pd(_mm256_maskz_loadu_ps(mask, x));
}
HSPAN_INLINE __m512d eight(const double* x, __mmask8 mask) {
  return _mm512_maskz_loadu_pd(mask, x);
}

template <class Real>
HSPAN_INLINE double score(const double* query, const Real* key, int64_t channels) {
  __m512d even = _mm512_setzero_pd(), odd = even;
  int64_t c = 0;
  for (; c + 16 <= channels; c += 16) {
    even = _mm512_fmadd_pd(_mm512_loadu_pd(query + c), eight(key + c, 0xff), even);
    odd = _mm512_fmadd_pd(_mm512_loadu_pd(query + c + 8), eight(key + c + 8, 0xff), odd);
  }
  for (; c < channels; c += 8) {
    const int64_t left = channels - c;
    const __mmask8 mask = static_cast<__mmask8>(left >= 8 ? 0xff : (1 << left) - 1);
    even = _mm512_fmadd_pd(eight(query + c, mask), eight(key + c, mask), even);
  }
  return _mm512_reduce_add_pd(_mm512_add_pd(even, odd));
}
#else
template <class Real>
HSPAN_INLINE double score(const double* query, const Real* key, int64_t channels) {
  double s[kSums] = {}, t[kSums] = {};
  int64_t c = 0;
  for (; c + 2 * kSums <= channels; c += 2 * kSums) {
    for (int u = 0; u < kSums; u++) s[u] += query[c + u] * static_cast<double>(key[c + u]);
    for (int u = 0; u < kSums; u++)
      t[u] += query[c + kSums + u] * static_cast<double>(key[c + kSums + u]);
  }
  for (; c < channels; c++) s[c % kSums] += query[c] * static_cast<double>(key[c]);
  for (int u = 0; u < kSums; u++) s[u] += t[u];
  return total_of(s);
}
#endif

// Float32 scores are good enough while their rounding, about this much of |query| |key|, is far
// below the weights, which are about 1 / T.
constexpr double kRounding = 2.4e-7, kNegligible = 1e-5;

// Thousands of ties are ties of equal keys, and comparing two is quicker than multiplying one.
template <class Real>
HSPAN_INLINE bool are_same(const Real* key, const Real* other, int64_t channels) {
  const uint64_t bytes = static_cast<uint64_t>(channels) * sizeof(Real);
  return channels && key[0] == other[0] && __builtin_memcmp(key, other, bytes) == 0;
}

// Scores of the candidates; in the range of Real, as a product in Real would be.
template <class Real>
void rescore(const Image<Real>& image, int64_t query, const int32_t* candidates, int64_t count,
             double* wide, double* scores) {
  constexpr double kLargest = sizeof(Real) == 4 ? __FLT_MAX__ : __DBL_MAX__;
  const Real* q = image.query + query * image.channels;
  for (int64_t c = 0; c < image.channels; c++) wide[c] = q[c];
  for (int64_t j = 0; j < count; j++) {
    if (j + 6 < count)
      prefetch(image.key + candidates[j + 6] * image.channels,
               image.channels * static_cast<int64_t>(sizeof(Real)));
    const Real* key = image.key + candidates[j] * image.channels;
    if (j && are_same(key, image.key + candidates[j - 1] * image.channels, image.channels)) {
      scores[j] = scores[j - 1];
      continue;
    }
    const double s = score(wide, key, image.channels);
    scores[j] = s > kLargest ? __builtin_inf() : s < -kLargest ? -__builtin_inf() : s;
  }
}

// The same in float32.
inline void rescore_single(const Image<float>& image, int64_t query, const int32_t* candidates,
                           int64_t count, float* products, double* scores) {
  products_with(image.query + query * image.channels, image.key, image.channels, candidates, count,
                products);
  for (int64_t j = 0; j < count; j++) scores[j] = products[j];
}
inline void rescore_single(const Image<double>&, int64_t, const int32_t*, int64_t, float*,
                           double*) {}

// At most how far a sum of so many products in float32, and its difference from another one, can be
// from the truth, relative to the sizes of its factors.
inline double sum_error(int64_t channels) { return 1.2e-7 * static_cast<double>(channels + 8); }

struct Threshold {
  double top;    // the largest score
  double kappa;  // relative to it
};

// Solves kappa on scores relative to their largest; lower is a lower bound of it, at least -1. Should
// rounding have made it none, that shows in the first step.
inline double solve(const double* relative, int64_t count, double lower) {
  double kappa = lower;
  for (int i = 0; i < 100; i++) {
    double excess = 0, number = 0;
#pragma omp simd reduction(+ : excess, number)
    for (int64_t j = 0; j < count; j++) {
      const double x = relative[j] - kappa;
      excess += x > 0 ? x : 0;
      number += x > 0 ? 1 : 0;
    }
    const double next = kappa + (excess - 1) / number;
    if (!(next > kappa)) {
      if (i > 0 || kappa <= -1) break;
      kappa = -1;
      continue;
    }
    kappa = next;
  }
  return kappa;
}

// Drops candidates whose scores in float32, off by error at most, are too low for the support; lower
// as in solve. Returns how many are left: few, where only the screen couldn't tell them apart.
inline int64_t sift(const Image<float>& image, int64_t query, int32_t* candidates, int64_t count,
                    double lower, double error, Scratch& scratch) {
  double* scores = scratch.scores;
  rescore_single(image, query, candidates, count, static_cast<float*>(scratch.weights), scores);
  double top = -__builtin_inf();
  for (int64_t j = 0; j < count; j++) top = larger(top, scores[j]);
  for (int64_t j = 0; j < count; j++) scores[j] -= top;
  // kappa is off by error at most, too: it can't have moved farther than every score.
  const double level = solve(scores, count, larger(-1.0, lower)) - 2.01 * error;
  int64_t kept = 0;
  for (int64_t j = 0; j < count; j++) {
    candidates[kept] = candidates[j];
    kept += !(scores[j] < level);  // true for NaN as well
  }
  return kept;
}
inline int64_t sift(const Image<double>&, int64_t, int32_t*, int64_t count, double, double,
                    Scratch&) {
  return count;
}

// The k-th largest value, k from 1; values are rearranged. Hoare's selection.
inline double kth_largest(double* values, int64_t count, int64_t k) {
  int64_t low = 0, high = count - 1;
  const int64_t place = k - 1;
  while (low < high) {
    const double pivot = values[low + (high - low) / 2];
    int64_t i = low, j = high;
    while (i <= j) {
      while (values[i] > pivot) i++;
      while (values[j] < pivot) j--;
      if (i <= j) {
        const double swapped = values[i];
        values[i++] = values[j];
        values[j--] = swapped;
      }
    }
    if (place <= j) {
      high = j;
    } else if (place >= i) {
      low = i;
    } else {
      break;
    }
  }
  return values[place];
}

// Turns scores into weights, in place; returns the threshold, NaN where there is none.
inline Threshold threshold(double* scores, int64_t count, int64_t topk, double lower,
                           double* selection) {
  const double nan = __builtin_nan("");
  double top = -__builtin_inf();
  bool defined = true;
  for (int64_t j = 0; j < count; j++) {
    defined = defined && scores[j] < __builtin_inf();  // false for NaN as well
    top = larger(top, scores[j]);
  }
  if (!defined || !(top > -__builtin_inf())) return {nan, nan};
  for (int64_t j = 0; j < count; j++) scores[j] -= top;
  double kappa = solve(scores, count, larger(-1.0, lower));
  if (topk > 0 && topk < count) {
    int64_t support = 0, equal = 0;
    for (int64_t j = 0; j < count; j++) {
      support += scores[j] > kappa;
      equal += scores[j] == 0;
    }
    if (support > topk) {  // else all of the support is among the k largest already
      double kth = 0;      // where so many are equal to the largest
      if (equal < topk) {
        __builtin_memcpy(selection, scores, static_cast<uint64_t>(count) * sizeof(double));
        kth = kth_largest(selection, count, topk);
      }
      int64_t above = 0;
      for (int64_t j = 0; j < count; j++) above += scores[j] > kth;
      int64_t ties = topk - above;  // of equal scores at the edge, the first ones count
      for (int64_t j = 0; j < count; j++)
        if (scores[j] < kth || (scores[j] == kth && ties-- <= 0)) scores[j] = -__builtin_inf();
      kappa = solve(scores, count, -1.0);
    }
  }
#pragma omp simd
  for (int64_t j = 0; j < count; j++) scores[j] = scores[j] > kappa ? scores[j] - kappa : 0;
  return {top, kappa};
}

}  // namespace hspan::HSPAN_ISA
