// Attention over short sequences: shares images out among threads; the work itself is in short.h.
#include <algorithm>
#include <new>
#include <vector>

#include "dispatch.h"
#include "hspan.h"
#include "kernels.h"
#include "memory.h"
#include "threads.h"

namespace hspan {
namespace {

// Owns what a ShortScratch points to.
class Workspace {
 public:
  Workspace(const hspan_short& call, bool backward) {
    const int64_t queries = whole(call.queries, 32), keys = whole(call.keys, 32);
    const int64_t channels = whole(call.channels, 32), depth = whole(call.value_channels, 32);
    scratch_ = {};
    scratch_.query = halves(queries * channels);
    scratch_.key = halves(keys * channels);
    scratch_.value = halves(keys * depth);
    scratch_.query_lanes = words(queries * channels / 2);
    scratch_.rows = reinterpret_cast<float*>(words(2 * keys * kLanes));
    scratch_.group = halves(32 * keys);
    if (!backward) {
      scratch_.value_pairs = words(keys * depth / 2);
      return;
    }
    scratch_.grad = halves(queries * depth);
    scratch_.grad_lanes = words(queries * depth / 2);
    scratch_.key_pairs = words(keys * channels / 2);
    scratch_.query_pairs = words(queries * channels / 2);
    scratch_.grad_pairs = words(queries * depth / 2);
    scratch_.slopes = reinterpret_cast<float*>(words(2 * keys * kLanes));
    scratch_.weights = halves(keys * queries);
    scratch_.d_scores = halves(keys * queries);
  }

  const ShortScratch& scratch() const { return scratch_; }

 private:
  uint32_t* words(int64_t count) {
    buffers_.emplace_back(count);
    return buffers_.back().data();
  }
  uint16_t* halves(int64_t count) { return reinterpret_cast<uint16_t*>(words(count / 2)); }

  std::vector<Buffer<uint32_t>> buffers_;
  ShortScratch scratch_;
};

ShortImage image_of(const hspan_short& call, int64_t b) {
  return {call.queries,
          call.keys,
          call.channels,
          call.value_channels,
          call.query + b * call.queries * call.channels,
          call.key + b * call.keys * call.channels,
          call.value + b * call.keys * call.value_channels};
}

// Calls work(image's index, scratch) for all images; returns false where one of them does.
template <class Work>
bool share_out(const hspan_short& call, bool backward, Work work) {
  const int threads = static_cast<int>(std::min<int64_t>(call.threads, call.batch));
  std::vector<Workspace> workspaces;
  for (int t = 0; t < threads; t++) workspaces.emplace_back(call, backward);
  bool done = true;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic, 1) \
    reduction(&& : done)
  for (int64_t b = 0; b < call.batch; b++)
    done = work(b, workspaces[static_cast<std::size_t>(thread_index())].scratch()) && done;
  return done;
}

}  // namespace
}  // namespace hspan

int hspan_short_usable(int level) {
  return hspan_isa_usable(level) && hspan::choose(level).for_short.forward;
}

int hspan_short_forward(const hspan_short* call, uint16_t* out) {
  try {
    const hspan::ShortKernels& kernels = hspan::choose(call->level).for_short;
    const bool done = hspan::share_out(
        *call, false, [&](int64_t b, const hspan::ShortScratch& scratch) {
          return kernels.forward(hspan::image_of(*call, b), scratch,
                                 call->limits + b * call->queries * 2,
                                 out + b * call->queries * call->value_channels);
        });
    return done ? HSPAN_DONE : HSPAN_ELSEWHERE;
  } catch (const std::bad_alloc&) {
    return HSPAN_OUT_OF_MEMORY;
  }
}

int hspan_short_backward(const hspan_short* call, const uint16_t* grad, uint16_t* d_query,
                         uint16_t* d_key, uint16_t* d_value) {
  try {
    const hspan::ShortKernels& kernels = hspan::choose(call->level).for_short;
    const int64_t queries = call->queries, keys = call->keys;
    const bool done = hspan::share_out(
        *call, true, [&](int64_t b, const hspan::ShortScratch& scratch) {
          return kernels.backward(hspan::image_of(*call, b), scratch,
                                  call->limits + b * queries * 2,
                                  grad + b * queries * call->value_channels,
                                  d_query + b * queries * call->channels,
                                  d_key + b * keys * call->channels,
                                  d_value + b * keys * call->value_channels);
        });
    return done ? HSPAN_DONE : HSPAN_ELSEWHERE;
  } catch (const std::bad_alloc&) {
    return HSPAN_OUT_OF_MEMORY;
  }
}
