// What follows a product: bias, residual, ReLU, statistics or maxima of a finished block.
#pragma once
#include "kernels/conv_problem.hpp"
#include "kernels/largest.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace gemm {

constexpr int64_t kSumRun = 16;  // terms summed before they join the total: equal ones, as padding makes, round alike

// mean and sum of squared deviations of `rows` rows of one panel, in two passes while they are in cache; the second
// also sums the plain deviations, which corrects the rounded mean of the first
FASTCNN_INLINE void block_statistics(const float* y, int64_t rows, int64_t row_stride, int64_t width, float* mean,
                                     float* squares) {
  for (int64_t c = 0; c < width; c += kLanes) {
    const int64_t n = smaller(kLanes, width - c);
    vf total{}, deviations{}, rest{};
    for (int64_t first = 0; first < rows; first += kSumRun) {
      vf sum{};
      for (int64_t m = first; m < smaller(rows, first + kSumRun); ++m) sum += load_upto(y + m * row_stride + c, n);
      total += sum;
    }
    const vf average = total * broadcast(1.0f / static_cast<float>(rows));
    for (int64_t first = 0; first < rows; first += kSumRun) {
      vf squares_run{}, rest_run{};
      for (int64_t m = first; m < smaller(rows, first + kSumRun); ++m) {
        const vf d = load_upto(y + m * row_stride + c, n) - average;
        squares_run += d * d;
        rest_run += d;
      }
      deviations += squares_run;
      rest += rest_run;
    }
    const vf shift = rest * broadcast(1.0f / static_cast<float>(rows));
    store_upto(mean + c, average + shift, n);
    store_upto(squares + c, deviations - rest * shift, n);
  }
}

// Two rows of Q pixels of one panel -> one row of Q/2 maxima, ReLU if asked.
FASTCNN_INLINE void pool_panel(const float* panel, int64_t Q, int64_t width, bool with_relu, float* y, uint8_t* argmax,
                               int64_t K) {
  for (int64_t q = 0; q < Q / 2; ++q)
    for (int64_t c = 0; c < width; c += kLanes) {
      const int64_t n = smaller(kLanes, width - c);
      const float* at = panel + 2 * q * kPanelNR + c;
      Largest best{load(at)};
      for (int32_t i = 1; i < 4; ++i)
        best.take(load(at + (i / 2) * Q * kPanelNR + (i % 2) * kPanelNR), i, argmax != nullptr);
      store_upto(y + q * K + c, with_relu ? relu(best.value) : best.value, n);
      if (argmax)
        for (int64_t j = 0; j < n; ++j) argmax[q * K + c + j] = static_cast<uint8_t>(best.place[j]);
    }
}

// The lines of one row that an epilogue reads and writes
FASTCNN_INLINE void fetch_outputs(const float* residual, float* y, int64_t offset, int64_t width) {
  FASTCNN_UNROLL for (int64_t c = 0; c < kPanelNR; c += 16) {
    if (c >= width) break;
    if (residual) prefetch(residual + offset + c);
    prefetch_to_write(y + offset + c);
  }
}

// Adds bias and residual, applies ReLU, stores the first `width` columns.
template <int MR, int kVectors>
FASTCNN_INLINE void finish(Tile<MR, kVectors>& tile, const Epilogue& epilogue, int64_t column, int64_t width,
                           const int64_t* offsets, float* y) {
  const float* const residual = epilogue.residual;
  if (epilogue.bias) {
    vf bias[kVectors];
    FASTCNN_UNROLL for (int v = 0; v < kVectors; ++v) {
      const int64_t first = v * kLanes;
      bias[v] = width > first ? load_upto(epilogue.bias + column + first, smaller(kLanes, width - first)) : vf{};
    }
    tile.each([&](vf& sum, int, int64_t first) FASTCNN_LAMBDA { sum += bias[first / kLanes]; });
  }
  if (width == kVectors * kLanes) {
    if (residual)
      tile.each([&](vf& sum, int i, int64_t first) FASTCNN_LAMBDA { sum += load(residual + offsets[i] + first); });
    if (epilogue.relu) tile.each([](vf& sum, int, int64_t) FASTCNN_LAMBDA { sum = relu(sum); });
    tile.each([&](const vf& sum, int i, int64_t first) FASTCNN_LAMBDA { store(y + offsets[i] + first, sum); });
    return;
  }
  tile.each([&](vf sum, int i, int64_t first) FASTCNN_LAMBDA {
    const int64_t n = smaller(kLanes, width - first);
    if (n <= 0) return;
    if (residual) sum += load_upto(residual + offsets[i] + first, n);
    if (epilogue.relu) sum = relu(sum);
    store_upto(y + offsets[i] + first, sum, n);
  });
}

// What follows when a block's part of a panel is complete: statistics of it, or its maxima.
static void finish_panel(const Problem& p, const Epilogue& epilogue, int64_t block, int64_t first, int64_t rows,
                         int64_t column, int64_t width, const float* panel, float* y) {
  if (epilogue.statistics) {
    float* mean = epilogue.statistics + block * 2 * p.K + column;
    const int64_t row_stride = by_pixel(p) ? p.out_H * p.out_W * p.K : p.K;
    block_statistics(y + output_offset(p, first) + column, rows, row_stride, width, mean, mean + p.K);
  }
  if (!epilogue.pool) return;
  const int64_t pairs = rows / (2 * p.OW), pooled = p.OW / 2;
  const Pixel at = pixel(p, first);
  int64_t out = (at.n * (p.OH / 2) + at.oh / 2) * pooled * p.K + column;
  for (int64_t i = 0; i < pairs; ++i, panel += 2 * p.OW * kPanelNR, out += pooled * p.K)
    pool_panel(panel, p.OW, width, epilogue.relu, y + out, epilogue.argmax ? epilogue.argmax + out : nullptr, p.K);
}

}  // namespace gemm
}  // namespace fastcnn::FASTCNN_ISA
