// The pipeline for a group of query tiles: pack, screen, bound, collect, rescore, threshold, gather.
#pragma once

#include "collect.h"
#include "gather.h"
#include "threshold.h"
#include "tiles.h"

namespace hspan::HSPAN_ISA {

// Deals the collected rows out: candidates[l] lists the keys that query l has to look at.
inline void deal(const Collected& found, const Margins& margins, const PackedKeys& keys,
                 int64_t stride, Scratch& scratch, int64_t (&counts)[kLanes]) {
  for (int l = 0; l < kLanes; l++) counts[l] = 0;
  for (int64_t r = 0; r < found.count; r++) {
    const int32_t key = scratch.row_keys[r];
    for (unsigned m = candidates_of(found, margins, keys, scratch, r); m; m &= m - 1) {
      const int l = __builtin_ctz(m);
      scratch.candidates[l * stride + counts[l]++] = key;
    }
  }
}

template <class Real>
void fill_nan(Real* x, int64_t count) {
  for (int64_t i = 0; i < count; i++) x[i] = static_cast<Real>(__builtin_nan(""));
}

// Room between the candidates of one query and the next; vectors may be stored past the end.
inline int64_t stride_of(const PackedKeys& keys) { return (keys.blocks + 1) * kLanes; }

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

// One query, from its candidates to its output, limits and support.
// rounding: of its scores in float32, relative to the weights.
template <class Real>
void finish(const Image<Real>& image, int64_t query, int32_t* candidates, int64_t count,
            double lower, double rounding, Scratch& scratch, Real* out, Real* limits,
            const Support<Real>* support) {
  // Truncation looks at the order of scores: there, single precision could choose another key.
  const bool truncates = image.topk > 0 && image.topk < count;
  if (sizeof(Real) == 4 && rounding < kNegligible && !truncates)
    rescore_single(image, query, candidates, count, static_cast<float*>(scratch.weights),
                   scratch.scores);
  else
    rescore(image, query, candidates, count, scratch.wide, scratch.scores);
  const Threshold t = threshold(scratch.scores, count, image.topk, lower, scratch.selection);
  limits[2 * query] = static_cast<Real>(t.top);
  limits[2 * query + 1] = static_cast<Real>(t.kappa);
  Real* weights = static_cast<Real*>(scratch.weights);
  int64_t kept = 0;
  if (t.top != t.top) {
    fill_nan(out + query * image.value_channels, image.value_channels);
  } else {
    for (int64_t j = 0; j < count; j++) {
      candidates[kept] = candidates[j];
      weights[kept] = static_cast<Real>(scratch.scores[j]);
      kept += weights[kept] > 0;
    }
    gather(image.value, image.value_channels, candidates, weights, kept, false,
           out + query * image.value_channels);
  }
  keep(support, query, candidates, weights, kept);
}

// The queries of a tile, each on its own.
template <class Real>
void finish_each(const Image<Real>& image, const PackedKeys& keys, const Collected& found,
                 const Margins& margins, int64_t tile, int t, Scratch& scratch, Real* out,
                 Real* limits, const Support<Real>* support) {
  const double* errors = scratch.errors + t * kLanes;
  const int64_t stride = stride_of(keys);
  int64_t counts[kLanes];
  deal(found, margins, keys, stride, scratch, counts);
  float lowest[kLanes];  // of kappa, relative to a largest score that the screen didn't underrate
  store(lowest, found.low - found.top - margins.most - slack(found.low, found.top));
  for (int l = 0; l < kLanes; l++) {
    const int64_t place = tile * kLanes + l;
    if (place >= image.queries) break;
    const int64_t query = image.query_order ? image.query_order[place] : place;
    int32_t* candidates = scratch.candidates + l * stride;
    // Without all of the support, kappa may be lower than the screen found.
    double lower = image.topk ? -1.0 : lowest[l];
    if (__builtin_isinf(errors[l])) {  // not screened: every key is a candidate
      lower = -1;
      counts[l] = image.keys;
      for (int64_t j = 0; j < image.keys; j++) candidates[j] = static_cast<int32_t>(j);
    }
    const double scale = scratch.scales[t * kLanes + l];
    // Scores that are all equal: the first ones are as good as any.
    if (image.topk && scale == 0 && sizeof(Real) == 4)  // a double's square may underflow
      counts[l] = smaller(counts[l], image.topk);
    const double weight = 1 / static_cast<double>(larger<int64_t>(1, counts[l]));
    const double rounding = kRounding * scale * (1 + keys.mean_norm / keys.norm) / weight;
    finish(image, query, candidates, counts[l], lower, rounding, scratch, out, limits, support);
  }
}

// The queries of a tile, all at once; see tiles.h.
inline void finish_together(const Image<float>& image, const PackedKeys& keys,
                            const Collected& found, const Margins& margins, int64_t tile,
                            const double* scales, bool exact, Scratch& scratch, float* out,
                            float* limits, const Support<float>* support) {
  const int64_t stride = stride_of(keys), depth = image.value_channels;
  float* rows = scratch.rows;
  const int32_t* row_keys = scratch.row_keys;
  if (!exact)
    rescore_together(image, keys, tile, row_keys, found.count, scratch.transposed, rows);
  const Lanes top = largest(rows, found.count), zero = broadcast(0.f);
  for (int64_t r = 0; r < found.count; r++)
    store(rows + r * kLanes, load(rows + r * kLanes) - top);
  const Lanes lowest = found.low - found.top - margins.most - slack(found.low, found.top);
  const bool truncates = image.topk && image.topk < found.count;
  if (truncates) {
    int64_t queries[kLanes];
    float errors[kLanes];
    for (int l = 0; l < kLanes; l++) {
      queries[l] = query_at(image, tile * kLanes + l);
      errors[l] = round_up(sum_error(image.channels) * scales[l] *
                           (1 + (keys.norm > 0 ? 2 * keys.mean_norm / keys.norm : 0)));
    }
    keep_largest(image, queries, row_keys, found.count, errors, stride, scratch);
  }
  // Without all of the support, kappa may be lower than the screen found.
  const Lanes start = truncates ? broadcast(-1.f) : max(lowest, broadcast(-1.f));
  const Lanes near = climb(rows, found.count, start, 100, broadcast(-1e-6f) * start);
  const Lanes kappa = last_step(rows, found.count, near);
  Positive members;
  for (int64_t r = 0; r < found.count; r++) {
    const Lanes weights = load(rows + r * kLanes) - kappa;
    members.add(weights);
    store(rows + r * kLanes, max(weights, zero));
  }
  const bool full = sum(members.numbers()) > kFull * static_cast<float>(found.count) &&
                    multiply_values(image, row_keys, rows, found.count, scratch.transposed);

  int64_t counts[kLanes] = {};
  float* weights = static_cast<float*>(scratch.weights);
  if (!full || support)
    deal_weights(rows, row_keys, found.count, stride, weights, scratch.candidates, counts);
  float tops[kLanes], kappas[kLanes];
  store(tops, top);
  store(kappas, kappa);
  for (int l = 0; l < kLanes; l++) {
    const int64_t place = tile * kLanes + l;
    if (place >= image.queries) break;
    const int64_t query = query_at(image, place);
    // Scores were those of centred keys.
    double offset = 0;
    for (int64_t c = 0; c < image.channels; c++)
      offset += image.query[query * image.channels + c] * keys.mean[c];
    limits[2 * query] = static_cast<float>(tops[l] + offset);
    limits[2 * query + 1] = kappas[l];
    float* to = out + query * depth;
    if (full)
      for (int64_t d = 0; d < depth; d++) to[d] = scratch.transposed[d * kLanes + l];
    else
      gather(image.value, depth, scratch.candidates + l * stride, weights + l * stride, counts[l],
             false, to);
    keep(support, query, scratch.candidates + l * stride, weights + l * stride, counts[l]);
  }
}

inline bool finish_tile(const Image<float>& image, const PackedKeys& keys, const Collected& found,
                        const Margins& margins, int64_t tile, const double* scales, bool exact,
                        Scratch& scratch, float* out, float* limits,
                        const Support<float>* support) {
  if (!pays_together(image, keys, found, margins, scratch, scales, exact)) return false;
  finish_together(image, keys, found, margins, tile, scales, exact, scratch, out, limits,
                  support);
  return true;
}

// Doubles are always finished one by one.
inline bool finish_tile(const Image<double>&, const PackedKeys&, const Collected&, const Margins&,
                        int64_t, const double*, bool, Scratch&, double*, double*,
                        const Support<double>*) {
  return false;
}

// Looks at three tiles of an image to learn what the others are probably like. Hints come from the
// image alone, not from whatever a thread did before: the same call gives the same bits.
template <class Real>
Hints probe(const Image<Real>& image, const PackedKeys& keys, Scratch& scratch) {
  const TileUnit unit;
  const int64_t tiles = blocks_of(image.queries);
  Hints hints{0, 0};
  for (int part = 1; part <= 5; part += 2) {
    scratch.gap = kFirstGap;
    pack_queries(image, keys, tiles * part / 6, 0, scratch);
    screen(keys, scratch.lanes, 1, scratch.maxima);
    const Collected found = collect(keys, image.keys, image.topk, scratch.lanes,
                                    Margins(scratch, 0), scratch.maxima, scratch);
    hints.gap += scratch.gap / 3;
    hints.hit_share += found.hit_share / 3;
  }
  return hints;
}

template <class Real>
void attend(const Image<Real>& image, const PackedKeys& keys, const Hints& hints,
            Scratch& scratch, int64_t first, int count, Real* out, Real* limits,
            const Support<Real>* support) {
  const TileUnit unit;
  const int64_t words = keys.words_per_key;
  bool exact[kTilesPerGroup];
  for (int t = 0; t < count; t++) exact[t] = pack_queries(image, keys, first + t, t, scratch);
  // Where queries have to look into most blocks, screening only comes on top.
  const bool screened = hints.hit_share < kScreenPays;
  if (screened) screen(keys, scratch.lanes, count, scratch.maxima);
  scratch.gap = hints.gap;
  for (int t = 0; t < count; t++) {
    const uint32_t* lanes = scratch.lanes + t * words * kLanes;
    const float* maxima = screened ? scratch.maxima + t * keys.blocks * kLanes : nullptr;
    const Margins margins(scratch, t);
    const Collected found =
        collect(keys, image.keys, image.topk, lanes, margins, maxima, scratch);
    for (int64_t r = 0; r < found.count; r++)
      scratch.row_keys[r] =
          image.key_order ? image.key_order[scratch.row_places[r]] : scratch.row_places[r];
    if (!finish_tile(image, keys, found, margins, first + t, scratch.scales + t * kLanes, exact[t],
                     scratch, out, limits, support))
      finish_each(image, keys, found, margins, first + t, t, scratch, out, limits, support);
  }
}

}  // namespace hspan::HSPAN_ISA
