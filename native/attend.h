// The pipeline for a group of query tiles: pack, screen, bound, collect, rescore, threshold, gather.
#pragma once

#include "collect.h"
#include "dense.h"
#include "full.h"
#include "prefix.h"

namespace hspan::HSPAN_ISA {

// Deals the collected rows out: candidates[l] lists the keys that query l has to look at.
inline void deal(const Collection& found, const PackedKeys& keys, int64_t stride,
                 Scratch& scratch, int64_t (&counts)[kLanes]) {
  for (int l = 0; l < kLanes; l++) counts[l] = 0;
  for (int64_t r = 0; r < found.count; r++) {
    const int32_t key = scratch.row_keys[r];
    for (unsigned m = candidates_of(found, keys, r); m; m &= m - 1) {
      const int l = __builtin_ctz(m);
      scratch.candidates[l * stride + counts[l]++] = key;
    }
  }
}

template <class Real>
void fill_nan(Real* x, int64_t count) {
  for (int64_t i = 0; i < count; i++) x[i] = static_cast<Real>(__builtin_nan(""));
}

// So many candidates are sifted in float32 before they are scored in double.
constexpr int64_t kMany = 256;

// One query, from its candidates to its output, limits and support. size: how large its scores can be.
template <class Real>
void finish(const Image<Real>& image, int64_t query, int32_t* candidates, int64_t count,
            double lower, double size, Scratch& scratch, Real* out, Real* limits,
            const Support<Real>* support) {
  // Truncation looks at the order of scores: there, single precision could choose another key.
  const bool truncates = image.topk > 0 && image.topk < count;
  const double rounding = kRounding * size * static_cast<double>(larger<int64_t>(1, count));
  if (sizeof(Real) == 4 && rounding < kNegligible && !truncates) {
    rescore_single(image, query, candidates, count, static_cast<float*>(scratch.weights),
                   scratch.scores);
  } else {
    const double error = sum_error(image.channels) * size;
    if (count >= kMany && !truncates && error < 1)
      count = sift(image, query, candidates, count, lower, error, scratch);
    rescore(image, query, candidates, count, scratch.wide, scratch.scores);
  }
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

// A lower bound of kappa, relative to a largest score that the screen didn't underrate.
HSPAN_INLINE Lanes lowest_kappa(const Collection& found) {
  const Lanes top = found.bounds.top;
  return found.low - top - found.margins.most - slack(found.low, top);
}

// The queries of a tile, each on its own.
template <class Real>
void finish_each(const Image<Real>& image, const PackedKeys& keys, const Collection& found,
                 int64_t tile, int t, Scratch& scratch, Real* out, Real* limits,
                 const Support<Real>* support) {
  const double* errors = scratch.queries.errors + t * kLanes;
  const int64_t stride = stride_of(keys);
  int64_t counts[kLanes];
  deal(found, keys, stride, scratch, counts);
  float lowest[kLanes];
  store(lowest, lowest_kappa(found));
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
    const double scale = scratch.queries.scales[t * kLanes + l];
    // Scores that are all equal: the first ones are as good as any.
    if (image.topk && scale == 0 && sizeof(Real) == 4)  // a double's square may underflow
      counts[l] = smaller(counts[l], image.topk);
    const double size = scale * (1 + keys.mean_norm / keys.norm);
    finish(image, query, candidates, counts[l], lower, size, scratch, out, limits, support);
  }
}

// The queries of a tile, all at once; see tiles.h.
inline void finish_together(const Image<float>& image, const PackedKeys& keys,
                            const Collection& found, int64_t tile, const double* scales,
                            Way way, Scratch& scratch, float* out, float* limits,
                            const Support<float>* support) {
  const int64_t stride = stride_of(keys), depth = image.value_channels;
  float* rows = found.rows;
  int32_t* row_keys = scratch.row_keys;
  float* outputs[kLanes];
  for (int l = 0; l < kLanes; l++) {
    outputs[l] = out + query_at(image, tile * kLanes + l) * depth;
    for (int64_t d = 0; d < depth; d += kLanes) __builtin_prefetch(outputs[l] + d, 1);
  }
  double offsets[kLanes];  // scores less what the rows will hold
  score_mean(image, keys, tile, offsets);
  if (way == Way::kRows) {
    rescore_rows(image, keys, tile, row_keys, found.count, scratch, rows);
  } else if (way == Way::kPairs) {
    float largest[kLanes];
    store(largest, found.bounds.top);
    for (int l = 0; l < kLanes; l++) offsets[l] += largest[l];
    rescore_pairs(image, keys, found, tile, row_keys, offsets, scratch.wide);
  }
  const Lanes top = largest(rows, found.count), zero = broadcast(0.f);
  const Lanes lowest = lowest_kappa(found);
  const bool truncates = image.topk && image.topk < found.count;
  // Scores relative to the largest; rows that only the screen's margin had let pass are dropped.
  const Lanes least = truncates ? broadcast(-__FLT_MAX__) : lowest;
  int64_t count = 0;
  for (int64_t r = 0; r < found.count; r++) {
    const Lanes row = load(rows + r * kLanes) - top;
    store(rows + count * kLanes, row);
    row_keys[count] = row_keys[r];
    count += exceeding(row, least) != 0;
  }
  if (truncates) keep_largest(image, tile, row_keys, rows, count, scales, stride, scratch);
  // Without all of the support, kappa may be lower than the screen found.
  Lanes kappa = truncates ? broadcast(-1.f) : max(lowest, broadcast(-1.f));
  const Lanes enough = broadcast(-1e-6f) * kappa;
  if (!truncates) {  // after a step, few rows are left
    kappa = max(kappa, newton_step(rows, count, kappa) - enough);
    count = keep_rows(rows, row_keys, count, kappa);
  }
  float members[kLanes];
  kappa = last_step(rows, count, climb(rows, count, kappa, 100, enough), members);
  for (int64_t r = 0; r < count; r++)
    store(rows + r * kLanes, max(load(rows + r * kLanes) - kappa, zero));
  put_limits(image, tile, top, kappa, offsets, limits);
  for (int l = lanes_of(image, tile); l < kLanes; l++)
    outputs[l] = scratch.transposed;  // nobody's
  const bool multiplied = are_full(sum(load(members)), count, depth) &&
                          multiply_values(image, row_keys, &rows, count, 1, outputs);
  put_out(image, tile, row_keys, rows, count, stride, multiplied, outputs, scratch, support);
}

// Which keys the rows are.
template <class Real>
void name_keys(const Image<Real>& image, const Collection& found, int32_t* row_keys) {
  for (int64_t r = 0; r < found.count; r++)
    row_keys[r] = image.key_order ? image.key_order[found.places[r]] : found.places[r];
}

// sifts: whether that has been found to help, in the tiles before.
inline bool finish_tile(const Image<float>& image, const PackedKeys& keys, Collection& found,
                        int64_t tile, const double* scales, bool exact, bool& sifts,
                        Scratch& scratch, float* out, float* limits,
                        const Support<float>* support) {
  Candidates all = count_candidates(keys, found, scales);
  Way way = choose_way(image, found, all, scales, exact);
  if (sifts && (way == Way::kAlone || way == Way::kPairs) && should_sift(image, found, all)) {
    const double before = all.number;
    sift_rows(image, keys, tile, scales, found, scratch);
    name_keys(image, found, scratch.row_keys);
    all = count_candidates(keys, found, scales);
    way = choose_way(image, found, all, scales, exact);
    sifts = 2 * all.number < before;  // of keys that are equal, all are left
  }
  if (way == Way::kAlone) return false;
  finish_together(image, keys, found, tile, scales, way, scratch, out, limits, support);
  return true;
}

// Doubles are always finished one by one.
inline bool finish_tile(const Image<double>&, const PackedKeys&, Collection&, int64_t,
                        const double*, bool, bool&, Scratch&, double*, double*,
                        const Support<double>*) {
  return false;
}

template <class Real>
Search search_in(const Image<Real>& image, float gap) {
  return {image.keys, image.topk < image.keys ? image.topk : 0, gap};
}

// Looks at three tiles of an image to learn what the others are probably like. Hints come from the
// image alone, not from whatever a thread did before: the same call gives the same bits.
template <class Real>
Hints probe(const Image<Real>& image, const PackedKeys& keys, Scratch& scratch) {
  const TileUnit unit;
  const Search search = search_in(image, kFirstGap);
  Hints hints{0, 0, false, true, false};
  float left = 0;
  for (int part = 1; part <= 5; part += 2) {
    const int64_t tile = blocks_of(image.queries) * part / 6;
    pack_queries(image, keys, tile, 0, scratch.queries);
    screen(keys, scratch.queries.lanes, 1, scratch.maxima, scratch.tops);
    Collection found{};
    found.margins = Margins(scratch.queries, 0);
    const int64_t hits = begin_collection(found, keys, search, scratch.maxima,
                                          load(scratch.tops), scratch.hits);
    hints.gap += sum(found.bounds.top - found.bounds.kappa) / (3 * kLanes);
    const float share = static_cast<float>(hits) / static_cast<float>(keys.blocks);
    hints.hit_share += share / 3;
    hints.full = hints.full && share >= kScreenPays && needs_all(image, keys, search, scratch);
    if (!keys.prefix) continue;
    pack_prefixes(image, *keys.prefix, tile, 0, scratch);
    left += share_left(keys, found.low, scratch) / 3;
  }
  hints.prefix = keys.prefix && (keys.prefix->always || prefix_pays(keys, hints.hit_share, left));
  hints.gap = larger(1e-6f, 1.5f * hints.gap);
  hints.dense = hints.hit_share >= kScreenPays;
  return hints;
}

// Screens some tiles and collects what passes.
inline void screen_and_collect(const PackedKeys& keys, const Search& search, int count,
                               Scratch& scratch, Collection* tiles) {
  screen(keys, scratch.queries.lanes, count, scratch.maxima, scratch.tops);
  for (int64_t block = 0; block < keys.blocks; block++) scratch.askers[block] = 0;
  for (int t = 0; t < count; t++) {
    give_room(tiles[t], t, scratch);
    const int64_t hits =
        begin_collection(tiles[t], keys, search, scratch.maxima + t * keys.blocks * kLanes,
                         load(scratch.tops + t * kLanes), scratch.hits);
    ask_for(scratch, hits, t);
  }
  collect_blocks(keys, scratch.queries.lanes, search, scratch.askers, tiles);
}

template <class Real>
void attend(const Image<Real>& image, const PackedKeys& keys, const Hints& hints,
            Scratch& scratch, int64_t first, int count, Real* out, Real* limits,
            const Support<Real>* support) {
  const TileUnit unit;
  const Search search = search_in(image, hints.gap);
  bool exact[kTilesPerGroup];
  Collection tiles[kTilesPerGroup];
  for (int t = 0; t < count; t++) {
    exact[t] = pack_queries(image, keys, first + t, t, scratch.queries);
    tiles[t].margins = Margins(scratch.queries, t);
    if (hints.prefix) pack_prefixes(image, *keys.prefix, first + t, t, scratch);
  }
  // Where queries have to look into most blocks, screening only comes on top.
  const bool screened = !hints.dense;
  if (screened && hints.prefix)
    screen_prefixes_and_collect(keys, search, count, scratch, tiles);
  else if (screened)
    screen_and_collect(keys, search, count, scratch, tiles);
  bool done[kTilesPerGroup] = {}, sifts = true;
  if (hints.full && !keys.values)
    for (int t = 0; t < count; t += kTilesInFull)
      attend_full(image, keys, hints.gap, first + t, smaller(kTilesInFull, count - t), t, scratch,
                  out, limits, support, done + t);
  for (int t = 0; t < count; t++) {
    if (done[t]) continue;
    if (keys.values && exact[t] &&
        attend_dense(image, keys, hints.gap, first + t, t, scratch, out, limits))
      continue;
    Collection& found = tiles[t];
    if (!screened || found.overflown)
      collect_all(found, keys, scratch.queries.lanes + t * keys.words_per_key * kLanes, search, scratch);
    else
      raise_bound(found, search);
    finish_collection(found, keys);
    name_keys(image, found, scratch.row_keys);
    const double* scales = scratch.queries.scales + t * kLanes;
    if (!finish_tile(image, keys, found, first + t, scales, exact[t], sifts, scratch, out, limits,
                     support))
      finish_each(image, keys, found, first + t, t, scratch, out, limits, support);
  }
}

}  // namespace hspan::HSPAN_ISA
