// The forward pass: shares the work out among threads; the work itself is in attend.h.
#include <algorithm>
#include <new>
#include <vector>

#include "dispatch.h"
#include "hspan.h"
#include "image.h"
#include "memory.h"
#include "order.h"
#include "threads.h"

namespace hspan {
namespace {

// Packed keys of an image, with the memory that they live in.
struct KeyStore {
  Buffer<uint32_t> words;
  Buffer<double> mean;
  PackedKeys packed;
  bool finite;
};

constexpr int64_t kBlocksAtOnce = 16;  // of keys, packed in one go by one thread

template <class Real>
KeyStore pack(const Kernels& kernels, const RealKernels<Real>& real, const Image<Real>& image,
              int threads) {
  KeyStore store;
  const int64_t per_word = kernels.channels_per_word, multiple = kernels.word_multiple;
  const int64_t words = (image.channels + per_word - 1) / per_word;
  PackedKeys& keys = store.packed;
  keys.words_per_key = (words + multiple - 1) / multiple * multiple;
  keys.blocks = blocks_of(image.keys);
  store.words = Buffer<uint32_t>(keys.blocks * kLanes * keys.words_per_key);
  store.mean = Buffer<double>(image.channels);
  keys.words = store.words.data();
  keys.mean = store.mean.data();
  std::fill_n(store.mean.data(), image.channels, 0.0);
  real.sum_columns(image.key, image.keys, image.channels, store.mean.data());
  for (int64_t c = 0; c < image.channels; c++)
    store.mean[c] /= static_cast<double>(image.keys);

  double norm = 0, error = 0;
  bool finite = true;
  const int64_t chunks = (keys.blocks + kBlocksAtOnce - 1) / kBlocksAtOnce;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static) \
    reduction(max : norm, error) reduction(&& : finite)
  for (int64_t chunk = 0; chunk < chunks; chunk++) {
    const int64_t first = chunk * kBlocksAtOnce;
    const int64_t last = std::min(first + kBlocksAtOnce, keys.blocks);
    finite = real.pack_keys(image, keys, first, last, &norm, &error) && finite;
  }
  keys.norm = norm;
  keys.error = error;
  store.finite = finite;
  return store;
}

// Owns what a Scratch points to.
class Workspace {
 public:
  Workspace(const PackedKeys& keys, int64_t channels, int tiles, int64_t real_bytes)
      : lanes_(tiles * keys.words_per_key * kLanes),
        errors_(tiles * kLanes),
        maxima_(tiles * keys.blocks * kLanes),
        rows_((keys.blocks * kLanes + 64) * kLanes),
        row_places_(keys.blocks * kLanes + 64),
        hits_(keys.blocks),
        candidates_(keys.blocks * kLanes * kLanes),
        scores_(keys.blocks * kLanes),
        selection_(keys.blocks * kLanes),
        wide_(channels),
        weights_(keys.blocks * kLanes * real_bytes),
        scratch{lanes_.data(),  errors_.data(),     maxima_.data(), rows_.data(),
                row_places_.data(), hits_.data(),   candidates_.data(), scores_.data(),
                selection_.data(),  wide_.data(),   weights_.data(), 0.25f} {}

 private:
  Buffer<uint32_t> lanes_;
  Buffer<double> errors_;
  Buffer<float> maxima_, rows_;
  Buffer<int32_t> row_places_, hits_, candidates_;
  Buffer<double> scores_, selection_, wide_;
  Buffer<char> weights_;

 public:
  Scratch scratch;
};

template <class Real>
int forward(const hspan_call& call, void* out, int64_t* used) {
  const Kernels& kernels = choose(call.level);
  const RealKernels<Real>& real = kernels.of<Real>();
  const Buffer<int32_t> query_order = square_order(call.queries, call.width);
  const Buffer<int32_t> key_order = square_order(call.keys, call.width);

  std::vector<KeyStore> stores;
  for (int64_t b = 0; b < call.batch; b++) {
    const Image<Real> image = image_of<Real>(call, b, query_order.data(), key_order.data());
    stores.push_back(pack(kernels, real, image, call.threads));
    if (!stores.back().finite) return HSPAN_KEYS_NOT_FINITE;
    used[b] = 0;
  }

  // Small images give a thread fewer tiles at a time, lest one thread be left with all the work.
  const int64_t tiles = blocks_of(call.queries);
  const int64_t fair = tiles * call.batch / (4 * static_cast<int64_t>(call.threads));
  const int group = static_cast<int>(
      std::clamp<int64_t>(fair, std::min(3, kernels.tiles_per_group), kernels.tiles_per_group));
  const int64_t groups = (tiles + group - 1) / group;
  std::vector<Workspace> workspaces;
  for (int t = 0; t < call.threads; t++)
    workspaces.emplace_back(stores[0].packed, call.channels, group, sizeof(Real));
#pragma omp parallel for num_threads(call.threads) if (call.threads > 1) schedule(dynamic, 1)
  for (int64_t item = 0; item < call.batch * groups; item++) {
    const int64_t b = item / groups, first = item % groups * group;
    const Image<Real> image = image_of<Real>(call, b, query_order.data(), key_order.data());
    const Support<Real> support = support_of<Real>(call, b, used + b);
    real.attend(image, stores[static_cast<std::size_t>(b)].packed,
                workspaces[static_cast<std::size_t>(thread_index())].scratch, first,
                static_cast<int>(std::min<int64_t>(group, tiles - first)),
                static_cast<Real*>(out) + b * call.queries * call.value_channels,
                static_cast<Real*>(call.limits) + b * call.queries * 2,
                call.capacity ? &support : nullptr);
  }
  return HSPAN_DONE;
}

}  // namespace
}  // namespace hspan

int hspan_forward(const hspan_call* call, void* out, int64_t* used) noexcept {
  try {
    return call->real_bytes == 8 ? hspan::forward<double>(*call, out, used)
                                 : hspan::forward<float>(*call, out, used);
  } catch (const std::bad_alloc&) {
    return HSPAN_OUT_OF_MEMORY;
  }
}
