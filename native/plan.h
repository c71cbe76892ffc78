// What both passes prepare: the keys, packed, and the memory that threads work in.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "image.h"
#include "memory.h"

namespace hspan {

struct PrefixStore;

// Packed keys of an image, with the memory that they live in.
struct KeyStore {
  Buffer<uint32_t> words;
  Buffer<double> mean;
  Buffer<float> norms;  // and errors, of keys and of blocks
  Buffer<uint32_t> values;
  std::unique_ptr<PrefixStore> prefix;
  PackedKeys packed;
  bool finite;
};

template <class Real>
KeyStore pack(const Kernels& kernels, const RealKernels<Real>& real, const Image<Real>& image,
              bool centred, int threads) {
  KeyStore store;
  const int64_t per_word = kernels.channels_per_word, multiple = kernels.word_multiple;
  const int64_t words = std::max<int64_t>(1, (image.channels + per_word - 1) / per_word);
  PackedKeys& keys = store.packed;
  keys.words_per_key = (words + multiple - 1) / multiple * multiple;
  keys.blocks = blocks_of(image.keys);
  store.words = Buffer<uint32_t>(keys.blocks * kLanes * keys.words_per_key);
  store.mean = Buffer<double>(image.channels);
  store.norms = Buffer<float>(keys.blocks * (2 * kLanes + 2));
  keys.norms = store.norms.data();
  keys.errors = keys.norms + keys.blocks * kLanes;
  keys.block_norms = keys.errors + keys.blocks * kLanes;
  keys.block_errors = keys.block_norms + keys.blocks;
  keys.words = store.words.data();
  keys.values = nullptr;
  keys.prefix = nullptr;
  keys.mean = store.mean.data();
  std::fill_n(store.mean.data(), image.channels, 0.0);
  if (centred) {
    real.sum_columns(image.key, image.keys, image.channels, store.mean.data());
    for (int64_t c = 0; c < image.channels; c++)
      // Rounded as it will be subtracted, so that keys are less by just that.
      store.mean[c] = static_cast<Real>(store.mean[c] / static_cast<double>(image.keys));
  }

  constexpr int64_t kBlocksAtOnce = 16;  // packed in one go by one thread
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
  double mean2 = 0;
  for (int64_t c = 0; c < image.channels; c++) mean2 += store.mean[c] * store.mean[c];
  keys.mean_norm = std::sqrt(mean2);
  keys.norm = norm;
  keys.error = error;
  store.finite = finite;
  return store;
}

// The same keys, projected (prefix.h).
struct PrefixStore {
  Buffer<float> basis;
  KeyStore keys;
  Prefix prefix;
};

// Where the bounds of prefixes may pay: fewer channels are soon multiplied, and where more energy than
// that lies beyond 31 directions, hardly a block is ruled out. Unless channels are so many that it
// pays already to multiply no block twice (hardly ever with AMX, by prefix_pays): the bounds then
// tell which blocks to begin with.
constexpr int64_t kLeastPrefixed = 64, kWide = 256;
constexpr float kMostBeyond = 0.08f;

// Gives the keys a prefix; always: although it isn't likely to pay.
inline void add_prefix(const Kernels& kernels, const Image<float>& image, bool always, int threads,
                       KeyStore& store) {
  const int64_t channels = image.channels;
  if (!always && (image.keys < kernels.prefix_pays || channels < kLeastPrefixed ||
                  channels > kernels.most_prefixed))
    return;
  if (!(store.packed.norm > 1e-12 && store.packed.norm < 1e12)) return;
  auto own = std::make_unique<PrefixStore>();
  own->basis = Buffer<float>(channels * kPrefix);
  const Buffer<double> work(channels * (channels + 2 * kPrefix));
  Prefix& prefix = own->prefix;
  const RealKernels<float>& real = kernels.for_float;
  const Basis found = real.find_basis(image, store.packed, own->basis.data(), work.data());
  const bool any = always || channels > kWide;
  if (!(found.beyond <= (any ? 1 : kMostBeyond))) return;  // NaN: not finite
  prefix.basis = own->basis.data();
  prefix.slack = found.slack;
  prefix.always = always;

  const Buffer<float> projected(store.packed.blocks * kLanes * kPrefix);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
  for (int64_t block = 0; block < store.packed.blocks; block++)
    real.project_keys(image, store.packed, prefix, block, projected.data());
  const Image<float> keys{0,       image.keys,       kPrefix, 0,       0,      false,
                          nullptr, projected.data(), nullptr, nullptr, nullptr};
  own->keys = pack(kernels, real, keys, false, threads);
  if (!own->keys.finite) return;
  prefix.keys = own->keys.packed;
  store.prefix = std::move(own);
  store.packed.prefix = &store.prefix->prefix;
}
inline void add_prefix(const Kernels&, const Image<double>&, bool, int, KeyStore&) {}

// Owns what PackedQueries point to.
class QueryStore {
 public:
  QueryStore(int tiles, int64_t words_per_key)
      : lanes_(tiles * words_per_key * kLanes),
        per_norm_(tiles * kLanes),
        per_error_(tiles * kLanes),
        errors_(tiles * kLanes),
        scales_(tiles * kLanes) {}

  PackedQueries packed() const {
    return {lanes_.data(), per_norm_.data(), per_error_.data(), errors_.data(), scales_.data()};
  }

 private:
  Buffer<uint32_t> lanes_;
  Buffer<float> per_norm_, per_error_;
  Buffer<double> errors_, scales_;
};

// Owns what a Scratch points to.
class Workspace {
 public:
  template <class Real>
  Workspace(const PackedKeys& keys, const Image<Real>& image, int tiles, int64_t prefix_words = 0)
      : queries_(tiles, keys.words_per_key),
        prefixes_(tiles, prefix_words),
        projected_(kLanes * kPrefix),
        maxima_(tiles * keys.blocks * kLanes),
        tops_(tiles * kLanes),
        hits_(keys.blocks),
        askers_(keys.blocks),
        collected_(tiles * (capacity_of(keys) + 64) * kLanes),
        collected_places_(tiles * (capacity_of(keys) + 64)),
        rows_(2 * (keys.blocks * kLanes + 64) * kLanes),
        row_places_(keys.blocks * kLanes + 64),
        row_keys_(keys.blocks * kLanes + 64),
        candidates_((keys.blocks + 1) * kLanes * kLanes),
        scores_(keys.blocks * kLanes),
        selection_(keys.blocks * kLanes),
        wide_((image.channels + 7) / 8 * 8 * kLanes),
        weights_((keys.blocks + 1) * kLanes * kLanes * 4),
        mean_(image.channels),
        transposed_(blocks_of(std::max(image.channels, image.value_channels)) * 2 * kLanes *
                    kLanes) {
    scratch_.queries = queries_.packed();
    scratch_.prefixes = prefixes_.packed();
    scratch_.projected = projected_.data();
    scratch_.maxima = maxima_.data();
    scratch_.tops = tops_.data();
    scratch_.hits = hits_.data();
    scratch_.askers = askers_.data();
    scratch_.capacity = capacity_of(keys);
    scratch_.collected = collected_.data();
    scratch_.collected_rows = tiles * (scratch_.capacity + 64);
    scratch_.collected_places = collected_places_.data();
    scratch_.rows = rows_.data();
    scratch_.row_places = row_places_.data();
    scratch_.row_keys = row_keys_.data();
    scratch_.candidates = candidates_.data();
    scratch_.scores = scores_.data();
    scratch_.selection = selection_.data();
    scratch_.wide = wide_.data();
    scratch_.weights = weights_.data();
    scratch_.mean = mean_.data();
    scratch_.transposed = transposed_.data();
  }

  Scratch& scratch() { return scratch_; }

 private:
  // Half of it is in use when a bound is raised; tiles that need more are better off by themselves.
  static int64_t capacity_of(const PackedKeys& keys) {
    return std::min<int64_t>(keys.blocks * kLanes + 128, 1024 + keys.blocks * kLanes / 8);
  }

  QueryStore queries_, prefixes_;
  Buffer<float> projected_;
  Buffer<float> maxima_, tops_;
  Buffer<int32_t> hits_;
  Buffer<uint16_t> askers_;
  Buffer<float> collected_;
  Buffer<int32_t> collected_places_;
  Buffer<float> rows_;
  Buffer<int32_t> row_places_, row_keys_, candidates_;
  Buffer<double> scores_, selection_, wide_;
  Buffer<char> weights_;
  Buffer<float> mean_, transposed_;
  Scratch scratch_;
};

}  // namespace hspan
