// Step 5 for sixteen queries at once: the scores of the collected rows, from the unrounded inputs.
//
// Either all of a row's scores, in float32, or, one by one and in double, those that some query has
// to look at. Both end up as differences from a row's largest packed score, which are small enough
// for float32.
#pragma once

#include "collect.h"
#include "threshold.h"

namespace hspan::HSPAN_ISA {

// Processor cycles, measured on Zen 4 with C from 24 to 96; only their ratios matter.
constexpr double kAlone = 55;      // a candidate: dealt out, rescored in double, solved
constexpr double kTogether = 25;   // a row: Newton's steps and dealing; rescoring takes more
constexpr double kSelecting = 60;  // a row, where only the k largest scores take part
constexpr double kPair = 10;       // a candidate scored in double; its channels take more
#if defined(__AVX512F__)
constexpr double kPairChannels = 8;  // a cycle
#else
constexpr double kPairChannels = 2;
#endif

// The same for outputs that are rounded to bf16: see kNegligible.
constexpr double kNegligibleInHalves = 1e-3;

// Products of smaller sizes may lose digits as numbers below float32's range.
constexpr double kTiny = 1e-25;

// Scores relative to the largest, rounded to float32, are off by up to 6e-8 of how far kappa lies below
// it; where so many keys times that distance share the weight, theirs are still good to five digits.
constexpr double kManyPairs = 512;

// How a tile is finished: each query by itself, or all together with the packed scores as they are
// (nothing was rounded), with scores in float32, or with pairs of a query and a key in double.
enum class Way { kAlone, kPacked, kRows, kPairs };

// What a tile's queries have to look at.
struct Candidates {
  double number;    // of pairs of a query and a key
  double spread;    // of a query, times how far kappa lies below the largest score; the most
  double rounding;  // how far scores in float32 would throw a weight's sum off, on average
};

inline Candidates count_candidates(const PackedKeys& keys, const Collection& found,
                                   const double* scales) {
  Positive candidates;
  for (int64_t r = 0; r < found.count; r++)
    candidates.add(load(found.rows + r * kLanes) + found.margins.of_key(keys, found.places[r]) -
                   found.low);
  float numbers[kLanes], depths[kLanes];
  store(numbers, candidates.numbers());
  store(depths, found.bounds.top - found.low);
  Candidates all{0, 0, 0};
  for (int l = 0; l < kLanes; l++) {
    all.number += numbers[l];
    all.spread = larger<double>(all.spread, numbers[l] * depths[l]);
    all.rounding += kRounding * scales[l] * numbers[l] / kLanes;
  }
  return all;
}

// Ties of all keys, or nearly: each query finds its own without looking at the others.
inline bool may_truncate(const double* scales) {
  for (int l = 0; l < kLanes; l++)
    if (!(scales[l] > kTiny)) return false;
  return true;
}

// The cheapest way that is exact enough.
inline Way choose_way(const Image<float>& image, const Collection& found, const Candidates& all,
                      const double* scales, bool exact) {
  if (__builtin_isinf(all.rounding) || all.rounding != all.rounding)
    return Way::kAlone;  // not screened
  double row = kTogether;
  const bool truncates = image.topk && image.topk < found.count;
  if (truncates) {
    row += kSelecting;
    if (!may_truncate(scales)) return Way::kAlone;
  }
  const double rows = static_cast<double>(found.count), channels = static_cast<double>(image.channels);
  Way way = Way::kAlone;
  double least = all.number * kAlone;
  const auto offer = [&](Way other, double cost) {
    if (cost < least) {
      least = cost;
      way = other;
    }
  };
  if (exact && all.rounding < (image.halves ? kNegligibleInHalves : kNegligible))
    offer(Way::kPacked, rows * row);
  else if (all.rounding < kNegligible)
    offer(Way::kRows, rows * (row + channels));
  // The k largest are sought among all scores of a row.
  if (all.spread < kManyPairs && !truncates)
    offer(Way::kPairs,
          rows * (row + channels / 4) + all.number * (kPair + channels / kPairChannels));
  return way;
}

HSPAN_INLINE int64_t query_at(const Image<float>& image, int64_t place) {
  place = smaller(place, image.queries - 1);
  return image.query_order ? image.query_order[place] : place;
}

// Scores in float32 of some keys against the queries of some tiles [C, Tiles, 16]: out[tile][key, 16].
// A piece of the keys' channels is centred at a time, at a distance that the compiler knows: a single
// address then does for all.
template <int Keys, int Tiles>
void score_rows(const float* const (&keys)[Keys], const float* mean, const float* queries,
                int64_t channels, float* const (&out)[Tiles]) {
  constexpr int64_t kPiece = 64;
  alignas(64) float centred[Keys * kPiece];
  Lanes sums[Tiles][Keys];
#pragma GCC unroll 2
  for (int t = 0; t < Tiles; t++)
#pragma GCC unroll 16
    for (int k = 0; k < Keys; k++) sums[t][k] = broadcast(0.f);
  for (int64_t first = 0; first < channels; first += kPiece) {
    const int64_t count = smaller(kPiece, channels - first);
    for (int k = 0; k < Keys; k++) {
      const float *key = keys[k] + first, *middle = mean + first;
      float* to = centred + k * kPiece;
#pragma omp simd
      for (int64_t c = 0; c < count; c++) to[c] = key[c] - middle[c];
    }
    for (int64_t c = 0; c < count; c++) {
      Lanes query[Tiles];
#pragma GCC unroll 2
      for (int t = 0; t < Tiles; t++)
        query[t] = load(queries + ((first + c) * Tiles + t) * kLanes);
#pragma GCC unroll 16
      for (int k = 0; k < Keys; k++) {
        const Lanes x = broadcast(centred[k * kPiece + c]);
#pragma GCC unroll 2
        for (int t = 0; t < Tiles; t++) sums[t][k] = fma(query[t], x, sums[t][k]);
      }
    }
  }
#pragma GCC unroll 2
  for (int t = 0; t < Tiles; t++)
#pragma GCC unroll 16
    for (int k = 0; k < Keys; k++) store(out[t] + k * kLanes, sums[t][k]);
}

// A tile's queries for score_rows, one of so many tiles.
inline void spread_queries(const Image<float>& image, int64_t tile, int tiles, float* queries) {
  for (int l = 0; l < kLanes; l++) {
    const float* query = image.query + query_at(image, tile * kLanes + l) * image.channels;
    for (int64_t c = 0; c < image.channels; c++) queries[c * tiles * kLanes + l] = query[c];
  }
}

// The mean in float32, which is what it was rounded to.
inline const float* mean_of_keys(const PackedKeys& packed, int64_t channels, Scratch& scratch) {
  for (int64_t c = 0; c < channels; c++) scratch.mean[c] = static_cast<float>(packed.mean[c]);
  return scratch.mean;
}

// Replaces the collected packed scores by scores in float32 of centred keys, which are smaller and
// hence rounded less; keys[r] is the key of row r.
inline void rescore_rows(const Image<float>& image, const PackedKeys& packed, int64_t tile,
                         const int32_t* keys, int64_t count, Scratch& scratch, float* rows) {
  constexpr int kKeys = kRegisters == 1 ? 16 : kRegisters == 2 ? 4 : 2;  // sums fill the registers
  const int64_t channels = image.channels;
  float* queries = scratch.transposed;
  spread_queries(image, tile, 1, queries);
  const float* mean = mean_of_keys(packed, channels, scratch);
  for (int64_t r = 0; r < count; r += kKeys) {
    const float* some[kKeys];
    for (int k = 0; k < kKeys; k++) {
      some[k] = image.key + keys[smaller(r + k, count - 1)] * channels;
      prefetch(image.key + keys[smaller(r + k + kKeys, count - 1)] * channels, channels * 4);
    }
    float* const to[1] = {rows + r * kLanes};  // rows has 64 to spare
    score_rows(some, mean, queries, channels, to);
  }
}

// How far a tile's scores in float32 can be from the truth.
inline void sum_errors(int64_t channels, const double* scales, float (&errors)[kLanes]) {
  for (int l = 0; l < kLanes; l++) errors[l] = round_up(sum_error(channels) * scales[l]);
}

// Whether scores in float32 of all rows, which are off by hundreds of times less than those of the
// screen, would spare more than they cost: so it is where keys are long and much alike.
inline bool should_sift(const Image<float>& image, const Collection& found, const Candidates& all) {
  const double channels = static_cast<double>(image.channels);
  const bool truncates = image.topk && image.topk < found.count;
  return !truncates && all.rounding < __builtin_inf() &&
         static_cast<double>(found.count) * channels <
             0.7 * all.number * (kPair + channels / kPairChannels);
}

// Puts such scores in the place of the packed ones, and drops the rows that fall behind.
inline void sift_rows(const Image<float>& image, const PackedKeys& packed, int64_t tile,
                      const double* scales, Collection& found, Scratch& scratch) {
  rescore_rows(image, packed, tile, scratch.row_keys, found.count, scratch, found.rows);
  float errors[kLanes], per_norm[kLanes];
  sum_errors(image.channels, scales, errors);  // of the longest key
  for (int l = 0; l < kLanes; l++) per_norm[l] = round_up(errors[l] / packed.norm);
  found.margins.per_norm = load(per_norm);
  found.margins.per_error = broadcast(0.f);
  found.margins.most = load(errors);
  Bounds& b = found.bounds;
  const Lanes gap = b.top - b.kappa;  // as good a guess as any: a step lands below kappa (bound.h)
  b.top = largest(found.rows, found.count);
  b.kappa = max(newton_step(found.rows, found.count, b.top - gap), b.top - broadcast(1.f));
  b.kappa = climb(found.rows, found.count, b.kappa, 64,
                  max(found.margins.most, broadcast(0.01f) * (b.top - b.kappa)));
  b.kth = broadcast(-__FLT_MAX__);
  found.low = low_of(b, found.margins.most);
  found.count = keep_rows(found.rows, found.places, found.count, found.low - found.margins.most);
}

// Instead of scores that no query has to look at: too low for any support.
constexpr float kFarBelow = -1e38f;

#if defined(__AVX512F__)
// Eight partial sums each of the scores of a key and those queries [16, stride] that look at it, over
// some of the channels, eight times Parts of them. The key's channels end at last.
template <int Parts>
HSPAN_INLINE void multiply_pairs(const float* key, const float* last, const double* queries,
                                 int64_t stride, unsigned members, bool add,
                                 __m512d (&sums)[kLanes]) {
  __m512d k[Parts];
#pragma GCC unroll 12
  for (int i = 0; i < Parts; i++) {
    const int64_t left = last - (key + 8 * i);
    const __mmask8 mask = static_cast<__mmask8>(left >= 8 ? 0xff : (1 << left) - 1);
    k[i] = _mm512_cvtps_pd(_mm256_maskz_loadu_ps(mask, key + 8 * i));
  }
  for (int j = 0; members; members &= members - 1, j++) {
    const double* query = queries + __builtin_ctz(members) * stride;
    asm("" : "+r"(query));  // else the compiler keeps twelve offsets in registers that it hasn't got
    __m512d even = add ? sums[j] : _mm512_setzero_pd(), odd = _mm512_setzero_pd();
#pragma GCC unroll 12
    for (int i = 0; i < Parts; i++) {
      __m512d& sum = i % 2 ? odd : even;
      sum = _mm512_fmadd_pd(_mm512_loadu_pd(query + 8 * i), k[i], sum);
    }
    sums[j] = _mm512_add_pd(even, odd);
  }
}

// The totals of four vectors.
HSPAN_INLINE __m256d totals_of(__m512d a, __m512d b, __m512d c, __m512d d) {
  const __m512d ab = _mm512_add_pd(_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b));
  const __m512d cd = _mm512_add_pd(_mm512_unpacklo_pd(c, d), _mm512_unpackhi_pd(c, d));
  const __m256d ab4 = _mm256_add_pd(_mm512_castpd512_pd256(ab), _mm512_extractf64x4_pd(ab, 1));
  const __m256d cd4 = _mm256_add_pd(_mm512_castpd512_pd256(cd), _mm512_extractf64x4_pd(cd, 1));
  return _mm256_add_pd(_mm256_permute2f128_pd(ab4, cd4, 0x20),
                       _mm256_permute2f128_pd(ab4, cd4, 0x31));
}

// A row of scores less tops, of the queries that look at the key; kFarBelow for the others.
HSPAN_INLINE void score_pairs(const float* key, int64_t channels, const double* queries,
                              int64_t stride, unsigned members, const double (&tops)[kLanes],
                              float* row) {
  __m512d sums[kLanes];
  const float* last = key + channels;
  for (int64_t c = 0; c < channels;) {
    const int64_t parts = (channels - c + 7) / 8;
    if (parts >= 12) {
      multiply_pairs<12>(key + c, last, queries + c, stride, members, c > 0, sums);
      c += 12 * 8;
    } else if (parts >= 6) {
      multiply_pairs<6>(key + c, last, queries + c, stride, members, c > 0, sums);
      c += 6 * 8;
    } else if (parts >= 3) {
      multiply_pairs<3>(key + c, last, queries + c, stride, members, c > 0, sums);
      c += 3 * 8;
    } else {
      multiply_pairs<1>(key + c, last, queries + c, stride, members, c > 0, sums);
      c += 8;
    }
  }
  const int number = __builtin_popcount(members);
  const auto eight_totals = [&](int j) {  // from member j on; of sums that aren't there, anything
    const __m512d four = _mm512_castpd256_pd512(totals_of(sums[j], sums[j + 1], sums[j + 2], sums[j + 3]));
    return _mm512_insertf64x4(four, totals_of(sums[j + 4], sums[j + 5], sums[j + 6], sums[j + 7]), 1);
  };
  // In the order of the members; then lane by lane, all in registers.
  const __m512d first = eight_totals(0), second = number > 8 ? eight_totals(8) : first;
  const __mmask8 low = static_cast<__mmask8>(members), high = static_cast<__mmask8>(members >> 8);
  const __m512i rest = _mm512_add_epi64(_mm512_set1_epi64(__builtin_popcount(low)),
                                        _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
  const __m512d a = _mm512_maskz_expand_pd(low, first);
  const __m512d b = _mm512_maskz_expand_pd(high, _mm512_permutex2var_pd(first, rest, second));
  const __m256 a8 = _mm512_cvtpd_ps(_mm512_sub_pd(a, _mm512_loadu_pd(tops)));
  const __m256 b8 = _mm512_cvtpd_ps(_mm512_sub_pd(b, _mm512_loadu_pd(tops + 8)));
  const __m512 both = _mm512_insertf32x8(_mm512_castps256_ps512(a8), b8, 1);
  _mm512_storeu_ps(row, _mm512_mask_mov_ps(_mm512_set1_ps(kFarBelow),
                                           static_cast<__mmask16>(members), both));
}
#else
HSPAN_INLINE void score_pairs(const float* key, int64_t channels, const double* queries,
                              int64_t stride, unsigned members, const double (&tops)[kLanes],
                              float* row) {
  store(row, broadcast(kFarBelow));
  for (; members; members &= members - 1) {
    const int l = __builtin_ctz(members);
    row[l] = static_cast<float>(score(queries + l * stride, key, channels) - tops[l]);
  }
}
#endif

// Replaces the collected packed scores by scores less tops, exact to float32; keys[r] is the key of
// row r. queries: [16, C rounded up to 8].
inline void rescore_pairs(const Image<float>& image, const PackedKeys& packed,
                          const Collection& found, int64_t tile, const int32_t* keys,
                          const double (&tops)[kLanes], double* queries) {
  const int64_t channels = image.channels, stride = (channels + 7) / 8 * 8;
  for (int l = 0; l < kLanes; l++) {
    const float* query = image.query + query_at(image, tile * kLanes + l) * channels;
    for (int64_t c = 0; c < channels; c++) queries[l * stride + c] = query[c];
    for (int64_t c = channels; c < stride; c++) queries[l * stride + c] = 0;
  }
  for (int64_t r = 0; r < found.count; r++) {
    if (r + 8 < found.count) prefetch(image.key + keys[r + 8] * channels, channels * 4);
    score_pairs(image.key + keys[r] * channels, channels, queries, stride,
                candidates_of(found, packed, r), tops, found.rows + r * kLanes);
  }
}

}  // namespace hspan::HSPAN_ISA
