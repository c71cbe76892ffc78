// Steps 2 to 7 for queries that look at most keys, in float32: all scores, all weights, zeros
// included, and their product with all values.
//
// Nothing is screened and nothing is collected: the rows are the keys. There are more keys and values
// than the caches hold, and fetching them takes as long as multiplying them by a tile of queries
// does; so two tiles share what is fetched.
#pragma once

#include "tiles.h"

namespace hspan::HSPAN_ISA {

constexpr int kTilesInFull = 2;

// Whether that is the cheapest way for a tile, packed as the scratch's first. Cycles as in rescore.h
// and tiles.h, here for Sapphire Rapids, and nearly twice as many where the caches don't hold keys
// and values.
inline bool needs_all(const Image<float>& image, const PackedKeys& packed, const Search& search,
                      Scratch& scratch) {
  constexpr int64_t kNear = 2 << 20;  // bytes of a second-level cache
  const int64_t channels = image.channels, depth = image.value_channels;
  if (!may_truncate(scratch.queries.scales)) return false;
  Collection found{};
  found.margins = Margins(scratch.queries, 0);
  collect_all(found, packed, scratch.queries.lanes, search, scratch);
  finish_collection(found, packed);
  const Candidates all = count_candidates(packed, found, scratch.queries.scales);
  if (!(all.rounding < kNegligible)) return false;
  const double fetched = image.keys * (channels + depth) * 4 > kNear ? 1.7 : 1;
  const double rows = static_cast<double>(found.count), keys = static_cast<double>(image.keys);
  const double gathered = cost_of_weights(all.number, depth) * fetched;
  const double multiplied = cost_of_rows(found.count, depth) * fetched;
  const double wide = static_cast<double>(channels) * fetched;
  const double alone = all.number * kAlone * fetched + gathered;
  const double together = 10 * keys + rows * (kTogether + wide) + smaller(gathered, multiplied);
  const double full = keys * (kTogether + 0.55 * static_cast<double>(channels + depth) * fetched);
  return full < smaller(alone, together);
}
inline bool needs_all(const Image<double>&, const PackedKeys&, const Search&, Scratch&) {
  return false;
}

// From the scores of all keys to weights, in place. Returns false where float32 isn't exact enough.
inline bool weigh(const Image<float>& image, const PackedKeys& keys, float gap, int64_t tile,
                  const double* scales, Scratch& scratch, float* rows, float* limits,
                  double& members) {
  const int64_t count = image.keys;
  const Lanes top = largest(rows, count), zero = broadcast(0.f);
  for (int64_t r = 0; r < count; r++) store(rows + r * kLanes, load(rows + r * kLanes) - top);
  const bool truncates = image.topk && image.topk < count;
  if (truncates)
    keep_largest(image, tile, scratch.row_keys, rows, count, scales, stride_of(keys), scratch);
  // The first guess may lie on either side, a step from it lands below kappa (bound.h).
  Lanes kappa = max(newton_step(rows, count, broadcast(-gap)), broadcast(-1.f));
  float numbers[kLanes];
  kappa = climb(rows, count, kappa, 100, broadcast(-1e-6f) * kappa);
  kappa = last_step(rows, count, kappa, numbers);
  double rounding = 0;
  members = 0;
  for (int l = 0; l < kLanes; l++) {
    members += numbers[l];
    rounding += kRounding * scales[l] * numbers[l] / kLanes;
  }
  if (!(rounding < kNegligible)) return false;
  for (int64_t r = 0; r < count; r++)
    store(rows + r * kLanes, max(load(rows + r * kLanes) - kappa, zero));
  double offsets[kLanes];
  score_mean(image, keys, tile, offsets);
  put_limits(image, tile, top, kappa, offsets, limits);
  return true;
}

// The tiles [tile, tile + tiles) of the image, t ... of the scratch. done[i] is set where that was
// exact enough; where it is false, nothing of a tile has been written.
inline void attend_full(const Image<float>& image, const PackedKeys& keys, float gap, int64_t tile,
                        int tiles, int t, Scratch& scratch, float* out, float* limits,
                        const Support<float>* support, bool* done) {
  constexpr int kKeys = kRegisters == 1 ? 8 : kRegisters == 2 ? 2 : 1;
  const int64_t count = image.keys, depth = image.value_channels;
  float *rows[kTilesInFull], *queries = scratch.transposed;
  // What is missing from a pair is replaced by its other half: computed twice, used once.
  for (int i = 0; i < kTilesInFull; i++) {
    rows[i] = scratch.rows + i * (keys.blocks * kLanes + 64) * kLanes;
    spread_queries(image, tile + smaller(i, tiles - 1), kTilesInFull, queries + i * kLanes);
  }
  const float* mean = mean_of_keys(keys, image.channels, scratch);
  for (int64_t r = 0; r < count; r += kKeys) {
    const float* some[kKeys];
    for (int k = 0; k < kKeys; k++)
      some[k] = image.key + smaller(r + k, count - 1) * image.channels;
    float* to[kTilesInFull];
    for (int i = 0; i < kTilesInFull; i++) to[i] = rows[i] + r * kLanes;
    score_rows(some, mean, queries, image.channels, to);
  }
  for (int64_t r = 0; r < count; r++) scratch.row_keys[r] = static_cast<int32_t>(r);
  float* outputs[kTilesInFull * kLanes];
  int multiplied = 0;  // tiles whose weights and values are multiplied together: the first ones
  for (int i = 0; i < tiles; i++) {
    const double* scales = scratch.queries.scales + (t + i) * kLanes;
    double members;
    done[i] = weigh(image, keys, gap, tile + i, scales, scratch, rows[i], limits, members);
    if (done[i] && multiplied == i && are_full(members, count, depth)) multiplied = i + 1;
  }
  for (int i = 0; i < tiles; i++)
    for (int l = 0; l < kLanes; l++)
      outputs[i * kLanes + l] = l < lanes_of(image, tile + i)
                                    ? out + query_at(image, (tile + i) * kLanes + l) * depth
                                    : scratch.transposed;  // nobody's
  const bool finite = multiply_values(image, scratch.row_keys, rows, count, multiplied, outputs);
  for (int i = 0; i < tiles; i++)
    if (done[i])
      put_out(image, tile + i, scratch.row_keys, rows[i], count, stride_of(keys),
              finite && i < multiplied, outputs + i * kLanes, scratch, support);
}

inline void attend_full(const Image<double>&, const PackedKeys&, float, int64_t, int, int, Scratch&,
                        double*, double*, const Support<double>*, bool*) {}

}  // namespace hspan::HSPAN_ISA
