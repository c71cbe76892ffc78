// The backward pass: shares the work out among threads; the work itself is in differentiate.h.
#include <algorithm>
#include <new>
#include <vector>

#include "backward_tiles.h"
#include "dispatch.h"
#include "hspan.h"
#include "order.h"
#include "plan.h"
#include "threads.h"

namespace hspan {
namespace {

constexpr int64_t kEntriesAtOnce = 1 << 16;  // of the support: what a core's cache holds

// Entries of the places [first, last) sorted by key; a counting sort that keeps the order of places.
template <class Real>
class SortedByKey {
 public:
  SortedByKey(const Image<Real>& image, const Support<Real>& support, int64_t first, int64_t last,
              const int64_t* offsets, const Real* d_scores, int threads)
      : starts_(image.keys + 1),
        queries_(offsets[last] - offsets[first]),
        weights_(offsets[last] - offsets[first]),
        d_scores_(offsets[last] - offsets[first]) {
    const int64_t keys = image.keys;
    Buffer<int32_t> next(threads * keys);
    const auto query_at = [&](int64_t place) {
      return image.query_order ? image.query_order[place] : static_cast<int32_t>(place);
    };
    const auto share = [&](int t) { return first + (last - first) * t / threads; };
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static, 1)
    for (int t = 0; t < threads; t++) {
      int32_t* counts = next.data() + t * keys;
      std::fill_n(counts, keys, 0);
      for (int64_t place = share(t); place < share(t + 1); place++) {
        const int32_t query = query_at(place);
        const int32_t* indices = support.indices + support.starts[query];
        for (int32_t j = 0; j < support.counts[query]; j++) counts[indices[j]]++;
      }
    }
    int64_t total = 0;
    for (int64_t key = 0; key < keys; key++) {
      starts_[key] = total;
      for (int t = 0; t < threads; t++) {
        const int32_t count = next[t * keys + key];
        next[t * keys + key] = static_cast<int32_t>(total);
        total += count;
      }
    }
    starts_[keys] = total;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static, 1)
    for (int t = 0; t < threads; t++) {
      int32_t* to = next.data() + t * keys;
      for (int64_t place = share(t); place < share(t + 1); place++) {
        const int32_t query = query_at(place);
        const int64_t start = support.starts[query];
        const Real* d = d_scores + offsets[place];
        for (int32_t j = 0; j < support.counts[query]; j++) {
          const int32_t at = to[support.indices[start + j]]++;
          queries_[at] = query;
          weights_[at] = support.weights[start + j];
          d_scores_[at] = d[j];
        }
      }
    }
  }

  Columns<Real> columns() const {
    return {starts_.data(), queries_.data(), weights_.data(), d_scores_.data()};
  }

 private:
  Buffer<int64_t> starts_;
  Buffer<int32_t> queries_;
  Buffer<Real> weights_, d_scores_;
};

template <class Real>
struct Gradients {
  const Real *out, *limits;  // given
  Real *query, *key, *value;
};

// The places [first, last) of an image, whose supports are at hand.
template <class Real>
void differentiate(const RealKernels<Real>& real, const Image<Real>& image,
                   const Support<Real>& support, const Gradients<Real>& gradients, int64_t first,
                   int64_t last, int64_t* offsets, int threads) {
  constexpr int64_t kAtOnce = 64;  // queries or keys that a thread takes in one go
  offsets[first] = 0;
  for (int64_t place = first; place < last; place++)
    offsets[place + 1] =
        offsets[place] + support.counts[image.query_order ? image.query_order[place] : place];
  Buffer<Real> d_scores(offsets[last]);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic, 1)
  for (int64_t place = first; place < last; place += kAtOnce)
    real.differentiate_queries(image, gradients.out, support, place,
                               std::min(place + kAtOnce, last), offsets, d_scores.data(),
                               gradients.query);
  const SortedByKey<Real> sorted(image, support, first, last, offsets, d_scores.data(), threads);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic, 1)
  for (int64_t place = 0; place < image.keys; place += kAtOnce)
    real.differentiate_keys(image, gradients.out, sorted.columns(), place,
                            std::min(place + kAtOnce, image.keys), gradients.key,
                            gradients.value);
}

// Supports of a few queries at a time, found again because there was no room to keep them.
template <class Real>
class Recovered {
 public:
  Recovered(const Kernels& kernels, const RealKernels<Real>& real, const Image<Real>& image,
            bool as_bf16, int threads)
      : real_(real),
        threads_(threads),
        tiles_(kernels.tiles_per_group),
        // Entries of a chunk are counted in 32 bits.
        groups_(std::clamp<int64_t>((int64_t{1} << 30) / (tiles_ * kLanes * image.keys), 1,
                                    threads)),
        capacity_(groups_ * tiles_ * kLanes * image.keys),
        keys_(pack(kernels, real, image, !as_bf16, threads)),
        starts_(image.queries),
        counts_(image.queries),
        indices_(capacity_),
        weights_(capacity_),
        limits_(image.queries * 2) {
    for (int t = 0; t < threads; t++)
      workspaces_.emplace_back(keys_.packed, image, tiles_);
    hints_ = real.probe(image, keys_.packed, workspaces_[0].scratch());
  }

  bool keys_finite() const { return keys_.finite; }
  int64_t places_at_once() const { return groups_ * tiles_ * kLanes; }

  Support<Real> find(Image<Real> image, int64_t first, int64_t last) {
    image.value_channels = 0;  // no output is wanted
    used_ = 0;
    const Support<Real> support{starts_.data(),  counts_.data(), indices_.data(),
                                weights_.data(), capacity_,      &used_};
    const int64_t end = blocks_of(last);
#pragma omp parallel for num_threads(threads_) if (threads_ > 1) schedule(static, 1)
    for (int64_t tile = first / kLanes; tile < end; tile += tiles_)
      real_.attend(image, keys_.packed, hints_,
                   workspaces_[static_cast<std::size_t>(thread_index())].scratch(), tile,
                   static_cast<int>(std::min<int64_t>(tiles_, end - tile)), nullptr,
                   limits_.data(), &support);
    return support;
  }

 private:
  const RealKernels<Real>& real_;
  int threads_, tiles_;
  int64_t groups_, capacity_, used_ = 0;
  KeyStore keys_;
  Hints hints_;
  Buffer<int64_t> starts_;
  Buffer<int32_t> counts_, indices_;
  Buffer<Real> weights_, limits_;
  std::vector<Workspace> workspaces_;
};

// Returns false where supports had to be found again and the keys aren't finite.
template <class Real>
bool backward_image(const Kernels& kernels, const Image<Real>& image,
                    const Support<Real>& support, const Gradients<Real>& gradients,
                    bool as_bf16, int tiles, int threads) {
  const RealKernels<Real>& real = kernels.of<Real>();
  const bool kept = support.starts && std::none_of(support.starts, support.starts + image.queries,
                                                   [](int64_t start) { return start < 0; });
  if constexpr (sizeof(Real) == 4) {
    const TiledGradients tiled{gradients.out, gradients.limits, gradients.query, gradients.key,
                               gradients.value};
    if (tiles >= 0 && backward_tiles(kernels, image, kept ? support : Support<Real>{}, tiled,
                                     tiles > 0, threads))
      return true;
  }
  std::fill_n(gradients.key, image.keys * image.channels, Real{0});
  std::fill_n(gradients.value, image.keys * image.value_channels, Real{0});
  Buffer<int64_t> offsets(image.queries + 1);
  if (kept) {
    for (int64_t first = 0; first < image.queries;) {
      int64_t last = first, entries = 0;
      for (; last < image.queries && entries < kEntriesAtOnce; last++)
        entries += support.counts[image.query_order ? image.query_order[last] : last];
      differentiate(real, image, support, gradients, first, last, offsets.data(), threads);
      first = last;
    }
    return true;
  }
  Recovered<Real> recovered(kernels, real, image, as_bf16, threads);
  if (!recovered.keys_finite()) return false;
  for (int64_t first = 0; first < image.queries; first += recovered.places_at_once()) {
    const int64_t last = std::min(first + recovered.places_at_once(), image.queries);
    differentiate(real, image, recovered.find(image, first, last), gradients, first, last,
                  offsets.data(), threads);
  }
  return true;
}

template <class Real>
int backward(const hspan_call& call, const void* grad, void* d_query, void* d_key, void* d_value) {
  const Kernels& kernels = choose(call.level);
  const Buffer<int32_t> query_order = square_order(call.queries, call.width);
  const Buffer<int32_t> key_order = square_order(call.keys, call.width);
  // Whole images to every thread where there are enough: nothing is shared then.
  const bool outside = call.batch >= call.threads && call.threads > 1;
  const auto differentiate_one = [&](int64_t b) {
    const auto part = [b](void* matrix, int64_t rows, int64_t columns) {
      return static_cast<Real*>(matrix) + b * rows * columns;
    };
    const Gradients<Real> gradients{
        static_cast<const Real*>(grad) + b * call.queries * call.value_channels,
        static_cast<const Real*>(call.limits) + b * call.queries * 2,
        part(d_query, call.queries, call.channels), part(d_key, call.keys, call.channels),
        part(d_value, call.keys, call.value_channels)};
    return backward_image(kernels,
                          image_of<Real>(call, b, query_order.data(), key_order.data()),
                          support_of<Real>(call, b, nullptr), gradients, call.as_bf16, call.tiles,
                          outside ? 1 : call.threads);
  };
  bool failed = false, finite = true;
  // A parallel region within another one, even one of a single thread, would start its threads
  // anew every time: the two ways are kept apart.
  if (!outside) {
    for (int64_t b = 0; b < call.batch; b++) finite = differentiate_one(b) && finite;
    return finite ? HSPAN_DONE : HSPAN_KEYS_NOT_FINITE;
  }
#pragma omp parallel for num_threads(call.threads) schedule(dynamic, 1) \
    reduction(|| : failed) reduction(&& : finite)
  for (int64_t b = 0; b < call.batch; b++) {
    try {
      finite = differentiate_one(b) && finite;
    } catch (const std::bad_alloc&) {
      failed = true;
    }
  }
  return failed ? HSPAN_OUT_OF_MEMORY : finite ? HSPAN_DONE : HSPAN_KEYS_NOT_FINITE;
}

}  // namespace
}  // namespace hspan

int hspan_backward(const hspan_call* call, const void* grad, void* d_query, void* d_key,
                   void* d_value) {
  try {
    return call->real_bytes == 8
               ? hspan::backward<double>(*call, grad, d_query, d_key, d_value)
               : hspan::backward<float>(*call, grad, d_query, d_key, d_value);
  } catch (const std::bad_alloc&) {
    return HSPAN_OUT_OF_MEMORY;
  }
}
