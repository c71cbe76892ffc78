// Steps 5 to 7 once more, for queries that share their keys: sixteen at a time.
//
// Where supports are large (networks that have just begun to train) or neighbours look at the same
// keys, a collected row of sixteen scores has many members, and treating each alone costs more than
// treating the row: scores are computed again in float32, lane by lane, kappa is solved for all
// lanes at once, and only then are weights dealt out to their queries. Rows that are nearly full are
// not even dealt out: weights and values are multiplied as matrices.
#pragma once

#include "collect.h"
#include "gather.h"
#include "select.h"
#include "threshold.h"

namespace hspan::HSPAN_ISA {

// Processor cycles, measured on Zen 4 with C from 24 to 96; only their ratios matter.
constexpr double kAlone = 55;     // a candidate: dealt out, rescored in double, solved
constexpr double kTogether = 25;  // a row: Newton's steps and dealing; rescoring takes C more
constexpr double kSelecting = 60;  // a row, where only the k largest scores take part
// Weights per row above which multiplying (D cycles) beats gathering (2 D / 16 cycles a weight).
constexpr float kFull = 7.5f;

// Products of smaller sizes may lose digits as numbers below float32's range.
constexpr double kTiny = 1e-25;

// Whether a tile is better finished together.
inline bool pays_together(const Image<float>& image, const PackedKeys& keys,
                          const Collected& found, const Margins& margins,
                          const Scratch& scratch, const double* scales, bool exact) {
  Positive candidates;
  for (int64_t r = 0; r < found.count; r++)
    candidates.add(load(scratch.rows + r * kLanes) +
                   margins.of_key(keys, scratch.row_places[r]) - found.low);
  float numbers[kLanes];
  store(numbers, candidates.numbers());
  // Scores that are computed again start from what the keys' mean contributes.
  const double scale = exact || keys.norm == 0 ? 1 : 1 + keys.mean_norm / keys.norm;
  double members = 0, rounding = 0;
  for (int l = 0; l < kLanes; l++) {
    members += numbers[l];
    rounding += kRounding * scale * scales[l] * numbers[l] / kLanes;
  }
  if (!(rounding < kNegligible)) return false;  // infinite for queries that weren't screened
  double row = kTogether + (exact ? 0 : static_cast<double>(image.channels));
  if (image.topk && image.topk < found.count) {
    row += kSelecting;
    // Ties of all keys, or nearly: each query finds its own without looking at the others.
    for (int l = 0; l < kLanes; l++)
      if (!(scales[l] > kTiny)) return false;
  }
  return static_cast<double>(found.count) * row < members * kAlone;
}

HSPAN_INLINE int64_t query_at(const Image<float>& image, int64_t place) {
  place = smaller(place, image.queries - 1);
  return image.query_order ? image.query_order[place] : place;
}

// Scores of eight keys against sixteen queries [C, 16], in float32.
HSPAN_INLINE void score_rows(const float* const (&keys)[8], const float* queries, int64_t channels,
                             Lanes start, float* out) {
  Lanes sums[8];
#pragma GCC unroll 8
  for (int k = 0; k < 8; k++) sums[k] = start;
  for (int64_t c = 0; c < channels; c++) {
    const Lanes q = load(queries + c * kLanes);
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) sums[k] = fma(q, broadcast(keys[k][c]), sums[k]);
  }
#pragma GCC unroll 8
  for (int k = 0; k < 8; k++) store(out + k * kLanes, sums[k]);
}

// Replaces the collected packed scores by scores in float32; keys[r] is the key of row r.
inline void rescore_together(const Image<float>& image, const PackedKeys& packed, int64_t tile,
                             const int32_t* keys, int64_t count, float* queries, float* rows) {
  float offsets[kLanes];  // scores of centred keys: smaller, hence rounded less
  for (int l = 0; l < kLanes; l++) {
    const float* query = image.query + query_at(image, tile * kLanes + l) * image.channels;
    double offset = 0;
    for (int64_t c = 0; c < image.channels; c++) {
      queries[c * kLanes + l] = query[c];
      offset -= query[c] * packed.mean[c];
    }
    offsets[l] = static_cast<float>(offset);
  }
  const Lanes start = load(offsets);
  for (int64_t r = 0; r < count; r += 8) {
    const float* key[8];
    for (int k = 0; k < 8; k++)
      key[k] = image.key + keys[smaller(r + k, count - 1)] * image.channels;
    score_rows(key, queries, image.channels, start, rows + r * kLanes);  // rows has 64 to spare
  }
}

// weights[l * stride ...] and keys_out[l * stride ...]: the positive weights of query l.
inline void deal_weights(const float* rows, const int32_t* keys, int64_t count, int64_t stride,
                         float* weights, int32_t* keys_out, int64_t (&counts)[kLanes]) {
  for (int l = 0; l < kLanes; l++) counts[l] = 0;
  int64_t r = 0;
#if defined(__AVX512F__)
  // Sixteen rows at once: what a lane keeps is packed to the left and stored whole, and the next
  // store overwrites what is too much.
  for (; r + kLanes <= count; r += kLanes) {
    const __m512i key = _mm512_loadu_si512(keys + r);
    __m512 w[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i++) w[i] = _mm512_loadu_ps(rows + (r + i) * kLanes);
    transpose(w);
#pragma GCC unroll 16
    for (int l = 0; l < kLanes; l++) {
      const __mmask16 kept = _mm512_cmp_ps_mask(w[l], _mm512_setzero_ps(), _CMP_GT_OQ);
      const int64_t at = l * stride + counts[l];
      _mm512_storeu_ps(weights + at, _mm512_maskz_compress_ps(kept, w[l]));
      _mm512_storeu_si512(keys_out + at, _mm512_maskz_compress_epi32(kept, key));
      counts[l] += __builtin_popcount(kept);
    }
  }
#endif
  for (; r < count; r++)
    for (unsigned m = exceeding(load(rows + r * kLanes), broadcast(0.f)); m; m &= m - 1) {
      const int l = __builtin_ctz(m);
      const int64_t at = l * stride + counts[l]++;
      weights[at] = rows[r * kLanes + l];
      keys_out[at] = keys[r];
    }
}

// out[D, 16] = sum over the rows of value[d] * weights: Channels channels at a time.
template <int Channels>
HSPAN_INLINE void multiply_channels(const float* values, int64_t depth, const int32_t* keys,
                                    const float* rows, int64_t count, bool add, float* out) {
  Lanes sums[Channels];
#pragma GCC unroll 16
  for (int d = 0; d < Channels; d++) sums[d] = broadcast(0.f);
  for (int64_t r = 0; r < count; r++) {
    const Lanes weights = load(rows + r * kLanes);
    const float* value = values + keys[r] * depth;
#pragma GCC unroll 16
    for (int d = 0; d < Channels; d++) sums[d] = fma(weights, broadcast(value[d]), sums[d]);
  }
#pragma GCC unroll 16
  for (int d = 0; d < Channels; d++)
    store(out + d * kLanes, add ? load(out + d * kLanes) + sums[d] : sums[d]);
}

// Returns false where a value isn't finite: weights of zero would not keep it out.
inline bool multiply_values(const Image<float>& image, const int32_t* keys, const float* rows,
                            int64_t count, float* out) {
  constexpr int kChannels = kRegisters == 1 ? 16 : kRegisters == 2 ? 4 : 2;
  constexpr int64_t kPiece = 512;  // as in gather
  const int64_t depth = image.value_channels;
  for (int64_t r = 0; r < count; r += kPiece) {
    const int64_t n = smaller(kPiece, count - r);
    int64_t d = 0;
    for (; d + kChannels <= depth; d += kChannels)
      multiply_channels<kChannels>(image.value + d, depth, keys + r, rows + r * kLanes, n, r > 0,
                                   out + d * kLanes);
    for (; d < depth; d++)
      multiply_channels<1>(image.value + d, depth, keys + r, rows + r * kLanes, n, r > 0,
                           out + d * kLanes);
  }
  float zero = 0;
  for (int64_t i = 0; i < depth * kLanes; i++) zero += out[i] * 0.f;
  return zero == 0;
}

}  // namespace hspan::HSPAN_ISA
