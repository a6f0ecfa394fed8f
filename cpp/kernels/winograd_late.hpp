// Winograd's products with weights that are transformed when used: M of one panel from V and w.
//
// U is that of G without its rows' factors, which V takes instead: then a point costs one multiply-add.
//
// Two ways with equal bits. For a few tiles the sums of a row of M stay in registers and each value of U is used as
// soon as it is there; for more, one or two rows of U of some planes of channels are stored and multiplied by tiles.
// Either way a chain sums kLatePlanes planes, in ascending channels, and chains are added up in memory.
#pragma once
#include "kernels/winograd_packing.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace winograd {
namespace late {

constexpr int64_t kPlane = kDepth * kPanelNR;
constexpr int64_t kUPoint = kLatePlanes * kPlane + 16;  // floats of U from one point to the next

// The factors that V takes, of each point
struct Factors {
  float of[kPoints] = {};
  constexpr Factors() {
    const auto factor = [](int64_t i) constexpr { return i < 5 ? kG[i][0] : 1; };
    for (int64_t f = 0; f < kPoints; ++f) of[f] = static_cast<float>(factor(f / 6) * factor(f % 6));
  }
};
constexpr Factors kFactors;

// use(s, U[r][s]) for the six points of row r, from row r of G g: each as soon as it is known, since registers are few
template <class F>
FASTCNN_INLINE void points_of_u(const vf* h, const F& use) {
  use(0, h[0]);
  use(5, h[2]);
  const vf even_a = h[0] + h[2] * kA2;
  use(1, even_a + h[1] * kA);
  use(2, even_a - h[1] * kA);
  const vf even_b = h[0] + h[2] * kB2;
  use(3, even_b + h[1] * kB);
  use(4, even_b - h[1] * kB);
}

// The same for row r of U = G g G^T and a vector of outputs; its taps lie kLateTap apart.
template <int64_t r, class F>
FASTCNN_INLINE void row_of_u(const float* taps, const F& use) {
  constexpr float q = r < 3 ? kA : kB, q2 = r < 3 ? kA2 : kB2;
  vf h[3];
  FASTCNN_UNROLL for (int64_t s = 0; s < 3; ++s) {
    const float* const at = taps + s * kLateTap;
    if constexpr (r == 0) {
      h[s] = load(at);
    } else if constexpr (r == 5) {
      h[s] = load(at + 6 * kLateTap);
    } else {
      const vf even = load(at) + load(at + 6 * kLateTap) * q2;
      h[s] = r % 2 == 1 ? even + load(at + 3 * kLateTap) * q : even - load(at + 3 * kLateTap) * q;
    }
  }
  points_of_u(h, use);
}

// Rows of U in the order in which they are stored. Two neighbours have their products with taps in common, with the
// same bits as alone; where registers are few they come one by one.
constexpr int64_t kOrder[6] = {0, 5, 1, 2, 3, 4};
constexpr int64_t kRows = kManyRegisters ? 2 : 1, kParts = 6 / kRows, kStored = 6 * kRows;
// use(i, point) for the kStored points of a part
template <int64_t part, class F>
FASTCNN_INLINE void rows_of_u(const float* taps, const F& use) {
  const auto use_second = [&](int64_t s, vf u) FASTCNN_LAMBDA { use(6 + s, u); };
  if constexpr (kRows == 1) {
    row_of_u<kOrder[part]>(taps, use);
  } else if constexpr (part == 0) {
    row_of_u<0>(taps, use);
    row_of_u<5>(taps, use_second);
  } else {
    constexpr float q = part == 1 ? kA : kB, q2 = part == 1 ? kA2 : kB2;
    vf h[2][3];
    FASTCNN_UNROLL for (int64_t s = 0; s < 3; ++s) {
      const float* const at = taps + s * kLateTap;
      const vf even = load(at) + load(at + 6 * kLateTap) * q2;
      h[0][s] = even + load(at + 3 * kLateTap) * q;
      h[1][s] = even - load(at + 3 * kLateTap) * q;
    }
    points_of_u(h[0], use);
    points_of_u(h[1], use_second);
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

// Vectors of outputs whose weights share cache lines: they take turns plane by plane, and each fetches a part of the
// plane that follows while it multiplies.
constexpr int64_t kSharing = kLanes == 16 ? 1 : 2;

// One plane of channels and one vector of outputs, number i of those that share lines: continues the chains
// sums[36][T][kLanes], or begins them; next: the plane of that vector that follows.
template <int T, int64_t i>
FASTCNN_INLINE void multiply_plane(const Operands& o, int64_t plane, const float* taps, const float* next, bool begin,
                                   float* sums) {
  each<6>([&]<int64_t r>() FASTCNN_LAMBDA {
    vf row[6][T];
    FASTCNN_UNROLL for (int s = 0; s < 6; ++s) {
      FASTCNN_UNROLL for (int t = 0; t < T; ++t) row[s][t] = begin ? vf{} : load(sums + ((r * 6 + s) * T + t) * kLanes);
    }
    const float* const v = o.v + (plane * kPoints + r * 6) * T * kDepth;
    for (int64_t c = 0; c < kDepth; ++c) {
      FASTCNN_UNROLL for (int64_t tap = i; tap < 9; tap += kSharing) {
        if (tap / kSharing % 6 == r) prefetch_to_l2(next + tap * kLateTap + c * kPanelNR);
      }
      row_of_u<r>(taps + c * kPanelNR, [&](int64_t s, vf u) FASTCNN_LAMBDA {
        FASTCNN_UNROLL for (int t = 0; t < T; ++t) row[s][t] += broadcast(v[(s * T + t) * kDepth + c]) * u;
      });
    }
    FASTCNN_UNROLL for (int s = 0; s < 6; ++s) {
      FASTCNN_UNROLL for (int t = 0; t < T; ++t) store(sums + ((r * 6 + s) * T + t) * kLanes, row[s][t]);
    }
  });
}

template <int T>
static void multiply_in_registers(const Operands& o, int64_t vectors) {
  const int64_t chunks = ceil_div(o.depth, kLatePlanes);
  for (int64_t first = 0; first < vectors; first += kSharing) {
    const bool last = first + kSharing >= vectors;
    const float* const following = last ? o.w + o.depth * kLatePlane : o.w + (first + kSharing) * kLanes;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t begin = o.depth * chunk / chunks, end = o.depth * (chunk + 1) / chunks;
      alignas(64) float sums[kSharing][kPoints * T * kLanes];
      for (int64_t d = begin; d < end; ++d) {
        const float* const taps = o.w + d * kLatePlane + first * kLanes;
        const float* const next = d + 1 < o.depth ? taps + kLatePlane : following;
        each<kSharing>([&]<int64_t i>() FASTCNN_LAMBDA {
          if (first + i < vectors)
            multiply_plane<T, i>(o, d, taps + i * kLanes, next + i * kLanes, d == begin, sums[i]);
        });
      }
      for (int64_t i = 0; i < smaller(kSharing, vectors - first); ++i)
        for (int64_t f = 0; f < kPoints; ++f)
          for (int64_t t = 0; t < T; ++t) {
            float* const to = o.m + f * o.m_plane + t * kPanelNR + (first + i) * kLanes;
            const vf sum = load(sums[i] + (f * T + t) * kLanes);
            store(to, chunk ? sum + load(to) : sum);
          }
    }
  }
}

// A part of U of some planes of weights, in u[kStored][kUPoint].
template <int64_t part>
FASTCNN_INLINE void store_rows_of_u(const float* w, int64_t planes, float* u) {
  for (int64_t d = 0; d < planes; ++d, w += kLatePlane)
    for (int64_t k = 0; k < kPlane; k += kLanes, u += kLanes)
      rows_of_u<part>(w + k, [&](int64_t i, vf point) FASTCNN_LAMBDA { store(u + i * kUPoint, point); });
}

static void multiply_by_tiles(const Operands& o, int64_t columns, float* u) {
  const int64_t chunks = ceil_div(o.depth, kLatePlanes);
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t begin = o.depth * chunk / chunks, planes = o.depth * (chunk + 1) / chunks - begin;
    int64_t products = 0;  // while which the planes that follow are fetched
    for (int64_t f = 0; f < kPoints; ++f) products += ceil_div(o.tiles[f].end - o.tiles[f].begin, kPanelMR) * planes;
    Ahead ahead(o.w + (begin + planes) * kLatePlane, planes * kLatePlane, products);
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
              for (int64_t d = 0; d < planes; ++d) {
                ahead.fetch();
                tile.multiply(BlockA<kDepth, 1>{v + d * o.v_rows * kDepth}, u + s * kUPoint + d * kPlane, kPanelNR,
                              kDepth);
              }
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
