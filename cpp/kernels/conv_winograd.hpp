// 3x3 convolutions by Winograd: 36 instead of 144 products a tile and channel, 81 with strides of 2.
//
// Tiles of 4x4 outputs are transformed into V[point][C/side][T][side]; a GEMM with U for each point gives
// M[point][panel][T][NR], which is turned back.
//
// Two schedules with equal bits: "outer" gives each worker a chunk of tiles, whose groups of panels it multiplies and
// turns back one after the other, while M is in its cache; "inner", for few tiles and, on vectors, large weights,
// transforms one chunk together and then shares out the groups, or, on vectors, the 36 points and then the panels of M:
// so U and V are read once a chunk. Beside late weights two workers share no V: each takes chunks of its own, or, of
// one image, transforms all of it for itself.
#pragma once
#include "kernels/winograd_outputs.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace winograd {

// V of tiles first..first+count-1, which are tiles `place`.. of the chunk
static void transform_strided(const Problem& p, const Grid& g, const Prologue& prologue, const float* x, int64_t first,
                              int64_t count, int64_t place, const float* zeros, float* v) {
  const float* found[2][strided::kPixels];
  find_pixels<strided::kSide, 2>(p, tile_at(g.tiles, first), x, zeros, found[0]);
  for (int64_t i = 0; i < count; ++i) {
    const float* const* const pixels = found[i % 2];
    const float** const ahead = found[(i + 1) % 2];
    find_pixels<strided::kSide, 2>(p, tile_at(g.tiles, smaller(first + i + 1, g.tiles.all - 1)), x, zeros, ahead);
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
  find_pixels<6, 1>(p, at, x, zeros, pixels[0]);
  for (int64_t i = 0; i < count; ++i, at = next) {
    const float* const* const rows = pixels[i % 2];
    const float** const ahead = pixels[(i + 1) % 2];
    next = tile_at(g.tiles, smaller(first + i + 1, g.tiles.all - 1));
    find_pixels<6, 1>(p, next, x, zeros, ahead);
    const auto pixel = [&](int64_t k) FASTCNN_LAMBDA { return rows[k]; };
#if FASTCNN_TILES
    if (g.on_tiles) {
      for (int64_t d = 0; d < g.depth; ++d) {
        float* out = v + (d * g.rows + place + i) * tiles::kGroup;
        vf low[kPoints], high[kPoints];
        fetch_columns(ahead, smaller(d * g.side, p.C - 1));
        fetch_columns(ahead, smaller(d * g.side + kLanes, p.C - 1));
        const auto keep = [](vf* half) FASTCNN_LAMBDA { return [=](int64_t f, vf u) FASTCNN_LAMBDA { half[f] = u; }; };
        transform_tile(pixel, kTile, kTile, zeros, d * g.side, p.C, prologue, keep(low));
        transform_tile(pixel, kTile, kTile, zeros, d * g.side + kLanes, p.C, prologue, keep(high));
        for (int64_t f = 0; f < kPoints; ++f, out += g.v_plane) {
          store(out, low[f]);
          store(out + kLanes, high[f]);
        }
      }
      continue;
    }
#endif
    for (int64_t c = 0; c < g.depth * kDepth; c += kLanes) {
      float* const out = v + c / kDepth * g.v_step + (place + i) * kDepth + c % kDepth;
      fetch_columns(ahead, smaller(c, p.C - 1));
      const auto put = [&](int64_t f, vf u) FASTCNN_LAMBDA { store(out + f * g.v_plane, u); };
      const auto put_late = [&](int64_t f, vf u) FASTCNN_LAMBDA { put(f, u * late::kFactors.of[f]); };
      if (at.whole() && !g.late) {
        transform_tile(pixel, kTile, kTile, zeros, c, p.C, prologue, put);
      } else if (at.whole()) {
        transform_tile(pixel, kTile, kTile, zeros, c, p.C, prologue, put_late);
      } else {
        vf u[kPoints];
        const auto keep = [&](int64_t f, vf value) FASTCNN_LAMBDA { u[f] = value; };
        transform_tile(pixel, at.rows, at.columns, zeros, c, p.C, prologue, keep);
        for (int64_t f = 0; f < kPoints; ++f) {
          if (!at.has(f)) continue;
          if (g.late)
            put_late(f, u[f]);
          else
            put(f, u[f]);
        }
      }
    }
  }
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
      Ahead ahead(last ? next : u + end * kPlane, (end - begin) * kPlane, (end - begin) * ceil_div(count, kPanelMR));
      for_tiles<kPanelMR>(count, [&](int64_t t, int64_t rows) {
        with_rows<kPanelMR>(rows, [&]<int MR>() {
          const auto run_tile = [&](auto tile) FASTCNN_LAMBDA {
            tile.zero();
            for (int64_t d = begin; d < end; ++d) {
              ahead.fetch();
              tile.multiply(BlockA<kDepth, 1>{rows_of[d - begin] + t * kDepth}, u + d * kPlane, kPanelNR, kDepth);
            }
            if (chunk) tile.add_from(m + t * kPanelNR, kPanelNR);
            tile.store_to(m + t * kPanelNR, kPanelNR);
          };
          with_vectors(smaller(columns, kPanelNR), [&]<int kVectors>() { run_tile(Tile<MR, kVectors>()); });
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
        Ahead ahead(next, depth * tiles::kGroupB, ceil_div(count, part_rows) * depth * tiles::kFetches);
        for (int64_t t = 0; t < count; t += part_rows) {
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

static void run(const Problem& p, const Prologue& prologue, const float* x, const float* packed,
                const Epilogue& epilogue, float* y, const Scratch& scratch) {
  const Grid g = grid(p);
  const Layout l = layout(g);
  const int64_t multiply_work = kPoints * p.C * p.K, transform_work = 16 * kMoved * p.C;
  const auto place_of = [&](int worker, int64_t offset) {
    return reinterpret_cast<float*>(scratch.workers + worker * scratch.worker_bytes + offset);
  };
  const auto tiles_in = [&](int64_t chunk) { return smaller(g.chunk, g.tiles.all - chunk * g.chunk); };
  // Of a chunk, `count` tiles from `place` on
  const auto transform = [&](int64_t chunk, int64_t place, int64_t count, int worker, float* v) {
    float* const zeros = place_of(worker, l.zeros);
    for (int64_t c = 0; c < g.depth * g.side; ++c) zeros[c] = 0;
    transform_input(p, g, prologue, x, chunk * g.chunk + place, count, place, zeros, v);
  };
  const auto multiply = [&](int64_t chunk, int64_t group, int worker, const float* v) {
    run_group(p, g, epilogue, chunk, group, v, packed, y, place_of(worker, l.m), place_of(worker, l.u),
              place_of(worker, l.parts));
  };
  const ThreadShare share;
  float* const shared = shared_floats(scratch);
  const bool owners = g.late && share.threads() <= kOwners;
  const auto own = [&](int worker) { return g.inner ? shared + worker * (v_bytes(g) / 4) : place_of(worker, l.v); };
  if (!g.inner || (owners && g.chunks > 1)) {
    parallel_for_tasks(g.chunks, g.tiles.all * multiply_work, [&](int64_t chunk, int worker) {
      transform(chunk, 0, tiles_in(chunk), worker, own(worker));
      for (int64_t group = 0; group < g.groups; ++group) multiply(chunk, group, worker, own(worker));
      if (epilogue.counts) count_pixels(p, g, chunk, epilogue.counts);
    });
    return;
  }
  constexpr int64_t kPart = 4;  // tiles a task of the input transform
  for (int64_t chunk = 0; chunk < g.chunks; ++chunk) {
    const int64_t count = tiles_in(chunk);
    if (owners && g.owned) {
      bool transformed[kOwners] = {};
      parallel_for_tasks(g.groups, count * multiply_work, [&](int64_t group, int worker) {
        if (!transformed[worker]) transform(chunk, 0, count, worker, own(worker));
        transformed[worker] = true;
        multiply(chunk, group, worker, own(worker));
      });
    } else {
      parallel_for_tasks(ceil_div(count, kPart), count * transform_work, [&](int64_t task, int worker) {
        transform(chunk, task * kPart, smaller(kPart, count - task * kPart), worker, shared);
      });
      if (g.by_point)
        run_by_point(p, g, epilogue, chunk, shared, packed, y, shared + v_bytes(g) / 4);
      else
        parallel_for_tasks(g.groups, count * multiply_work,
                           [&](int64_t group, int worker) { multiply(chunk, group, worker, shared); });
    }
    if (epilogue.counts) count_pixels(p, g, chunk, epilogue.counts);
  }
}

}  // namespace winograd
}  // namespace fastcnn::FASTCNN_ISA
