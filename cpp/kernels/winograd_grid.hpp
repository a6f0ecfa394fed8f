// How the work of a Winograd convolution is cut, and where its operands lie.
#pragma once
#include "kernels/winograd_late.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace winograd {

// How the work is cut; a function of the shape only.
struct Grid {
  Tiling tiles;
  int64_t chunk, chunks;
  int64_t side;  // channels of a plane of V and U
  int64_t depth, panels;  // C/side and K/kPanelNR rounded up
  int64_t packed_group, group, groups;  // panels whose planes are packed, and multiplied, at a time; groups
  bool inner, by_point;
  bool late, strided, on_tiles;
  bool owned;  // V of few tiles, by each of two workers
  int64_t rows;  // of V and M in a plane: the chunk's tiles, on tile registers filled up to whole parts
  int64_t v_plane, m_plane;  // floats from one plane of V, and one point of M, to the next
  int64_t v_step;  // from one plane of channels of V to the next
};

// Workers that each have a V of their own beside late weights, since where they share no cache handing it over takes
// longer than transforming it: with chunks of their own, or, of so many tiles at most, by transforming it twice. More
// workers would find too few chunks, and all wait for the transform.
constexpr int64_t kOwners = 2, kOwnedTiles = 24;
constexpr int64_t kPointBytes = int64_t{10} << 20;  // of V and M of a chunk that all share
FASTCNN_INLINE Grid grid(const Problem& p) {
  Grid g;
  g.late = p.late;
  g.strided = p.strided;
  g.tiles = tiling(p, !p.strided && nested(p.late, p.P, p.Q));
  g.on_tiles = on_tiles(p.late, p.strided);
  g.owned = g.late && g.tiles.all <= kOwnedTiles;
  g.side = side(p);
  g.depth = ceil_div(p.C, g.side);
  g.panels = ceil_div(p.K, kPanelNR);
  g.packed_group = g.late ? 1 : panels_of_packed_group(g.panels);
  // V of a chunk: in the L2 cache of one worker, or, shared, in the L3 cache; processors with few registers have L2
  // caches of half a megabyte and less. Tile registers wait for U unless they use it for many tiles.
  int64_t limit;
  g.by_point = false;
  if (g.on_tiles) {
    g.inner = g.tiles.all < 128;
    g.group = g.inner ? (g.panels >= 16 ? 4 : 2) : kMostPanels;
    limit = g.inner ? 196 : p.C <= 64 ? 49 : 98;
  } else {
    g.inner = g.late || g.strided || kPoints * p.C * p.K * 4 > (int64_t{8} << 20) || g.tiles.all < 64;
    g.by_point = g.inner && !g.late;
    g.group = g.by_point ? g.panels : g.packed_group;
    limit = g.by_point  ? kPointBytes / (4 * (all_planes(g.strided) * g.depth * kDepth + kPoints * g.panels * kPanelNR))
            : g.inner   ? 96
            : p.C > 256 ? 36
            : kManyRegisters ? 24
            : p.C > 64       ? 12
                             : 18;
    limit = larger(limit, kPanelMR);
  }
  g.group = smaller(g.group, g.panels);
  g.groups = ceil_div(g.panels, g.group);
  g.chunks = larger(1, ceil_div(g.tiles.all, limit));
  if (g.chunks > 1 && (g.late || !g.inner)) g.chunks = round_up(g.chunks, g.on_tiles || g.late ? 2 : 4);
  g.chunk = larger(1, ceil_div(g.tiles.all, g.chunks));
  g.chunks = ceil_div(g.tiles.all, g.chunk);
  g.rows = g.chunk;
  int64_t v_row = kDepth;
#if FASTCNN_TILES
  if (g.on_tiles) {
    g.rows = tiles::padded_rows(g.chunk);
    v_row = tiles::kGroup;
  }
#endif
  g.v_step = g.rows * v_row;
  g.v_plane = padded_plane(g.depth * g.v_step);
  if (g.late && in_registers(g.rows)) {
    g.v_plane = g.v_step;
    g.v_step = kPoints * g.v_plane;
  }
  g.m_plane = padded_plane(g.group * g.rows * kPanelNR);
  return g;
}

// Of one worker; V is shared when the schedule is inner, and M behind it by point. On tile registers there are parts of
// some groups of U and of the rows of one point of V.
struct Layout {
  int64_t v, m, u, parts, zeros, bytes;
};
#if FASTCNN_TILES
constexpr int64_t kPartsOfU = tiles::kGroupsB * tiles::kGroupParts;
FASTCNN_INLINE int64_t parts_of_v_plane(const Grid& g) { return tiles::kParts * g.rows * tiles::kRowParts; }
#endif
FASTCNN_INLINE int64_t v_bytes(const Grid& g) {
  return round_up(larger(all_planes(g.strided) * g.v_plane, g.depth * g.v_step) * 4, 4096);
}
FASTCNN_INLINE int64_t m_bytes(const Grid& g) { return round_up(kPoints * g.m_plane * 4, 64); }
FASTCNN_INLINE Layout layout(const Grid& g) {
  Layout l;
  l.v = 0;
  l.m = g.inner ? 0 : v_bytes(g);
  l.u = l.m + (g.by_point ? 0 : m_bytes(g));
  l.parts = l.u + (g.late ? late::kStored * late::kUPoint * 4 : 0);
  l.zeros = l.parts;
#if FASTCNN_TILES
  if (g.on_tiles) l.zeros += (kPartsOfU + g.depth * parts_of_v_plane(g)) * 4;
#endif
  l.bytes = l.zeros + g.depth * g.side * 4;
  return l;
}
FASTCNN_INLINE ScratchSize scratch_size(const Problem& p) {
  const Grid g = grid(p);
  const int64_t shared = (g.late ? kOwners : 1) * v_bytes(g) + (g.by_point ? m_bytes(g) : 0);
  return {g.inner ? shared : 0, layout(g).bytes};
}

// The tiles of a chunk that have a point, counted from the chunk's first
FASTCNN_INLINE Range tiles_of_point(const Grid& g, int64_t chunk, int64_t f) {
  const int64_t first = chunk * g.chunk, count = smaller(g.chunk, g.tiles.all - first);
  if (planes_of_point(g.strided, f) == 0) return {0, 0};
  const Range all = tiles_of_point(g.tiles, f);
  const int64_t begin = larger(0, all.begin - first);
  return {begin, larger(begin, smaller(count, all.end - first))};
}

// Where the weights of a panel begin, those of a point or, transformed late, as they are
FASTCNN_INLINE const float* weights_of(const Grid& g, const float* packed, int64_t panel, int64_t f = 0) {
  if (g.late) return packed + panel * g.depth * kLatePlane;
  const int64_t first = panel / g.packed_group * g.packed_group, panels = smaller(g.packed_group, g.panels - first);
  const int64_t before = all_planes(g.strided) * first + planes_before(g.strided, f) * panels;
  return packed + (before + (panel - first) * planes_of_point(g.strided, f)) * g.depth * g.side * kPanelNR;
}
// Floats from one of the 36 planes of a panel's weights to the next, on tile registers
FASTCNN_INLINE int64_t u_plane(const Grid& g, int64_t panel) {
  const int64_t first = panel / g.packed_group * g.packed_group;
  return smaller(g.packed_group, g.panels - first) * g.depth * g.side * kPanelNR;
}

}  // namespace winograd
}  // namespace fastcnn::FASTCNN_ISA
