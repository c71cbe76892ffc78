// Pairs of bf16 numbers, two to a word of four bytes, for products that sum over channels, over keys
// or over queries: whatever is summed over lies in pairs.
//
// Rows are kept as they come, neighbouring channels in a word. Where a sum runs over rows instead,
// two rows are interleaved: a word then holds one channel of both.
#pragma once

#include "screen.h"

#if defined(HSPAN_AMX) || defined(__AVX512BF16__)
#define HSPAN_PAIRS

namespace hspan::HSPAN_ISA {

// Rounded like to_bf16, but NaN stays NaN.
HSPAN_INLINE uint32_t half_of(float x) { return x != x ? 0x7fc0u : to_bf16(x); }

// The lanes whose bit is set; zero elsewhere, whatever was there.
HSPAN_INLINE Lanes keep_lanes(unsigned mask, Lanes a) {
#if defined(__AVX512F__)
  return {_mm512_maskz_mov_ps(static_cast<__mmask16>(mask), a.v)};
#else
  float x[kLanes];
  store(x, a);
  for (int l = 0; l < kLanes; l++) x[l] = mask >> l & 1 ? x[l] : 0.f;
  return load(x);
#endif
}

// Sixteen numbers side by side: pairs of neighbouring lanes.
HSPAN_INLINE void store_halves(void* to, Lanes a) {
#if defined(__AVX512BF16__)
  _mm256_storeu_si256(static_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(a.v));
#else
  float x[kLanes];
  uint16_t halves[kLanes];
  store(x, a);
  for (int l = 0; l < kLanes; l++) halves[l] = static_cast<uint16_t>(half_of(x[l]));
  __builtin_memcpy(to, halves, sizeof halves);
#endif
}

// Bit l is set where number l of sixteen isn't zero.
HSPAN_INLINE unsigned members_of(const uint16_t* halves) {
#if defined(__AVX512BW__)
  const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(halves));
  return _mm256_test_epi16_mask(x, x);
#else
  unsigned bits = 0;
  for (int l = 0; l < kLanes; l++) bits |= (halves[l] != 0 ? 1u : 0u) << l;
  return bits;
#endif
}

// Lists the places of marks and wipes them out. Both have room for 64 more.
inline int64_t list_marks(uint8_t* marks, int64_t count, int32_t* places) {
  int64_t found = 0;
#if defined(__AVX512BW__)
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int64_t i = 0; i < count; i += 64) {
    const __m512i x = _mm512_loadu_si512(marks + i);
    uint64_t set = _mm512_test_epi8_mask(x, x);
    if (!set) continue;
    _mm512_storeu_si512(marks + i, _mm512_setzero_si512());
    for (int32_t first = static_cast<int32_t>(i); set; set >>= kLanes, first += kLanes) {
      const __m512i place = _mm512_add_epi32(lane, _mm512_set1_epi32(first));
      const __mmask16 some = static_cast<__mmask16>(set);
      _mm512_storeu_si512(places + found, _mm512_maskz_compress_epi32(some, place));
      found += __builtin_popcount(some);
    }
  }
#else
  for (int64_t i = 0; i < count; i++) {
    places[found] = static_cast<int32_t>(i);
    found += marks[i];
    marks[i] = 0;
  }
#endif
  return found;
}

// Two of them as one word.
HSPAN_INLINE uint32_t word_at(const uint16_t* halves) {
  uint32_t word;
  __builtin_memcpy(&word, halves, sizeof word);
  return word;
}

// Sixteen words, each of one lane of both.
HSPAN_INLINE void store_pairs(uint32_t* to, Lanes low, Lanes high) {
#if defined(__AVX512BF16__)
  alignas(64) static constexpr uint16_t kPlaces[32] = {
      0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(high.v, low.v);
  _mm512_storeu_si512(to, _mm512_permutexvar_epi16(_mm512_load_si512(kPlaces), both));
#else
  float x[kLanes], y[kLanes];
  store(x, low);
  store(y, high);
  for (int l = 0; l < kLanes; l++) to[l] = half_of(x[l]) | half_of(y[l]) << 16;
#endif
}

// Rows of words become twice as many words, each of one channel of both rows; words is a multiple
// of 16.
HSPAN_INLINE void interleave(const uint32_t* low, const uint32_t* high, int64_t words,
                             uint32_t* to) {
#if defined(__AVX512BF16__)
  alignas(64) static constexpr uint16_t kPlaces[2][32] = {
      {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
       8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47},
      {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
       24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63}};
  for (int64_t w = 0; w < words; w += kLanes) {
    const __m512i x = _mm512_loadu_si512(low + w), y = _mm512_loadu_si512(high + w);
    _mm512_storeu_si512(to + 2 * w,
                        _mm512_permutex2var_epi16(x, _mm512_load_si512(kPlaces[0]), y));
    _mm512_storeu_si512(to + 2 * w + kLanes,
                        _mm512_permutex2var_epi16(x, _mm512_load_si512(kPlaces[1]), y));
  }
#else
  for (int64_t w = 0; w < words; w++) {
    to[2 * w] = (low[w] & 0xffffu) | high[w] << 16;
    to[2 * w + 1] = low[w] >> 16 | (high[w] & 0xffff0000u);
  }
#endif
}

// to[w * 16 + r] = from[r * stride + w] for sixteen rows of sixteen words.
HSPAN_INLINE void transpose_words(const uint32_t* from, int64_t stride, uint32_t* to) {
#if defined(__AVX512F__)
  __m512 rows[kLanes];
#pragma GCC unroll 16
  for (int r = 0; r < kLanes; r++) rows[r] = _mm512_loadu_ps(from + r * stride);
  transpose(rows);
#pragma GCC unroll 16
  for (int r = 0; r < kLanes; r++) _mm512_storeu_ps(to + r * kLanes, rows[r]);
#else
  for (int w = 0; w < kLanes; w++)
    for (int r = 0; r < kLanes; r++) to[w * kLanes + r] = from[r * stride + w];
#endif
}

// One row of floats, less mean unless that is null; zeros behind it up to words, a multiple of 8.
inline void pack_pairs_of_row(const float* row, const float* mean, int64_t length, int64_t words,
                              uint32_t* to) {
  int64_t c = 0;
  for (; c + kLanes <= length; c += kLanes) {
    const Lanes part = load(row + c);
    store_halves(to + c / 2, mean ? part - load(mean + c) : part);
  }
  if (c < length) {
    float rest[kLanes] = {};
    for (int64_t i = c; i < length; i++) rest[i - c] = mean ? row[i] - mean[i] : row[i];
    store_halves(to + c / 2, load(rest));
    c += kLanes;
  }
  for (int64_t w = c / 2; w < words; w++) to[w] = 0;
}

// Keys and values [first, last).
inline void pack_rows(const Image<float>& image, const PairedRows& rows, int64_t first,
                       int64_t last) {
  for (int64_t j = first; j < last; j++) {
    uint32_t* to = rows.words + j * rows.stride();
    pack_pairs_of_row(image.key + j * image.channels, rows.mean, image.channels, rows.key_words, to);
    pack_pairs_of_row(image.value + j * image.value_channels, nullptr, image.value_channels,
                      rows.value_words, to + rows.key_words);
  }
}

}  // namespace hspan::HSPAN_ISA

#endif
