// parallel_for for lambdas, and small integer helpers. Chunks depend on count and grain only, so results that are kept
// per chunk have the same bits for any number of threads.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/kernels.hpp"
#include "core/threads.hpp"
#include "simd/simd.hpp"

namespace fastcnn::FASTCNN_ISA {

FASTCNN_INLINE constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
FASTCNN_INLINE constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
FASTCNN_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
FASTCNN_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// f(task, worker) for each task; `work` is the whole cost in multiply-adds (count about 8 for a float that is only
// moved).
template <class F>
FASTCNN_INLINE void parallel_for_tasks(int64_t count, int64_t work, const F& f) {
  parallel_tasks(
      count, work, [](void* context, int64_t task, int worker) { (*static_cast<const F*>(context))(task, worker); },
      const_cast<F*>(&f));
}

// f(begin, end) over chunks of `grain` elements of 0..count-1.
template <class F>
FASTCNN_INLINE void parallel_for(int64_t count, int64_t grain, int64_t work, const F& f) {
  parallel_for_tasks(ceil_div(count, grain), work,
                     [&](int64_t task, int) { f(task * grain, smaller((task + 1) * grain, count)); });
}

constexpr int64_t kGrain = 16384;   // floats a chunk of a pointwise pass: 64 KB in and out stay in the L2 cache
constexpr int64_t kStreamed = 2 << 20;  // floats of a result that no cache keeps until it is read
constexpr int64_t kMoved = 8;       // cost of moving one float, in multiply-adds

// Whether rows of C floats at y are worth streaming, and can be.
FASTCNN_INLINE bool streams(const float* y, int64_t floats, int64_t C) {
  return floats >= kStreamed && C % kLanes == 0 && reinterpret_cast<uintptr_t>(y) % (kLanes * 4) == 0;
}

FASTCNN_INLINE float* worker_floats(const Scratch& scratch, int worker) {
  return reinterpret_cast<float*>(scratch.workers + worker * scratch.worker_bytes);
}
FASTCNN_INLINE float* shared_floats(const Scratch& scratch) { return reinterpret_cast<float*>(scratch.shared); }

}  // namespace fastcnn::FASTCNN_ISA
