// A residual block, x + conv2(relu(conv1(x))), part by part: all of a part's features stay in the
// second-level cache from one convolution to the next.
#pragma once

#include "convolve.h"

#if defined(HSPAN_AMX)

namespace hspan::HSPAN_ISA {

// The places of a part whose rows [top, bottom) are wanted: all but the first and the last of them,
// so that every neighbour exists.
struct Places {
  int64_t first, last;

  Places(const Part& part, int64_t top, int64_t bottom)
      : first(top * part.pitch + 1), last(bottom * part.pitch - 1) {}
};

inline void residual_forward(const Features& image, const Part& part,
                             const ResidualWeights& weights, const uint16_t* x,
                             const ResidualScratch& scratch, uint16_t* inner, uint16_t* out) {
  const TileUnit unit;
  const int64_t depth = part.depth;
  take_part(image, part, x, scratch.x);

  const Inside inside(image, part);
  const Places around(part, inside.top, inside.bottom);
  const Lanes zero = broadcast(0.f);
  uint16_t* hidden = scratch.inner;
  convolve(part, scratch.x, weights.first, around.first, around.last, Ahead(image, part, inner),
           [&](int64_t p, int64_t c, Lanes sums) {  // max in this order: NaN stays NaN
             store_halves(hidden + p * depth + c, max(zero, sums + load(weights.first_bias + c)));
           });
  clear_outside(part, inside, hidden);
  if (inner) put_part(image, part, hidden, inner);

  const Places within(part, kHalo, part.height + kHalo);
  convolve(part, hidden, weights.second, within.first, within.last, Ahead(image, part, out),
           [&](int64_t p, int64_t c, Lanes sums) {
             uint16_t* to = scratch.x + p * depth + c;
             store_halves(to, load_halves(to) + (sums + load(weights.second_bias + c)));
           });
  put_part(image, part, scratch.x, out);
}

inline void residual_backward(const Features& image, const Part& part,
                              const ResidualWeights& weights, const uint16_t* x,
                              const uint16_t* inner, const uint16_t* grad,
                              const ResidualScratch& scratch, uint16_t* d_x) {
  const TileUnit unit;
  const int64_t depth = part.depth;
  take_part(image, part, inner, scratch.inner);
  take_part(image, part, grad, scratch.grad);

  pair_positions(part, scratch.grad, scratch.pairs);
  turn_positions(part, scratch.inner, scratch.stride, scratch.turned);
  add_weight_gradients(part, scratch.turned, scratch.stride, scratch.pairs, scratch.d_second);
  add_bias_gradients(part, scratch.grad, scratch.d_second_bias);

  const Inside inside(image, part);
  const Places around(part, inside.top, inside.bottom);
  uint16_t* slopes = scratch.d_inner;
  convolve(part, scratch.grad, weights.second, around.first, around.last, Ahead(),
           [&](int64_t p, int64_t c, Lanes sums) {
             const int64_t at = p * depth + c;  // an activation that is NaN lets its gradient through
             store_halves(slopes + at, keep_lanes(members_of(scratch.inner + at), sums));
           });
  clear_outside(part, inside, slopes);

  take_part(image, part, x, scratch.inner);  // the activations have done their work
  pair_positions(part, slopes, scratch.pairs);
  turn_positions(part, scratch.inner, scratch.stride, scratch.turned);
  add_weight_gradients(part, scratch.turned, scratch.stride, scratch.pairs, scratch.d_first);
  add_bias_gradients(part, slopes, scratch.d_first_bias);

  const Places within(part, kHalo, part.height + kHalo);
  convolve(part, slopes, weights.first, within.first, within.last, Ahead(),
           [&](int64_t p, int64_t c, Lanes sums) {
             uint16_t* to = scratch.grad + p * depth + c;
             store_halves(to, load_halves(to) + sums);
           });
  put_part(image, part, scratch.grad, d_x);
}

}  // namespace hspan::HSPAN_ISA

#endif
