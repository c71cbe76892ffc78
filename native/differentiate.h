// The backward pass on the saved support, Eq. (19): the Jacobian of a query's weights is
// Diag(c) - c c^T / T, with c the indicator of its support and T its size. So, for each query,
//   d_weight_j = grad . value_j,   d_score_j = d_weight_j - mean over the support,
// and everything else is a weighted sum of a few rows: of keys for d_query; of queries for d_key and
// of grad for d_value, once the entries are sorted by key. No sum depends on who computes it.
#pragma once

#include "gather.h"
#include "products.h"

namespace hspan::HSPAN_ISA {

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
