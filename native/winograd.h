// 3x3 convolutions by Winograd's F(2x2, 3x3), of parts of images as features.h lays them out: for
// processors that multiply pairs of bf16 numbers, but not whole tiles of them.
//
// Of a tile of 2x2 results in each direction, four positions of the input become four sums, the three
// taps four numbers, and four products do the work of six. In both directions, 16 products do that of
// 36: for every one of the 16, all tiles together are one product of matrices over the channels.
//
//     results = At ((G taps Gt) * (Bt input B)) A        gradients of taps
//                                                          = Gt ((A gradients At) * (Bt input B)) G
//
//          1  0 -1  0            1    0    0
//     Bt = 0  1  1  0       G = 1/2  1/2  1/2      At = 1  1  1  0
//          0 -1  1  0           1/2 -1/2  1/2           0  1 -1 -1
//          0  1  0 -1            0    0    1
//
// A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2016. What goes into the
// products is rounded to bf16, so that errors are up to twice those of taps and input in bf16. A result
// depends on the very positions that its taps see: NaN goes no further.
#pragma once

#include "features.h"

#if defined(__AVX512BF16__) && !defined(HSPAN_AMX)
#define HSPAN_WINOGRAD

namespace hspan::HSPAN_ISA {

constexpr int kMatrices = 16;
constexpr int kTile = 2;  // results per side of a tile

// Arithmetic hides what parts take to fetch: larger ones have less of a halo.
constexpr int64_t kPartHalves = 400000;

// Tiles that are worked on together: what belongs to them should stay in the second-level cache,
// beside 16 matrices of weights or of their gradients. Whole blocks of rows and whole pairs.
constexpr int64_t kTilesForward = 48, kTilesForGradients = 96;

// The tiles that cover an area. They begin at even rows and columns, of the image too: results don't
// depend on how it was cut into parts.
struct TileGrid {
  int64_t top, left;      // places
  int64_t rows, columns;  // tiles

  explicit TileGrid(const Area& area)
      : top(area.top / kTile * kTile),
        left(area.left / kTile * kTile),
        rows((area.bottom - top + 1) / kTile),
        columns((area.right - left + 1) / kTile) {}

  int64_t tiles() const { return rows * columns; }
};

// Calls row(y, x, count, i) for the pieces of rows that the tiles [first, last) are: count tiles from
// place y, x on, of which the first is number i of these tiles.
template <class Row>
HSPAN_INLINE void by_rows(const TileGrid& grid, int64_t first, int64_t last, Row row) {
  for (int64_t t = first; t < last;) {
    const int64_t c = t % grid.columns, count = smaller(grid.columns - c, last - t);
    row(grid.top + t / grid.columns * kTile, grid.left + c * kTile, count, t - first);
    t += count;
  }
}

// Bt of four numbers.
HSPAN_INLINE void transform(Lanes a, Lanes b, Lanes c, Lanes d, Lanes (&to)[4]) {
  to[0] = a - c;
  to[1] = b + c;
  to[2] = c - b;
  to[3] = b - d;
}

// Bt input B of count tiles side by side, sixteen channels of them: put(tile, number, lanes) gets 16
// numbers of each. Neighbours share two columns, which are worked out once.
template <class Put>
HSPAN_INLINE void transform_tiles(const uint16_t* corner, int64_t row, int64_t depth, int64_t count,
                               Put put) {
  Lanes columns[4][4];
  const auto transform_column = [&](const uint16_t* at, Lanes(&to)[4]) {
    transform(load_halves(at), load_halves(at + row), load_halves(at + 2 * row),
           load_halves(at + 3 * row), to);
  };
  transform_column(corner, columns[0]);
  transform_column(corner + depth, columns[1]);
  for (int64_t t = 0; t < count; t++) {
    corner += kTile * depth;
    transform_column(corner, columns[2]);
    transform_column(corner + depth, columns[3]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      Lanes numbers[4];
      transform(columns[0][i], columns[1][i], columns[2][i], columns[3][i], numbers);
#pragma GCC unroll 4
      for (int j = 0; j < 4; j++) put(t, 4 * i + j, numbers[j]);
      columns[0][i] = columns[2][i];
      columns[1][i] = columns[3][i];
    }
  }
}

// A matrix of words, two bf16 numbers each, with steps from one row and from one column to the next.
struct Words {
  const uint32_t* data;
  int64_t row, column;

  Words(const void* words, int64_t row, int64_t column)
      : data(static_cast<const uint32_t*>(words)), row(row), column(column) {}
};

// to [R, 16 V] (+)= left [R, count] times right [count, 16 V].
template <int V, int R>
HSPAN_INLINE void multiply_block(Words left, const uint32_t* right, int64_t pitch, int64_t count,
                                 bool add, float* to) {
  __m512 sums[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++)
      sums[r][v] = add ? load(to + r * pitch + v * kLanes).v : _mm512_setzero_ps();
  for (int64_t k = 0; k < count; k++) {
    __m512bh words[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; v++)
      words[v] = (__m512bh)_mm512_loadu_si512(right + k * pitch + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
      const uint32_t word = left.data[r * left.row + k * left.column];
      const __m512bh same = (__m512bh)_mm512_set1_epi32(static_cast<int>(word));
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], same, words[v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) store(to + r * pitch + v * kLanes, {sums[r][v]});
}

// Sixteen V columns of any even number of rows, R at a time: as many sums as leave registers for
// the words.
template <int V, int R>
inline void multiply_columns(int64_t rows, Words left, const uint32_t* right, int64_t pitch,
                             int64_t count, bool add, float* to) {
  const auto skip = [&](int64_t done) {
    rows -= done;
    left.data += done * left.row;
    to += done * pitch;
  };
  for (; rows >= R; skip(R)) multiply_block<V, R>(left, right, pitch, count, add, to);
  for (; rows >= 4; skip(4)) multiply_block<V, 4>(left, right, pitch, count, add, to);
  for (; rows > 0; skip(2)) multiply_block<V, 2>(left, right, pitch, count, add, to);
}

// to [rows, columns] (+)= left [rows, count] times right [count, columns]; rows are filled up to twos
// and columns to sixteens. The last two have rows of pitch words.
HSPAN_INLINE void multiply(int64_t rows, int64_t columns, Words left, const uint32_t* right,
                           int64_t pitch, int64_t count, bool add, float* to) {
  rows = whole(rows, 2);
  for (int64_t o = 0; o < columns; o += 64) {
    const int64_t rest = columns - o;
    if (rest > 48)
      multiply_columns<4, 6>(rows, left, right + o, pitch, count, add, to + o);
    else if (rest > 32)
      multiply_columns<3, 8>(rows, left, right + o, pitch, count, add, to + o);
    else if (rest > 16)
      multiply_columns<2, 12>(rows, left, right + o, pitch, count, add, to + o);
    else
      multiply_columns<1, 12>(rows, left, right + o, pitch, count, add, to + o);
  }
}

// The taps of sixteen channels out, from one channel in; zeros where there are no such channels.
HSPAN_INLINE void take_taps(const float* weights, int64_t channels, bool turned, int64_t o, int64_t i,
                            Lanes (&taps)[3][3]) {
  alignas(64) float rows[kTaps][kLanes] = {};
  if (i < channels)
    for (int64_t l = 0; l < smaller<int64_t>(kLanes, channels - o); l++) {
      const float* from =
          weights + (turned ? i * channels + o + l : (o + l) * channels + i) * kTaps;
      for (int t = 0; t < kTaps; t++) rows[turned ? kTaps - 1 - t : t][l] = from[t];
    }
  for (int t = 0; t < kTaps; t++) taps[t / 3][t % 3] = load(rows[t]);
}

// G taps Gt.
HSPAN_INLINE void transform_taps(const Lanes (&taps)[3][3], Lanes (&to)[kMatrices]) {
  const Lanes half = broadcast(0.5f);
  const auto each = [half](Lanes a, Lanes b, Lanes c, Lanes& p, Lanes& q, Lanes& r, Lanes& s) {
    const Lanes outer = half * (a + c), middle = half * b;
    p = a;
    q = outer + middle;
    r = outer - middle;
    s = c;
  };
  Lanes columns[4][3];
#pragma GCC unroll 3
  for (int c = 0; c < 3; c++)
    each(taps[0][c], taps[1][c], taps[2][c], columns[0][c], columns[1][c], columns[2][c],
         columns[3][c]);
#pragma GCC unroll 4
  for (int r = 0; r < 4; r++)
    each(columns[r][0], columns[r][1], columns[r][2], to[4 * r], to[4 * r + 1], to[4 * r + 2],
         to[4 * r + 3]);
}

// Matrices [16, depth / 2 pairs in, depth out].
inline void pack_weights(const float* weights, int64_t channels, int64_t depth, bool turned,
                         int64_t first, int64_t last, uint16_t* matrices) {
  for (int64_t o = first; o < last; o += kLanes)
    for (int64_t i = 0; i < depth; i += 2) {
      Lanes taps[2][3][3], numbers[2][kMatrices];
      for (int64_t k = 0; k < 2; k++) {
        take_taps(weights, channels, turned, o, i + k, taps[k]);
        transform_taps(taps[k], numbers[k]);
      }
      uint32_t* to = reinterpret_cast<uint32_t*>(matrices) + i / 2 * depth + o;
      for (int m = 0; m < kMatrices; m++)
        store_pairs(to + m * depth * depth / 2, numbers[0][m], numbers[1][m]);
    }
}

// Matrices [16, depth in, depth out] of gradients.
inline void unpack_gradients(const float* matrices, int64_t channels, int64_t depth, int64_t first,
                             int64_t last, float* d_weights) {
  const Lanes half = broadcast(0.5f);
  const auto shorten = [half](Lanes a, Lanes b, Lanes c, Lanes d, Lanes(&to)[3]) {  // Gt of four
    const Lanes sum = half * (b + c);
    to[0] = a + sum;
    to[1] = half * (b - c);
    to[2] = sum + d;
  };
  for (int64_t o = first; o < last; o += kLanes)
    for (int64_t i = 0; i < channels; i++) {
      const float* from = matrices + i * depth + o;
      const auto number = [&](int m) { return load(from + m * depth * depth); };
      Lanes columns[4][3];
      for (int c = 0; c < 4; c++)
        shorten(number(c), number(4 + c), number(8 + c), number(12 + c), columns[c]);
      alignas(64) float taps[kTaps][kLanes];
      for (int r = 0; r < 3; r++) {
        Lanes numbers[3];
        shorten(columns[0][r], columns[1][r], columns[2][r], columns[3][r], numbers);
        for (int c = 0; c < 3; c++) store(taps[3 * r + c], numbers[c]);
      }
      for (int64_t l = 0; l < smaller<int64_t>(kLanes, last - o); l++)
        for (int t = 0; t < kTaps; t++)
          d_weights[((o + l) * channels + i) * kTaps + t] = taps[t][l];
    }
}

// What the functions below work in.
struct TileScratch {
  uint16_t* rows;       // [16, kTilesForward, depth]
  float* sums;          // [16, kTilesForward, depth]
  uint32_t *in, *out;   // [16, kTilesForGradients / 2, depth] pairs of tiles

  TileScratch(void* own, int64_t depth)
      : rows(static_cast<uint16_t*>(own)),
        sums(reinterpret_cast<float*>(rows + kMatrices * kTilesForward * depth)),
        in(static_cast<uint32_t*>(own)),
        out(in + kMatrices * kTilesForGradients / 2 * depth) {}

  static int64_t bytes(int64_t depth) {
    constexpr int64_t kForward = kTilesForward * (2 + 4), kBackward = kTilesForGradients * (2 + 2);
    return kMatrices * depth * (kForward > kBackward ? kForward : kBackward);
  }
};

inline int64_t own_bytes(const Part& largest, bool) { return TileScratch::bytes(largest.depth); }

struct ConvolutionUnit {};  // nothing has to be switched on

// Convolves the tiles of an area and hands the sums of sixteen channels to finish(place, channel,
// sums), also for places that whole tiles have beyond the rows and columns that were asked for.
template <class Finish>
HSPAN_INLINE void convolve(const Features& image, const Part& part, const Area& area,
                           const uint16_t* from, const uint16_t* weights, void* own,
                           const uint16_t*, Finish finish) {
  const int64_t depth = part.depth, row = part.pitch * depth;
  const int64_t pairs = (image.channels + 1) / 2, plane = kTilesForward * depth;
  const TileScratch scratch(own, depth);
  const TileGrid grid(area);
  for (int64_t first = 0; first < grid.tiles(); first += kTilesForward) {
    const int64_t last = smaller(first + kTilesForward, grid.tiles());
    by_rows(grid, first, last, [&](int64_t y, int64_t x, int64_t count, int64_t i) {
      for (int64_t d = 0; d < image.channels; d += kLanes) {
        uint16_t* to = scratch.rows + i * depth + d;
        transform_tiles(from + ((y - 1) * part.pitch + x - 1) * depth + d, row, depth, count,
                     [&](int64_t t, int m, Lanes numbers) {
                       store_halves(to + m * plane + t * depth, numbers);
                     });
      }
    });
    for (int m = 0; m < kMatrices; m++)
      multiply(last - first, image.channels, {scratch.rows + m * plane, depth / 2, 1},
               reinterpret_cast<const uint32_t*>(weights + m * depth * depth), depth, pairs, false,
               scratch.sums + m * plane);
    by_rows(grid, first, last, [&](int64_t y, int64_t x, int64_t count, int64_t i) {
      for (int64_t t = 0; t < count; t++)
        for (int64_t d = 0; d < image.channels; d += kLanes) {
          const float* sums = scratch.sums + (i + t) * depth + d;
          Lanes rows[2][4];
#pragma GCC unroll 4
          for (int c = 0; c < 4; c++) {  // At
            const Lanes a = load(sums + c * plane), b = load(sums + (4 + c) * plane);
            const Lanes e = load(sums + (8 + c) * plane), f = load(sums + (12 + c) * plane);
            rows[0][c] = a + b + e;
            rows[1][c] = b - e - f;
          }
          const int64_t place = y * part.pitch + x + t * kTile;
#pragma GCC unroll 2
          for (int r = 0; r < 2; r++) {
            finish(place + r * part.pitch, d, rows[r][0] + rows[r][1] + rows[r][2]);
            finish(place + r * part.pitch + 1, d, rows[r][1] - rows[r][2] - rows[r][3]);
          }
        }
    });
  }
}

// The numbers of two tiles become pairs: those of the first wait until the second's are there.
class PairedTiles {
 public:
  // to: the first pair of the first matrix.
  HSPAN_INLINE PairedTiles(uint32_t* to, int64_t plane, int64_t depth)
      : to_(to), plane_(plane), depth_(depth) {}

  HSPAN_INLINE void put(int64_t t, int m, Lanes numbers) {
    if (t % 2)
      store_pairs(to_ + m * plane_ + t / 2 * depth_, load(waiting_[m]), numbers);
    else
      store(waiting_[m], numbers);
  }
  // The last one of an odd number of tiles gets zeros beside it.
  HSPAN_INLINE void fill(int64_t count) {
    if (count % 2)
      for (int m = 0; m < kMatrices; m++) put(count, m, broadcast(0.f));
  }

 private:
  uint32_t* to_;
  int64_t plane_, depth_;
  alignas(64) float waiting_[kMatrices][kLanes];
};

// A gradients At of count tiles side by side. The second row of all, or the second column of the last
// one, may lie outside.
template <class Put>
HSPAN_INLINE void transform_gradients(const uint16_t* corner, int64_t row, int64_t depth, int64_t count,
                                   bool two_rows, bool whole_tiles, Put put) {
  const Lanes zero = broadcast(0.f);
  for (int64_t t = 0; t < count; t++, corner += kTile * depth) {
    const bool two_columns = whole_tiles || t + 1 < count;
    const Lanes a = load_halves(corner), b = two_columns ? load_halves(corner + depth) : zero;
    const Lanes c = two_rows ? load_halves(corner + row) : zero;
    const Lanes d = two_rows && two_columns ? load_halves(corner + row + depth) : zero;
    const Lanes left[4] = {a, a + c, a - c, zero - c}, right[4] = {b, b + d, b - d, zero - d};
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      put(t, 4 * i, left[i]);
      put(t, 4 * i + 1, left[i] + right[i]);
      put(t, 4 * i + 2, left[i] - right[i]);
      put(t, 4 * i + 3, zero - right[i]);
    }
  }
}

// sums[matrix][channel in][channel out] += the gradients of a convolution's weights, given its input
// and the gradients of its output.
inline void add_weight_gradients(const Features& image, const Part& part, const uint16_t* input,
                                 const uint16_t* gradients, void* own, float* sums) {
  const int64_t depth = part.depth, row = part.pitch * depth;
  const int64_t plane = kTilesForGradients / 2 * depth;
  const TileScratch scratch(own, depth);
  const TileGrid grid(without_halo(part));
  // Pairs lie side by side; rows are filled up to whole ones.
  const int64_t piece = smaller(whole(grid.columns, 2), kTilesForGradients);
  const int64_t together = kTilesForGradients / piece;
  for (int64_t left = 0; left < grid.columns; left += piece)
    for (int64_t top = 0; top < grid.rows; top += together) {
      const int64_t columns = smaller(piece, grid.columns - left);
      const int64_t rows = smaller(together, grid.rows - top);
      const int64_t pairs = (columns + 1) / 2;
      for (int64_t r = 0; r < rows; r++) {
        const int64_t y = kHalo + (top + r) * kTile, x = kHalo + left * kTile;
        const int64_t corner = y * part.pitch + x;
        const bool two_rows = y + 1 < kHalo + part.height;
        const bool even = x + columns * kTile <= kHalo + part.width;
        for (int64_t d = 0; d < image.channels; d += kLanes) {
          PairedTiles in(scratch.in + r * pairs * depth + d, plane, depth);
          transform_tiles(input + (corner - part.pitch - 1) * depth + d, row, depth, columns,
                       [&](int64_t t, int m, Lanes n) { in.put(t, m, n); });
          in.fill(columns);
          PairedTiles out(scratch.out + r * pairs * depth + d, plane, depth);
          transform_gradients(gradients + corner * depth + d, row, depth, columns, two_rows, even,
                           [&](int64_t t, int m, Lanes n) { out.put(t, m, n); });
          out.fill(columns);
        }
      }
      for (int m = 0; m < kMatrices; m++)
        multiply(image.channels, image.channels, {scratch.in + m * plane, 1, depth},
                 scratch.out + m * plane, depth, rows * pairs, true, sums + m * depth * depth);
    }
}

}  // namespace hspan::HSPAN_ISA

#endif
