// Tiles of Winograd's F(4x4, 3x3) and their transforms: Y = A^T [(G g G^T) o (B^T d B)] A.
//
// Lavin & Gray 2016; points {0, +-1/sqrt2, +-sqrt2, infinity}, whose errors are half those of the usual {0, +-1, +-2}
// (Barabasz et al. 2018).
#pragma once
#include "kernels/conv_gemm.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace winograd {

// Where registers are few Winograd keeps panels of two vectors and tiles of six rows: with three by four it takes 3 to
// 4 % longer for 64 and 128 channels.
constexpr int64_t kPanelNR = kManyRegisters ? fastcnn::FASTCNN_ISA::kPanelNR : kNR;
constexpr int kPanelMR = kManyRegisters ? fastcnn::FASTCNN_ISA::kPanelMR : kMR;
constexpr int64_t kTile = 4;
constexpr int64_t kPoints = 36;
constexpr double kRootHalf = 0.70710678118654752440, kRootTwo = 1.41421356237309504880;
constexpr float kA = static_cast<float>(kRootHalf), kB = static_cast<float>(kRootTwo);  // a, b
constexpr float kA2 = 0.5f, kB2 = 2.0f, kSum = 2.5f;                         // a^2, b^2, a^2 + b^2; a^2 b^2 = 1
constexpr float kA3 = kA2 * kA, kB3 = kB2 * kB;

struct Problem {
  int64_t N, H, W, C, K, P, Q, pad_top, pad_left;
  bool late;     // weights are transformed when used
  bool strided;  // by 2 in both directions; see winograd_strided.hpp
};

// A plane of V and U for each point. With strides of 2 a point has one for each of the four convolutions that are
// summed at it: pixels in even rows, of two taps, have the points {a, -a, b, -b, infinity}, those in odd rows, of one
// tap, not infinity; the same for columns.
FASTCNN_INLINE constexpr int64_t planes_of_point(bool strided, int64_t f) {
  const auto parities = [](int64_t i) constexpr { return i == 0 ? 0 : i < 5 ? 2 : 1; };
  return strided ? parities(f / 6) * parities(f % 6) : 1;
}
struct StridedPlanes {
  int64_t before[kPoints + 1] = {};  // a point
  constexpr StridedPlanes() {
    for (int64_t f = 0; f < kPoints; ++f) before[f + 1] = before[f] + planes_of_point(true, f);
  }
};
constexpr StridedPlanes kStridedPlanes;
FASTCNN_INLINE int64_t planes_before(bool strided, int64_t f) { return strided ? kStridedPlanes.before[f] : f; }
FASTCNN_INLINE int64_t all_planes(bool strided) { return planes_before(strided, kPoints); }

// Tiles of 4x4 outputs. Nested ones have, in the last row and column, the outputs that are left only, and drop a point
// for each that is missing; the weights of the others serve them too.
struct Tiling {
  int64_t images, rows, columns, all;  // of an image, and of all images
  int64_t whole_rows, whole_columns;   // of whole tiles
  int64_t last_rows, last_columns;     // outputs of the tiles in the last row and column
};
FASTCNN_INLINE Tiling tiling(const Problem& p, bool nested = false) {
  const int64_t rows = ceil_div(p.P, kTile), columns = ceil_div(p.Q, kTile);
  Tiling g{p.N, rows, columns, p.N * rows * columns, rows, columns, kTile, kTile};
  if (nested && p.P % kTile) {
    g.whole_rows = rows - 1;
    g.last_rows = p.P % kTile;
  }
  if (nested && p.Q % kTile) {
    g.whole_columns = columns - 1;
    g.last_columns = p.Q % kTile;
  }
  return g;
}

// Whether tiles with so many outputs along an axis have point i of it: all six, {0, a, -a, b, -b}, {a, -a, b, -b} or
// {0, a, -a}.
FASTCNN_INLINE bool has_point(int64_t outputs, int64_t i) {
  constexpr int kKept[] = {0, 0b000111, 0b011110, 0b011111, 0b111111};
  return kKept[outputs] >> i & 1;
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

// put(i, value of B^T x) of a tile with so many outputs along the axis, of which the points that it drops do not count.
// With fewer points B has other rows, scaled so that G stays as it is.
template <class Put>
FASTCNN_INLINE void input_pass(int64_t outputs, vf x0, vf x1, vf x2, vf x3, vf x4, vf x5, const Put& put) {
  if (outputs == 1) {
    const vf even_a = x2 * (kA2 - kB2), odd_a = x1 * ((kA2 - kB2) * kA);
    put(0, x0 - x2 * kB2);
    put(1, even_a + odd_a);
    put(2, even_a - odd_a);
    return;
  }
  const bool four = outputs == 2;  // points
  const vf even_a = four ? (x2 - x0 * kB2) * kA2 : x4 - x2 * kB2, odd_a = (x3 - x1 * kB2) * kA;
  const vf even_b = four ? (x2 - x0 * kA2) * kB2 : x4 - x2 * kA2, odd_b = (x3 - x1 * kA2) * kB;
  put(0, (x0 - x2 * kSum) + x4);
  put(1, even_a + odd_a);
  put(2, even_a - odd_a);
  put(3, even_b + odd_b);
  put(4, even_b - odd_b);
  put(5, (x1 - x3 * kSum) + x5);
}

// t = A^T m
FASTCNN_INLINE void output_pass(vf m0, vf m1, vf m2, vf m3, vf m4, vf m5, vf* t, int64_t step) {
  const vf sum_a = m1 + m2, difference_a = m1 - m2, sum_b = m3 + m4, difference_b = m3 - m4;
  t[0 * step] = m0 + sum_a + sum_b;
  t[1 * step] = difference_a * kA + difference_b * kB;
  t[2 * step] = sum_a * kA2 + sum_b * kB2;
  t[3 * step] = difference_a * kA3 + difference_b * kB3 + m5;
}

// Tiles in this order: of all images those of the last column, whole ones, those of the last row, corners. So the tiles
// that have a point follow each other.
struct Order {
  int64_t whole, last_row, corners;  // where they begin
  FASTCNN_INLINE explicit Order(const Tiling& g)
      : whole(g.images * g.whole_rows * (g.columns - g.whole_columns)),
        last_row(whole + g.images * g.whole_rows * g.whole_columns),
        corners(last_row + g.images * (g.rows - g.whole_rows) * g.whole_columns) {}
};
struct Range {
  int64_t begin, end;
};
FASTCNN_INLINE Range tiles_of_point(const Tiling& g, int64_t f) {
  const Order order(g);
  const bool in_row = has_point(g.last_rows, f / 6), in_column = has_point(g.last_columns, f % 6);
  return {in_column ? 0 : order.whole, !in_row ? order.last_row : in_column ? g.all : order.corners};
}

struct TileAt {
  int64_t n, h, w;        // image, first output row and column
  int64_t rows, columns;  // outputs, those beyond the image among them if tiles are not nested
  FASTCNN_INLINE bool whole() const { return rows == kTile && columns == kTile; }
  FASTCNN_INLINE bool has(int64_t f) const { return has_point(rows, f / 6) && has_point(columns, f % 6); }
};
FASTCNN_INLINE TileAt tile_at(const Tiling& g, int64_t tile) {
  const Order order(g);
  const bool last_column = tile < order.whole || tile >= order.corners, last_row = tile >= order.last_row;
  tile -= !last_row ? (last_column ? 0 : order.whole) : last_column ? order.corners : order.last_row;
  const int64_t columns = last_column ? 1 : g.whole_columns, plane = columns * (last_row ? 1 : g.whole_rows);
  return {tile / plane, (last_row ? g.whole_rows : tile % plane / columns) * kTile,
          (last_column ? g.whole_columns : tile % columns) * kTile, last_row ? g.last_rows : kTile,
          last_column ? g.last_columns : kTile};
}

// put(f, value of B^T d B) of kLanes channels from c on, of which `C` minus c are there, for a tile with so many rows
// and columns of outputs, which are constants for whole tiles; pixel(k): pixel k of 6x6, `zeros` in the padding.
template <class Pixel, class Put>
FASTCNN_INLINE void transform_tile(const Pixel& pixel, int64_t output_rows, int64_t output_columns, const float* zeros,
                                   int64_t c, int64_t C, const Prologue& prologue, const Put& put) {
  if (c >= C) {
    for (int64_t f = 0; f < kPoints; ++f) put(f, vf{});
    return;
  }
  vf t[kPoints];
  const auto columns = [&](const auto& at) FASTCNN_LAMBDA {
    for (int64_t s = 0; s < 6; ++s)
      input_pass(output_rows, at(s), at(6 + s), at(12 + s), at(18 + s), at(24 + s), at(30 + s),
                 [&](int64_t i, vf v) FASTCNN_LAMBDA { t[i * 6 + s] = v; });
  };
  const int64_t n = smaller(kLanes, C - c);
  if (prologue.mean) {
    const vf mean = load_upto(prologue.mean + c, n), scale = load_upto(prologue.scale + c, n),
             shift = load_upto(prologue.shift + c, n);
    const vf least = broadcast(prologue.relu ? 0 : -__builtin_inff());
    columns([&](int64_t k) FASTCNN_LAMBDA {
      const float* const from = pixel(k);
      const vf v = (load_upto(from + c, n) - mean) * scale + shift;
      return from == zeros ? vf{} : select(v < least, least, v);
    });
  } else if (n == kLanes) {
    columns([&](int64_t k) FASTCNN_LAMBDA { return load(pixel(k) + c); });
  } else {
    columns([&](int64_t k) FASTCNN_LAMBDA { return load_upto(pixel(k) + c, n); });
  }
  for (int64_t r = 0; r < 6; ++r) {
    if (!has_point(output_rows, r)) continue;
    const vf* const row = t + r * 6;
    input_pass(output_columns, row[0], row[1], row[2], row[3], row[4], row[5],
               [&](int64_t i, vf v) FASTCNN_LAMBDA { put(r * 6 + i, v); });
  }
}

// The side x side pixels under a tile; `zeros` where it lies in the padding.
template <int64_t side, int64_t stride>
static void find_pixels(const Problem& p, const TileAt& at, const float* x, const float* zeros, const float** pixels) {
  for (int64_t r = 0; r < side; ++r)
    for (int64_t s = 0; s < side; ++s) {
      const int64_t h = stride * at.h - p.pad_top + r, w = stride * at.w - p.pad_left + s;
      const bool inside = h >= 0 && h < p.H && w >= 0 && w < p.W;
      pixels[r * side + s] = inside ? x + ((at.n * p.H + h) * p.W + w) * p.C : zeros;
    }
}
// kLanes channels of the columns of a tile that its left neighbour does not have
FASTCNN_INLINE void fetch_columns(const float* const* pixels, int64_t c) {
  for (int64_t r = 0; r < 6; ++r)
    for (int64_t s = 2; s < 6; ++s) prefetch_to_l2(pixels[r * 6 + s] + c);
}

}  // namespace winograd
}  // namespace fastcnn::FASTCNN_ISA
