// The pipeline for a group of query tiles: pack, screen, bound, collect, rescore, threshold, gather.
#pragma once

#include "collect.h"
#include "gather.h"
#include "threshold.h"

namespace hspan::HSPAN_ISA {

// Deals the collected rows out: candidates[l] lists the keys that query l has to look at.
inline void deal(const Collected& found, const int32_t* key_order, int64_t places,
                 Scratch& scratch, int64_t (&counts)[kLanes]) {
  for (int l = 0; l < kLanes; l++) counts[l] = 0;
  for (int64_t r = 0; r < found.count; r++) {
    const int32_t place = scratch.row_places[r];
    const int32_t key = key_order ? key_order[place] : place;
    for (unsigned m = exceeding(load(scratch.rows + r * kLanes), found.level); m; m &= m - 1) {
      const int l = __builtin_ctz(m);
      scratch.candidates[l * places + counts[l]++] = key;
    }
  }
}

template <class Real>
void fill_nan(Real* x, int64_t count) {
  for (int64_t i = 0; i < count; i++) x[i] = static_cast<Real>(__builtin_nan(""));
}

// One query, from its candidates to its output, limits and kept support.
template <class Real>
void finish(const Image<Real>& image, int64_t query, int32_t* candidates, int64_t count,
            double lower, Scratch& scratch, Real* out, Real* limits,
            const Support<Real>* support) {
  rescore(image, query, candidates, count, scratch.wide, scratch.scores);
  const Threshold t = threshold(scratch.scores, count, image.topk, lower, scratch.selection);
  limits[2 * query] = static_cast<Real>(t.top);
  limits[2 * query + 1] = static_cast<Real>(t.kappa);
  const int64_t depth = image.value_channels;
  if (t.top != t.top) {
    fill_nan(out + query * depth, depth);
    if (support) {
      support->starts[query] = 0;
      support->counts[query] = 0;
    }
    return;
  }
  Real* weights = static_cast<Real*>(scratch.weights);
  int64_t kept = 0;
  for (int64_t j = 0; j < count; j++) {
    candidates[kept] = candidates[j];
    weights[kept] = static_cast<Real>(scratch.scores[j]);
    kept += weights[kept] > 0;
  }
  gather(image.value, depth, candidates, weights, kept, false, out + query * depth);
  if (!support) return;
  const int64_t start = __atomic_fetch_add(support->used, kept, __ATOMIC_RELAXED);
  const bool room = start + kept <= support->capacity;
  support->starts[query] = room ? start : 0;
  support->counts[query] = room ? static_cast<int32_t>(kept) : -1;
  if (!room) return;
  __builtin_memcpy(support->indices + start, candidates, static_cast<uint64_t>(kept) * 4);
  __builtin_memcpy(support->weights + start, weights, static_cast<uint64_t>(kept) * sizeof(Real));
}

template <class Real>
void attend(const Image<Real>& image, const PackedKeys& keys, Scratch& scratch, int64_t first,
            int count, Real* out, Real* limits, const Support<Real>* support) {
  const int64_t words = keys.words_per_key, places = keys.blocks * kLanes;
  for (int t = 0; t < count; t++)
    pack_queries(image, keys, first + t, scratch.lanes + t * words * kLanes,
                 scratch.errors + t * kLanes);
  screen(keys, scratch.lanes, count, scratch.maxima);
  for (int t = 0; t < count; t++) {
    const double* errors = scratch.errors + t * kLanes;
    const Collected found =
        collect(keys, image.keys, image.topk, scratch.lanes + t * words * kLanes, errors,
                scratch.maxima + t * keys.blocks * kLanes, scratch);
    int64_t counts[kLanes];
    deal(found, image.key_order, places, scratch, counts);
    float top[kLanes], kappa[kLanes];
    store(top, found.top);
    store(kappa, found.kappa);
    for (int l = 0; l < kLanes; l++) {
      const int64_t place = (first + t) * kLanes + l;
      if (place >= image.queries) break;
      const int64_t query = image.query_order ? image.query_order[place] : place;
      int32_t* candidates = scratch.candidates + l * places;
      // Without all of the support, kappa may be lower than the screen found.
      double lower = image.topk ? -1.0
                                : kappa[l] - top[l] - 2.001 * errors[l] -
                                      1e-6 * (1 + __builtin_fabsf(top[l]));
      if (__builtin_isinf(errors[l])) {  // not screened: every key is a candidate
        lower = -1;
        counts[l] = image.keys;
        for (int64_t j = 0; j < image.keys; j++) candidates[j] = static_cast<int32_t>(j);
      }
      finish(image, query, candidates, counts[l], lower, scratch, out, limits, support);
    }
  }
}

}  // namespace hspan::HSPAN_ISA
