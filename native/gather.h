// Step 7, gather: the output is a weighted sum of the few values in the support. The gradients are
// sums of the same kind, so that the backward pass gathers too.
#pragma once

#include "simd.h"

namespace hspan::HSPAN_ISA {

// Sixteen times Registers neighbouring channels, kept in registers.
template <int Registers>
void gather_channels(const float* rows, int64_t stride, const int32_t* indices,
                     const float* weights, int64_t count, bool add, float* out) {
  Lanes sums[Registers];
#pragma GCC unroll 12
  for (int c = 0; c < Registers; c++) sums[c] = broadcast(0.f);
  for (int64_t j = 0; j < count; j++) {
    if (j + 6 < count) prefetch(rows + indices[j + 6] * stride, Registers * 64);
    const float* row = rows + indices[j] * stride;
    const Lanes weight = broadcast(weights[j]);
#pragma GCC unroll 12
    for (int c = 0; c < Registers; c++)
      sums[c] = fma(weight, load(row + c * kLanes), sums[c]);
  }
#pragma GCC unroll 12
  for (int c = 0; c < Registers; c++)
    store(out + c * kLanes, add ? load(out + c * kLanes) + sums[c] : sums[c]);
}

inline void gather_piece(const float* rows, int64_t length, const int32_t* indices, const float* weights,
                   int64_t count, bool add, float* out) {
  constexpr int kMost = kRegisters == 1 ? 12 : kRegisters == 2 ? 6 : 2;
  int64_t c = 0;
  while (length - c >= kLanes) {
    const int64_t left = (length - c) / kLanes;
    const int n = static_cast<int>(smaller<int64_t>(left, kMost));
    const float* from = rows + c;
    if (kMost >= 12 && n == 12) {
      gather_channels<12>(from, length, indices, weights, count, add, out + c);
      c += 12 * kLanes;
    } else if (kMost >= 6 && n >= 6) {
      gather_channels<6>(from, length, indices, weights, count, add, out + c);
      c += 6 * kLanes;
    } else if (kMost >= 4 && n >= 4) {
      gather_channels<4>(from, length, indices, weights, count, add, out + c);
      c += 4 * kLanes;
    } else if (n >= 2) {
      gather_channels<2>(from, length, indices, weights, count, add, out + c);
      c += 2 * kLanes;
    } else {
      gather_channels<1>(from, length, indices, weights, count, add, out + c);
      c += kLanes;
    }
  }
  if (c == length) return;
  float sums[kLanes] = {};
  const int n = static_cast<int>(length - c);
  for (int64_t j = 0; j < count; j++) {
    const float* row = rows + indices[j] * length + c;
    for (int i = 0; i < n; i++) sums[i] += weights[j] * row[i];
  }
  for (int i = 0; i < n; i++) out[c + i] = add ? out[c + i] + sums[i] : sums[i];
}

// out = sum_j weights[j] * rows[indices[j]], or out += that; rows of any length. Long sums are
// taken in pieces, which rounds less.
inline void gather(const float* rows, int64_t length, const int32_t* indices, const float* weights,
                   int64_t count, bool add, float* out) {
  constexpr int64_t kPiece = 512;
  int64_t j = 0;
  do {
    gather_piece(rows, length, indices + j, weights + j, smaller(kPiece, count - j), add || j,
                 out);
    j += kPiece;
  } while (j < count);
}

inline void gather(const double* rows, int64_t length, const int32_t* indices,
                   const double* weights, int64_t count, bool add, double* out) {
  for (int64_t c = 0; c < length && !add; c++) out[c] = 0;
  for (int64_t j = 0; j < count; j++) {
    const double* row = rows + indices[j] * length;
    const double weight = weights[j];
#pragma omp simd
    for (int64_t c = 0; c < length; c++) out[c] += weight * row[c];
  }
}

// The same sums for sixteen queries that share their keys: rows[r] holds sixteen weights of the
// value keys[r], zeros included. A value is fetched once for all of them. Adds to out[l][c ...].
template <int Registers>
void spread_channels(const float* values, int64_t depth, const int32_t* keys, const float* rows,
                     int64_t count, float* const* out, int64_t first) {
  for (int64_t r = 0; r < count; r++) {
    if (r + 6 < count) prefetch(values + keys[r + 6] * depth + first, Registers * 64);
    const float* value = values + keys[r] * depth + first;
    Lanes parts[Registers];
#pragma GCC unroll 12
    for (int c = 0; c < Registers; c++) parts[c] = load(value + c * kLanes);
    for (unsigned m = exceeding(load(rows + r * kLanes), broadcast(0.f)); m; m &= m - 1) {
      const int l = __builtin_ctz(m);
      const Lanes weight = broadcast(rows[r * kLanes + l]);
      float* sums = out[l] + first;
#pragma GCC unroll 12
      for (int c = 0; c < Registers; c++)
        store(sums + c * kLanes, fma(weight, parts[c], load(sums + c * kLanes)));
    }
  }
}

inline void spread(const float* values, int64_t depth, const int32_t* keys, const float* rows,
                   int64_t count, float* const* out) {
  constexpr int kMost = kRegisters == 1 ? 12 : kRegisters == 2 ? 4 : 1;
  for (int l = 0; l < kLanes; l++)
    for (int64_t d = 0; d < depth; d++) out[l][d] = 0;
  int64_t c = 0;
  for (; c + kMost * kLanes <= depth; c += kMost * kLanes)
    spread_channels<kMost>(values, depth, keys, rows, count, out, c);
  for (; kMost > 4 && c + 4 * kLanes <= depth; c += 4 * kLanes)
    spread_channels<4>(values, depth, keys, rows, count, out, c);
  for (; c + kLanes <= depth; c += kLanes)
    spread_channels<1>(values, depth, keys, rows, count, out, c);
  if (c == depth) return;
  for (int64_t r = 0; r < count; r++)
    for (unsigned m = exceeding(load(rows + r * kLanes), broadcast(0.f)); m; m &= m - 1) {
      const int l = __builtin_ctz(m);
      for (int64_t d = c; d < depth; d++)
        out[l][d] += rows[r * kLanes + l] * values[keys[r] * depth + d];
    }
}

}  // namespace hspan::HSPAN_ISA
