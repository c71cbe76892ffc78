// Views of one image of a call.
#pragma once

#include "hspan.h"
#include "kernels.h"

namespace hspan {

template <class Real>
Image<Real> image_of(const hspan_call& call, int64_t b, const int32_t* query_order,
                     const int32_t* key_order) {
  const auto part = [b](const void* matrix, int64_t rows, int64_t columns) {
    return static_cast<const Real*>(matrix) + b * rows * columns;
  };
  return {call.queries,
          call.keys,
          call.channels,
          call.value_channels,
          call.topk,
          call.as_bf16 == 2,
          part(call.query, call.queries, call.channels),
          part(call.key, call.keys, call.channels),
          part(call.value, call.keys, call.value_channels),
          query_order,
          key_order};
}

template <class Real>
Support<Real> support_of(const hspan_call& call, int64_t b, int64_t* used) {
  if (!call.capacity) return {};
  return {call.starts + b * call.queries,    call.counts + b * call.queries,
          call.indices + b * call.capacity,  static_cast<Real*>(call.weights) + b * call.capacity,
          call.capacity,                     used};
}

}  // namespace hspan
