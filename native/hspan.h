// The C interface, called from Python (src/hspan/ops/_native.py) with plain arrays.
#pragma once

#include <cstdint>

extern "C" {

#define HSPAN_EXPORT __attribute__((visibility("default")))

// Raised with every change of what follows, so that Python never calls a library it doesn't know.
#define HSPAN_ABI_VERSION 6

HSPAN_EXPORT int hspan_abi_version(void);

enum {
  HSPAN_DONE = 0,
  HSPAN_KEYS_NOT_FINITE = 1,  // nothing was computed: another way must be taken
  HSPAN_OUT_OF_MEMORY = 2,
  HSPAN_FLAT = 3,  // nothing was computed: every query attends to every key, in closed form
  HSPAN_ELSEWHERE = 4,  // not exact enough, or not finite: hspan_forward or hspan_backward must do it
};

// A call. Real is float, or double where real_bytes is 8; matrices are contiguous, row by row.
struct hspan_call {
  int64_t batch, queries, keys;      // B, N, M
  int64_t channels, value_channels;  // C, D
  int64_t topk;                      // 0: every key takes part
  int64_t width;                     // of the image whose pixels the tokens are; 0: unknown
  int32_t real_bytes;
  int32_t threads;
  int32_t level;    // instruction set, as numbered by hspan_isa_name; -1: the best
  // 1: query and key hold bf16 numbers, which a bf16 screen needn't round. 2: value as well, and
  // what comes out will be rounded to bf16. Otherwise 0.
  int32_t as_bf16;
  // The backward pass may multiply tiles of queries as matrices, in bf16: 0 where that is faster, 1
  // always, -1 never, as value and grad aren't bf16 numbers. Forward passes then needn't keep large
  // supports.
  int32_t tiles;
  // The forward pass may bound scores by their first 32 principal components before it multiplies
  // them: 0 where that seems to be faster, 1 always, -1 never.
  int32_t prefix;
  const void* query;  // [B, N, C]
  const void* key;    // [B, M, C]
  const void* value;  // [B, M, D]
  void* limits;       // [B, N, 2] largest score, and kappa relative to it
  // The support: starts [B, N] int64, counts [B, N] int32, indices [B, capacity] int32, weights
  // [B, capacity] Real. Capacity 0: not kept.
  int64_t capacity;
  int64_t* starts;
  int32_t* counts;
  int32_t* indices;
  void* weights;
};

// out: [B, N, D]. used: [B] entries that the support has, or would have had with enough capacity.
HSPAN_EXPORT int hspan_forward(const hspan_call* call, void* out, int64_t* used);

// Gradients [B, N, C], [B, M, C], [B, M, D] of the call's inputs, given grad [B, N, D] and what
// hspan_forward left in limits and in the support.
HSPAN_EXPORT int hspan_backward(const hspan_call* call, const void* grad, void* d_query,
                                void* d_key, void* d_value);

// Attention over short sequences, in bf16 throughout and without truncation.
struct hspan_short {
  int64_t batch, queries, keys;
  int64_t channels, value_channels;
  int32_t threads;
  int32_t level;  // as in hspan_call; see hspan_short_usable
  const uint16_t* query;
  const uint16_t* key;
  const uint16_t* value;
  float* limits;  // [B, N, 2]
};

// 1 if that level has such kernels.
HSPAN_EXPORT int hspan_short_usable(int level);

HSPAN_EXPORT int hspan_short_forward(const hspan_short* call, uint16_t* out);

// No sum depends on the number of threads.
HSPAN_EXPORT int hspan_short_backward(const hspan_short* call, const uint16_t* grad,
                                      uint16_t* d_query, uint16_t* d_key, uint16_t* d_value);

// A residual block, x + conv2(relu(conv1(x))), of 3x3 convolutions with zeros around the image.
// Images are bf16, [B, H, W, C] without gaps; weights float32, [C, C, 3, 3]. Sums are in float32.
struct hspan_residual {
  int64_t batch, height, width, channels;
  int32_t threads;
  int32_t level;  // as in hspan_call; see hspan_residual_usable
  const uint16_t* x;
  const float *first, *second;
  const float *first_bias, *second_bias;  // [C]; not read by the backward pass
};

// 1 if that level has such blocks.
HSPAN_EXPORT int hspan_residual_usable(int level);

// inner: what the backward pass needs, [B, H, W, C]; may be null.
HSPAN_EXPORT int hspan_residual_forward(const hspan_residual* call, uint16_t* inner,
                                        uint16_t* out);

// The same bits for the same number of threads.
HSPAN_EXPORT int hspan_residual_backward(const hspan_residual* call, const uint16_t* inner,
                                         const uint16_t* grad, uint16_t* d_x, float* d_first,
                                         float* d_first_bias, float* d_second,
                                         float* d_second_bias);
}
