// Winograd's products with weights that are transformed when used: M of one panel from V and w.
//
// Two ways with equal bits. For a few tiles the sums of a row of M stay in registers and each value of U is used as
// soon as it is there; for more, one or two rows of U of some planes of channels are stored and multiplied by tiles.
// Either way a chain sums kLatePlanes planes, in ascending channels, and chains are added up in memory.
#pragma once
#include "kernels/winograd_packing.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace winograd {
namespace late {

constexpr int64_t kVectors = kPanelNR / kLanes;
constexpr int64_t kPlane = kDepth * kPanelNR;
constexpr int64_t kUPoint = kLatePlanes * kPlane + 16;  // floats of U from one point to the next

// Six points of a row of U: a row of G g, transformed as G g was
FASTCNN_INLINE void points_of_u(const vf* h, vf* u) {
  constexpr float third = 1.0f / 3;
  const vf even_a = (h[0] * 2.0f + h[2]) * -third, odd_a = h[1] * (2 * third * kA);
  const vf even_b = (h[0] * 0.5f + h[2]) * third, odd_b = h[1] * (0.5f * third * kB);
  u[0] = h[0];
  u[1] = even_a - odd_a;
  u[2] = even_a + odd_a;
  u[3] = even_b + odd_b;
  u[4] = even_b - odd_b;
  u[5] = h[2];
}

// Row r of U = G g G^T for a vector of outputs; its taps lie kLateTap apart.
template <int64_t r>
FASTCNN_INLINE void row_of_u(const float* taps, vf* u) {
  constexpr float g0 = static_cast<float>(kG[r][0]), g1 = static_cast<float>(kG[r][1]),
                  g2 = static_cast<float>(kG[r][2]);
  vf h[3];
  FASTCNN_UNROLL for (int64_t s = 0; s < 3; ++s) {
    const float* const at = taps + s * kLateTap;
    if constexpr (r == 0)
      h[s] = load(at);
    else if constexpr (r == 5)
      h[s] = load(at + 6 * kLateTap);
    else
      h[s] = (load(at) * g0 + load(at + 6 * kLateTap) * g2) + load(at + 3 * kLateTap) * g1;
  }
  points_of_u(h, u);
}

// Rows of U in the order in which they are stored. Two neighbours have their products with taps in common, with the
// same bits as alone; where registers are few they come one by one.
constexpr int64_t kOrder[6] = {0, 5, 1, 2, 4, 3};
constexpr int64_t kRows = kManyRegisters ? 2 : 1, kParts = 6 / kRows, kStored = 6 * kRows;
template <int64_t part>
FASTCNN_INLINE void rows_of_u(const float* taps, vf* u) {
  if constexpr (kRows == 1) {
    row_of_u<kOrder[part]>(taps, u);
  } else if constexpr (part == 0) {
    row_of_u<0>(taps, u);
    row_of_u<5>(taps, u + 6);
  } else {
    constexpr const double* const g = kG[kOrder[part * 2 + 1]];
    constexpr float g0 = static_cast<float>(g[0]), g1 = static_cast<float>(g[1]), g2 = static_cast<float>(g[2]);
    vf h[2][3];
    FASTCNN_UNROLL for (int64_t s = 0; s < 3; ++s) {
      const float* const at = taps + s * kLateTap;
      const vf even = load(at) * g0 + load(at + 6 * kLateTap) * g2, odd = load(at + 3 * kLateTap) * g1;
      h[0][s] = even - odd;
      h[1][s] = even + odd;
    }
    points_of_u(h[0], u);
    points_of_u(h[1], u + 6);
  }
}

// f.template operator()<i>() for i = 0..count-1
template <int64_t count, int64_t i = 0, class F>
FASTCNN_INLINE void each(const F& f) {
  if constexpr (i < count) {
    f.template operator()<i>();
    each<count, i + 1>(f);
  }
}

// What one product reads and writes.
struct Operands {
  const float* v;  // [36][depth][tiles][kDepth]; in registers [depth][36][tiles][kDepth]
  int64_t v_plane, v_rows, depth;
  const float* w;  // [depth][9][kLateTap]
  float* m;        // [36][tiles][kPanelNR]
  int64_t m_plane;
  const Range* tiles;  // that have a point; in registers all
};

// One plane of channels and one vector of outputs: continues the chains sums[36][T][kLanes], or begins them.
template <int T>
FASTCNN_INLINE void multiply_plane(const Operands& o, int64_t plane, const float* taps, const float* next, bool begin,
                                   float* sums) {
  each<6>([&]<int64_t r>() FASTCNN_LAMBDA {
    vf row[6][T];
    FASTCNN_UNROLL for (int s = 0; s < 6; ++s) {
      FASTCNN_UNROLL for (int t = 0; t < T; ++t) row[s][t] = begin ? vf{} : load(sums + ((r * 6 + s) * T + t) * kLanes);
    }
    const float* const v = o.v + (plane * kPoints + r * 6) * T * kDepth;
    for (int64_t c = 0; c < kDepth; ++c) {
      if constexpr (r < 3) {
        FASTCNN_UNROLL for (int64_t s = 0; s < 3; ++s) prefetch_to_l2(next + (r * 3 + s) * kLateTap + c * kPanelNR);
      }
      vf u[6];
      row_of_u<r>(taps + c * kPanelNR, u);
      FASTCNN_UNROLL for (int s = 0; s < 6; ++s) {
        FASTCNN_UNROLL for (int t = 0; t < T; ++t) row[s][t] += broadcast(v[(s * T + t) * kDepth + c]) * u[s];
      }
    }
    FASTCNN_UNROLL for (int s = 0; s < 6; ++s) {
      FASTCNN_UNROLL for (int t = 0; t < T; ++t) store(sums + ((r * 6 + s) * T + t) * kLanes, row[s][t]);
    }
  });
}

template <int T>
static void multiply_in_registers(const Operands& o, int64_t vectors) {
  const int64_t chunks = ceil_div(o.depth, kLatePlanes);
  const auto weights = [&](int64_t plane, int64_t vector)
                           FASTCNN_LAMBDA { return o.w + plane * kLatePlane + vector * kLanes; };
  for (int64_t vector = 0; vector < vectors; ++vector)
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t begin = o.depth * chunk / chunks, end = o.depth * (chunk + 1) / chunks;
      alignas(64) float sums[kPoints * T * kLanes];
      for (int64_t d = begin; d < end; ++d)
        multiply_plane<T>(o, d, weights(d, vector), d + 1 < o.depth ? weights(d + 1, vector) : weights(0, vector + 1),
                          d == begin, sums);
      for (int64_t f = 0; f < kPoints; ++f)
        for (int64_t t = 0; t < T; ++t) {
          float* const to = o.m + f * o.m_plane + t * kPanelNR + vector * kLanes;
          const vf sum = load(sums + (f * T + t) * kLanes);
          store(to, chunk ? sum + load(to) : sum);
        }
    }
}

// A part of U of some planes of weights, in u[kStored][kUPoint]; fetches its share of the planes that follow.
template <int64_t part>
FASTCNN_INLINE void store_rows_of_u(const float* w, int64_t planes, float* u) {
  const float* ahead = w + planes * kLatePlane + part * kLateTap;
  for (int64_t d = 0; d < planes; ++d, w += kLatePlane, ahead += kLatePlane)
    for (int64_t k = 0; k < kPlane; k += kLanes, u += kLanes) {
      FASTCNN_UNROLL for (int64_t tap = part; tap < 9; tap += kParts)
          prefetch_to_l2(ahead + (tap - part) * kLateTap + k);
      vf points[kStored];
      rows_of_u<part>(w + k, points);
      FASTCNN_UNROLL for (int s = 0; s < kStored; ++s) store(u + s * kUPoint, points[s]);
    }
}

static void multiply_by_tiles(const Operands& o, int64_t columns, float* u) {
  const int64_t chunks = ceil_div(o.depth, kLatePlanes);
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t begin = o.depth * chunk / chunks, planes = o.depth * (chunk + 1) / chunks - begin;
    each<kParts>([&]<int64_t part>() FASTCNN_LAMBDA {
      store_rows_of_u<part>(o.w + begin * kLatePlane, planes, u);
      const auto point = [](int64_t s) { return kOrder[part * kRows + s / 6] * 6 + s % 6; };
      // Points of the same tiles one after the other: the number of rows is then known for all of them.
      int64_t done = 0;
      for (int64_t first = 0; first < kStored; ++first) {
        if (done >> first & 1) continue;
        const Range range = o.tiles[point(first)];
        int64_t same = 0;
        for (int64_t s = first; s < kStored; ++s)
          if (o.tiles[point(s)].begin == range.begin && o.tiles[point(s)].end == range.end) same |= int64_t{1} << s;
        done |= same;
        for_tiles<kPanelMR>(range.end - range.begin, [&](int64_t i, int64_t rows) {
          with_rows<kPanelMR>(rows, [&]<int MR>() {
            const auto run_tile = [&](auto tile, int64_t s) FASTCNN_LAMBDA {
              const int64_t t = range.begin + i, f = point(s);
              const float* const v = o.v + f * o.v_plane + (begin * o.v_rows + t) * kDepth;
              float* const sums = o.m + f * o.m_plane + t * kPanelNR;
              tile.zero();
              for (int64_t d = 0; d < planes; ++d)
                tile.multiply(BlockA<kDepth, 1>{v + d * o.v_rows * kDepth}, u + s * kUPoint + d * kPlane, kPanelNR,
                              kDepth);
              if (chunk) tile.add_from(sums, kPanelNR);
              tile.store_to(sums, kPanelNR);
            };
            with_vectors(columns, [&]<int kVectors>() {
              for (int64_t s = first; s < kStored; ++s)
                if (same >> s & 1) run_tile(Tile<MR, kVectors>(), s);
            });
          });
        });
      }
    });
  }
}

// M of one panel of so many columns and the `count` tiles of a chunk; u: room for kStored points.
static void multiply(const Operands& o, int64_t columns, int64_t count, float* u) {
  if (in_registers(o.v_rows))
    with_rows<kTilesInRegisters>(count, [&]<int T>() { multiply_in_registers<T>(o, ceil_div(columns, kLanes)); });
  else
    multiply_by_tiles(o, columns, u);
}

}  // namespace late
}  // namespace winograd
}  // namespace fastcnn::FASTCNN_ISA
