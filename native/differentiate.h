// The backward pass on the saved support, Eq. (19): the Jacobian of a query's weights is
// Diag(c) - c c^T / T, with c the indicator of its support and T its size. So, for each query,
//   d_weight_j = grad . value_j,   d_score_j = d_weight_j - mean over the support,
// and everything else is a weighted sum of a few rows: of keys for d_query; of queries for d_key and
// of grad for d_value, once the entries are sorted by key. No sum depends on who computes it.
#pragma once

#include "gather.h"

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

template <class Real>
void differentiate_queries(const Image<Real>& image, const Real* grad,
                           const Support<Real>& support, int64_t first, int64_t last,
                           const int64_t* offsets, Real* d_scores, Real* d_query) {
  for (int64_t place = first; place < last; place++) {
    const int64_t query = image.query_order ? image.query_order[place] : place;
    const int64_t count = support.counts[query];
    const int32_t* keys = support.indices + support.starts[query];
    Real* d = d_scores + offsets[place];
    products_with(grad + query * image.value_channels, image.value, image.value_channels, keys,
                  count, d);
    double sum = 0;
    for (int64_t j = 0; j < count; j++) sum += d[j];
    const Real mean = static_cast<Real>(count ? sum / static_cast<double>(count) : 0);
    for (int64_t j = 0; j < count; j++) d[j] -= mean;
    gather(image.key, image.channels, keys, d, count, false, d_query + query * image.channels);
  }
}

template <class Real>
void differentiate_keys(const Image<Real>& image, const Real* grad, const Columns<Real>& columns,
                        int64_t first, int64_t last, Real* d_key, Real* d_value) {
  for (int64_t place = first; place < last; place++) {
    const int64_t key = image.key_order ? image.key_order[place] : place;
    const int64_t start = columns.starts[key], count = columns.starts[key + 1] - start;
    if (count == 0) continue;
    const int32_t* queries = columns.queries + start;
    gather(image.query, image.channels, queries, columns.d_scores + start, count, true,
           d_key + key * image.channels);
    gather(grad, image.value_channels, queries, columns.weights + start, count, true,
           d_value + key * image.value_channels);
  }
}

}  // namespace hspan::HSPAN_ISA
