// Steps 4 to 7 for queries that look at most of the blocks, in calls that are bf16 throughout: all
// scores, all weights, zeros included, and their product with all values.
//
// So it is in networks that train from scratch. Products of bf16 numbers are exact, and their sums
// in float32 good enough for an output in bf16: nothing is multiplied again. Weights are rounded to
// bf16, as autocast would round them for softmax.
#pragma once

#include "rescore.h"
#include "tiles.h"
#include "value_products.h"

namespace hspan::HSPAN_ISA {

#if defined(HSPAN_PAIRS)

// Copies the rows that exceed the level, less top, perhaps in place; -1 where there are more than fit.
inline int64_t copy_rows(const float* rows, int64_t count, Lanes level, Lanes top, float* to,
                         int64_t room) {
  int64_t copied = 0;
  for (int64_t r = 0; r < count; r += kLanes) {
    if (copied + kLanes > room) return -1;
    unsigned passing = rows_exceeding(rows + r * kLanes, level);
    if (count - r < kLanes) passing &= (1u << (count - r)) - 1;
    for (; passing; passing &= passing - 1, copied++)
      store(to + copied * kLanes, load(rows + (r + __builtin_ctz(passing)) * kLanes) - top);
  }
  return copied;
}

// A tile of queries, tile of the image and t of the scratch. Returns false, and has written
// nothing, where that isn't exact enough or takes too much room.
inline bool attend_dense(const Image<float>& image, const PackedKeys& keys, float gap, int64_t tile,
                         int t, Scratch& scratch, float* out, float* limits) {
  const uint32_t* lanes = scratch.queries.lanes + t * keys.words_per_key * kLanes;
  const int64_t depth = image.value_channels;
  float* rows = scratch.rows;
  const Lanes top = score_all(keys, lanes, rows);
  for (int64_t j = image.keys; j < whole(image.keys, 2 * kLanes); j++)
    store(rows + j * kLanes, broadcast(-__FLT_MAX__));

  const Bounds first = first_bounds(rows, image.keys, top, gap);
  const Lanes low = first.kappa - slack(first.kappa, top);
  float* few = scratch.collected;
  int64_t count = copy_rows(rows, image.keys, low, top, few, scratch.collected_rows);
  if (count < 0) return false;
  // The first bound is a guess: one step more drops most of what it let pass.
  const Lanes zero = broadcast(0.f);
  Lanes kappa = newton_step(few, count, max(low - top, broadcast(-1.f)));
  count = copy_rows(few, count, kappa - slack(kappa, zero), zero, few, count + kLanes);
  float members[kLanes];
  kappa = climb(few, count, kappa, 100, broadcast(-1e-4f) * kappa);
  kappa = last_step(few, count, kappa, members);
  double rounding = 0;
  for (int l = 0; l < kLanes; l++)
    rounding += kRounding * scratch.queries.scales[t * kLanes + l] * members[l] / kLanes;
  if (!(rounding < kNegligibleInHalves)) return false;  // or a query can't be screened

  uint32_t* weights = reinterpret_cast<uint32_t*>(scratch.candidates);
  int32_t* units = scratch.row_places;
  const Lanes level = top + kappa - slack(top + kappa, top);
  const int64_t listed = list_units(rows, image.keys, level, units);
  for (int64_t i = 0; i < listed; i++) {
    const float* from = rows + units[i] * 2 * kUnitPairs * kLanes;
#pragma GCC unroll 4
    for (int p = 0; p < kUnitPairs; p++)
      store_pairs(weights + (i * kUnitPairs + p) * kLanes,
                  max(load(from + 2 * p * kLanes) - top - kappa, zero),
                  max(load(from + (2 * p + 1) * kLanes) - top - kappa, zero));
  }
  multiply_all_values(keys, image.keys, depth, weights, units, listed, scratch.transposed);

  const double none[kLanes] = {};  // nothing is missing from scores of keys that aren't centred
  put_limits(image, tile, top, kappa, none, limits);
  float* outputs[kLanes] = {};
  const int queries = lanes_of(image, tile);
  for (int l = 0; l < queries; l++)
    outputs[l] = out + query_at(image, tile * kLanes + l) * depth;
  transpose_out(scratch.transposed, depth, queries, outputs);
  return true;
}

#else

inline bool attend_dense(const Image<float>&, const PackedKeys&, float, int64_t, int, Scratch&,
                         float*, float*) {
  return false;
}

#endif

inline bool attend_dense(const Image<double>&, const PackedKeys&, float, int64_t, int, Scratch&,
                         double*, double*) {
  return false;
}

}  // namespace hspan::HSPAN_ISA
