// The one register-blocked micro-kernel: C[m][0..NR) += sum over k of A[m][k] * B[k][0..NR), m < MR.
//
// It serves 1x1 and k x k convolutions, dense layers, both gradients and the products of Winograd. Each element of C is
// one chain of multiply-adds in ascending k, whatever MR and its place in a block: a result never depends on its
// position in a batch. NR is two vectors: with 12 accumulators, 2 loads and 6 broadcasts feed 12 FMAs, which the ports
// can sustain.
#pragma once
#include "kernels/tasks.hpp"
#include "simd/tiles.hpp"

namespace fastcnn::FASTCNN_ISA {

constexpr int64_t kDepth = 16;  // values of k side by side in a packed A
constexpr int64_t kNR = 2 * kLanes;
#if FASTCNN_LANES == 16
constexpr int kMR = 14;  // 28 accumulators of 32 registers; divides the maps of ImageNet networks
#elif FASTCNN_LANES == 8
constexpr int kMR = 6;  // 12 accumulators of 16 registers
#elif defined(__aarch64__)
constexpr int kMR = 8;  // 16 accumulators of 32 registers
#else
constexpr int kMR = 4;  // 8 accumulators of 16 registers; multiply and add need temporaries
#endif

// Convolutions have blocks so large that B can be read more often: with four vectors 4 loads and 6 broadcasts feed 24
// FMAs, with three 3 loads and 4 broadcasts 12: the fewest instructions for one, which count where another thread
// shares the core.
#if FASTCNN_LANES == 16 && !FASTCNN_TILES
constexpr int64_t kPanelNR = 4 * kLanes;
constexpr int kPanelMR = 6;
#elif FASTCNN_LANES == 8
constexpr int64_t kPanelNR = 3 * kLanes;
constexpr int kPanelMR = 4;
#else
constexpr int64_t kPanelNR = kNR;
constexpr int kPanelMR = kMR;
#endif

// Rows of a tile of so many vectors where windows are read in place: a sum waits for the one before it, so that a
// single vector needs more of them than two, where there are registers for that.
template <int kVectors>
constexpr int kRowsOf = kVectors > 2                          ? kPanelMR
                        : kVectors == 1 && FASTCNN_LANES < 16 ? 2 * kMR
                                                              : kMR;

// A by row pointers: pixels of an activation.
template <int MR>
struct RowsA {
  const float* row[MR];
  FASTCNN_INLINE float at(int i, int64_t k) const { return row[i][k]; }
};

// A by one pointer and constant strides: a packed block.
template <int ROW, int STEP>
struct BlockA {
  const float* data;
  FASTCNN_INLINE float at(int i, int64_t k) const { return data[i * ROW + k * STEP]; }
};

// A by one pointer and strides known at run time only.
struct StridedA {
  const float* data;
  int64_t row_stride, step;
  FASTCNN_INLINE float at(int i, int64_t k) const { return data[i * row_stride + k * step]; }
};

// kVectors: fewer than those of a panel where it has so few columns that the others would be empty.
template <int MR, int kVectors = 2>
struct Tile {
  vf c[MR][kVectors];

  // f(element, column of its first lane) for the vectors of row i
  template <class F>
  FASTCNN_INLINE void each(const F& f) {
    FASTCNN_UNROLL for (int i = 0; i < MR; ++i) {
      FASTCNN_UNROLL for (int v = 0; v < kVectors; ++v) f(c[i][v], i, v * kLanes);
    }
  }
  FASTCNN_INLINE void zero() {
    each([](vf& sum, int, int64_t) FASTCNN_LAMBDA { sum = vf{}; });
  }
  // Continues sums kept in memory.
  FASTCNN_INLINE void load_from(const float* y, int64_t row_stride) {
    each([&](vf& sum, int i, int64_t column) FASTCNN_LAMBDA { sum = load(y + i * row_stride + column); });
  }
  FASTCNN_INLINE void add_from(const float* y, int64_t row_stride) {
    each([&](vf& sum, int i, int64_t column) FASTCNN_LAMBDA { sum += load(y + i * row_stride + column); });
  }
  FASTCNN_INLINE void store_to(float* y, int64_t row_stride) {
    each([&](const vf& sum, int i, int64_t column) FASTCNN_LAMBDA { store(y + i * row_stride + column, sum); });
  }
  // b: K rows of NR floats, b_step apart.
  template <class A>
  FASTCNN_INLINE void multiply(const A& a, const float* b, int64_t b_step, int64_t K) {
    FASTCNN_UNROLL_TWICE for (int64_t k = 0; k < K; ++k, b += b_step) {
      vf columns[kVectors];
      FASTCNN_UNROLL for (int v = 0; v < kVectors; ++v) columns[v] = load(b + v * kLanes);
      FASTCNN_UNROLL for (int i = 0; i < MR; ++i) {
        const vf ai = broadcast(a.at(i, k));
        FASTCNN_UNROLL for (int v = 0; v < kVectors; ++v) c[i][v] += ai * columns[v];
      }
    }
  }
};

// f.template operator()<m>() for a row count known at run time, 1 <= m <= kMR.
template <int MR = kMR, class F>
FASTCNN_INLINE void with_rows(int64_t m, const F& f) {
  if constexpr (MR == 1) {
    f.template operator()<1>();
  } else {
    if (m == MR)
      f.template operator()<MR>();
    else
      with_rows<MR - 1>(m, f);
  }
}

// f.template operator()<kVectors>() with the vectors that `width` columns of a panel fill: 1, 2 or all.
template <class F>
FASTCNN_INLINE void with_vectors(int64_t width, const F& f) {
  constexpr int kAll = static_cast<int>(kPanelNR / kLanes);
  if (width <= kLanes)
    f.template operator()<1>();
  else if (kAll > 2 && width <= 2 * kLanes)
    f.template operator()<2>();
  else
    f.template operator()<kAll>();
}

// Splits `rows` into ceil(rows / kMost) parts of nearly equal size (49 = 4 x 6 + 5 x 5): f(first, count).
template <int64_t kMost = kMR, class F>
FASTCNN_INLINE void for_tiles(int64_t rows, const F& f) {
  const int64_t tiles = ceil_div(rows, kMost);
  const int64_t small = tiles ? rows / tiles : 0, extra = rows - small * tiles;
  for (int64_t t = 0, first = 0; t < tiles; ++t) {
    const int64_t count = small + (t < extra);
    f(first, count);
    first += count;
  }
}

// Weights pass by once and faster than hardware prefetchers fetch them: while some are used, the next `floats` are
// fetched into the L2 cache, a few lines in each of so many `calls`.
struct Ahead {
  const float *line, *end;
  int64_t step;  // floats a call
  FASTCNN_INLINE Ahead(const float* next, int64_t floats, int64_t calls)
      : line(next), end(next + floats), step(ceil_div(floats / kLine, larger(1, calls)) * kLine) {}
  FASTCNN_INLINE void fetch() {
    if (line >= end) return;
    const float* const stop = line + step;
    for (; line < stop; line += kLine) prefetch_to_l2(line);
  }

 private:
  static constexpr int64_t kLine = 16;
};

}  // namespace fastcnn::FASTCNN_ISA
