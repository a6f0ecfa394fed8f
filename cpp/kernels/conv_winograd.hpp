// 3x3 stride 1 by Winograd: 36 instead of 144 products a tile and channel.
//
// Tiles of 4x4 outputs are transformed into V[36][C/side][T][side]; 36 GEMMs with U give M[36][panel][T][NR], which is
// turned back.
//
// Two schedules with equal bits: "outer" gives each worker a chunk of tiles, whose groups of panels it multiplies and
// turns back one after the other, while M is in its cache; "inner", for few tiles and, on vectors, large weights,
// transforms one chunk together and then shares out the groups, or, on vectors, the 36 points and then the panels of M:
// so U and V are read once a chunk.
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
  int64_t packed_group, group, groups;  // panels of which 36 planes are packed, and multiplied, at a time; groups
  bool inner, by_point;
  bool late, strided, on_tiles;
  int64_t rows;  // of V and M in a plane: the chunk's tiles, on tile registers filled up to whole parts
  int64_t v_plane, m_plane;  // floats from one of the 36 planes to the next
  int64_t v_step;  // from one plane of channels of V to the next
};

constexpr int64_t kPointBytes = int64_t{10} << 20;  // of V and M of a chunk that all share
FASTCNN_INLINE Grid grid(const Problem& p) {
  Grid g;
  g.late = p.late;
  g.strided = p.strided;
  g.tiles = tiling(p, !p.strided && nested(p.late, p.P, p.Q));
  g.on_tiles = on_tiles(p.late, p.strided);
  g.side = side(p);
  g.depth = ceil_div(p.C, g.side);
  g.panels = ceil_div(p.K, kPanelNR);
  g.packed_group = g.late ? 1 : panels_of_packed_group(g.panels);
  // V of a chunk: in the L2 cache of one worker, or, shared, in the L3 cache. Tile registers wait for U unless they use
  // it for many tiles.
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
    limit = g.by_point ? kPointBytes / (4 * (all_planes(g.strided) * g.depth * kDepth + kPoints * g.panels * kPanelNR))
            : g.inner  ? 96
            : p.C <= 256 ? 24
                         : 36;
    limit = larger(limit, kPanelMR);
  }
  g.group = smaller(g.group, g.panels);
  g.groups = ceil_div(g.panels, g.group);
  g.chunks = larger(1, ceil_div(g.tiles.all, limit));
  if (!g.inner && g.chunks > 1) g.chunks = round_up(g.chunks, g.on_tiles ? 2 : 4);
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
  return {g.inner ? v_bytes(g) + (g.by_point ? m_bytes(g) : 0) : 0, layout(g).bytes};
}
// V of tiles first..first+count-1, which are tiles `place`.. of the chunk
static void transform_strided(const Problem& p, const Grid& g, const Prologue& prologue, const float* x, int64_t first,
                              int64_t count, int64_t place, const float* zeros, float* v) {
  const float* found[2][strided::kPixels];
  strided::find_pixels(p, tile_at(g.tiles, first), x, zeros, found[0]);
  for (int64_t i = 0; i < count; ++i) {
    const float* const* const pixels = found[i % 2];
    const float** const ahead = found[(i + 1) % 2];
    strided::find_pixels(p, tile_at(g.tiles, smaller(first + i + 1, g.tiles.all - 1)), x, zeros, ahead);
    for (int64_t c = 0; c < g.depth * kDepth; c += kLanes) {
      if (c % kDepth == 0) strided::fetch_pixels(ahead, smaller(c, p.C - 1));
      float* const out = v + c / kDepth * g.v_step + (place + i) * kDepth + c % kDepth;
      strided::transform_tile(pixels, zeros, c, p.C, prologue, out, g.v_plane);
    }
  }
}
static void transform_input(const Problem& p, const Grid& g, const Prologue& prologue, const float* x, int64_t first,
                            int64_t count, int64_t place, const float* zeros, float* v) {
  if (g.strided) return transform_strided(p, g, prologue, x, first, count, place, zeros, v);
  const float* pixels[2][kPoints];
  TileAt at = tile_at(g.tiles, first), next = at;
  find_pixels(p, at, x, zeros, pixels[0]);
  for (int64_t i = 0; i < count; ++i, at = next) {
    const float* const* const rows = pixels[i % 2];
    const float** const ahead = pixels[(i + 1) % 2];
    next = tile_at(g.tiles, smaller(first + i + 1, g.tiles.all - 1));
    find_pixels(p, next, x, zeros, ahead);
#if FASTCNN_TILES
    if (g.on_tiles) {
      for (int64_t d = 0; d < g.depth; ++d) {
        float* out = v + (d * g.rows + place + i) * tiles::kGroup;
        vf low[kPoints], high[kPoints];
        fetch_columns(ahead, smaller(d * g.side, p.C - 1));
        fetch_columns(ahead, smaller(d * g.side + kLanes, p.C - 1));
        transform_tile(rows, kTile, kTile, zeros, d * g.side, p.C, prologue, low);
        transform_tile(rows, kTile, kTile, zeros, d * g.side + kLanes, p.C, prologue, high);
        for (int64_t f = 0; f < kPoints; ++f, out += g.v_plane) {
          store(out, low[f]);
          store(out + kLanes, high[f]);
        }
      }
      continue;
    }
#endif
    for (int64_t c = 0; c < g.depth * kDepth; c += kLanes) {
      float* out = v + c / kDepth * g.v_step + (place + i) * kDepth + c % kDepth;
      vf u[kPoints];
      fetch_columns(ahead, smaller(c, p.C - 1));
      if (at.whole()) {
        transform_tile(rows, kTile, kTile, zeros, c, p.C, prologue, u);
        for (int64_t f = 0; f < kPoints; ++f) store(out + f * g.v_plane, u[f]);
      } else {
        transform_tile(rows, at.rows, at.columns, zeros, c, p.C, prologue, u);
        for (int64_t f = 0; f < kPoints; ++f)
          if (at.has(f)) store(out + f * g.v_plane, u[f]);
      }
    }
  }
}

// The tiles of a chunk that have a point, counted from the chunk's first
FASTCNN_INLINE Range tiles_of_point(const Grid& g, int64_t chunk, int64_t f) {
  const int64_t first = chunk * g.chunk, count = smaller(g.chunk, g.tiles.all - first);
  if (planes_of_point(g.strided, f) == 0) return {0, 0};
  const Range all = tiles_of_point(g.tiles, f);
  const int64_t begin = larger(0, all.begin - first);
  return {begin, larger(begin, smaller(count, all.end - first))};
}

// M of one point, the tiles that have it and the panels of so many columns: a GEMM of [tiles, C] x [C, columns]; next:
// the weights that follow
static void multiply_point(const Grid& g, int64_t f, int64_t columns, const Range& tiles, const float* v,
                           const float* u, const float* next, float* m) {
  constexpr int64_t kPlane = kDepth * kPanelNR;
  const int64_t count = tiles.end - tiles.begin, depth = planes_of_point(g.strided, f) * g.depth;
  v += planes_before(g.strided, f) * g.v_plane + tiles.begin * kDepth;
  m += f * g.m_plane + tiles.begin * kPanelNR;
  const int64_t chunks = ceil_div(depth, gemm::kChainPlanes);
  for (; columns > 0; columns -= kPanelNR, u += depth * kPlane, m += g.rows * kPanelNR)
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t begin = depth * chunk / chunks, end = depth * (chunk + 1) / chunks;
      const bool last = chunk == chunks - 1 && columns <= kPanelNR;
      const float* rows_of[gemm::kChainPlanes];
      for (int64_t d = begin; d < end; ++d) rows_of[d - begin] = v + d / g.depth * g.v_plane + d % g.depth * g.v_step;
      for_tiles<kPanelMR>(count, [&](int64_t t, int64_t rows) {
        with_rows<kPanelMR>(rows, [&]<int MR>() {
          const auto run_tile = [&](auto tile) FASTCNN_LAMBDA {
            tile.zero();
            Ahead ahead(last ? next : u + end * kPlane, end - begin, t, rows, count);
            for (int64_t d = begin; d < end; ++d) {
              ahead.fetch();
              tile.multiply(BlockA<kDepth, 1>{rows_of[d - begin] + t * kDepth}, u + d * kPlane, kPanelNR, kDepth);
            }
            if (chunk) tile.add_from(m + t * kPanelNR, kPanelNR);
            tile.store_to(m + t * kPanelNR, kPanelNR);
          };
          with_vectors(columns, [&]<int kVectors>() { run_tile(Tile<MR, kVectors>()); });
        });
      });
    }
}

#if FASTCNN_TILES
// The rows of one point as parts; fetches those of the next, which lie in the L3 cache.
static void split_point(const Grid& g, int64_t count, const float* v, float* parts) {
  for (int64_t d = 0; d < g.depth; ++d, v += g.v_step, parts += parts_of_v_plane(g))
    for (int64_t t = 0; t < count; ++t) {
      const float* const from = v + t * tiles::kGroup;
      prefetch_to_l2(from + g.v_plane);
      prefetch_to_l2(from + g.v_plane + kLanes);
      tiles::store_parts(tiles::split(load(from), load(from + kLanes)), parts + t * tiles::kRowParts,
                         g.rows * tiles::kRowParts);
    }
}

// As multiply; u_plane: floats from one of the 36 planes of U to the next; parts: see Layout.
static void multiply_on_tiles(const Grid& g, int64_t group_panels, int64_t count, const float* v, const float* u,
                              int64_t u_plane, float* parts, float* m) {
  tiles::Registers registers;
  const int64_t part_rows = tiles::part_rows(count), v_depth = parts_of_v_plane(g);
  registers.configure(part_rows);
  const int64_t panel_floats = g.depth * tiles::kGroupB;
  for (int64_t f = 0; f < kPoints; ++f, u += u_plane, v += g.v_plane, m += g.m_plane) {
    split_point(g, count, v, parts + kPartsOfU);
    for (int64_t j = 0; j < group_panels; ++j)
      for (int64_t begin = 0; begin < g.depth; begin += tiles::kGroupsB) {
        const int64_t depth = smaller(tiles::kGroupsB, g.depth - begin);
        const float* const groups = u + j * panel_floats + begin * tiles::kGroupB;
        for (int64_t d = 0; d < depth; ++d)
          tiles::split_group(groups + d * tiles::kGroupB, false, parts + d * tiles::kGroupParts);
        tiles::settle();
        const bool last = begin + depth == g.depth && j + 1 == group_panels;
        const float* const next = last ? u + u_plane : groups + depth * tiles::kGroupB;
        for (int64_t t = 0; t < count; t += part_rows) {
          Ahead ahead(next, depth, t, smaller(part_rows, count - t), count, tiles::kGroupB, tiles::kFetches);
          float* const sums = m + (j * g.rows + t) * kPanelNR;
          const float* const rows = parts + kPartsOfU + begin * v_depth + t * tiles::kRowParts;
          tiles::multiply_groups(
              registers, begin == 0, depth, [&](int64_t d) FASTCNN_LAMBDA { return rows + d * v_depth; },
              g.rows * tiles::kRowParts, parts, sums, ahead);
          tiles::store_sums(sums, kPanelNR, registers.upper, registers.lower > 0);
        }
      }
  }
}
#endif

// Y of one group: bias, residual, ReLU, or 2x2 maxima with their places
static void transform_output(const Problem& p, const Grid& g, const Epilogue& epilogue, int64_t first, int64_t count,
                             int64_t panel, int64_t group_panels, const float* m, float* y) {
  const int64_t columns = smaller(group_panels * kPanelNR, p.K - panel * kPanelNR);
  for (int64_t i = 0; i < count; ++i) {
    const TileAt at = tile_at(g.tiles, first + i), ahead = tile_at(g.tiles, smaller(first + i + 1, g.tiles.all - 1));
    const int64_t rows_left = smaller(kTile, p.P - at.h), columns_left = smaller(kTile, p.Q - at.w);
    for (int64_t c = 0; c < columns; c += kLanes) {
      const int64_t n = smaller(kLanes, columns - c), k = panel * kPanelNR + c;
      if (!epilogue.pool)
        for (int64_t r = 0; r < kTile; ++r)
          for (int64_t s = 0; s < kTile; ++s) {
            const int64_t to = ((ahead.n * p.P + ahead.h + r) * p.Q + ahead.w + s) * p.K + k;
            if (epilogue.residual) prefetch(epilogue.residual + to);
            prefetch_to_write(y + to);
          }
      const float* from = m + (c / kPanelNR * g.rows + i) * kPanelNR + c % kPanelNR;
      vf t[4 * 6], out[16];
      // has(r, s): whether the tile has that point
      const auto pass_columns = [&](const auto& has) FASTCNN_LAMBDA {
        for (int64_t s = 0; s < 6; ++s) {
          const auto load_m = [&](int64_t r)
                                  FASTCNN_LAMBDA { return has(r, s) ? load(from + (r * 6 + s) * g.m_plane) : vf{}; };
          output_pass(load_m(0), load_m(1), load_m(2), load_m(3), load_m(4), load_m(5), t + s, 6);
        }
      };
      if (g.strided)
        pass_columns([](int64_t r, int64_t s) FASTCNN_LAMBDA { return r > 0 && s > 0; });
      else if (at.whole())
        pass_columns([](int64_t, int64_t) FASTCNN_LAMBDA { return true; });
      else
        pass_columns([&](int64_t r, int64_t s) FASTCNN_LAMBDA { return at.has(r * 6 + s); });
      for (int64_t r = 0; r < 4; ++r) {
        const vf* row = t + r * 6;
        output_pass(row[0], row[1], row[2], row[3], row[4], row[5], out + r * 4, 1);
      }
      const vf bias = epilogue.bias ? load_upto(epilogue.bias + k, n) : vf{};
      if (epilogue.pool) {
        const int64_t PH = p.P / 2, PW = p.Q / 2;
        for (int64_t r = 0; r < 2; ++r)
          for (int64_t s = 0; s < 2; ++s) {
            const int64_t ph = at.h / 2 + r, pw = at.w / 2 + s;
            if (ph >= PH || pw >= PW) continue;
            vf best = out[2 * r * 4 + 2 * s];
            vi place{};
            for (int32_t q = 1; q < 4; ++q) {
              const vf candidate = out[(2 * r + q / 2) * 4 + 2 * s + q % 2];
              const vi wins = (candidate > best) | ((candidate != candidate) & (best == best));
              best = select(wins, candidate, best);
              place = wins ? (vi{} + q) : place;
            }
            best += bias;
            if (epilogue.relu) best = relu(best);
            const int64_t to = ((at.n * PH + ph) * PW + pw) * p.K + k;
            store_upto(y + to, best, n);
            if (epilogue.argmax)
              for (int64_t lane = 0; lane < n; ++lane) epilogue.argmax[to + lane] = static_cast<uint8_t>(place[lane]);
          }
        continue;
      }
      for (int64_t r = 0; r < rows_left; ++r)
        for (int64_t s = 0; s < columns_left; ++s) {
          const int64_t to = ((at.n * p.P + at.h + r) * p.Q + at.w + s) * p.K + k;
          vf v = out[r * 4 + s] + bias;
          if (epilogue.residual) v += load_upto(epilogue.residual + to, n);
          if (epilogue.relu) v = relu(v);
          store_upto(y + to, v, n);
        }
    }
  }
}

// mean and sum of squared deviations of the outputs of a chunk's tiles, channels of one group, while they are in cache
static void chunk_statistics(const Problem& p, const Grid& g, int64_t first, int64_t count, int64_t k0, int64_t columns,
                             const float* y, float* mean, float* squares) {
  // f(y) for the outputs of tile i
  const auto each = [&](int64_t i, int64_t k, int64_t n, const auto& f) FASTCNN_LAMBDA {
    const TileAt at = tile_at(g.tiles, first + i);
    const int64_t rows_left = smaller(kTile, p.P - at.h), columns_left = smaller(kTile, p.Q - at.w);
    for (int64_t r = 0; r < rows_left; ++r)
      for (int64_t s = 0; s < columns_left; ++s)
        f(load_upto(y + ((at.n * p.P + at.h + r) * p.Q + at.w + s) * p.K + k, n));
  };
  // Sums of a tile, then of a run of tiles, then of all: see gemm::kSumRun.
  constexpr int64_t kTiles = gemm::kSumRun;
  for (int64_t c = 0; c < columns; c += kLanes) {
    const int64_t n = smaller(kLanes, columns - c);
    vf total{}, deviations{}, rest{};
    int64_t pixels = 0;
    for (int64_t begin = 0; begin < count; begin += kTiles) {
      vf sum{};
      for (int64_t i = begin; i < smaller(count, begin + kTiles); ++i) {
        vf tile{};
        each(i, k0 + c, n, [&](vf v) FASTCNN_LAMBDA {
          tile += v;
          ++pixels;
        });
        sum += tile;
      }
      total += sum;
    }
    const vf average = total * broadcast(1.0f / static_cast<float>(pixels));
    for (int64_t begin = 0; begin < count; begin += kTiles) {
      vf squares_run{}, rest_run{};
      for (int64_t i = begin; i < smaller(count, begin + kTiles); ++i) {
        vf tile_squares{}, tile_rest{};
        each(i, k0 + c, n, [&](vf v) FASTCNN_LAMBDA {
          const vf d = v - average;
          tile_squares += d * d;
          tile_rest += d;
        });
        squares_run += tile_squares;
        rest_run += tile_rest;
      }
      deviations += squares_run;
      rest += rest_run;
    }
    const vf shift = rest * broadcast(1.0f / static_cast<float>(pixels));  // corrects the rounded mean
    store_upto(mean + k0 + c, average + shift, n);
    store_upto(squares + k0 + c, deviations - rest * shift, n);
  }
}

// Where the weights of a panel begin, in its group's first plane or, transformed late, as they are
FASTCNN_INLINE const float* weights_of(const Grid& g, const float* packed, int64_t panel, int64_t f = 0) {
  if (g.late) return packed + panel * g.depth * kLatePlane;
  const int64_t first = panel / g.packed_group * g.packed_group, panels = smaller(g.packed_group, g.panels - first);
  const int64_t before = all_planes(g.strided) * first + planes_before(g.strided, f) * panels;
  return packed + (before + (panel - first) * planes_of_point(g.strided, f)) * g.depth * g.side * kPanelNR;
}
// Floats from one of the 36 planes of a panel's weights to the next
FASTCNN_INLINE int64_t u_plane(const Grid& g, int64_t panel) {
  const int64_t first = panel / g.packed_group * g.packed_group;
  return smaller(g.packed_group, g.panels - first) * g.depth * g.side * kPanelNR;
}

// Y of some panels of a chunk, and statistics of it
static void finish_panels(const Problem& p, const Grid& g, const Epilogue& epilogue, int64_t chunk, int64_t panel,
                          int64_t panels, const float* m, float* y) {
  const int64_t first = chunk * g.chunk, count = smaller(g.chunk, g.tiles.all - first);
  transform_output(p, g, epilogue, first, count, panel, panels, m, y);
  if (!epilogue.statistics) return;
  float* mean = epilogue.statistics + chunk * 2 * p.K;
  chunk_statistics(p, g, first, count, panel * kPanelNR, smaller(panels * kPanelNR, p.K - panel * kPanelNR), y, mean,
                   mean + p.K);
}

static void run_group(const Problem& p, const Grid& g, const Epilogue& epilogue, int64_t chunk, int64_t group,
                      const float* v, const float* packed, float* y, float* m, float* u,
                      [[maybe_unused]] float* parts) {
  const int64_t count = smaller(g.chunk, g.tiles.all - chunk * g.chunk);
  const int64_t panel = group * g.group, panels = smaller(g.group, g.panels - panel);
  const float* const weights = weights_of(g, packed, panel);
  const int64_t columns = smaller(panels * kPanelNR, p.K - panel * kPanelNR);
  Range tiles[kPoints];
  for (int64_t f = 0; f < kPoints; ++f) tiles[f] = tiles_of_point(g, chunk, f);
  if (g.late) late::multiply({v, g.v_plane, g.rows, g.depth, weights, m, g.m_plane, tiles}, columns, count, u);
#if FASTCNN_TILES
  else if (g.on_tiles)
    multiply_on_tiles(g, panels, count, v, weights, u_plane(g, panel), parts, m);
#endif
  else
    for (int64_t f = 0; f < kPoints; ++f)
      multiply_point(g, f, columns, tiles[f], v, weights_of(g, packed, panel, f), weights_of(g, packed, panel, f + 1),
                     m);
  finish_panels(p, g, epilogue, chunk, panel, panels, m, y);
}

// The 36 products of a chunk, then its outputs
static void run_by_point(const Problem& p, const Grid& g, const Epilogue& epilogue, int64_t chunk, const float* v,
                         const float* packed, float* y, float* m) {
  const int64_t count = smaller(g.chunk, g.tiles.all - chunk * g.chunk);
  const auto weights = [&](int64_t f, int64_t panel) { return weights_of(g, packed, panel, f); };
  parallel_for_tasks(kPoints, count * kPoints * p.C * p.K, [&](int64_t f, int) {
    for (int64_t panel = 0; panel < g.panels; panel += g.packed_group) {
      const int64_t panels = smaller(g.packed_group, g.panels - panel);
      const bool last = panel + panels == g.panels;
      const int64_t columns = smaller(panels * kPanelNR, p.K - panel * kPanelNR);
      multiply_point(g, f, columns, tiles_of_point(g, chunk, f), v, weights(f, panel),
                     last ? weights(f + 1, 0) : weights(f, panel + panels), m + panel * g.rows * kPanelNR);
    }
  });
  parallel_for_tasks(g.panels, count * 16 * kMoved * p.K, [&](int64_t panel, int) {
    finish_panels(p, g, epilogue, chunk, panel, 1, m + panel * g.rows * kPanelNR, y);
  });
}

static void count_pixels(const Problem& p, const Grid& g, int64_t chunk, int64_t* counts) {
  const int64_t first = chunk * g.chunk, count = smaller(g.chunk, g.tiles.all - first);
  int64_t pixels = 0;
  for (int64_t i = 0; i < count; ++i) {
    const TileAt at = tile_at(g.tiles, first + i);
    pixels += smaller(kTile, p.P - at.h) * smaller(kTile, p.Q - at.w);
  }
  counts[chunk] = pixels;
}

static void run(const Problem& p, const Prologue& prologue, const float* x, const float* packed,
                const Epilogue& epilogue, float* y, const Scratch& scratch) {
  const Grid g = grid(p);
  const Layout l = layout(g);
  const int64_t multiply_work = kPoints * p.C * p.K, transform_work = 16 * kMoved * p.C;
  const auto place_of = [&](int worker, int64_t offset) {
    return reinterpret_cast<float*>(scratch.workers + worker * scratch.worker_bytes + offset);
  };
  const auto zeros_of = [&](int worker) {
    float* zeros = place_of(worker, l.zeros);
    for (int64_t c = 0; c < g.depth * g.side; ++c) zeros[c] = 0;
    return zeros;
  };
  if (g.inner) {
    float* v = shared_floats(scratch);
    constexpr int64_t kPart = 4;  // tiles a task of the input transform
    for (int64_t chunk = 0; chunk < g.chunks; ++chunk) {
      const int64_t first = chunk * g.chunk, count = smaller(g.chunk, g.tiles.all - first);
      parallel_for_tasks(ceil_div(count, kPart), count * transform_work, [&](int64_t task, int worker) {
        const int64_t place = task * kPart;
        transform_input(p, g, prologue, x, first + place, smaller(kPart, count - place), place, zeros_of(worker), v);
      });
      if (g.by_point)
        run_by_point(p, g, epilogue, chunk, v, packed, y, v + v_bytes(g) / 4);
      else
        parallel_for_tasks(g.groups, count * multiply_work, [&](int64_t group, int worker) {
          run_group(p, g, epilogue, chunk, group, v, packed, y, place_of(worker, l.m), place_of(worker, l.u),
                    place_of(worker, l.parts));
        });
      if (epilogue.counts) count_pixels(p, g, chunk, epilogue.counts);
    }
  } else {
    parallel_for_tasks(g.chunks, g.tiles.all * multiply_work, [&](int64_t chunk, int worker) {
      const int64_t first = chunk * g.chunk, count = smaller(g.chunk, g.tiles.all - first);
      float* v = worker_floats(scratch, worker);
      transform_input(p, g, prologue, x, first, count, 0, zeros_of(worker), v);
      for (int64_t group = 0; group < g.groups; ++group)
        run_group(p, g, epilogue, chunk, group, v, packed, y, place_of(worker, l.m), place_of(worker, l.u),
                  place_of(worker, l.parts));
      if (epilogue.counts) count_pixels(p, g, chunk, epilogue.counts);
    });
  }
}

FASTCNN_INLINE bool fits(const Conv2DShape& s) {
  return s.R == 3 && s.S == 3 && s.stride_h == 1 && s.stride_w == 1 && s.dilation_h == 1 && s.dilation_w == 1;
}
// The forward pass alone
FASTCNN_INLINE bool fits_strided(const Conv2DShape& s) {
  return s.R == 3 && s.S == 3 && s.stride_h == 2 && s.stride_w == 2 && s.dilation_h == 1 && s.dilation_w == 1;
}

// In products of Winograd: a weight, since it comes from memory; its transform when used; the transforms of an input
// and an output; and a product of the direct convolution, which reads its operands in longer runs. Fitted to the layers
// of VGG and ResNet.
constexpr double kWeightCost = FASTCNN_TILES ? 18.5 : kLanes == 16 ? 20 : 6;
constexpr double kLateCost = kLanes == 16 ? 320 : 220;
constexpr double kLateCostInRegisters = kLanes == 16 ? 100 : 170, kLateTileCost = kLanes == 16 ? 26 : 0;
constexpr double kInputCost = FASTCNN_TILES ? 17 : 4.7, kOutputCost = FASTCNN_TILES ? 17 : 3.3;
constexpr double kDirectCost = FASTCNN_TILES ? 0.64 : 0.8;
// Strides of 2: the same for weights of the shared schedule, which are fetched ahead, and, of many images, for packing
// them; bytes of weights at most
constexpr double kStridedWeightCost = kLanes == 16 ? 4.7 : 1.4, kPackCost = 0.5;
constexpr int64_t kMostStridedWeights = int64_t{32} << 20;
// Of few tiles, where the direct convolution has few rows: up to a quarter more for one image is well spent, since
// batches, whose algorithm is that of one image, take a half or a third.
constexpr double kDirectCostBesideLate = 1.2 * 1.25;

// Worth it for one image: products, transforms and, unless many images share them, weights of both ways.
FASTCNN_INLINE bool pays(const Problem& convolution, bool batched) {
  Problem p = convolution;
  if (p.C < 16 || p.K < 16) return false;
  p.late = !p.strided && transformed_late(p.C, p.K, p.P, p.Q, batched);
  const int64_t tiles = ceil_div(p.P, kTile) * ceil_div(p.Q, kTile);
  const double transforms = kInputCost / static_cast<double>(p.K) + kOutputCost / static_cast<double>(p.C);
  const double multiplied = static_cast<double>(products(p)) * (1 + transforms);
  const double direct = 9 * static_cast<double>(p.P * p.Q);
  if (p.strided) {
    const double weights = static_cast<double>(all_planes(true)) * (batched ? kPackCost : kStridedWeightCost);
    const bool faster = multiplied + weights < kDirectCost * direct + 9 * kWeightCost;
    return faster && !FASTCNN_TILES && all_planes(true) * p.C * p.K * 4 <= kMostStridedWeights;
  }
  if (p.late && (!FASTCNN_TILES || p.P * p.Q <= gemm::kFewPixels)) {
    const double transformed =
        in_registers(tiles) ? kLateCostInRegisters + kLateTileCost * static_cast<double>(tiles) : kLateCost;
    return multiplied + transformed < kDirectCostBesideLate * direct;
  }
  const double weights = batched ? 0 : kWeightCost;
  return multiplied + kPoints * weights < kDirectCost * direct + 9 * weights;
}

}  // namespace winograd
}  // namespace fastcnn::FASTCNN_ISA
