// What the drivers (forward.cpp, backward.cpp) ask of the code that exists once per instruction set.
//
// Shapes: N queries, M keys, C channels of query and key, D channels of value. Work comes in tiles
// of 16 queries, one to a vector lane, against blocks of 16 keys. Real is float or double.
#pragma once

#include <cstdint>

namespace hspan {

constexpr int kLanes = 16;

constexpr int64_t blocks_of(int64_t rows) { return (rows + kLanes - 1) / kLanes; }

constexpr int64_t whole(int64_t count, int64_t multiple) {
  return (count + multiple - 1) / multiple * multiple;
}

// One image of a call; all matrices are contiguous, row by row.
template <class Real>
struct Image {
  int64_t queries, keys;             // N, M
  int64_t channels, value_channels;  // C, D
  int64_t topk;                      // 0: every key takes part
  bool halves;                       // all of it is bf16: digits beyond float32's are wasted on it
  const Real* query;                 // [N, C]
  const Real* key;                   // [M, C]
  const Real* value;                 // [M, D]
  const int32_t* query_order;        // [N] the query at each place of a tile; null: as they come
  const int32_t* key_order;          // [M]
};

// The keys as the screen reads them: centred, rounded to the screen's precision, in blocks of 16.
// Sparsemax doesn't change when a query's scores all move by the same amount, so the keys' mean is
// free to go; what is left is shorter, and so is the rounding error of its bf16 form.
struct PackedKeys {
  uint32_t* words;        // blocks x W x 16 words of 4 bytes, laid out by the instruction set
  int64_t blocks;         // the last block is filled up with copies of the last key
  int64_t words_per_key;  // W
  const double* mean;     // [C] in the precision of the keys
  double mean_norm;
  float* norms;           // [blocks, 16] of the packed keys, rounded up
  float* errors;          // [blocks, 16] norms of centred key - packed key, rounded up
  float* block_norms;     // [blocks] the largest of a block
  float* block_errors;    // [blocks]
  double norm;            // the largest of all
  double error;
  const uint32_t* values; // the values, for dense.h; null where no tile goes that way
  const struct Prefix* prefix;  // what prefix.h screens first; null where nothing is to be won
};

// The same keys as 32 numbers each, and what turns queries into such: see prefix.h.
struct Prefix {
  PackedKeys keys;
  const float* basis;  // [C, 32], the last column zero
  float slack;         // of squared norms, for all that rounding can have done
  bool always;         // taken although it doesn't seem to pay
};

constexpr int kPrefix = 32;

// The supports of an image's queries, kept for the backward pass: 4 + sizeof(Real) bytes a weight.
template <class Real>
struct Support {
  int64_t* starts;   // [N] where a query's entries begin; -1: there was no room for them
  int32_t* counts;   // [N] how many there are, kept or not
  int32_t* indices;  // keys
  Real* weights;     // positive
  int64_t capacity;
  int64_t* used;     // entries asked for so far, by all threads
};

// The same entries, sorted by key: which queries look at a key.
template <class Real>
struct Columns {
  const int64_t* starts;   // [M + 1]
  const int32_t* queries;  // in the order of their places, so that sums have one order
  const Real* weights;
  const Real* d_scores;
};

// Tiles of queries as the screen reads them.
struct PackedQueries {
  uint32_t* lanes;   // [tiles, W, 16]
  float* per_norm;   // [tiles, 16] |score - packed score| is at most
  float* per_error;  // [tiles, 16]   per_norm * key's norm + per_error * key's error
  double* errors;    // [tiles, 16] and this, for any key; infinite: can't be screened
  double* scales;    // [tiles, 16] how large a score can be
};

// What one thread works in.
struct Scratch {
  PackedQueries queries;
  PackedQueries prefixes;  // of the same queries
  float* projected;        // [16, 32] one tile of these
  float* maxima;        // [tiles, blocks, 16] largest packed score of every block
  float* tops;          // [tiles, 16] largest packed score of all
  int32_t* hits;        // [blocks] blocks with a key that may matter
  uint16_t* askers;     // [blocks] for which tiles, a bit each
  int64_t capacity;     // of what a screened tile collects
  float* collected;     // [tiles, capacity + 64, 16] packed scores
  int64_t collected_rows;     // of all tiles together
  int32_t* collected_places;  // [tiles, capacity + 64] where their keys stand in the blocks
  float* rows;          // [2, places + 64, 16] the same for tiles by themselves, with any number of keys
  int32_t* row_places;  // [places + 64]
  int32_t* row_keys;    // [places + 64] which keys these are
  int32_t* candidates;  // [16, places + 16] keys that may be in the support, query by query
  double* scores;       // [places]
  double* selection;    // [places]
  double* wide;         // [16, C rounded up to 8] queries
  void* weights;        // [places] Real, or [16, places + 16] float
  float* mean;          // [C] of the keys
  float* transposed;    // [max(C, D) rounded up to 16, 2, 16]
};

// What an image's tiles are probably like.
struct Hints {
  float gap;        // how far kappa tends to lie below the largest score: Newton's first guess
  float hit_share;  // how many of the blocks hold candidates of a tile
  bool dense;       // so many that screening doesn't pay
  bool full;        // and most keys are scored in float32 anyway
  bool prefix;      // a prefix rules out so many blocks that it pays
};

struct Basis {
  float slack;   // as in Prefix
  float beyond;  // the share of energy that it leaves to the thirty-second number
};

template <class Real>
struct RealKernels {
  void (*sum_columns)(const Real* matrix, int64_t rows, int64_t columns, double* sums);
  // Packs the blocks [first, last) and raises norm and error; false: a key isn't finite.
  bool (*pack_keys)(const Image<Real>&, const PackedKeys&, int64_t first, int64_t last,
                    double* norm, double* error);
  // The values for dense.h; false where they can't be taken. Null: there is no such way.
  bool (*pack_values)(const Image<Real>&, uint32_t* words);
  // Fills the basis of a prefix; work: C (C + 64).
  Basis (*find_basis)(const Image<Real>&, const PackedKeys&, float* basis, double* work);
  // The keys of a block, to projected[keys, 32].
  void (*project_keys)(const Image<Real>&, const PackedKeys&, const Prefix&, int64_t block,
                       float* projected);
  Hints (*probe)(const Image<Real>&, const PackedKeys&, Scratch&);
  // The attention of the queries in the tiles [first, first + count).
  // limits: [N, 2] the largest score and kappa relative to it; support: null if nobody asks.
  void (*attend)(const Image<Real>&, const PackedKeys&, const Hints&, Scratch&, int64_t first,
                 int count, Real* out, Real* limits, const Support<Real>* support);
  // Gradients of the scores and of the queries at the places [first, last).
  void (*differentiate_queries)(const Image<Real>&, const Real* grad, const Support<Real>&,
                                int64_t first, int64_t last, const int64_t* offsets,
                                Real* d_scores, Real* d_query);
  // Adds the gradients of the keys [first, last) and of their values.
  void (*differentiate_keys)(const Image<Real>&, const Real* grad, const Columns<Real>&,
                             int64_t first, int64_t last, Real* d_key, Real* d_value);
};

// Keys, centred, and values of an image in bf16, two neighbouring channels to a word, row by row. What
// keys share adds nothing to a gradient: those of a query's scores sum to zero.
struct PairedRows {
  uint32_t* words;                      // [M, stride()], keys first
  const float* mean;                    // [C] of the keys
  int64_t key_words, value_words;       // a row's, with zeros up to a multiple of 16
  int64_t product_words;                // how many of the values' products have to go through
  int64_t key_columns, value_columns;   // of their gradients: channels, rounded up to 16

  int64_t stride() const { return key_words + value_words; }
  int64_t columns() const { return key_columns + value_columns; }
};

// Where the backward pass in tiles has its weights from: the support, or, where that is empty, the
// scores of all keys.
struct TileWeights {
  Support<float> support;
  const PackedKeys* keys;
  const float* limits;  // [N, 2] of the forward pass; needed either way
};

// What one thread works in when it differentiates tiles. T of them are taken together; R = M + 64.
struct PairScratch {
  PackedQueries queries;
  uint8_t* seen;           // [M + 64] zeros between tiles
  int32_t* row_of;         // [M]
  int32_t* rows;           // [R] keys that some query of the tiles looks at
  uint16_t* weights;       // [R, T, 16] in bf16; zeros between tiles
  float* slopes;           // [R, T, 16] their gradients
  uint16_t* slope_halves;  // [64, T, 16] gradients of the scores, in bf16
  uint32_t* slope_pairs;   // [T, 32, 16] the same in pairs of keys
  uint32_t* key_pairs;     // [32, 2 key_words] these keys
  uint32_t* query_rows;    // [T, 16, stride] queries and gradients of the output
  uint32_t* query_pairs;   // [T * 8, 2 stride] the same in pairs of queries
  uint32_t* grad_lanes;    // [T, value_words, 16] gradients of the output, word by word
  float* sums;             // [T, key_columns, 16]
};

struct TileCounts {
  double rows, weights;
};

// The backward pass in bf16 with sums in float32; null where the processor has no such products.
struct PairKernels {
  int tiles_together;
  int word_multiple;  // of PairedRows::product_words
  void (*pack)(const Image<float>&, const PairedRows&, int64_t first, int64_t last);
  // How many keys the queries of one group of tiles look at, and with how many weights.
  TileCounts (*count)(const Image<float>&, const TileWeights&, int64_t tile, PairScratch&);
  // The tiles [first, last): writes their gradients of queries and adds to those of keys and values,
  // to [M, columns()].
  void (*differentiate)(const Image<float>&, const PairedRows&, const TileWeights&,
                        const float* grad, int64_t first, int64_t last, PairScratch&,
                        float* d_query, float* to);
};

// Images of features in bf16, [H, W, C].
struct Features {
  int64_t height, width, channels;
};

constexpr int kTaps = 9;        // of a 3x3 convolution
constexpr int64_t kHalo = 2;    // a second convolution needs what the first one makes of a halo
constexpr int64_t kSpare = 64;  // places around a part that may be read, for nothing

// A part of an image, taken with its halo: rows of pitch places, an even number, of depth channels,
// a multiple of 32. It begins at an even row and column of the image.
struct Part {
  int64_t top, left, height, width;
  int64_t pitch, depth;

  int64_t places() const { return (height + 2 * kHalo) * pitch; }
};

// Of a residual block, x + conv2(relu(conv1(x))). Weights are packed, for the backward pass turned.
struct ResidualWeights {
  const uint16_t *first, *second;
  const float *first_bias, *second_bias;  // [depth]; null in the backward pass
};

// What one thread works in. Places: [places(), depth] of the largest part, and on both sides of them a
// row and kSpare places that may be read.
struct ResidualScratch {
  uint16_t *x, *inner, *grad, *d_inner;  // places; the last two only for the backward pass, as
  float *d_first, *d_second;             // [matrices, depth, depth] sums over what the thread has done
  float *d_first_bias, *d_second_bias;   // [depth]
  void* own;                             // what own_bytes asked for
};

// 3x3 convolutions in bf16 with sums in float32; null where the processor multiplies no pairs.
struct ResidualKernels {
  // Of channels in by channels out, that a convolution multiplies by: its taps, or what they become.
  int matrices;
  int64_t part_halves;  // of a part with its halo, at most, about
  int64_t (*own_bytes)(const Part& largest, bool backward);
  // Weights [C out, C in, 3, 3], or gradients of them, to and from those matrices; for the backward
  // pass turned, so that they map gradients of the output to gradients of the input. Only the
  // channels [first, last) that go out: of [0, depth), in sixteens, and of [0, channels).
  void (*pack_weights)(const float* weights, int64_t channels, int64_t depth, bool turned,
                       int64_t first, int64_t last, uint16_t* matrices);
  void (*unpack_gradients)(const float* matrices, int64_t channels, int64_t depth, int64_t first,
                           int64_t last, float* d_weights);
  // inner: the activations between the convolutions, [H, W, C]; null if nobody asks.
  void (*forward)(const Features&, const Part&, const ResidualWeights&, const uint16_t* x,
                  const ResidualScratch&, uint16_t* inner, uint16_t* out);
  void (*backward)(const Features&, const Part&, const ResidualWeights&, const uint16_t* x,
                   const uint16_t* inner, const uint16_t* grad, const ResidualScratch&,
                   uint16_t* d_x);
};

// One image of a call on short sequences, in bf16.
struct ShortImage {
  int64_t queries, keys, channels, value_channels;
  const uint16_t *query, *key, *value;
};

// What one thread works in; N, M, C and D here are multiples of 32. From grad on, only for the
// backward pass; value_pairs only for the forward pass.
struct ShortScratch {
  uint16_t *query, *key, *value;  // [N, C], [M, C], [M, D]
  uint32_t* query_lanes;          // [N / 16, C / 2, 16] pairs of channels
  uint32_t* value_pairs;          // [M / 2, D] pairs of keys
  float* rows;                    // [2, M, 16] scores of two tiles of queries, then weights
  uint16_t* group;                // [32, M] weights, or gradients of scores, of these queries
  uint16_t* grad;                 // [N, D]
  uint32_t* grad_lanes;           // [N / 16, D / 2, 16]
  uint32_t *key_pairs, *query_pairs, *grad_pairs;  // [M / 2, C], [N / 2, C], [N / 2, D]
  float* slopes;                                   // [2, M, 16] gradients of weights, then of scores
  uint16_t *weights, *d_scores;                    // [M, N]
};

// Attention over short sequences as products of matrices; null where the processor has no tiles. Both
// return false, and what they have written means nothing, where another way must be taken.
struct ShortKernels {
  bool (*forward)(const ShortImage&, const ShortScratch&, float* limits, uint16_t* out);
  bool (*backward)(const ShortImage&, const ShortScratch&, const float* limits, const uint16_t* grad,
                   uint16_t* d_query, uint16_t* d_key, uint16_t* d_value);
};

struct Kernels {
  const char* name;
  int channels_per_word;  // 2: bf16 pairs; 1: float32
  int word_multiple;      // W is a multiple of this
  int tiles_per_group;    // query tiles that share a pass over the keys
  int64_t prefix_pays;    // so many keys are needed for that
  int64_t most_prefixed;  // and at most so many channels
  RealKernels<float> for_float;
  RealKernels<double> for_double;
  PairKernels for_pairs;
  ResidualKernels for_residual;
  ShortKernels for_short;

  template <class Real>
  const RealKernels<Real>& of() const;
};

template <>
inline const RealKernels<float>& Kernels::of<float>() const {
  return for_float;
}
template <>
inline const RealKernels<double>& Kernels::of<double>() const {
  return for_double;
}

}  // namespace hspan
