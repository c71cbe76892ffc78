// Steps 5 to 7 once more, for queries that share their keys: sixteen at a time.
//
// Where supports are large (networks that have just begun to train) or neighbours look at the same
// keys, a collected row of sixteen scores has many members, and treating each alone costs more than
// treating the row: scores are computed again row by row (rescore.h), kappa is solved for all lanes
// at once, and a value is fetched once for all queries that look at it. Rows that are nearly full
// are multiplied with their values as matrices.
#pragma once

#include "gather.h"
#include "rescore.h"
#include "select.h"

namespace hspan::HSPAN_ISA {

// Cycles, measured on Sapphire Rapids with D from 48 to 192: what weights take one by one, and what
// they take as matrices, zeros included, which read every value once, in order.
HSPAN_INLINE double cost_of_weights(double weights, int64_t depth) {
  return weights * (6 + static_cast<double>(depth) / 5);
}
HSPAN_INLINE double cost_of_rows(int64_t rows, int64_t depth) {
  return 0.6 * static_cast<double>(rows) * static_cast<double>(depth);
}
HSPAN_INLINE bool are_full(double weights, int64_t rows, int64_t depth) {
  return cost_of_weights(weights, depth) > cost_of_rows(rows, depth);
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

// Adds weights times values of some rows to the outputs of Queries neighbouring lanes, or replaces
// these, sixteen times Vectors channels of them. A value that is loaded serves all of the queries.
template <int Queries, int Vectors>
HSPAN_INLINE void multiply_block(const float* values, int64_t depth, const int32_t* keys,
                                 const float* weights, int64_t count, bool add, int64_t first,
                                 float* const* out) {
  Lanes sums[Queries][Vectors];
#pragma GCC unroll 16
  for (int q = 0; q < Queries; q++)
#pragma GCC unroll 6
    for (int i = 0; i < Vectors; i++) sums[q][i] = broadcast(0.f);
  for (int64_t r = 0; r < count; r++) {
    const float *value = values + keys[r] * depth + first, *weight = weights + r * kLanes;
    Lanes parts[Vectors];
#pragma GCC unroll 6
    for (int i = 0; i < Vectors; i++) parts[i] = load(value + i * kLanes);
#pragma GCC unroll 16
    for (int q = 0; q < Queries; q++) {
      const Lanes w = broadcast(weight[q]);
#pragma GCC unroll 6
      for (int i = 0; i < Vectors; i++) sums[q][i] = fma(w, parts[i], sums[q][i]);
    }
  }
#pragma GCC unroll 16
  for (int q = 0; q < Queries; q++)
#pragma GCC unroll 6
    for (int i = 0; i < Vectors; i++) {
      float* to = out[q] + first + i * kLanes;
      store(to, add ? load(to) + sums[q][i] : sums[q][i]);
    }
}

// The same for all lanes and as many groups of channels as fit; returns the first channel left.
template <int Queries, int Vectors>
int64_t multiply_blocks(const float* values, int64_t depth, const int32_t* keys,
                        const float* weights, int64_t count, bool add, int64_t first,
                        float* const* out) {
  for (; first + Vectors * kLanes <= depth; first += Vectors * kLanes)
    for (int l = 0; l < kLanes; l += Queries)
      multiply_block<Queries, Vectors>(values, depth, keys, weights + l, count, add, first,
                                       out + l);
  return first;
}

// The same for all lanes and channels. Sums and operands fill the registers; narrower groups of
// channels have more queries.
inline void multiply_piece(const float* values, int64_t depth, const int32_t* keys,
                           const float* weights, int64_t count, bool add, float* const* out) {
  int64_t d = 0;
  if constexpr (kRegisters == 1) {
    d = multiply_blocks<4, 6>(values, depth, keys, weights, count, add, d, out);
    d = multiply_blocks<4, 4>(values, depth, keys, weights, count, add, d, out);
    d = multiply_blocks<8, 2>(values, depth, keys, weights, count, add, d, out);
    d = multiply_blocks<16, 1>(values, depth, keys, weights, count, add, d, out);
  } else if constexpr (kRegisters == 2) {
    d = multiply_blocks<2, 2>(values, depth, keys, weights, count, add, d, out);
    d = multiply_blocks<4, 1>(values, depth, keys, weights, count, add, d, out);
  } else {
    d = multiply_blocks<2, 1>(values, depth, keys, weights, count, add, d, out);
  }
  for (; d < depth; d++) {
    Lanes total = broadcast(0.f);
    for (int64_t r = 0; r < count; r++)
      total = fma(load(weights + r * kLanes), broadcast(values[keys[r] * depth + d]), total);
    float sums[kLanes];
    store(sums, total);
    for (int l = 0; l < kLanes; l++) out[l][d] = add ? out[l][d] + sums[l] : sums[l];
  }
}

// How many queries a tile has: the last one may lack some.
HSPAN_INLINE int lanes_of(const Image<float>& image, int64_t tile) {
  return static_cast<int>(smaller<int64_t>(kLanes, image.queries - tile * kLanes));
}

// out[l] = sum of all rows' weights times their values, for some tiles that have the same keys.
// Returns false where an output isn't finite: a value may not be, and weights of zero would not keep
// it out.
inline bool multiply_values(const Image<float>& image, const int32_t* keys,
                            const float* const* rows, int64_t count, int tiles,
                            float* const* out) {
  constexpr int64_t kPiece = 64;  // rows: their values stay in the first-level cache
  const float* values = image.value;
  const int64_t depth = image.value_channels;
  for (int64_t r = 0; r < count; r += kPiece) {
    const int64_t n = smaller(kPiece, count - r);
    for (int t = 0; t < tiles; t++)
      multiply_piece(values, depth, keys + r, rows[t] + r * kLanes, n, r > 0, out + t * kLanes);
  }
  float zero = 0;
  for (int i = 0; i < tiles * kLanes; i++)
#pragma omp simd reduction(+ : zero)
    for (int64_t d = 0; d < depth; d++) zero += 0.f * out[i][d];
  return zero == 0;
}

// out[l][d] = sums[d][l], for some lanes.
inline void transpose_out(const float* sums, int64_t depth, int lanes,
                          float* const (&out)[kLanes]) {
  int64_t d = 0;
#if defined(__AVX512F__)
  for (; d + kLanes <= depth; d += kLanes) {
    __m512 part[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i++) part[i] = _mm512_loadu_ps(sums + (d + i) * kLanes);
    transpose(part);
    for (int l = 0; l < lanes; l++) _mm512_storeu_ps(out[l] + d, part[l]);
  }
#endif
  for (; d < depth; d++)
    for (int l = 0; l < lanes; l++) out[l][d] = sums[d * kLanes + l];
}

// Keeps a query's support for the backward pass, where somebody asks for it and there is room.
template <class Real>
void keep(const Support<Real>* support, int64_t query, const int32_t* keys, const Real* weights,
          int64_t count) {
  if (!support) return;
  const int64_t start = __atomic_fetch_add(support->used, count, __ATOMIC_RELAXED);
  const bool room = start + count <= support->capacity;
  support->starts[query] = room ? start : -1;
  support->counts[query] = static_cast<int32_t>(count);
  if (!room) return;
  __builtin_memcpy(support->indices + start, keys, static_cast<uint64_t>(count) * 4);
  __builtin_memcpy(support->weights + start, weights, static_cast<uint64_t>(count) * sizeof(Real));
}

// What the keys' mean, which packed scores and those of rows lack, contributes to scores.
inline void score_mean(const Image<float>& image, const PackedKeys& keys, int64_t tile,
                       double (&scores)[kLanes]) {
  for (int l = 0; l < kLanes; l++)
    scores[l] = score(keys.mean, image.query + query_at(image, tile * kLanes + l) * image.channels,
                      image.channels);
}

// Each query's largest score, offset by so much from the rows', and its kappa.
inline void put_limits(const Image<float>& image, int64_t tile, Lanes top, Lanes kappa,
                       const double (&offsets)[kLanes], float* limits) {
  float tops[kLanes], kappas[kLanes];
  store(tops, top);
  store(kappas, kappa);
  for (int l = 0; l < lanes_of(image, tile); l++) {
    const int64_t query = query_at(image, tile * kLanes + l);
    limits[2 * query] = static_cast<float>(tops[l] + offsets[l]);
    limits[2 * query + 1] = kappas[l];
  }
}

// Outputs from rows of weights, and the support if somebody asks for it. multiplied: the outputs are
// there already.
inline void put_out(const Image<float>& image, int64_t tile, const int32_t* row_keys,
                    const float* rows, int64_t count, int64_t stride, bool multiplied,
                    float* const* outputs, Scratch& scratch, const Support<float>* support) {
  constexpr int64_t kLong = 1024;  // sums of more values are taken query by query
  const int64_t depth = image.value_channels;
  const bool shared = !multiplied && count <= kLong;
  if (shared) spread(image.value, depth, row_keys, rows, count, outputs);
  if ((multiplied || shared) && !support) return;
  int64_t counts[kLanes] = {};
  float* weights = static_cast<float*>(scratch.weights);
  deal_weights(rows, row_keys, count, stride, weights, scratch.candidates, counts);
  for (int l = 0; l < lanes_of(image, tile); l++) {
    const int32_t* candidates = scratch.candidates + l * stride;
    if (!multiplied && !shared)
      gather(image.value, depth, candidates, weights + l * stride, counts[l], false, outputs[l]);
    keep(support, query_at(image, tile * kLanes + l), candidates, weights + l * stride,
         counts[l]);
  }
}

}  // namespace hspan::HSPAN_ISA
