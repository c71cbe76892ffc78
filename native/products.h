// Products of one row with a few rows of a matrix, in the matrix's own precision.
#pragma once

#include "simd.h"

namespace hspan::HSPAN_ISA {

// products[j] = x . rows[indices[j]]
inline void products_with(const float* x, const float* rows, int64_t length,
                          const int32_t* indices, int64_t count, float* products) {
  const int64_t whole = length / kLanes * kLanes;
  for (int64_t j0 = 0; j0 < count; j0 += 4) {
    const float* row[4];
    Lanes sums[4];
#pragma GCC unroll 4
    for (int u = 0; u < 4; u++) {
      row[u] = rows + indices[smaller(j0 + u, count - 1)] * length;
      sums[u] = broadcast(0.f);
      if (j0 + u + 8 < count) prefetch(rows + indices[j0 + u + 8] * length, length * 4);
    }
    for (int64_t c = 0; c < whole; c += kLanes) {
      const Lanes part = load(x + c);
#pragma GCC unroll 4
      for (int u = 0; u < 4; u++) sums[u] = fma(part, load(row[u] + c), sums[u]);
    }
#pragma GCC unroll 4
    for (int u = 0; u < 4; u++) {
      if (j0 + u >= count) break;
      float rest = 0;
      for (int64_t c = whole; c < length; c++) rest += x[c] * row[u][c];
      products[j0 + u] = sum(sums[u]) + rest;
    }
  }
}

inline void products_with(const double* x, const double* rows, int64_t length,
                          const int32_t* indices, int64_t count, double* products) {
  for (int64_t j = 0; j < count; j++) {
    const double* row = rows + indices[j] * length;
    double s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t c = 0; c < length; c++) s += x[c] * row[c];
    products[j] = s;
  }
}

}  // namespace hspan::HSPAN_ISA
