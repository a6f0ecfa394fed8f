// Winograd's weights: transformed when packed, or as they are where that happens when they are used.
//
// Small ones are packed transformed, [group][36][panel][C][NR], so that a group's weights are one stream. Large ones
// that no batch shares are packed as they are, [panel][C/kDepth][9][kLateTap]: U is four times the weights, and memory
// is slower than the transform.
#pragma once
#include "kernels/winograd_strided.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace winograd {

constexpr int64_t kMostPanels = 8;
// Weights transformed late: planes that one chain sums; floats from one of the 9 taps of a plane to the next, no
// multiple of 4096 bytes, and from one plane to the next
constexpr int64_t kLatePlanes = kManyRegisters ? 8 : 2;
constexpr int64_t kLateTap = kDepth * kPanelNR + 16, kLatePlane = 9 * kLateTap;
FASTCNN_INLINE int64_t panels_of_packed_group(int64_t panels) {
  constexpr int64_t kFew = kPanelNR > kNR ? 1 : 2;
  return smaller(FASTCNN_TILES ? kMostPanels : panels >= 16 * kFew ? 2 * kFew : kFew, panels);
}

// Tiles whose products with weights transformed late are summed in registers: six points of each, beside those of U.
constexpr int64_t kTilesInRegisters = kManyRegisters ? 4 : 1;
FASTCNN_INLINE bool in_registers(int64_t tiles) { return tiles <= kTilesInRegisters; }

// Few tiles, of images that do not share the weights, and more U than stays in a cache from one image to the next: 9
// weights and a transform come sooner than 36 values, the more so for very few tiles, whose products take less time
// than reading U. Tile registers multiply the tiles of a batch so much faster that U is worth keeping.
constexpr int64_t kVeryFewTiles = 4;
FASTCNN_INLINE bool transformed_late(int64_t C, int64_t K, int64_t P, int64_t Q, bool batched) {
  const int64_t tiles = ceil_div(P, kTile) * ceil_div(Q, kTile), bytes = kPoints * C * K * 4;
  const int64_t kept = int64_t{tiles <= kVeryFewTiles && !FASTCNN_TILES ? 1 : 4} << 20;
  return !batched && bytes > kept && tiles <= (FASTCNN_TILES ? kTilesInRegisters : 24);
}

// Products on tile registers, but for weights transformed late, whose products are few, and for strides of 2, which
// they compute faster without Winograd.
FASTCNN_INLINE bool on_tiles(bool late, bool strided) { return FASTCNN_TILES && !late && !strided; }
// Not beside tile registers, nor for maps of few tiles: then a point has too few rows to keep the multipliers busy,
// unless many images bring more.
FASTCNN_INLINE bool nested(bool late, int64_t P, int64_t Q) {
  return !on_tiles(late, false) && ceil_div(P, kTile) * ceil_div(Q, kTile) > (late ? 4 : 1);
}
// Products of an image for each input and output channel
FASTCNN_INLINE int64_t products(const Problem& p) {
  const int64_t rows = ceil_div(p.P, kTile), columns = ceil_div(p.Q, kTile);
  if (p.strided || !nested(p.late, p.P, p.Q)) return all_planes(p.strided) * rows * columns;
  return (p.P + 2 * rows) * (p.Q + 2 * columns);
}
FASTCNN_INLINE int64_t side(const Problem& p) { return on_tiles(p.late, p.strided) ? 2 * kDepth : kDepth; }

FASTCNN_INLINE int64_t packed_size(const Problem& p) {
  const int64_t panels = ceil_div(p.K, kPanelNR), depth = round_up(p.C, side(p));
  return panels * (p.late ? depth / kDepth * kLatePlane : all_planes(p.strided) * depth * kPanelNR);
}

// U = G g G^T in double, rounded once, or g where it is transformed late. `turned`: weights for
// backward-data, w rotated by 180 degrees, C and K exchanged; C and K are those of the convolution computed. scale[k]
// multiplies output (turned: input) channel k of w.
struct Weights {
  const float *w, *scale;
  int64_t C, K;
  bool turned;

  static constexpr int64_t kAtOnce = 2;  // channels, whose weights and U stay in the L1 cache

  // g[kAtOnce][9] for channels c0.. and columns k0.., read as they lie in w; zero beyond C and K
  FASTCNN_INLINE void taps(int64_t c0, int64_t k0, double (*g)[9][kNR]) const {
    const int64_t channels = smaller(kAtOnce, C - c0), columns = smaller(kNR, K - k0);
    for (int64_t c = 0; c < kAtOnce; ++c)
      for (int64_t tap = 0; tap < 9; ++tap)
        for (int64_t i = c < channels ? larger(0, columns) : 0; i < kNR; ++i) g[c][tap][i] = 0;
    if (columns <= 0) return;
    for (int64_t tap = 0; tap < 9; ++tap)
      if (turned) {
        for (int64_t i = 0; i < columns; ++i) {
          const float* const from = w + ((8 - tap) * K + k0 + i) * C + c0;
          prefetch(from - K * C);
          for (int64_t c = 0; c < channels; ++c) g[c][tap][i] = scale ? from[c] * double{scale[c0 + c]} : from[c];
        }
      } else {
        for (int64_t c = 0; c < channels; ++c) {
          const float* const from = w + (tap * C + c0 + c) * K + k0;
          prefetch(from + C * K);
          prefetch(from + C * K + kLanes);
          for (int64_t i = 0; i < columns; ++i) g[c][tap][i] = scale ? from[i] * double{scale[k0 + i]} : from[i];
        }
      }
  }
  static FASTCNN_INLINE void transform(const double (*g)[kNR], float (*u)[kNR]) {
    double half[6][3][kNR];
    for (int r = 0; r < 6; ++r)
      for (int s = 0; s < 3; ++s)
        for (int64_t i = 0; i < kNR; ++i)
          half[r][s][i] = kG[r][0] * g[s][i] + kG[r][1] * g[3 + s][i] + kG[r][2] * g[6 + s][i];
    for (int r = 0; r < 6; ++r)
      for (int s = 0; s < 6; ++s)
        for (int64_t i = 0; i < kNR; ++i)
          u[r * 6 + s][i] =
              static_cast<float>(kG[s][0] * half[r][0][i] + kG[s][1] * half[r][1][i] + kG[s][2] * half[r][2][i]);
  }
};

static void pack(const Problem& p, const float* w, const float* scale, bool turned, float* packed) {
  const int64_t C = p.C, K = p.K;
  const bool late = p.late;
  const Weights weights{w, scale, C, K, turned};
  const int64_t depth = round_up(C, side(p)), panels = ceil_div(K, kPanelNR);
  const int64_t group = panels_of_packed_group(panels);
  constexpr int64_t kRows = kDepth;  // channels a task
  parallel_for_tasks(panels * (depth / kRows), 36 * C * K * 4, [&](int64_t task, int) {
    const int64_t panel = task / (depth / kRows), c0 = task % (depth / kRows) * kRows;
    const int64_t first = panel / group * group, group_panels = smaller(group, panels - first);
    float* plane = packed + (panel * depth + c0) / kDepth * kLatePlane;
    // Channel c0 of plane i of point f
    const auto plane_at = [&](int64_t f, int64_t i) {
      const int64_t before = all_planes(p.strided) * first + planes_before(p.strided, f) * group_panels;
      return packed + ((before + (panel - first) * planes_of_point(p.strided, f) + i) * depth + c0) * kPanelNR;
    };
    for (int64_t c1 = 0; c1 < kRows; c1 += Weights::kAtOnce)
      for (int64_t k = 0; k < kPanelNR; k += kNR) {
        double g[Weights::kAtOnce][9][kNR];
        weights.taps(c0 + c1, panel * kPanelNR + k, g);
        for (int64_t c = c1; c < c1 + Weights::kAtOnce; ++c) {
          if (late) {
            for (int64_t tap = 0; tap < 9; ++tap)
              for (int64_t i = 0; i < kNR; ++i)
                plane[tap * kLateTap + c * kPanelNR + k + i] = static_cast<float>(g[c - c1][tap][i]);
            continue;
          }
          float u[strided::kPlanes][kNR];
          if (p.strided)
            strided::transform_weights(g[c - c1], u);
          else
            Weights::transform(g[c - c1], u);
          for (int64_t f = 0; f < kPoints; ++f)
            for (int64_t plane_of_f = 0; plane_of_f < planes_of_point(p.strided, f); ++plane_of_f) {
              float* const to = plane_at(f, plane_of_f) + c * kPanelNR + k;
              for (int64_t i = 0; i < kNR; ++i) to[i] = u[planes_before(p.strided, f) + plane_of_f][i];
            }
        }
      }
  });
}

}  // namespace winograd
}  // namespace fastcnn::FASTCNN_ISA
