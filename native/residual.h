// A residual block, x + conv2(relu(conv1(x))), part by part: all of a part's features stay in the
// second-level cache from one convolution to the next.
#pragma once

#include "convolve.h"
#include "winograd.h"

#if defined(HSPAN_AMX) || defined(HSPAN_WINOGRAD)
#define HSPAN_RESIDUAL

namespace hspan::HSPAN_ISA {

inline void residual_forward(const Features& image, const Part& part,
                             const ResidualWeights& weights, const uint16_t* x,
                             const ResidualScratch& scratch, uint16_t* inner, uint16_t* out) {
  [[maybe_unused]] const ConvolutionUnit unit;
  const int64_t depth = part.depth;
  take_part(image, part, x, scratch.x);

  const Area around = inside(image, part);
  const Lanes zero = broadcast(0.f);
  uint16_t* hidden = scratch.inner;
  convolve(image, part, around, scratch.x, weights.first, scratch.own, inner,
           [&](int64_t p, int64_t c, Lanes sums) {  // max in this order: NaN stays NaN
             store_halves(hidden + p * depth + c, max(zero, sums + load(weights.first_bias + c)));
           });
  clear_outside(part, around, hidden);
  if (inner) put_part(image, part, hidden, inner);

  convolve(image, part, without_halo(part), hidden, weights.second, scratch.own, out,
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
  [[maybe_unused]] const ConvolutionUnit unit;
  const int64_t depth = part.depth;
  take_part(image, part, inner, scratch.inner);
  take_part(image, part, grad, scratch.grad);

  add_weight_gradients(image, part, scratch.inner, scratch.grad, scratch.own, scratch.d_second);
  add_bias_gradients(part, scratch.grad, scratch.d_second_bias);

  const Area around = inside(image, part);
  uint16_t* slopes = scratch.d_inner;
  convolve(image, part, around, scratch.grad, weights.second, scratch.own, nullptr,
           [&](int64_t p, int64_t c, Lanes sums) {
             const int64_t at = p * depth + c;  // an activation that is NaN lets its gradient through
             store_halves(slopes + at, keep_lanes(members_of(scratch.inner + at), sums));
           });
  clear_outside(part, around, slopes);

  take_part(image, part, x, scratch.inner);  // the activations have done their work
  add_weight_gradients(image, part, scratch.inner, slopes, scratch.own, scratch.d_first);
  add_bias_gradients(part, slopes, scratch.d_first_bias);

  convolve(image, part, without_halo(part), slopes, weights.first, scratch.own, nullptr,
           [&](int64_t p, int64_t c, Lanes sums) {
             uint16_t* to = scratch.grad + p * depth + c;
             store_halves(to, load_halves(to) + sums);
           });
  put_part(image, part, scratch.grad, d_x);
}

}  // namespace hspan::HSPAN_ISA

#endif
