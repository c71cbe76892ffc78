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
constexpr int kChannelsPerWord = 2, kWordMultiple = 16, kTilesPerGroup = 12;
#elif defined(__AVX512BF16__)
constexpr int kChannelsPerWord = 2, kWordMultiple = 1, kTilesPerGroup = 6;
#else
constexpr int kChannelsPerWord = 1, kWordMultiple = 1, kTilesPerGroup = 6;
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

template <class Real>
bool pack_keys(const Image<Real>& image, const PackedKeys& keys, int64_t first, int64_t last,
               double* norm, double* error) {
  const int64_t words = keys.words_per_key;
  double packed2 = 0, error2 = 0;
  bool finite = true;
  for (int64_t place = first * kLanes; place < last * kLanes; place++) {
    // Copies of the last key fill the last block: they change no maximum.
    const int64_t j = smaller(place, image.keys - 1);
    const Real* row = image.key + (image.key_order ? image.key_order[j] : j) * image.channels;
    uint32_t* block = keys.words + place / kLanes * words * kLanes;
    Rounding r;
    if (kWordMultiple == 1) {
      r = pack_row(row, keys.mean, image.channels, words, block + place % kLanes, kLanes);
    } else {
      // AMX: sixteen words of a key lie together, then the next key's.
      uint32_t line[16 * 64];  // up to 1024 words; longer rows go piece by piece
      r = Rounding{0, 0, 0};
      for (int64_t w0 = 0; w0 < words; w0 += 16 * 64) {
        const int64_t n = smaller<int64_t>(words - w0, 16 * 64), c0 = w0 * kChannelsPerWord;
        const Rounding part = pack_row(row + c0, keys.mean + c0,
                                       smaller(image.channels - c0, n * kChannelsPerWord), n, line, 1);
        r.packed_norm2 += part.packed_norm2;
        r.error2 += part.error2;
        for (int64_t w = 0; w < n; w += 16)
          __builtin_memcpy(block + (w0 + w) * kLanes + place % kLanes * 16, line + w, 64);
      }
    }
    finite = finite && r.packed_norm2 < 1e36;  // false for NaN as well
    keys.norms[place] = round_up(__builtin_sqrt(r.packed_norm2));
    keys.errors[place] = round_up(__builtin_sqrt(r.error2));
    packed2 = larger(packed2, r.packed_norm2);
    error2 = larger(error2, r.error2);
  }
  for (int64_t b = first; b < last; b++) {
    float longest = 0, worst = 0;
    for (int k = 0; k < kLanes; k++) {
      longest = larger(longest, keys.norms[b * kLanes + k]);
      worst = larger(worst, keys.errors[b * kLanes + k]);
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
                  Scratch& scratch) {
  const double gamma = (image.channels + 8) * 1.2e-7;
  uint32_t* words = scratch.lanes + t * keys.words_per_key * kLanes;
  bool exact = keys.error == 0;
  for (int l = 0; l < kLanes; l++) {
    const int64_t i = smaller(tile * kLanes + l, image.queries - 1);
    const Real* row = image.query + (image.query_order ? image.query_order[i] : i) * image.channels;
    const Rounding r =
        pack_row(row, nullptr, image.channels, keys.words_per_key, words + l, kLanes);
    exact = exact && r.error2 == 0;
    const double norm = __builtin_sqrt(r.norm2);
    const double per_norm = 1.001 * (__builtin_sqrt(r.error2) + gamma * norm);
    const double per_error = 1.001 * (1 + gamma) * norm;
    const bool usable =
        norm * keys.norm < kLargestScore && __builtin_sqrt(r.packed_norm2) < kLargestScore;
    const int at = t * kLanes + l;
    scratch.per_norm[at] = usable ? static_cast<float>(per_norm) : 0;
    scratch.per_error[at] = usable ? static_cast<float>(per_error) : 0;
    scratch.errors[at] =
        usable ? per_norm * keys.norm + per_error * keys.error : __builtin_inf();
    scratch.scales[at] = usable ? norm * keys.norm : __builtin_inf();
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
