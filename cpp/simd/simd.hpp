// `vf`, a vector of kLanes floats, and the few functions on it. Vector extensions do nearly all; intrinsics stand here
// only.
#pragma once
#include <cstddef>
#include <cstdint>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

// Full unrolling keeps accumulator arrays in registers: one rolled loop over such an array sends it to the stack.
#if defined(__clang__)
#define FASTCNN_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FASTCNN_UNROLL _Pragma("GCC unroll 64")
#endif
#if FASTCNN_LANES == 16 || defined(__aarch64__)
#define FASTCNN_MANY_REGISTERS 1  // 32 instead of 16
#else
#define FASTCNN_MANY_REGISTERS 0
#endif
// Twice and no more where registers are few: unrolled as a whole, a loop that fills 16 of them with accumulators sends
// some to the stack.
#if FASTCNN_MANY_REGISTERS
#define FASTCNN_UNROLL_TWICE
#elif defined(__clang__)
#define FASTCNN_UNROLL_TWICE _Pragma("clang loop unroll_count(2)")
#else
#define FASTCNN_UNROLL_TWICE _Pragma("GCC unroll 2")
#endif
#define FASTCNN_INLINE inline __attribute__((always_inline))
#define FASTCNN_LAMBDA __attribute__((always_inline))

namespace fastcnn::FASTCNN_ISA {

constexpr int64_t kLanes = FASTCNN_LANES;
constexpr bool kManyRegisters = FASTCNN_MANY_REGISTERS;

typedef float vf __attribute__((vector_size(4 * FASTCNN_LANES)));
typedef int32_t vi __attribute__((vector_size(4 * FASTCNN_LANES)));
typedef float vf_unaligned __attribute__((vector_size(4 * FASTCNN_LANES), aligned(4)));

FASTCNN_INLINE vf load(const float* p) { return *reinterpret_cast<const vf_unaligned*>(p); }
FASTCNN_INLINE void store(float* p, vf a) { *reinterpret_cast<vf_unaligned*>(p) = a; }
FASTCNN_INLINE vf broadcast(float a) {
  vf v;
#if defined(__x86_64__) && FASTCNN_LANES == 8
  v = reinterpret_cast<vf>(_mm256_set1_ps(a));
#else
  v = a - vf{};
#endif
  return v;
}

// The first `count` lanes, 0 < count < kLanes; the others are zero and their memory is not touched.
#if defined(__AVX512F__) && FASTCNN_LANES == 16
FASTCNN_INLINE __mmask16 first_lanes(int64_t count) { return static_cast<__mmask16>((1U << count) - 1); }
FASTCNN_INLINE vf load_tail(const float* p, int64_t count) {
  return reinterpret_cast<vf>(_mm512_maskz_loadu_ps(first_lanes(count), p));
}
FASTCNN_INLINE void store_tail(float* p, vf a, int64_t count) {
  _mm512_mask_storeu_ps(p, first_lanes(count), reinterpret_cast<__m512>(a));
}
#elif defined(__AVX2__) && FASTCNN_LANES == 8
FASTCNN_INLINE __m256i first_lanes(int64_t count) {
  return reinterpret_cast<__m256i>(vi{0, 1, 2, 3, 4, 5, 6, 7} < static_cast<int32_t>(count));
}
FASTCNN_INLINE vf load_tail(const float* p, int64_t count) {
  return reinterpret_cast<vf>(_mm256_maskload_ps(p, first_lanes(count)));
}
FASTCNN_INLINE void store_tail(float* p, vf a, int64_t count) {
  _mm256_maskstore_ps(p, first_lanes(count), reinterpret_cast<__m256>(a));
}
#else
FASTCNN_INLINE vf load_tail(const float* p, int64_t count) {
  vf v{};
  __builtin_memcpy(&v, p, static_cast<size_t>(count) * 4);
  return v;
}
FASTCNN_INLINE void store_tail(float* p, vf a, int64_t count) {
  __builtin_memcpy(p, &a, static_cast<size_t>(count) * 4);
}
#endif
FASTCNN_INLINE vf load_upto(const float* p, int64_t count) { return count >= kLanes ? load(p) : load_tail(p, count); }
FASTCNN_INLINE void store_upto(float* p, vf a, int64_t count) {
  if (count >= kLanes)
    store(p, a);
  else
    store_tail(p, a, count);
}

// Two pixels a vector: lanes 2i and 2i + 1 hold value i of the first and of the second.
#if defined(__AVX512F__) && FASTCNN_LANES == 16
constexpr bool kCanPair = true;
FASTCNN_INLINE vf permuted(vf a, vi lanes) {
  return reinterpret_cast<vf>(
      _mm512_maskz_permutexvar_ps(0xffff, reinterpret_cast<__m512i>(lanes), reinterpret_cast<__m512>(a)));
}
// p[0], p[1], p[0], p[1], ...
FASTCNN_INLINE vf load_pair(const float* p) {
  int64_t pair;
  __builtin_memcpy(&pair, p, sizeof pair);
  return reinterpret_cast<vf>(_mm512_set1_epi64(pair));
}
FASTCNN_INLINE vf each_twice(vf a) { return permuted(a, vi{0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7}); }
FASTCNN_INLINE vf of_pair(vf a, int which) {
  return permuted(a, vi{0, 2, 4, 6, 8, 10, 12, 14, 0, 2, 4, 6, 8, 10, 12, 14} + which);
}
#else
constexpr bool kCanPair = false;
FASTCNN_INLINE vf load_pair(const float*) { return vf{}; }
FASTCNN_INLINE vf each_twice(vf a) { return a; }
FASTCNN_INLINE vf of_pair(vf a, int) { return a; }
#endif

// Past the caches, to an aligned address: the line is not read first. end_stream() before others read what was written.
FASTCNN_INLINE void stream(float* p, vf a) {
#if FASTCNN_LANES == 16 && defined(__AVX512F__)
  __builtin_ia32_movntps512(p, a);
#elif FASTCNN_LANES == 8 && defined(__AVX__)
  __builtin_ia32_movntps256(p, a);
#elif FASTCNN_LANES == 4 && defined(__SSE2__)
  __builtin_ia32_movntps(p, a);
#else
  store(p, a);
#endif
}
FASTCNN_INLINE void end_stream() {
#if defined(__SSE2__)
  __builtin_ia32_sfence();
#endif
}
template <bool kStream>
FASTCNN_INLINE void put_upto(float* p, vf a, int64_t count) {
  if (kStream)
    stream(p, a);
  else
    store_upto(p, a, count);
}

FASTCNN_INLINE vf select(vi mask, vf yes, vf no) { return mask ? yes : no; }
FASTCNN_INLINE vf relu(vf a) { return select(a < vf{}, vf{}, a); }  // keeps NaN and -0

FASTCNN_INLINE vf absolute(vf a) { return reinterpret_cast<vf>(reinterpret_cast<vi>(a) & 0x7fffffff); }
// AVX-512 intrinsics stand here in their masked forms: gcc 12 warns about the undefined source operand of the plain
// ones.
FASTCNN_INLINE vf square_root(vf a) {
#if defined(__x86_64__) && FASTCNN_LANES == 4
  return reinterpret_cast<vf>(_mm_sqrt_ps(reinterpret_cast<__m128>(a)));
#elif defined(__AVX2__) && FASTCNN_LANES == 8
  return reinterpret_cast<vf>(_mm256_sqrt_ps(reinterpret_cast<__m256>(a)));
#elif defined(__AVX512F__) && FASTCNN_LANES == 16
  return reinterpret_cast<vf>(_mm512_maskz_sqrt_ps(0xffff, reinterpret_cast<__m512>(a)));
#else
  for (int64_t i = 0; i < kLanes; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
#endif
}

// Bytes to lanes and back (values 0..255); gcc scalarises __builtin_convertvector between these widths.
FASTCNN_INLINE vi load_bytes(const uint8_t* p) {
#if defined(__SSE4_1__) && FASTCNN_LANES == 4
  int32_t bytes;
  __builtin_memcpy(&bytes, p, 4);
  return reinterpret_cast<vi>(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(bytes)));
#elif defined(__AVX2__) && FASTCNN_LANES == 8
  return reinterpret_cast<vi>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#elif defined(__AVX512F__) && FASTCNN_LANES == 16
  return reinterpret_cast<vi>(_mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#else
  vi a;
  for (int64_t i = 0; i < kLanes; ++i) a[i] = p[i];
  return a;
#endif
}
FASTCNN_INLINE void store_bytes(uint8_t* p, vi a) {
#if defined(__SSE4_1__) && FASTCNN_LANES == 4
  const __m128i low = _mm_set1_epi32(0x0c080400);
  const int32_t bytes = _mm_cvtsi128_si32(_mm_shuffle_epi8(reinterpret_cast<__m128i>(a), low));
  __builtin_memcpy(p, &bytes, 4);
#elif defined(__AVX2__) && FASTCNN_LANES == 8
  const __m256i low = _mm256_shuffle_epi8(reinterpret_cast<__m256i>(a), _mm256_set1_epi32(0x0c080400));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p),
                   _mm_unpacklo_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)));
#elif defined(__AVX512F__) && FASTCNN_LANES == 16
  _mm512_mask_cvtepi32_storeu_epi8(p, 0xffff, reinterpret_cast<__m512i>(a));
#else
  for (int64_t i = 0; i < kLanes; ++i) p[i] = static_cast<uint8_t>(a[i]);
#endif
}

FASTCNN_INLINE float sum_lanes(vf a) {
  float sum = 0;
  for (int64_t i = 0; i < kLanes; ++i) sum += a[i];
  return sum;
}
FASTCNN_INLINE void prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }
FASTCNN_INLINE void prefetch_to_l2(const void* p) { __builtin_prefetch(p, 0, 2); }
FASTCNN_INLINE void prefetch_to_write(const void* p) { __builtin_prefetch(p, 1, 3); }

}  // namespace fastcnn::FASTCNN_ISA
