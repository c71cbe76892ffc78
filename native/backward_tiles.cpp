#include "backward_tiles.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "plan.h"

namespace hspan {
namespace {

// Keys and values in pairs, with the memory that they live in.
struct PairStore {
  Buffer<uint32_t> words;
  Buffer<float> mean;
  PairedRows rows;
};

PairStore describe_pairs(const PairKernels& pairs, const Image<float>& image) {
  const int64_t value_words = (image.value_channels + 1) / 2;
  PairStore store;
  store.rows = {nullptr,
                nullptr,
                whole((image.channels + 1) / 2, kLanes),
                whole(value_words, kLanes),
                whole(value_words, pairs.word_multiple),
                whole(image.channels, kLanes),
                whole(image.value_channels, kLanes)};
  return store;
}

void fill_pairs(const Kernels& kernels, const Image<float>& image, int threads, PairStore& store) {
  Buffer<double> sums(image.channels);
  std::fill_n(sums.data(), image.channels, 0.0);
  kernels.for_float.sum_columns(image.key, image.keys, image.channels, sums.data());
  store.mean = Buffer<float>(image.channels);
  for (int64_t c = 0; c < image.channels; c++)
    store.mean[c] = static_cast<float>(sums[c] / static_cast<double>(image.keys));
  store.words = Buffer<uint32_t>(image.keys * store.rows.stride());
  store.rows.mean = store.mean.data();
  store.rows.words = store.words.data();
  constexpr int64_t kAtOnce = 256;  // keys that a thread packs in one go
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t first = 0; first < image.keys; first += kAtOnce)
    kernels.for_pairs.pack(image, store.rows, first, std::min(first + kAtOnce, image.keys));
}

// Owns what a PairScratch points to.
class PairWorkspace {
 public:
  PairWorkspace(const PairKernels& pairs, const PairedRows& rows, int64_t keys,
                int64_t words_per_key)
      : tiles_(pairs.tiles_together),
        queries_(pairs.tiles_together, words_per_key),
        seen_(keys + 64),
        row_of_(keys),
        rows_(keys + 64),
        weights_((keys + 64) * tiles_ * kLanes),
        slopes_((keys + 64) * tiles_ * kLanes),
        slope_halves_(64 * tiles_ * kLanes),
        slope_pairs_(tiles_ * 32 * kLanes),
        key_pairs_(32 * 2 * rows.key_words),
        query_rows_(tiles_ * kLanes * rows.stride()),
        query_pairs_(tiles_ * kLanes * rows.stride()),
        grad_lanes_(tiles_ * rows.value_words * kLanes),
        sums_(tiles_ * rows.key_columns * kLanes) {
    scratch_ = {queries_.packed(),
                seen_.data(),
                row_of_.data(),
                rows_.data(),
                weights_.data(),
                slopes_.data(),
                slope_halves_.data(),
                slope_pairs_.data(),
                key_pairs_.data(),
                query_rows_.data(),
                query_pairs_.data(),
                grad_lanes_.data(),
                sums_.data()};
    std::fill_n(seen_.data(), keys + 64, uint8_t{0});
    std::fill_n(weights_.data(), (keys + 64) * tiles_ * kLanes, uint16_t{0});
  }

  PairScratch& scratch() { return scratch_; }

 private:
  int64_t tiles_;
  QueryStore queries_;
  Buffer<uint8_t> seen_;
  Buffer<int32_t> row_of_, rows_;
  Buffer<uint16_t> weights_;
  Buffer<float> slopes_;
  Buffer<uint16_t> slope_halves_;
  Buffer<uint32_t> slope_pairs_, key_pairs_, query_rows_;
  Buffer<uint32_t> query_pairs_, grad_lanes_;
  Buffer<float> sums_;
  PairScratch scratch_;
};

// Weights of zero would not keep a gradient out that isn't finite.
bool all_finite(const float* numbers, int64_t count) {
  float zero = 0;
#pragma omp simd reduction(+ : zero)
  for (int64_t i = 0; i < count; i++) zero += numbers[i] * 0.f;
  return zero == 0;
}

// Whether scores in float32 are good enough to make weights of: their rounding, about this much of
// |query| |key|, has to be far below the weights, the largest of which is -kappa.
bool scores_suffice(const Image<float>& image, const PackedKeys& keys, const float* limits) {
  constexpr double kRounding = 2.4e-7, kNegligible = 1e-4;
  for (int64_t i = 0; i < image.queries; i++) {
    const float* query = image.query + i * image.channels;
    double norm2 = 0;
    for (int64_t c = 0; c < image.channels; c++) norm2 += static_cast<double>(query[c]) * query[c];
    if (kRounding * std::sqrt(norm2) * keys.norm > -kNegligible * limits[2 * i + 1]) return false;
  }
  return true;
}

// Whether tiles are expected to be faster than the support's entries one by one.
//
// Costs in processor cycles, measured on Zen 4 with C + D from 32 to 288 at T/N from 0.3 to 16 %
// (photographs' patches, and a network's features as it starts to train); only their ratios matter.
// Tiles cost what their rows cost, that is the keys that some query of a tile looks at, however few
// of its queries do; entries cost what they number. What six groups of tiles show stands for all.
bool pays(const PairKernels& pairs, const Image<float>& image, const TileWeights& from,
          PairScratch& scratch) {
  constexpr double kRow = 20, kRowChannel = 1.3, kDealt = 6, kScored = 8;
  constexpr double kToken = 65, kTokenChannel = 1.25;  // to pack a query or a key
  constexpr double kEntry = 36, kEntryChannel = 0.33, kFound = 75;
  constexpr int64_t kSamples = 6;
  const int64_t tiles = blocks_of(image.queries);
  const int64_t groups = (tiles + pairs.tiles_together - 1) / pairs.tiles_together;
  const int64_t samples = std::min(groups, kSamples);
  TileCounts seen{0, 0};
  for (int64_t s = 0; s < samples; s++) {
    const int64_t group = groups * (2 * s + 1) / (2 * samples);
    const TileCounts counts = pairs.count(image, from, group * pairs.tiles_together, scratch);
    seen.rows += counts.rows;
    seen.weights += counts.weights;
  }
  const double scale = static_cast<double>(groups) / static_cast<double>(samples);
  const double rows = scale * seen.rows, weights = scale * seen.weights;
  const double channels = static_cast<double>(image.channels + image.value_channels);
  const double tokens = static_cast<double>(image.queries + image.keys);
  const bool kept = from.support.starts;
  // Where the support wasn't kept, tiles look at all keys; so does the search for entries, which
  // then has to deal them out as well.
  const double as_tiles = rows * (kRow + kRowChannel * channels) + weights * (kept ? kDealt : 0) +
                          tokens * (kToken + kTokenChannel * channels) +
                          (kept ? 0 : static_cast<double>(tiles * image.keys) * kScored);
  const double as_entries = weights * (kEntry + kEntryChannel * channels + (kept ? 0 : kFound));
  return as_tiles < as_entries;
}

}  // namespace

bool backward_tiles(const Kernels& kernels, const Image<float>& image,
                    const Support<float>& support, const TiledGradients& gradients, bool always,
                    int threads) {
  const PairKernels& pairs = kernels.for_pairs;
  if (!pairs.differentiate) return false;
  if (!all_finite(gradients.grad, image.queries * image.value_channels)) return false;
  KeyStore keys{};
  if (!support.starts) {
    if (image.topk) return false;  // which of equal scores count isn't known from the limits
    keys = pack(kernels, kernels.for_float, image, false, threads);
    if (!keys.finite || !scores_suffice(image, keys.packed, gradients.limits)) return false;
  }
  const TileWeights from{support, &keys.packed, gradients.limits};

  PairStore store = describe_pairs(pairs, image);
  const int64_t tiles = blocks_of(image.queries);
  const int64_t groups = (tiles + pairs.tiles_together - 1) / pairs.tiles_together;
  // Every share of the queries adds to gradients of its own, which are then added in their order:
  // the same number of shares gives the same bits.
  constexpr int kMostShares = 8;
  const int shares = static_cast<int>(std::min<int64_t>({threads, kMostShares, groups}));
  std::vector<PairWorkspace> workspaces;
  for (int s = 0; s < shares; s++)
    workspaces.emplace_back(pairs, store.rows, image.keys, keys.packed.words_per_key);
  if (!always && !pays(pairs, image, from, workspaces[0].scratch())) return false;

  fill_pairs(kernels, image, threads, store);
  const int64_t columns = store.rows.columns(), size = image.keys * columns;
  const Buffer<float> sums(shares * size);
#pragma omp parallel for num_threads(shares) if (shares > 1) schedule(static, 1)
  for (int s = 0; s < shares; s++) {
    float* to = sums.data() + s * size;
    std::fill_n(to, size, 0.f);
    const auto tile = [&](int64_t share) {
      return std::min(groups * share / shares * pairs.tiles_together, tiles);
    };
    pairs.differentiate(image, store.rows, from, gradients.grad, tile(s), tile(s + 1),
                        workspaces[static_cast<std::size_t>(s)].scratch(), gradients.query, to);
  }
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
  for (int64_t j = 0; j < image.keys; j++) {
    float* first = sums.data() + j * columns;
    for (int s = 1; s < shares; s++)
      for (int64_t c = 0; c < columns; c++) first[c] += sums[s * size + j * columns + c];
    std::copy_n(first, image.channels, gradients.key + j * image.channels);
    std::copy_n(first + store.rows.key_columns, image.value_channels,
                gradients.value + j * image.value_channels);
  }
  return true;
}

}  // namespace hspan
