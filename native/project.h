// What prefix.h needs of linear algebra: 31 directions in which features have most of their energy, and
// what becomes of rows that are projected onto them.
#pragma once

#include "pack.h"

namespace hspan::HSPAN_ISA {

constexpr int kDirections = kPrefix - 1;

// Rows of which some are looked at.
struct Sample {
  const float* rows;
  int64_t count, step;
  const double* mean;  // null: none

  Sample(const float* rows, int64_t count, const double* mean)
      : rows(rows), count(count), step(larger<int64_t>(1, count / 512)), mean(mean) {}

  // Calls use(row, less the mean) with each.
  template <class Use>
  void each(int64_t channels, double* row, Use use) const {
    for (int64_t i = step / 2; i < count; i += step) {
      for (int64_t c = 0; c < channels; c++)
        row[c] = rows[i * channels + c] - (mean ? mean[c] : 0);
      use(row);
    }
  }
};

HSPAN_INLINE double product(const double* a, const double* b, int64_t length) {
  double s = 0;
#pragma omp simd reduction(+ : s)
  for (int64_t c = 0; c < length; c++) s += a[c] * b[c];
  return s;
}

// Makes the rows of directions [31, C] orthonormal; of rows that depend on others nothing is left.
inline void orthonormalise(double* directions, int64_t channels) {
  for (int i = 0; i < kDirections; i++) {
    double* row = directions + i * channels;
    const double before = product(row, row, channels);
    for (int pass = 0; pass < 2; pass++)
      for (int j = 0; j < i; j++) {
        const double* other = directions + j * channels;
        const double part = product(row, other, channels);
#pragma omp simd
        for (int64_t c = 0; c < channels; c++) row[c] -= part * other[c];
      }
    const double left = product(row, row, channels);
    const double scale = left > 1e-20 * before ? 1 / __builtin_sqrt(left) : 0;
    for (int64_t c = 0; c < channels; c++) row[c] *= scale;
  }
}

// sums [C, C]: the products of channels with each other, over queries and keys, which weigh the same.
inline void add_energies(const Sample& sample, int64_t channels, double* row, double* sums) {
  double energy = 0;
  sample.each(channels, row, [&](const double* x) { energy += product(x, x, channels); });
  const double scale = energy > 0 ? 1 / energy : 0;
  sample.each(channels, row, [&](const double* x) {
    for (int64_t c = 0; c < channels; c++) {
      const double share = scale * x[c];
      double* to = sums + c * channels;
#pragma omp simd
      for (int64_t d = 0; d < channels; d++) to[d] += share * x[d];
    }
  });
}

// to [31, C]: what the sums make of the directions.
inline void turn(const double* sums, const double* directions, int64_t channels, double* to) {
  for (int i = 0; i < kDirections; i++)
    for (int64_t c = 0; c < channels; c++)
      to[i * channels + c] = product(directions + i * channels, sums + c * channels, channels);
}

// How far the columns of a basis [C, 32] are from orthonormal, or zero: the norm of B^T B - 1.
inline double skew_of(const float* basis, int64_t channels) {
  double skew2 = 0;
  for (int i = 0; i < kDirections; i++)
    for (int j = 0; j < kDirections; j++) {
      double s = 0;
      for (int64_t c = 0; c < channels; c++)
        s += static_cast<double>(basis[c * kPrefix + i]) * basis[c * kPrefix + j];
      const double off = i == j && s > 0.5 ? s - 1 : s;
      skew2 += off * off;
    }
  return __builtin_sqrt(skew2);
}

// The directions in which queries and keys have most of their energy, by iteration of their subspace.
// Any basis bounds; a better one bounds more closely.
inline Basis find_basis(const Image<float>& image, const PackedKeys& keys, float* basis,
                        double* work) {
  constexpr int kIterations = 6;
  const int64_t channels = image.channels;
  double *sums = work, *directions = sums + channels * channels;
  double* turned = directions + kPrefix * channels;
  for (int64_t i = 0; i < channels * channels; i++) sums[i] = 0;
  add_energies({image.query, image.queries, nullptr}, channels, turned, sums);
  add_energies({image.key, image.keys, keys.mean}, channels, turned, sums);

  uint64_t random = 1;  // signs, the same ones in every call
  for (int64_t i = 0; i < kDirections * channels; i++) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    directions[i] = random >> 63 ? 1 : -1;
  }
  for (int i = 0; i < kIterations; i++) {
    turn(sums, directions, channels, turned);
    for (int64_t j = 0; j < kDirections * channels; j++) directions[j] = turned[j];
    orthonormalise(directions, channels);
  }
  turn(sums, directions, channels, turned);
  const double within = product(directions, turned, kDirections * channels);
  double all = 0;
  for (int64_t c = 0; c < channels; c++) all += sums[c * (channels + 1)];
  for (int64_t c = 0; c < channels; c++)
    for (int i = 0; i < kPrefix; i++)
      basis[c * kPrefix + i] =
          i < kDirections ? static_cast<float>(directions[i * channels + c]) : 0.f;

  // Let gamma |x| be how far a sum of C products of float32 may be off. A projection is 31 of them, off
  // by less than 5.6 gamma |x| together; that counts twice in a product of two and twice in what is
  // left of a square, the norm's own sum as well, and skew moves both. All of it is covered by adding
  // a share of |x|^2 to the square of what is left: the product of two such roots exceeds the product
  // of what is left by that share of |q| |k|, by Cauchy and Schwarz again.
  const double gamma = static_cast<double>(channels + 8) * 1.2e-7;
  const double slack = 4 * 5.6 * gamma + 2 * gamma + 3 * skew_of(basis, channels);
  return {static_cast<float>(slack), static_cast<float>(all > 0 ? 1 - within / all : 1)};
}

// What becomes of four rows, less the mean.
HSPAN_INLINE void project_rows(const float* const (&rows)[4], const double* mean, int64_t channels,
                               const Prefix& prefix, float* projected) {
  constexpr int kVectors = kPrefix / kLanes;
  Lanes sums[4][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < 4; r++)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; v++) sums[r][v] = broadcast(0.f);
  for (int64_t c = 0; c < channels; c++) {
    const float centre = mean ? static_cast<float>(mean[c]) : 0.f;
    Lanes directions[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; v++)
      directions[v] = load(prefix.basis + c * kPrefix + v * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
      const Lanes x = broadcast(rows[r][c] - centre);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; v++) sums[r][v] = fma(x, directions[v], sums[r][v]);
    }
  }
  for (int r = 0; r < 4; r++) {
    float* to = projected + r * kPrefix;
    for (int v = 0; v < kVectors; v++) store(to + v * kLanes, sums[r][v]);
    double norm2 = 0, within = 0;
#pragma omp simd reduction(+ : norm2)
    for (int64_t c = 0; c < channels; c++) {
      const double x = rows[r][c] - (mean ? static_cast<float>(mean[c]) : 0.f);
      norm2 += x * x;
    }
    for (int d = 0; d < kDirections; d++) within += static_cast<double>(to[d]) * to[d];
    const double left = larger(norm2 - within, 0.0) + prefix.slack * norm2;
    to[kDirections] = static_cast<float>(1.00001 * __builtin_sqrt(left));
  }
}

inline void project_keys(const Image<float>& image, const PackedKeys& keys, const Prefix& prefix,
                         int64_t block, float* projected) {
  for (int k = 0; k < kLanes; k += 4) {
    const float* rows[4];
    for (int r = 0; r < 4; r++) rows[r] = key_row(image, block * kLanes + k + r);
    project_rows(rows, keys.mean, image.channels, prefix,
                 projected + (block * kLanes + k) * kPrefix);
  }
}

}  // namespace hspan::HSPAN_ISA
