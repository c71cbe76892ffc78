// Sixteen floats at once, whatever the processor: one register of AVX-512, two of AVX2, four of 128
// bits elsewhere (SSE2, NEON; the compiler's vector extension).
//
// Nothing here, or in any header that is compiled once per instruction set, may use templates or
// inline functions of the standard library: the linker keeps one copy of those for everybody, and
// it might be the one that only a newer processor can run.
#pragma once

#include "kernels.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace hspan::HSPAN_ISA {

#define HSPAN_INLINE inline __attribute__((always_inline))

#if defined(__AVX512F__)

struct Lanes {
  __m512 v;
};
constexpr int kRegisters = 1;

HSPAN_INLINE Lanes load(const float* p) { return {_mm512_loadu_ps(p)}; }
HSPAN_INLINE void store(float* p, Lanes a) { _mm512_storeu_ps(p, a.v); }
HSPAN_INLINE Lanes broadcast(float x) { return {_mm512_set1_ps(x)}; }
HSPAN_INLINE Lanes operator+(Lanes a, Lanes b) { return {_mm512_add_ps(a.v, b.v)}; }
HSPAN_INLINE Lanes operator-(Lanes a, Lanes b) { return {_mm512_sub_ps(a.v, b.v)}; }
HSPAN_INLINE Lanes operator*(Lanes a, Lanes b) { return {_mm512_mul_ps(a.v, b.v)}; }
HSPAN_INLINE Lanes operator/(Lanes a, Lanes b) { return {_mm512_div_ps(a.v, b.v)}; }
HSPAN_INLINE Lanes fma(Lanes a, Lanes b, Lanes c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
HSPAN_INLINE Lanes max(Lanes a, Lanes b) { return {_mm512_max_ps(a.v, b.v)}; }
// 1 in the lanes where a > b, 0 elsewhere.
HSPAN_INLINE Lanes exceeds(Lanes a, Lanes b) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ), _mm512_set1_ps(1.f))};
}
// Bit l is set where a > b in lane l.
HSPAN_INLINE unsigned exceeding(Lanes a, Lanes b) {
  return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ);
}
HSPAN_INLINE float sum(Lanes a) { return _mm512_reduce_add_ps(a.v); }

// Sum and number of the positive values seen, lane by lane.
struct Positive {
  __m512 total = _mm512_setzero_ps();
  __m512i number = _mm512_setzero_si512();

  HSPAN_INLINE void add(Lanes a) {
    const __mmask16 m = _mm512_cmp_ps_mask(a.v, _mm512_setzero_ps(), _CMP_GT_OQ);
    total = _mm512_mask_add_ps(total, m, total, a.v);
    number = _mm512_mask_add_epi32(number, m, number, _mm512_set1_epi32(1));
  }
  HSPAN_INLINE void add(Positive other) {
    total = _mm512_add_ps(total, other.total);
    number = _mm512_add_epi32(number, other.number);
  }
  HSPAN_INLINE Lanes sums() const { return {total}; }
  HSPAN_INLINE Lanes numbers() const { return {_mm512_cvtepi32_ps(number)}; }
};

// Swaps rows and columns of sixteen rows of sixteen.
HSPAN_INLINE void transpose(__m512 (&r)[16]) {
  __m512 t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    const __m512d a = _mm512_castps_pd(t[i]), b = _mm512_castps_pd(t[i + 1]);
    const __m512d c = _mm512_castps_pd(t[i + 2]), d = _mm512_castps_pd(t[i + 3]);
    r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
  // Now r[4 g + j] holds column j of every quarter for the rows 4 g to 4 g + 3.
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    const __m512 ab = _mm512_shuffle_f32x4(r[j], r[4 + j], 0x44);
    const __m512 AB = _mm512_shuffle_f32x4(r[j], r[4 + j], 0xee);
    const __m512 cd = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0x44);
    const __m512 CD = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0xee);
    t[j] = _mm512_shuffle_f32x4(ab, cd, 0x88);
    t[4 + j] = _mm512_shuffle_f32x4(ab, cd, 0xdd);
    t[8 + j] = _mm512_shuffle_f32x4(AB, CD, 0x88);
    t[12 + j] = _mm512_shuffle_f32x4(AB, CD, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) r[i] = t[i];
}

#elif defined(__AVX2__)

struct Lanes {
  __m256 lo, hi;
};
constexpr int kRegisters = 2;

HSPAN_INLINE Lanes load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
HSPAN_INLINE void store(float* p, Lanes a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
HSPAN_INLINE Lanes broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
HSPAN_INLINE Lanes operator+(Lanes a, Lanes b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
HSPAN_INLINE Lanes operator-(Lanes a, Lanes b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
HSPAN_INLINE Lanes operator*(Lanes a, Lanes b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
HSPAN_INLINE Lanes operator/(Lanes a, Lanes b) {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
HSPAN_INLINE Lanes fma(Lanes a, Lanes b, Lanes c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
HSPAN_INLINE Lanes max(Lanes a, Lanes b) {
  return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
HSPAN_INLINE Lanes exceeds(Lanes a, Lanes b) {
  const __m256 one = _mm256_set1_ps(1.f);
  return {_mm256_and_ps(_mm256_cmp_ps(a.lo, b.lo, _CMP_GT_OQ), one),
          _mm256_and_ps(_mm256_cmp_ps(a.hi, b.hi, _CMP_GT_OQ), one)};
}
HSPAN_INLINE unsigned exceeding(Lanes a, Lanes b) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a.lo, b.lo, _CMP_GT_OQ))) |
         static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a.hi, b.hi, _CMP_GT_OQ))) << 8;
}
HSPAN_INLINE float sum(Lanes a) {
  const __m256 s = _mm256_add_ps(a.lo, a.hi);
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

#else

typedef float Quad __attribute__((vector_size(16)));
typedef int QuadMask __attribute__((vector_size(16)));

struct Lanes {
  Quad v[4];
};
constexpr int kRegisters = 4;

#define HSPAN_EACH(expression)                                                             \
  Lanes r;                                                                                 \
  for (int i = 0; i < 4; i++) r.v[i] = (expression);                                       \
  return r

HSPAN_INLINE Lanes load(const float* p) {
  Lanes r;
  __builtin_memcpy(&r, p, sizeof r);
  return r;
}
HSPAN_INLINE void store(float* p, Lanes a) { __builtin_memcpy(p, &a, sizeof a); }
HSPAN_INLINE Lanes broadcast(float x) { HSPAN_EACH((Quad{x, x, x, x})); }
HSPAN_INLINE Lanes operator+(Lanes a, Lanes b) { HSPAN_EACH(a.v[i] + b.v[i]); }
HSPAN_INLINE Lanes operator-(Lanes a, Lanes b) { HSPAN_EACH(a.v[i] - b.v[i]); }
HSPAN_INLINE Lanes operator*(Lanes a, Lanes b) { HSPAN_EACH(a.v[i] * b.v[i]); }
HSPAN_INLINE Lanes operator/(Lanes a, Lanes b) { HSPAN_EACH(a.v[i] / b.v[i]); }
HSPAN_INLINE Lanes fma(Lanes a, Lanes b, Lanes c) { HSPAN_EACH(a.v[i] * b.v[i] + c.v[i]); }
HSPAN_INLINE Lanes max(Lanes a, Lanes b) { HSPAN_EACH(a.v[i] > b.v[i] ? a.v[i] : b.v[i]); }
HSPAN_INLINE Lanes exceeds(Lanes a, Lanes b) {
  HSPAN_EACH((Quad)((QuadMask)(a.v[i] > b.v[i]) & (QuadMask)Quad{1.f, 1.f, 1.f, 1.f}));
}
HSPAN_INLINE unsigned exceeding(Lanes a, Lanes b) {
  unsigned bits = 0;
  for (int i = 0; i < 4; i++) {
    const QuadMask m = a.v[i] > b.v[i];
    for (int j = 0; j < 4; j++) bits |= (m[j] & 1u) << (4 * i + j);
  }
  return bits;
}
HSPAN_INLINE float sum(Lanes a) {
  const Quad s = (a.v[0] + a.v[1]) + (a.v[2] + a.v[3]);
  return (s[0] + s[1]) + (s[2] + s[3]);
}
#undef HSPAN_EACH

#endif

#if !defined(__AVX512F__)
struct Positive {
  Lanes total = broadcast(0.f), number = broadcast(0.f);

  HSPAN_INLINE void add(Lanes a) {
    total = total + max(a, broadcast(0.f));
    number = number + exceeds(a, broadcast(0.f));
  }
  HSPAN_INLINE void add(Positive other) {
    total = total + other.total;
    number = number + other.number;
  }
  HSPAN_INLINE Lanes sums() const { return total; }
  HSPAN_INLINE Lanes numbers() const { return number; }
};
#endif

HSPAN_INLINE void prefetch(const void* p, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(p) + i);
}

template <class T>
HSPAN_INLINE T smaller(T a, T b) {
  return b < a ? b : a;
}
template <class T>
HSPAN_INLINE T larger(T a, T b) {
  return a < b ? b : a;
}

}  // namespace hspan::HSPAN_ISA
