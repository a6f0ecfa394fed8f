// Tiles of Winograd's F(4x4, 3x3) and their transforms: Y = A^T [(G g G^T) o (B^T d B)] A.
//
// Lavin & Gray 2016; points {0, +-1/sqrt2, +-sqrt2, infinity}, whose errors are half those of the usual {0, +-1, +-2}
// (Barabasz et al. 2018).
#pragma once
#include "kernels/conv_gemm.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace winograd {

constexpr int64_t kTile = 4;
constexpr int64_t kPoints = 36;
constexpr double kRootHalf = 0.70710678118654752440, kRootTwo = 1.41421356237309504880;
constexpr float kA = static_cast<float>(kRootHalf), kB = static_cast<float>(kRootTwo);  // a, b
constexpr float kA2 = 0.5f, kB2 = 2.0f, kSum = 2.5f;                         // a^2, b^2, a^2 + b^2; a^2 b^2 = 1
constexpr float kA3 = kA2 * kA, kB3 = kB2 * kB;

struct Problem {
  int64_t N, H, W, C, K, P, Q, pad_top, pad_left;
  bool late;  // weights are transformed when used
};

// Tiles of 4x4 outputs.
struct Tiling {
  int64_t rows, columns, all;  // of an image, and of all images
};
FASTCNN_INLINE Tiling tiling(const Problem& p) {
  const int64_t rows = ceil_div(p.P, kTile), columns = ceil_div(p.Q, kTile);
  return {rows, columns, p.N * rows * columns};
}

// Planes a multiple of 4096 bytes apart would all fall into the same cache sets.
FASTCNN_INLINE int64_t padded_plane(int64_t floats) { return round_up(floats, 32) + 16; }

// Rows of G: [1, q, q^2] / N(q) for the finite points, then [0, 0, 1].
constexpr double kG[6][3] = {{1, 0, 0},
                             {-2.0 / 3, -2.0 / 3 * kRootHalf, -1.0 / 3},
                             {-2.0 / 3, 2.0 / 3 * kRootHalf, -1.0 / 3},
                             {1.0 / 6, kRootTwo / 6, 1.0 / 3},
                             {1.0 / 6, -kRootTwo / 6, 1.0 / 3},
                             {0, 0, 1}};

// t = B^T x
FASTCNN_INLINE void input_pass(vf x0, vf x1, vf x2, vf x3, vf x4, vf x5, vf* t, int64_t step) {
  const vf even_a = x4 - x2 * kB2, odd_a = (x3 - x1 * kB2) * kA;
  const vf even_b = x4 - x2 * kA2, odd_b = (x3 - x1 * kA2) * kB;
  t[0 * step] = (x0 - x2 * kSum) + x4;
  t[1 * step] = even_a + odd_a;
  t[2 * step] = even_a - odd_a;
  t[3 * step] = even_b + odd_b;
  t[4 * step] = even_b - odd_b;
  t[5 * step] = (x1 - x3 * kSum) + x5;
}

// t = A^T m
FASTCNN_INLINE void output_pass(vf m0, vf m1, vf m2, vf m3, vf m4, vf m5, vf* t, int64_t step) {
  const vf sum_a = m1 + m2, difference_a = m1 - m2, sum_b = m3 + m4, difference_b = m3 - m4;
  t[0 * step] = m0 + sum_a + sum_b;
  t[1 * step] = difference_a * kA + difference_b * kB;
  t[2 * step] = sum_a * kA2 + sum_b * kB2;
  t[3 * step] = difference_a * kA3 + difference_b * kB3 + m5;
}

struct TileAt {
  int64_t n, h, w;  // image, first output row and column
};
FASTCNN_INLINE TileAt tile_at(const Tiling& g, int64_t tile) {
  const int64_t plane = g.rows * g.columns;
  return {tile / plane, tile % plane / g.columns * kTile, tile % g.columns * kTile};
}

// B^T d B of kLanes channels from c on, of which `C` minus c are there
FASTCNN_INLINE void transform_tile(const float* const* rows, const float* zeros, int64_t c, int64_t C,
                                   const Prologue& prologue, vf* out) {
  if (c >= C) {
    for (int64_t f = 0; f < kPoints; ++f) out[f] = vf{};
    return;
  }
  vf t[kPoints];
  const auto columns = [&](const auto& at_row) FASTCNN_LAMBDA {
    for (int64_t s = 0; s < 6; ++s)
      input_pass(at_row(s), at_row(6 + s), at_row(12 + s), at_row(18 + s), at_row(24 + s), at_row(30 + s), t + s, 6);
  };
  const int64_t n = smaller(kLanes, C - c);
  if (prologue.mean) {
    const vf mean = load_upto(prologue.mean + c, n), scale = load_upto(prologue.scale + c, n),
             shift = load_upto(prologue.shift + c, n);
    const vf least = broadcast(prologue.relu ? 0 : -__builtin_inff());
    columns([&](int64_t k) FASTCNN_LAMBDA {
      const vf v = (load_upto(rows[k] + c, n) - mean) * scale + shift;
      return rows[k] == zeros ? vf{} : select(v < least, least, v);
    });
  } else if (n == kLanes) {
    columns([&](int64_t k) FASTCNN_LAMBDA { return load(rows[k] + c); });
  } else {
    columns([&](int64_t k) FASTCNN_LAMBDA { return load_upto(rows[k] + c, n); });
  }
  for (int64_t r = 0; r < 6; ++r) {
    const vf* row = t + r * 6;
    input_pass(row[0], row[1], row[2], row[3], row[4], row[5], out + r * 6, 1);
  }
}

// The pixels of a tile; `zeros` where it lies in the padding.
static void find_pixels(const Problem& p, const Tiling& g, const float* x, int64_t tile, const float* zeros,
                        const float** pixels) {
  const TileAt at = tile_at(g, tile);
  for (int64_t r = 0; r < 6; ++r)
    for (int64_t s = 0; s < 6; ++s) {
      const int64_t h = at.h - p.pad_top + r, w = at.w - p.pad_left + s;
      const bool inside = h >= 0 && h < p.H && w >= 0 && w < p.W;
      pixels[r * 6 + s] = inside ? x + ((at.n * p.H + h) * p.W + w) * p.C : zeros;
    }
}
// kLanes channels of the columns of a tile that its left neighbour does not have
FASTCNN_INLINE void fetch_columns(const float* const* pixels, int64_t c) {
  for (int64_t r = 0; r < 6; ++r)
    for (int64_t s = 2; s < 6; ++s) prefetch_to_l2(pixels[r * 6 + s] + c);
}

}  // namespace winograd
}  // namespace fastcnn::FASTCNN_ISA
