// Step 1, pack: sixteen rows of a matrix become words that the screen can multiply.
//
// A word is one channel in float32, or two neighbouring channels in bf16. Queries are laid out
// word by word, [W, 16]: one load brings a word of all sixteen queries. Keys likewise; for AMX in
// tiles of sixteen words, [W / 16, 16 keys, 16 words]. Beside the words goes what rounding cost:
// the norms from which the screen's error is bounded.
#pragma once

#include "simd.h"

namespace hspan::HSPAN_ISA {

#if defined(__AMX_BF16__) || defined(HSPAN_EMULATE_AMX)
#define HSPAN_AMX
constexpr int kChannelsPerWord = 2, kWordMultiple = 16, kTilesPerGroup = 16;
constexpr int64_t kPrefixPays = 16384, kMostPrefixed = 256;  // keys, channels
#elif defined(__AVX512BF16__)
constexpr int kChannelsPerWord = 2, kWordMultiple = 1, kTilesPerGroup = 6;
constexpr int64_t kPrefixPays = 4096, kMostPrefixed = 512;
#else
constexpr int kChannelsPerWord = 1, kWordMultiple = 1, kTilesPerGroup = 6;
constexpr int64_t kPrefixPays = 4096, kMostPrefixed = 512;
#endif

HSPAN_INLINE uint32_t bits_of(float x) {
  uint32_t u;
  __builtin_memcpy(&u, &x, sizeof u);
  return u;
}
HSPAN_INLINE float float_of(uint32_t u) {
  float x;
  __builtin_memcpy(&x, &u, sizeof x);
  return x;
}
// Round to nearest even; x is finite. Products of bf16 take tiny numbers for zero: so do we.
HSPAN_INLINE uint32_t to_bf16(float x) {
  const uint32_t u = bits_of(x);
  return u & 0x7f800000 ? (u + 0x7fff + ((u >> 16) & 1)) >> 16 : 0;
}

HSPAN_INLINE float round_up(double x) { return static_cast<float>(x * 1.000001); }

struct Rounding {
  double norm2;         // of the row
  double packed_norm2;  // of the row as packed
  double error2;        // of the difference
};

// Packs one row, centred by mean unless that is null; words go to words[0], words[stride], ...
template <class Real>
Rounding pack_row(const Real* row, const double* mean, int64_t channels, int64_t words_per_row,
                  uint32_t* words, int64_t stride) {
  constexpr int kChunk = 64;
  Rounding total{0, 0, 0};
  int64_t w = 0;
  for (int64_t c0 = 0; c0 < channels; c0 += kChunk) {
    const int n = static_cast<int>(smaller<int64_t>(kChunk, channels - c0));
    Real exact[kChunk];
    float rounded[kChunk + 1];
    double n2 = 0, p2 = 0, e2 = 0;
    for (int c = 0; c < n; c++)
      exact[c] = mean ? row[c0 + c] - static_cast<Real>(mean[c0 + c]) : row[c0 + c];
    for (int c = 0; c < n; c++) {
      const float x = static_cast<float>(exact[c]);
      rounded[c] = kChannelsPerWord == 2 ? float_of(to_bf16(x) << 16) : x;
    }
    rounded[n] = 0;
#pragma omp simd reduction(+ : n2, p2, e2)
    for (int c = 0; c < n; c++) {
      const double x = exact[c], y = rounded[c];
      n2 += x * x;
      p2 += y * y;
      e2 += (x - y) * (x - y);
    }
    total.norm2 += n2;
    total.packed_norm2 += p2;
    total.error2 += e2;
    for (int c = 0; c < n; c += kChannelsPerWord, w++)
      words[w * stride] = kChannelsPerWord == 2
                              ? bits_of(rounded[c]) >> 16 | (bits_of(rounded[c + 1]) & 0xffff0000u)
                              : bits_of(rounded[c]);
  }
  for (; w < words_per_row; w++) words[w * stride] = 0;
  return total;
}

// Packs sixteen rows into [W, 16], lane by lane.
template <class Real>
void pack_rows(const Real* const (&rows)[kLanes], const double* mean, int64_t channels,
               int64_t words_per_row, uint32_t* words, Rounding (&roundings)[kLanes]) {
  for (int l = 0; l < kLanes; l++)
    roundings[l] = pack_row(rows[l], mean, channels, words_per_row, words + l, kLanes);
}

// Sixteen words of a row at once, where the processor converts to bf16 itself. Sums are in float32
// here, and good only for rows whose squares stay clear of its range's ends: see is_ordinary.
#if defined(__AVX512BF16__)
#define HSPAN_FAST_PACK

struct RowSums {
  __m512 norm2 = _mm512_setzero_ps(), packed_norm2 = norm2, error2 = norm2, largest = norm2;
};

HSPAN_INLINE __m512 widened(__m256i halves) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

HSPAN_INLINE __m512 mean_of(const double* mean, __mmask16 mask) {
  const __m256 low = _mm512_cvtpd_ps(_mm512_maskz_loadu_pd(static_cast<__mmask8>(mask), mean));
  const __m256 high =
      _mm512_cvtpd_ps(_mm512_maskz_loadu_pd(static_cast<__mmask8>(mask >> 8), mean + 8));
  return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}

// Words of up to 32 channels, of which some are left; missing ones are zero.
HSPAN_INLINE __m512i pack_words(const float* row, const double* mean, int64_t left,
                                RowSums& sums) {
  const uint32_t mask = left >= 32 ? ~0u : (1u << left) - 1;
  const __mmask16 first = static_cast<__mmask16>(mask), second = static_cast<__mmask16>(mask >> 16);
  __m512 x0 = _mm512_maskz_loadu_ps(first, row), x1 = _mm512_maskz_loadu_ps(second, row + 16);
  if (mean) {
    x0 = _mm512_sub_ps(x0, mean_of(mean, first));
    x1 = _mm512_sub_ps(x1, mean_of(mean + 16, second));
  }
  const __m512i words = (__m512i)_mm512_cvtne2ps_pbh(x1, x0);
  const __m512 y0 = widened(_mm512_castsi512_si256(words));
  const __m512 y1 = widened(_mm512_extracti64x4_epi64(words, 1));
  const __m512 e0 = _mm512_sub_ps(x0, y0), e1 = _mm512_sub_ps(x1, y1);
  sums.norm2 = _mm512_fmadd_ps(x0, x0, _mm512_fmadd_ps(x1, x1, sums.norm2));
  sums.packed_norm2 = _mm512_fmadd_ps(y0, y0, _mm512_fmadd_ps(y1, y1, sums.packed_norm2));
  sums.error2 = _mm512_fmadd_ps(e0, e0, _mm512_fmadd_ps(e1, e1, sums.error2));
  sums.largest = _mm512_max_ps(sums.largest, _mm512_max_ps(_mm512_abs_ps(x0), _mm512_abs_ps(x1)));
  return words;
}

// Whether squares neither overflow nor get lost beside the largest one; then also the sums, a little
// more than they are.
HSPAN_INLINE bool is_ordinary(const RowSums& sums, Rounding& rounding) {
  const float largest = _mm512_reduce_max_ps(sums.largest);
  constexpr double kUp = 1.0001;  // rounding of a sum in float32
  rounding = {kUp * _mm512_reduce_add_ps(sums.norm2), kUp * _mm512_reduce_add_ps(sums.packed_norm2),
              kUp * _mm512_reduce_add_ps(sums.error2)};
  return largest > 1e-12f && largest < 1e12f && rounding.norm2 < 1e30;  // false for NaN as well
}

inline void pack_rows(const float* const (&rows)[kLanes], const double* mean, int64_t channels,
                      int64_t words_per_row, uint32_t* words, Rounding (&roundings)[kLanes]) {
  RowSums sums[kLanes];
  for (int64_t w = 0; w < words_per_row; w += 16) {
    __m512 lines[kLanes];
    for (int l = 0; l < kLanes; l++) {
      const int64_t left = channels - 2 * w;
      const __m512i line = left > 0 ? pack_words(rows[l] + 2 * w, mean ? mean + 2 * w : nullptr,
                                                 left, sums[l])
                                    : _mm512_setzero_si512();
      lines[l] = _mm512_castsi512_ps(line);
    }
    transpose(lines);
    const int64_t n = smaller<int64_t>(16, words_per_row - w);
    for (int64_t i = 0; i < n; i++) _mm512_storeu_ps(words + (w + i) * kLanes, lines[i]);
  }
  for (int l = 0; l < kLanes; l++)
    if (!is_ordinary(sums[l], roundings[l]))
      roundings[l] = pack_row(rows[l], mean, channels, words_per_row, words + l, kLanes);
}
#endif

// Packs one key into its place; other instruction sets and doubles take this way for all.
template <class Real>
Rounding pack_key(const Real* row, const PackedKeys& keys, int64_t channels, int64_t place) {
  const int64_t words = keys.words_per_key;
  uint32_t* block = keys.words + place / kLanes * words * kLanes;
  if (kWordMultiple == 1)
    return pack_row(row, keys.mean, channels, words, block + place % kLanes, kLanes);
  // AMX: sixteen words of a key lie together, then the next key's.
  uint32_t line[16 * 64];  // up to 1024 words; longer rows go piece by piece
  Rounding r{0, 0, 0};
  for (int64_t w0 = 0; w0 < words; w0 += 16 * 64) {
    const int64_t n = smaller<int64_t>(words - w0, 16 * 64), c0 = w0 * kChannelsPerWord;
    const Rounding part = pack_row(row + c0, keys.mean + c0,
                                   smaller(channels - c0, n * kChannelsPerWord), n, line, 1);
    r.packed_norm2 += part.packed_norm2;
    r.error2 += part.error2;
    for (int64_t w = 0; w < n; w += 16)
      __builtin_memcpy(block + (w0 + w) * kLanes + place % kLanes * 16, line + w, 64);
  }
  return r;
}

template <class Real>
void pack_block(const Real* const (&rows)[kLanes], const PackedKeys& keys, int64_t channels,
                int64_t block, Rounding (&roundings)[kLanes]) {
  for (int k = 0; k < kLanes; k++)
    roundings[k] = pack_key(rows[k], keys, channels, block * kLanes + k);
}

#if defined(HSPAN_FAST_PACK)
inline void pack_block(const float* const (&rows)[kLanes], const PackedKeys& keys,
                       int64_t channels, int64_t block, Rounding (&roundings)[kLanes]) {
  uint32_t* words = keys.words + block * keys.words_per_key * kLanes;
  if (kWordMultiple == 1) {
    pack_rows(rows, keys.mean, channels, keys.words_per_key, words, roundings);
    return;
  }
  for (int k = 0; k < kLanes; k++) {
    RowSums sums;
    for (int64_t w = 0; w < keys.words_per_key; w += 16) {
      const int64_t left = channels - 2 * w;
      const __m512i line = left > 0 ? pack_words(rows[k] + 2 * w, keys.mean + 2 * w, left, sums)
                                    : _mm512_setzero_si512();
      _mm512_storeu_si512(words + (w + k) * 16, line);
    }
    if (!is_ordinary(sums, roundings[k]))
      roundings[k] = pack_key(rows[k], keys, channels, block * kLanes + k);
  }
}
#endif

// The rows at a place of the tiles and blocks. Copies of the last one fill these up: they change no
// maximum.
template <class Real>
HSPAN_INLINE const Real* query_row(const Image<Real>& image, int64_t place) {
  place = smaller(place, image.queries - 1);
  return image.query + (image.query_order ? image.query_order[place] : place) * image.channels;
}
template <class Real>
HSPAN_INLINE const Real* key_row(const Image<Real>& image, int64_t place) {
  place = smaller(place, image.keys - 1);
  return image.key + (image.key_order ? image.key_order[place] : place) * image.channels;
}

template <class Real>
bool pack_keys(const Image<Real>& image, const PackedKeys& keys, int64_t first, int64_t last,
               double* norm, double* error) {
  double packed2 = 0, error2 = 0;
  bool finite = true;
  for (int64_t b = first; b < last; b++) {
    const Real* rows[kLanes];
    Rounding roundings[kLanes];
    for (int k = 0; k < kLanes; k++) rows[k] = key_row(image, b * kLanes + k);
    pack_block(rows, keys, image.channels, b, roundings);
    float longest = 0, worst = 0;
    for (int k = 0; k < kLanes; k++) {
      const Rounding& r = roundings[k];
      finite = finite && r.packed_norm2 < 1e36;  // false for NaN as well
      const float key_norm = round_up(__builtin_sqrt(r.packed_norm2));
      const float key_error = round_up(__builtin_sqrt(r.error2));
      keys.norms[b * kLanes + k] = key_norm;
      keys.errors[b * kLanes + k] = key_error;
      longest = larger(longest, key_norm);
      worst = larger(worst, key_error);
      packed2 = larger(packed2, r.packed_norm2);
      error2 = larger(error2, r.error2);
    }
    keys.block_norms[b] = longest;
    keys.block_errors[b] = worst;
  }
  *norm = larger(*norm, __builtin_sqrt(packed2));
  *error = larger(*error, __builtin_sqrt(error2));
  return finite;
}

// Sums of 10^5 of these, which Newton's steps take, are far from overflow.
constexpr double kLargestScore = 1e33;

// Packs a tile of queries and bounds how far a packed score can be from the score, for a key k:
//   |q k - q~ k~| <= (|q - q~| + gamma |q|) |k~| + (1 + gamma) |q| |k - k~|,
// k centred; gamma covers the summation's rounding and that of centring. The bound for any key is
// infinite for a query that can't be screened: not finite, or so long that its scores overflow.
// Returns whether nothing was rounded: packed scores are then as good as any in float32.
template <class Real>
bool pack_queries(const Image<Real>& image, const PackedKeys& keys, int64_t tile, int t,
                  const PackedQueries& packed) {
  const double gamma = (image.channels + 8) * 1.2e-7;
  uint32_t* words = packed.lanes + t * keys.words_per_key * kLanes;
  const Real* rows[kLanes];
  Rounding roundings[kLanes];
  for (int l = 0; l < kLanes; l++) rows[l] = query_row(image, tile * kLanes + l);
  pack_rows(rows, nullptr, image.channels, keys.words_per_key, words, roundings);
  bool exact = keys.error == 0;
  for (int l = 0; l < kLanes; l++) {
    const Rounding& r = roundings[l];
    exact = exact && r.error2 == 0;
    const double norm = __builtin_sqrt(r.norm2);
    const double per_norm = 1.001 * (__builtin_sqrt(r.error2) + gamma * norm);
    const double per_error = 1.001 * (1 + gamma) * norm;
    const bool usable =
        norm * keys.norm < kLargestScore && __builtin_sqrt(r.packed_norm2) < kLargestScore;
    const int at = t * kLanes + l;
    packed.per_norm[at] = usable ? static_cast<float>(per_norm) : 0;
    packed.per_error[at] = usable ? static_cast<float>(per_error) : 0;
    packed.errors[at] =
        usable ? per_norm * keys.norm + per_error * keys.error : __builtin_inf();
    packed.scales[at] = usable ? norm * keys.norm : __builtin_inf();
    if (!usable)
      for (int64_t w = 0; w < keys.words_per_key; w++) words[w * kLanes + l] = 0;
  }
  return exact;
}

template <class Real>
void sum_columns(const Real* matrix, int64_t rows, int64_t columns, double* sums) {
  for (int64_t r = 0; r < rows; r++) {
    const Real* row = matrix + r * columns;
#pragma omp simd
    for (int64_t c = 0; c < columns; c++) sums[c] += row[c];
  }
}

}  // namespace hspan::HSPAN_ISA
