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
  Parts(const ResidualKernels& kernels, const hspan_residual& call)
      : call_(call), depth_(whole(call.channels, 32)) {
    const int64_t most = std::max<int64_t>(kernels.part_halves / depth_, 64);
    const int64_t side = static_cast<int64_t>(std::sqrt(static_cast<double>(most))) - 2 * kHalo;
    width_ = share(call.width, std::max<int64_t>(side, 4));
    pitch_ = width_ + 2 * kHalo;
    height_ = share(call.height, std::max<int64_t>(most / pitch_ - 2 * kHalo, 4));
    columns_ = (call.width + width_ - 1) / width_;
    rows_ = (call.height + height_ - 1) / height_;
  }

  int64_t count() const { return call_.batch * rows_ * columns_; }
  int64_t depth() const { return depth_; }
  Part largest() const { return {0, 0, height_, width_, pitch_, depth_}; }
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
  // The length, an even one, of as few equal pieces as there can be.
  static int64_t share(int64_t length, int64_t most) {
    const int64_t pieces = (length + most - 1) / most;
    return whole((length + pieces - 1) / pieces, 2);
  }

  const hspan_residual& call_;
  int64_t depth_, width_, height_, pitch_, columns_, rows_;
};

// Owns what a ResidualScratch points to.
class Workspace {
 public:
  Workspace(const ResidualKernels& kernels, const Part& largest, bool backward)
      : places_(largest.places() * largest.depth),
        around_((largest.pitch + kSpare) * largest.depth),
        own_(kernels.own_bytes(largest, backward)) {
    for (std::size_t i = 0; i < (backward ? 4 : 2); i++)
      features_[i] = Buffer<uint16_t>(around_ + places_ + around_);
    scratch_ = {places(0), places(1), places(2), places(3), nullptr, nullptr,
                nullptr,   nullptr,   own_.data()};
    if (!backward) return;
    const int64_t depth = largest.depth, weights = kernels.matrices * depth * depth;
    sums_ = Buffer<float>(2 * (weights + depth));
    std::fill_n(sums_.data(), 2 * (weights + depth), 0.f);
    scratch_.d_first = sums_.data();
    scratch_.d_second = sums_.data() + weights;
    scratch_.d_first_bias = sums_.data() + 2 * weights;
    scratch_.d_second_bias = scratch_.d_first_bias + depth;
  }

  const ResidualScratch& scratch() const { return scratch_; }

 private:
  uint16_t* places(std::size_t i) const {
    return features_[i].data() ? features_[i].data() + around_ : nullptr;
  }

  int64_t places_, around_;
  Buffer<uint16_t> features_[4];
  Buffer<uint8_t> own_;
  Buffer<float> sums_;
  ResidualScratch scratch_;
};

// The weights of both convolutions, packed by all threads.
Buffer<uint16_t> pack(const ResidualKernels& kernels, const hspan_residual& call, int64_t depth,
                      bool turned) {
  const int64_t size = kernels.matrices * depth * depth;
  Buffer<uint16_t> words(2 * size);
#pragma omp parallel for num_threads(call.threads) if (call.threads > 1)
  for (int64_t i = 0; i < 2 * depth; i += kLanes) {
    const float* weights = i < depth ? call.first : call.second;
    kernels.pack_weights(weights, call.channels, depth, turned, i % depth, i % depth + kLanes,
                         words.data() + i / depth * size);
  }
  return words;
}

Buffer<float> fill_up(const float* bias, int64_t channels, int64_t depth) {
  Buffer<float> all(depth);
  std::fill_n(std::copy_n(bias, channels, all.data()), depth - channels, 0.f);
  return all;
}

std::vector<Workspace> workspaces(const ResidualKernels& kernels, const Parts& parts, int threads,
                                  bool backward) {
  const int64_t shares = std::min<int64_t>(threads, parts.count());
  std::vector<Workspace> all;
  for (int64_t s = 0; s < shares; s++) all.emplace_back(kernels, parts.largest(), backward);
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

void forward(const ResidualKernels& kernels, const hspan_residual& call, uint16_t* inner,
             uint16_t* out) {
  const Parts parts(kernels, call);
  const int64_t depth = parts.depth();
  const Buffer<uint16_t> weights = pack(kernels, call, depth, false);
  const Buffer<float> first = fill_up(call.first_bias, call.channels, depth);
  const Buffer<float> second = fill_up(call.second_bias, call.channels, depth);
  const ResidualWeights packed{weights.data(), weights.data() + kernels.matrices * depth * depth,
                               first.data(), second.data()};
  const Features features{call.height, call.width, call.channels};
  const int64_t size = call.height * call.width * call.channels;
  share_out(parts, workspaces(kernels, parts, call.threads, false),
            [&](int64_t index, const ResidualScratch& scratch) {
              const int64_t at = parts.image(index) * size;
              kernels.forward(features, parts.part(index), packed, call.x + at, scratch,
                              inner ? inner + at : nullptr, out + at);
            });
}

// The sums of all threads, as weights [C out, C in, 3, 3].
void put_weights(const ResidualKernels& kernels, const std::vector<Workspace>& workspaces,
                 float* ResidualScratch::*sums, const hspan_residual& call, int64_t depth,
                 float* to) {
  const int64_t size = kernels.matrices * depth * depth;
  float* total = workspaces[0].scratch().*sums;
  for (std::size_t s = 1; s < workspaces.size(); s++) {
    const float* part = workspaces[s].scratch().*sums;
    for (int64_t i = 0; i < size; i++) total[i] += part[i];
  }
#pragma omp parallel for num_threads(call.threads) if (call.threads > 1)
  for (int64_t o = 0; o < call.channels; o += kLanes)
    kernels.unpack_gradients(total, call.channels, depth, o, std::min(o + kLanes, call.channels), to);
}

void put_bias(const std::vector<Workspace>& workspaces, float* ResidualScratch::*sums,
              int64_t channels, float* to) {
  for (int64_t c = 0; c < channels; c++) {
    to[c] = 0;
    for (const Workspace& workspace : workspaces) to[c] += (workspace.scratch().*sums)[c];
  }
}

void backward(const ResidualKernels& kernels, const hspan_residual& call, const uint16_t* inner,
              const uint16_t* grad, uint16_t* d_x, float* d_first, float* d_first_bias,
              float* d_second, float* d_second_bias) {
  const Parts parts(kernels, call);
  const int64_t depth = parts.depth(), channels = call.channels;
  const Buffer<uint16_t> weights = pack(kernels, call, depth, true);
  const ResidualWeights packed{weights.data(), weights.data() + kernels.matrices * depth * depth,
                               nullptr, nullptr};
  const Features features{call.height, call.width, channels};
  const int64_t size = call.height * call.width * channels;
  const std::vector<Workspace> all = workspaces(kernels, parts, call.threads, true);
  share_out(parts, all, [&](int64_t index, const ResidualScratch& scratch) {
    const int64_t at = parts.image(index) * size;
    kernels.backward(features, parts.part(index), packed, call.x + at, inner + at,
                                  grad + at, scratch, d_x + at);
  });
  put_weights(kernels, all, &ResidualScratch::d_first, call, depth, d_first);
  put_weights(kernels, all, &ResidualScratch::d_second, call, depth, d_second);
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
    hspan::forward(hspan::choose(call->level).for_residual, *call, inner, out);
    return HSPAN_DONE;
  } catch (const std::bad_alloc&) {
    return HSPAN_OUT_OF_MEMORY;
  }
}

int hspan_residual_backward(const hspan_residual* call, const uint16_t* inner,
                            const uint16_t* grad, uint16_t* d_x, float* d_first,
                            float* d_first_bias, float* d_second, float* d_second_bias) {
  try {
    hspan::backward(hspan::choose(call->level).for_residual, *call, inner, grad, d_x, d_first, d_first_bias,
                    d_second, d_second_bias);
    return HSPAN_DONE;
  } catch (const std::bad_alloc&) {
    return HSPAN_OUT_OF_MEMORY;
  }
}
