// Residual blocks: cuts images into parts and shares these out among threads; the work itself is in
// residual.h.
#include <algorithm>
#include <cmath>
#include <new>
#include <vector>

#include "dispatch.h"
#include "hspan.h"
#include "kernels.h"
#include "memory.h"

namespace hspan {
namespace {

// The parts of a batch of images, all of one size but for the last of a row or column.
class Parts {
 public:
  explicit Parts(const hspan_residual& call) : call_(call), depth_(whole(call.channels, 32)) {
    // Some four of them should fit in a core's second-level cache.
    constexpr int64_t kHalves = 200000;
    const int64_t most = std::max<int64_t>(kHalves / depth_, 64);
    const int64_t side = static_cast<int64_t>(std::sqrt(static_cast<double>(most))) - 2 * kHalo;
    width_ = share(call.width, std::max<int64_t>(side, 4));
    pitch_ = whole(width_ + 2 * kHalo, 2);
    height_ = share(call.height, std::max<int64_t>(most / pitch_ - 2 * kHalo, 4));
    columns_ = (call.width + width_ - 1) / width_;
    rows_ = (call.height + height_ - 1) / height_;
  }

  int64_t count() const { return call_.batch * rows_ * columns_; }
  int64_t depth() const { return depth_; }
  int64_t most_places() const { return (height_ + 2 * kHalo) * pitch_; }
  int64_t image(int64_t index) const { return index / (rows_ * columns_); }

  Part part(int64_t index) const {
    const int64_t top = index / columns_ % rows_ * height_, left = index % columns_ * width_;
    return {top,
            left,
            std::min(height_, call_.height - top),
            std::min(width_, call_.width - left),
            pitch_,
            depth_};
  }

 private:
  // The length of as few equal pieces as there can be.
  static int64_t share(int64_t length, int64_t most) {
    const int64_t pieces = (length + most - 1) / most;
    return (length + pieces - 1) / pieces;
  }

  const hspan_residual& call_;
  int64_t depth_, width_, height_, pitch_, columns_, rows_;
};

// Owns what a ResidualScratch points to.
class Workspace {
 public:
  Workspace(const Parts& parts, bool backward)
      : depth_(parts.depth()),
        places_((parts.most_places() + kSpare) * depth_),
        // Rows that lie a multiple of 4 KiB apart would share their places in the first cache.
        stride_(whole(parts.most_places() + kSpare, 64) + 32),
        x_(places_),
        inner_(places_) {
    scratch_ = {};
    scratch_.x = x_.data();
    scratch_.inner = inner_.data();
    if (!backward) return;
    const int64_t weights = kTaps * depth_ * depth_;
    grad_ = Buffer<uint16_t>(places_);
    d_inner_ = Buffer<uint16_t>(places_);
    pairs_ = Buffer<uint32_t>(places_ / 2);
    turned_ = Buffer<uint16_t>(depth_ * stride_);
    sums_ = Buffer<float>(2 * (weights + depth_));
    std::fill_n(sums_.data(), 2 * (weights + depth_), 0.f);
    scratch_.grad = grad_.data();
    scratch_.d_inner = d_inner_.data();
    scratch_.pairs = pairs_.data();
    scratch_.turned = turned_.data();
    scratch_.stride = stride_;
    scratch_.d_first = sums_.data();
    scratch_.d_second = sums_.data() + weights;
    scratch_.d_first_bias = sums_.data() + 2 * weights;
    scratch_.d_second_bias = scratch_.d_first_bias + depth_;
  }

  const ResidualScratch& scratch() const { return scratch_; }

 private:
  int64_t depth_, places_, stride_;
  Buffer<uint16_t> x_, inner_, grad_, d_inner_, turned_;
  Buffer<uint32_t> pairs_;
  Buffer<float> sums_;
  ResidualScratch scratch_;
};

// The weights of both convolutions, packed by all threads.
Buffer<uint16_t> pack(const Kernels& kernels, const hspan_residual& call, int64_t depth,
                      bool turned) {
  const int64_t size = kTaps * depth * depth;
  Buffer<uint16_t> words(2 * size);
#pragma omp parallel for num_threads(call.threads) if (call.threads > 1)
  for (int64_t i = 0; i < 2 * depth; i += 8) {
    const float* weights = i < depth ? call.first : call.second;
    kernels.for_residual.pack_weights(weights, call.channels, depth, turned, i % depth,
                                      i % depth + 8, words.data() + i / depth * size);
  }
  return words;
}

Buffer<float> fill_up(const float* bias, int64_t channels, int64_t depth) {
  Buffer<float> all(depth);
  std::fill_n(std::copy_n(bias, channels, all.data()), depth - channels, 0.f);
  return all;
}

std::vector<Workspace> workspaces(const Parts& parts, int threads, bool backward) {
  const int64_t shares = std::min<int64_t>(threads, parts.count());
  std::vector<Workspace> all;
  for (int64_t s = 0; s < shares; s++) all.emplace_back(parts, backward);
  return all;
}

// Calls work(part's index, scratch) for all parts; each thread has its share of them, in order.
template <class Work>
void share_out(const Parts& parts, const std::vector<Workspace>& workspaces, Work work) {
  const int64_t shares = static_cast<int64_t>(workspaces.size());
#pragma omp parallel for num_threads(static_cast<int>(shares)) if (shares > 1) schedule(static, 1)
  for (int64_t s = 0; s < shares; s++)
    for (int64_t i = parts.count() * s / shares; i < parts.count() * (s + 1) / shares; i++)
      work(i, workspaces[static_cast<std::size_t>(s)].scratch());
}

void forward(const Kernels& kernels, const hspan_residual& call, uint16_t* inner, uint16_t* out) {
  const Parts parts(call);
  const Buffer<uint16_t> weights = pack(kernels, call, parts.depth(), false);
  const Buffer<float> first = fill_up(call.first_bias, call.channels, parts.depth());
  const Buffer<float> second = fill_up(call.second_bias, call.channels, parts.depth());
  const ResidualWeights packed{weights.data(), weights.data() + kTaps * parts.depth() * parts.depth(),
                               first.data(), second.data()};
  const Features features{call.height, call.width, call.channels};
  const int64_t size = call.height * call.width * call.channels;
  share_out(parts, workspaces(parts, call.threads, false),
            [&](int64_t index, const ResidualScratch& scratch) {
              const int64_t at = parts.image(index) * size;
              kernels.for_residual.forward(features, parts.part(index), packed, call.x + at,
                                           scratch, inner ? inner + at : nullptr, out + at);
            });
}

// sums [taps, depth in, depth out] of all threads, as weights [C out, C in, 3, 3].
void put_weights(const std::vector<Workspace>& workspaces, float* ResidualScratch::*sums,
                 int64_t channels, int64_t depth, int threads, float* to) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t o = 0; o < channels; o++)
    for (int64_t i = 0; i < channels; i++)
      for (int64_t t = 0; t < kTaps; t++) {
        float total = 0;
        for (const Workspace& workspace : workspaces)
          total += (workspace.scratch().*sums)[(t * depth + i) * depth + o];
        to[(o * channels + i) * kTaps + t] = total;
      }
}

void put_bias(const std::vector<Workspace>& workspaces, float* ResidualScratch::*sums,
              int64_t channels, float* to) {
  for (int64_t c = 0; c < channels; c++) {
    to[c] = 0;
    for (const Workspace& workspace : workspaces) to[c] += (workspace.scratch().*sums)[c];
  }
}

void backward(const Kernels& kernels, const hspan_residual& call, const uint16_t* inner,
              const uint16_t* grad, uint16_t* d_x, float* d_first, float* d_first_bias,
              float* d_second, float* d_second_bias) {
  const Parts parts(call);
  const int64_t depth = parts.depth(), channels = call.channels;
  const Buffer<uint16_t> weights = pack(kernels, call, depth, true);
  const ResidualWeights packed{weights.data(), weights.data() + kTaps * depth * depth, nullptr,
                               nullptr};
  const Features features{call.height, call.width, channels};
  const int64_t size = call.height * call.width * channels;
  const std::vector<Workspace> all = workspaces(parts, call.threads, true);
  share_out(parts, all, [&](int64_t index, const ResidualScratch& scratch) {
    const int64_t at = parts.image(index) * size;
    kernels.for_residual.backward(features, parts.part(index), packed, call.x + at, inner + at,
                                  grad + at, scratch, d_x + at);
  });
  put_weights(all, &ResidualScratch::d_first, channels, depth, call.threads, d_first);
  put_weights(all, &ResidualScratch::d_second, channels, depth, call.threads, d_second);
  put_bias(all, &ResidualScratch::d_first_bias, channels, d_first_bias);
  put_bias(all, &ResidualScratch::d_second_bias, channels, d_second_bias);
}

}  // namespace
}  // namespace hspan

int hspan_residual_usable(int level) {
  return hspan_isa_usable(level) && hspan::choose(level).for_residual.forward;
}

int hspan_residual_forward(const hspan_residual* call, uint16_t* inner, uint16_t* out) {
  try {
    hspan::forward(hspan::choose(call->level), *call, inner, out);
    return HSPAN_DONE;
  } catch (const std::bad_alloc&) {
    return HSPAN_OUT_OF_MEMORY;
  }
}

int hspan_residual_backward(const hspan_residual* call, const uint16_t* inner,
                            const uint16_t* grad, uint16_t* d_x, float* d_first,
                            float* d_first_bias, float* d_second, float* d_second_bias) {
  try {
    hspan::backward(hspan::choose(call->level), *call, inner, grad, d_x, d_first, d_first_bias,
                    d_second, d_second_bias);
    return HSPAN_DONE;
  } catch (const std::bad_alloc&) {
    return HSPAN_OUT_OF_MEMORY;
  }
}
