// Strides of 2 in Winograd's domain: a 3x3 window's taps on even and odd rows and columns are four convolutions of
// stride 1, with 2x2, 2x1, 1x2 and 1x1 taps, over the pixels of one parity each. Their products are summed at the same
// points, 81 instead of 144 for a tile of 4x4 outputs (Huang et al. 2020, DWM).
//
// F(4, 2) has the points {a, -a, b, -b, infinity} of F(4, 3) without 0, so that outputs are turned back by the same
// transform; F(4, 1) has no infinity.
#pragma once
#include "kernels/winograd_transforms.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace winograd {
namespace strided {

constexpr int64_t kSide = 9, kPixels = kSide * kSide;  // under a tile
constexpr int64_t kPlanes = kStridedPlanes.before[kPoints];

// The plane of point (r, s), numbered without 0, of the pixels in rows and columns of these parities
FASTCNN_INLINE constexpr int64_t plane_of(int64_t odd_row, int64_t odd_column, int64_t r, int64_t s) {
  const int64_t f = (r + 1) * 6 + s + 1;
  return kStridedPlanes.before[f] + odd_row * (s < 4 ? 2 : 1) + odd_column;
}

// t = B^T x for the pixels of one parity; odd ones have no x4 and no t[4]
FASTCNN_INLINE void input_pass(bool odd, vf x0, vf x1, vf x2, vf x3, vf x4, vf* t, int64_t step) {
  const vf even_a = (x2 - x0 * kB2) * kA, odd_a = x3 - x1 * kB2;
  const vf even_b = (x2 - x0 * kA2) * kB, odd_b = x3 - x1 * kA2;
  t[0 * step] = odd_a + even_a;
  t[1 * step] = odd_a - even_a;
  t[2 * step] = odd_b + even_b;
  t[3 * step] = odd_b - even_b;
  if (!odd) t[4 * step] = (x0 - x2 * kSum) + x4;
}

// A line of the pixels that a tile does not share with its left neighbour
FASTCNN_INLINE void fetch_pixels(const float* const* pixels, int64_t c) {
  for (int64_t r = 0; r < kSide; ++r)
    for (int64_t s = 1; s < kSide; ++s) prefetch_to_l2(pixels[r * kSide + s] + c);
}

// V of the pixels of one parity: at(row, column) of them, store(plane, values)
template <int64_t odd_row, int64_t odd_column, class At, class Store>
FASTCNN_INLINE void transform_parity(const At& at, const Store& store) {
  vf t[5 * 5];
  FASTCNN_UNROLL for (int64_t s = 0; s < 5 - odd_column; ++s)
      input_pass(odd_row, at(0, s), at(1, s), at(2, s), at(3, s), odd_row ? vf{} : at(4, s), t + s, 5);
  FASTCNN_UNROLL for (int64_t r = 0; r < 5 - odd_row; ++r) {
    const vf* const row = t + r * 5;
    vf v[5];
    input_pass(odd_column, row[0], row[1], row[2], row[3], odd_column ? vf{} : row[4], v, 1);
    FASTCNN_UNROLL for (int64_t s = 0; s < 5 - odd_column; ++s) store(plane_of(odd_row, odd_column, r, s), v[s]);
  }
}

// V of kLanes channels from c on, to planes v_plane floats apart
FASTCNN_INLINE void transform_tile(const float* const* pixels, const float* zeros, int64_t c, int64_t C,
                                   const Prologue& prologue, float* v, int64_t v_plane) {
  const int64_t n = smaller(kLanes, C - c);
  const auto store_plane = [&](int64_t plane, vf value) FASTCNN_LAMBDA { store(v + plane * v_plane, value); };
  if (n <= 0) {
    for (int64_t plane = 0; plane < kPlanes; ++plane) store_plane(plane, vf{});
    return;
  }
  const auto transform = [&](const auto& load_pixel) FASTCNN_LAMBDA {
    const auto parity = [&]<int64_t odd_row, int64_t odd_column>() FASTCNN_LAMBDA {
      const auto at = [&](int64_t r, int64_t s)
                          FASTCNN_LAMBDA { return load_pixel(pixels[(2 * r + odd_row) * kSide + 2 * s + odd_column]); };
      transform_parity<odd_row, odd_column>(at, store_plane);
    };
    parity.template operator()<0, 0>();
    parity.template operator()<0, 1>();
    parity.template operator()<1, 0>();
    parity.template operator()<1, 1>();
  };
  if (prologue.mean)
    transform([&](const float* pixel) FASTCNN_LAMBDA {
      return pixel == zeros ? vf{} : normalised(prologue, load_upto(pixel + c, n), c, n);
    });
  else if (n == kLanes)
    transform([&](const float* pixel) FASTCNN_LAMBDA { return load(pixel + c); });
  else
    transform([&](const float* pixel) FASTCNN_LAMBDA { return load_upto(pixel + c, n); });
}

// U = G g G^T of each parity, in the order of planes; g[9][kNR]
static void transform_weights(const double (*g)[kNR], float (*u)[kNR]) {
  // 1 / N(q) and q / N(q) of the finite points
  constexpr double kOverN[4] = {-1 / (3 * kRootHalf), 1 / (3 * kRootHalf), 1 / (3 * kRootTwo), -1 / (3 * kRootTwo)};
  constexpr double kPoint[4] = {kRootHalf, -kRootHalf, kRootTwo, -kRootTwo};
  // The taps of a row or column of the window at point i: those of even pixels are the first and last
  const auto coefficients = [&](int64_t odd, int64_t i, double(*to)) {
    to[0] = odd ? 0 : i < 4 ? kOverN[i] : 0;
    to[1] = odd ? kOverN[i] : 0;
    to[2] = odd ? 0 : i < 4 ? kOverN[i] * kPoint[i] : 1;
  };
  for (int64_t odd_row = 0; odd_row < 2; ++odd_row)
    for (int64_t odd_column = 0; odd_column < 2; ++odd_column)
      for (int64_t r = 0; r < 5 - odd_row; ++r)
        for (int64_t s = 0; s < 5 - odd_column; ++s) {
          double rows[3], columns[3];
          coefficients(odd_row, r, rows);
          coefficients(odd_column, s, columns);
          float* const to = u[plane_of(odd_row, odd_column, r, s)];
          for (int64_t k = 0; k < kNR; ++k) {
            double sum = 0;
            for (int64_t a = odd_row; a < 3; a += 2)
              for (int64_t b = odd_column; b < 3; b += 2) sum += rows[a] * columns[b] * g[a * 3 + b][k];
            to[k] = static_cast<float>(sum);
          }
        }
}

}  // namespace strided
}  // namespace winograd
}  // namespace fastcnn::FASTCNN_ISA
