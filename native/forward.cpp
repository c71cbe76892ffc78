// The forward pass: shares the work out among threads; the work itself is in attend.h.
#include <algorithm>
#include <cmath>
#include <new>
#include <vector>

#include "dispatch.h"
#include "hspan.h"
#include "order.h"
#include "plan.h"
#include "threads.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace hspan {
namespace {

// New memory costs a fault for every page that is touched: let pages be large. Where little memory
// is touched, that would cost more than it saves, since a large page is filled with zeros first.
void prefer_large_pages([[maybe_unused]] void* memory, [[maybe_unused]] int64_t bytes) {
#if defined(__linux__)
  constexpr int64_t kLittle = 16 << 20;
  if (bytes < kLittle) return;
  constexpr uintptr_t kPage = 4096;
  const uintptr_t first = (reinterpret_cast<uintptr_t>(memory) + kPage - 1) / kPage * kPage;
  const uintptr_t last = (reinterpret_cast<uintptr_t>(memory) + static_cast<uintptr_t>(bytes)) / kPage * kPage;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

// Whether every query is so short that all of its scores lie within 1 / M of their mean: the support
// is then everything, and the output has a closed form.
template <class Real>
bool is_flat(const Image<Real>& image, const PackedKeys& keys, bool centred) {
  // No key is farther from the mean than twice the longest one is long.
  const double radius = (centred ? 1 : 2) * (keys.norm + keys.error);
  const double longest = 0.99 / (static_cast<double>(image.keys) * radius);
  for (int64_t i = 0; i < image.queries; i++) {
    const Real* query = image.query + i * image.channels;
    double norm2 = 0;
    for (int64_t c = 0; c < image.channels; c++) norm2 += static_cast<double>(query[c]) * query[c];
    if (!(std::sqrt(norm2) < longest)) return false;
  }
  return true;
}

// Whether the backward pass will find the support of an image faster than it could be kept: it is
// large, and tiles of bf16 scores give it back.
bool is_found_again(const hspan_call& call, const Kernels& kernels, const Hints& hints) {
  constexpr int64_t kFew = 512;  // keys whose weights are soon kept
  return call.tiles >= 0 && call.as_bf16 && !call.topk && kernels.for_pairs.differentiate &&
         hints.dense && call.keys > kFew;
}

// Room for an image's values as matrices, where its weights may become some (dense.h); none in calls
// that aren't bf16 throughout.
Buffer<uint32_t> room_for_values(const hspan_call& call) {
  constexpr int64_t kMost = 32 << 20;  // bytes
  const int64_t words = blocks_of(call.value_channels) * ((call.keys + 31) / 32) * 256;
  if (call.as_bf16 != 2 || call.topk || words * 4 > kMost) return {};
  return Buffer<uint32_t>(words);
}

template <class Real>
int forward(const hspan_call& call, void* out, int64_t* used) {
  const Kernels& kernels = choose(call.level);
  const RealKernels<Real>& real = kernels.of<Real>();
  const Buffer<int32_t> query_order = square_order(call.queries, call.width);
  const Buffer<int32_t> key_order = square_order(call.keys, call.width);

  prefer_large_pages(out, call.batch * call.queries * call.value_channels * call.real_bytes);
  if (call.capacity) {
    prefer_large_pages(call.indices, call.batch * call.capacity * 4);
    prefer_large_pages(call.weights, call.batch * call.capacity * call.real_bytes);
  }

  std::vector<KeyStore> stores;
  for (int64_t b = 0; b < call.batch; b++) {
    const Image<Real> image = image_of<Real>(call, b, query_order.data(), key_order.data());
    stores.push_back(pack(kernels, real, image, !call.as_bf16, call.threads));
    if (!stores.back().finite) return HSPAN_KEYS_NOT_FINITE;
    used[b] = 0;
  }

  bool flat = !call.topk;
  for (int64_t b = 0; b < call.batch && flat; b++)
    flat = is_flat(image_of<Real>(call, b, nullptr, nullptr),
                   stores[static_cast<std::size_t>(b)].packed, !call.as_bf16);
  if (flat) return HSPAN_FLAT;

  int64_t prefix_words = 0;
  for (int64_t b = 0; call.prefix >= 0 && b < call.batch; b++) {
    KeyStore& store = stores[static_cast<std::size_t>(b)];
    add_prefix(kernels, image_of<Real>(call, b, nullptr, key_order.data()), call.prefix > 0,
               call.threads, store);
    if (store.prefix) prefix_words = store.prefix->keys.packed.words_per_key;
  }

  // Small images give a thread fewer tiles at a time, lest one thread be left with all the work.
  const int64_t tiles = blocks_of(call.queries);
  const int64_t fair = tiles * call.batch / (4 * static_cast<int64_t>(call.threads));
  const int group = static_cast<int>(
      std::clamp<int64_t>(fair, std::min(3, kernels.tiles_per_group), kernels.tiles_per_group));
  const int64_t groups = (tiles + group - 1) / group;
  std::vector<Workspace> workspaces;
  for (int t = 0; t < call.threads; t++)
    workspaces.emplace_back(stores[0].packed, image_of<Real>(call, 0, nullptr, nullptr), group,
                            prefix_words);
  Buffer<Hints> hints(call.batch);
  const auto kept = [&](int64_t b) {
    return call.capacity && !is_found_again(call, kernels, hints[b]);
  };
#pragma omp parallel for num_threads(call.threads) if (call.threads > 1) schedule(dynamic, 1)
  for (int64_t b = 0; b < call.batch; b++)
    hints[b] = real.probe(image_of<Real>(call, b, query_order.data(), key_order.data()),
                          stores[static_cast<std::size_t>(b)].packed,
                          workspaces[static_cast<std::size_t>(thread_index())].scratch());
  for (int64_t b = 0; call.capacity && b < call.batch; b++)
    if (is_found_again(call, kernels, hints[b]))
      std::fill_n(call.starts + b * call.queries, call.queries, -1);
  for (int64_t b = 0; real.pack_values && b < call.batch; b++)
    if (hints[b].dense && !kept(b))
      stores[static_cast<std::size_t>(b)].values = room_for_values(call);
#pragma omp parallel for num_threads(call.threads) if (call.threads > 1) schedule(dynamic, 1)
  for (int64_t b = 0; b < call.batch; b++) {
    KeyStore& store = stores[static_cast<std::size_t>(b)];
    uint32_t* values = store.values.data();
    const Image<Real> image = image_of<Real>(call, b, nullptr, key_order.data());
    if (values && real.pack_values(image, values)) store.packed.values = values;
  }
#pragma omp parallel for num_threads(call.threads) if (call.threads > 1) schedule(dynamic, 1)
  for (int64_t item = 0; item < call.batch * groups; item++) {
    const int64_t b = item / groups, first = item % groups * group;
    const Image<Real> image = image_of<Real>(call, b, query_order.data(), key_order.data());
    const Support<Real> support = support_of<Real>(call, b, used + b);
    real.attend(image, stores[static_cast<std::size_t>(b)].packed, hints[b],
                workspaces[static_cast<std::size_t>(thread_index())].scratch(), first,
                static_cast<int>(std::min<int64_t>(group, tiles - first)),
                static_cast<Real*>(out) + b * call.queries * call.value_channels,
                static_cast<Real*>(call.limits) + b * call.queries * 2,
                kept(b) ? &support : nullptr);
  }
  return HSPAN_DONE;
}

}  // namespace
}  // namespace hspan

int hspan_forward(const hspan_call* call, void* out, int64_t* used) {
  try {
    return call->real_bytes == 8 ? hspan::forward<double>(*call, out, used)
                                 : hspan::forward<float>(*call, out, used);
  } catch (const std::bad_alloc&) {
    return HSPAN_OUT_OF_MEMORY;
  }
}
