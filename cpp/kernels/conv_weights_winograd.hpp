// Weight gradients of 3x3 stride 1 by Winograd's F(3x3, 4x4), the forward transforms turned round:
// dw = G^T [sum over tiles of (B^T x B) o (A dy A^T)] G, 36 instead of 144 products a tile and pair of channels.
//
// Tiles of 6x6 inputs become V, tiles of 4x4 outputs Z; for each of the 36 points a product over all tiles of a chunk,
// V^T Z, joins the sums, which are turned into dw at the end. On vectors V is the operand of broadcasts; on tile
// registers Z is turned, channels becoming rows, before it is transformed: a tile of it has 16 values and V's has 36.
//
// Two schedules: with few channels the sums stay in the L2 cache of a worker who takes a part of all tiles; with many
// all transform a chunk together, then share out the points.
#pragma once
#include "kernels/conv_weights_tiles.hpp"
#include "kernels/winograd_transforms.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace weights {

using winograd::kPoints;
using winograd::Tiling;

// Blocks of channels of x and dy, and the tiles that lie side by side.
#if FASTCNN_TILES
constexpr int64_t kSideX = tiles::kColumns, kSideDy = tiles::kRows, kTilesOfGroup = tiles::kGroup;
#else
constexpr int64_t kSideX = kDepth, kSideDy = kNR, kTilesOfGroup = 16;
#endif
constexpr int64_t kGroupFloatsX = kTilesOfGroup * kSideX, kGroupFloatsDy = kTilesOfGroup * kSideDy;
constexpr int64_t kOutputs = winograd::kTile * winograd::kTile;  // of a tile
constexpr int64_t kBlockSums = kSideX * kSideDy;
constexpr int64_t kGroupsOfSum = 4;  // whose products are summed on their own: a long chain rounds each to its end
constexpr int64_t kBlocksOfTask = 2;  // of channels transformed at a time, for whom pixels are found once
constexpr int64_t kOwnSums = 5 << 18;  // bytes at most of sums that each worker has for itself
constexpr int64_t kGroupsOfOwn = FASTCNN_TILES ? 1 : 2;  // of a worker's chunk: V and Z beside the sums in the L2 cache
// Of V and Z of a shared chunk, or, on vectors, as many as of the sums, all of which each chunk reads and writes
constexpr int64_t kSharedBytes = 10 << 20;

struct WinogradGrid {
  Tiling tiles;
  int64_t c_blocks, k_blocks;
  int64_t groups, chunk, chunks;  // groups of all tiles and of a chunk
  bool shared;  // all work on one chunk
  int64_t parts, part_chunks;
  int64_t v_plane, z_plane, sum_plane;  // floats from one of the 36 planes to the next
  int64_t size;  // of dw
};

FASTCNN_INLINE winograd::Problem winograd_problem(const Conv2DShape& s) {
  return {s.N, s.H, s.W, s.C, s.K, s.P, s.Q, s.pad_top, s.pad_left, false, false};
}
FASTCNN_INLINE WinogradGrid winograd_grid(const Conv2DShape& s) {
  WinogradGrid g;
  g.tiles = winograd::tiling(winograd_problem(s));
  g.c_blocks = ceil_div(s.C, kSideX);
  g.k_blocks = ceil_div(s.K, kSideDy);
  g.groups = ceil_div(g.tiles.all, kTilesOfGroup);
  g.size = 9 * s.C * s.K;
  g.sum_plane = winograd::padded_plane(g.c_blocks * g.k_blocks * kBlockSums);
  const int64_t sum_bytes = kPoints * g.sum_plane * 4;
  g.shared = sum_bytes > kOwnSums;
  const int64_t group_bytes = kPoints * 4 * (g.c_blocks * kGroupFloatsX + g.k_blocks * kGroupFloatsDy);
  const int64_t shared_bytes = FASTCNN_TILES ? kSharedBytes : larger(kSharedBytes, sum_bytes);
  const int64_t limit = g.shared ? larger(1, shared_bytes / group_bytes) : kGroupsOfOwn;
  g.chunk = ceil_div(g.groups, ceil_div(g.groups, limit));
  g.chunks = ceil_div(g.groups, g.chunk);
  g.part_chunks = ceil_div(g.chunks, g.shared ? 1 : smaller(g.chunks, kTasks));
  g.parts = ceil_div(g.chunks, g.part_chunks);
  g.v_plane = winograd::padded_plane(g.c_blocks * g.chunk * kGroupFloatsX);
  g.z_plane = winograd::padded_plane(g.k_blocks * g.chunk * kGroupFloatsDy);
  return g;
}

// V, Z and the sums, of a worker or of all; of a worker also zeros for the padding and, on tile registers, what the
// products take: parts of V of a point, then of a few groups of Z, or, before, outputs whose lanes are tiles.
struct WinogradLayout {
  int64_t v, z, sums, planes, zeros, parts, worker;
};

FASTCNN_INLINE WinogradLayout winograd_layout(const Conv2DShape& s, const WinogradGrid& g) {
  WinogradLayout l;
  l.v = 0;
  l.z = round_up(kPoints * g.v_plane * 4, 4096);
  l.sums = l.z + round_up(kPoints * g.z_plane * 4, 4096);
  l.planes = l.sums + round_up(kPoints * g.sum_plane * 4, 4096);
  l.zeros = g.shared ? 0 : l.planes;
  l.parts = l.worker = l.zeros + round_up(s.C, kSideX) * 4;
#if FASTCNN_TILES
  l.worker += (g.c_blocks * g.chunk + kGroupsOfSum) * tiles::kGroupParts * 4;
#endif
  return l;
}
FASTCNN_INLINE ScratchSize winograd_scratch_size(const Conv2DShape& s) {
  const WinogradGrid g = winograd_grid(s);
  const WinogradLayout l = winograd_layout(s, g);
  return {g.shared ? l.planes : g.parts > 1 ? g.parts * g.size * 4 : 0, l.worker};
}

// t = A y
FASTCNN_INLINE void gradient_pass(vf y0, vf y1, vf y2, vf y3, vf* t, int64_t step) {
  using namespace winograd;
  const vf even_a = y0 + y2 * kA2, odd_a = y1 * kA + y3 * kA3, even_b = y0 + y2 * kB2, odd_b = y1 * kB + y3 * kB3;
  t[0 * step] = y0;
  t[1 * step] = even_a + odd_a;
  t[2 * step] = even_a - odd_a;
  t[3 * step] = even_b + odd_b;
  t[4 * step] = even_b - odd_b;
  t[5 * step] = y3;
}
// A dy A^T; at(i): pixel i of 4x4
template <class At>
FASTCNN_INLINE void transform_outputs(const At& at, vf* z) {
  vf t[6 * 4];
  FASTCNN_UNROLL for (int64_t s = 0; s < 4; ++s) gradient_pass(at(s), at(4 + s), at(8 + s), at(12 + s), t + s, 4);
  FASTCNN_UNROLL for (int64_t r = 0; r < 6; ++r)
      gradient_pass(t[r * 4], t[r * 4 + 1], t[r * 4 + 2], t[r * 4 + 3], z + r * 6, 1);
}
// t = G^T u
FASTCNN_INLINE void weight_gradient_pass(vf u0, vf u1, vf u2, vf u3, vf u4, vf u5, vf* t, int64_t step) {
  using namespace winograd;
  constexpr float third = 1.0f / 3;
  const vf sum_a = u1 + u2, difference_a = u2 - u1, sum_b = u3 + u4, difference_b = u3 - u4;
  t[0 * step] = u0 + (sum_b * 0.5f - sum_a * 2.0f) * third;
  t[1 * step] = (difference_a * (2 * kA) + difference_b * (0.5f * kB)) * third;
  t[2 * step] = (sum_b - sum_a) * third + u5;
}

static void find_outputs_of_tile(const Conv2DShape& s, const WinogradGrid& g, const float* dy, int64_t tile,
                                 const float** pixels) {
  const bool none = tile >= g.tiles.all;
  const winograd::TileAt at = winograd::tile_at(g.tiles, none ? 0 : tile);
  for (int64_t r = 0; r < 4; ++r)
    for (int64_t c = 0; c < 4; ++c) {
      const int64_t h = at.h + r, w = at.w + c;
      pixels[r * 4 + c] = none || h >= s.P || w >= s.Q ? nullptr : dy + ((at.n * s.P + h) * s.Q + w) * s.K;
    }
}

// V of one group of tiles, `blocks` blocks of channels from `block` on; v: those of the group in the first plane
static void transform_inputs_of_group(const Conv2DShape& s, const WinogradGrid& g, const Prologue& prologue,
                                      const float* x, int64_t group, int64_t block, int64_t blocks, const float* zeros,
                                      float* v) {
  const winograd::Problem p = winograd_problem(s);
  const float* pixels[kTilesOfGroup][kPoints];
  for (int64_t i = 0; i < kTilesOfGroup; ++i) {
    const int64_t tile = group * kTilesOfGroup + i;
    if (tile < g.tiles.all)
      winograd::find_pixels<6, 1>(p, winograd::tile_at(g.tiles, tile), x, zeros, pixels[i]);
    else
      for (const float*& pixel : pixels[i]) pixel = zeros;
  }
  for (int64_t b = block; b < block + blocks; ++b, v += g.chunk * kGroupFloatsX)
    for (int64_t c = 0; c < kSideX; c += kLanes) {
      const int64_t channel = b * kSideX + c;
      for (int64_t i = 0; i < kTilesOfGroup; ++i) {
        winograd::fetch_columns(pixels[smaller(i + 1, kTilesOfGroup - 1)], smaller(channel, s.C - 1));
        float* const to = v + i * kSideX + c;
        winograd::transform_tile([&](int64_t k) FASTCNN_LAMBDA { return pixels[i][k]; }, winograd::kTile,
                                 winograd::kTile, zeros, channel, s.C, prologue,
                                 [&](int64_t f, vf u) FASTCNN_LAMBDA { store(to + f * g.v_plane, u); });
      }
    }
}

// Z of the same; turned: memory for pixels whose lanes are tiles
static void transform_outputs_of_group(const Conv2DShape& s, const WinogradGrid& g, const float* dy, int64_t group,
                                       int64_t block, int64_t blocks, [[maybe_unused]] float* turned, float* z) {
  const float* pixels[kTilesOfGroup][kOutputs];
  for (int64_t i = 0; i < kTilesOfGroup; ++i) find_outputs_of_tile(s, g, dy, group * kTilesOfGroup + i, pixels[i]);
  for (int64_t b = block; b < block + blocks; ++b, z += g.chunk * kGroupFloatsDy)
    for (int64_t c = 0; c < kSideDy; c += kLanes) {
      const int64_t channel = b * kSideDy + c, n = smaller(kLanes, s.K - channel);
      const auto at = [&](int64_t i, int64_t q) FASTCNN_LAMBDA {
        const float* const pixel = pixels[i][q];
        return pixel && n > 0 ? load_upto(pixel + channel, n) : vf{};
      };
#if FASTCNN_TILES
      for (int64_t first = 0; first < kTilesOfGroup; first += kLanes) {
        for (int64_t q = 0; q < kOutputs; ++q) {
          vf rows[kLanes];
          for (int64_t i = 0; i < kLanes; ++i) rows[i] = at(first + i, q);
          tiles::transpose(rows);
          for (int64_t k = 0; k < kLanes; ++k) store(turned + (q * kLanes + k) * kLanes, rows[k]);
        }
        for (int64_t k = 0; k < kLanes; ++k) {
          vf u[kPoints];
          transform_outputs([&](int64_t q) FASTCNN_LAMBDA { return load(turned + (q * kLanes + k) * kLanes); }, u);
          float* to = z + (c + k) * kTilesOfGroup + first;
          for (int64_t f = 0; f < kPoints; ++f, to += g.z_plane) store(to, u[f]);
        }
      }
#else
      for (int64_t i = 0; i < kTilesOfGroup; ++i) {
        vf u[kPoints];
        transform_outputs([&](int64_t q) FASTCNN_LAMBDA { return at(i, q); }, u);
        float* to = z + i * kSideDy + c;
        for (int64_t f = 0; f < kPoints; ++f, to += g.z_plane) store(to, u[f]);
      }
#endif
    }
}

// The products of one point over the first `groups` groups of a chunk join the sums.
static void multiply_point(const WinogradGrid& g, const float* v, const float* z, int64_t groups, bool fresh,
                           [[maybe_unused]] float* parts, float* sums) {
#if FASTCNN_TILES
  for (int64_t c = 0; c < g.c_blocks; ++c)
    for (int64_t i = 0; i < groups; ++i)
      tiles::split_group(v + (c * g.chunk + i) * kGroupFloatsX, false, parts + (c * g.chunk + i) * tiles::kGroupParts);
  float* const rows = parts + g.c_blocks * g.chunk * tiles::kGroupParts;
  tiles::Registers registers;
  registers.configure(tiles::kRows);
  alignas(64) float block[kBlockSums];
  for (int64_t k = 0; k < g.k_blocks; ++k)
    for (int64_t first = 0; first < groups; first += kGroupsOfSum) {
      const int64_t count = smaller(kGroupsOfSum, groups - first);
      for (int64_t i = 0; i < count; ++i) {
        const float* from = z + (k * g.chunk + first + i) * kGroupFloatsDy;
        for (int64_t r = 0; r < tiles::kRows; ++r, from += tiles::kGroup)
          tiles::store_parts(tiles::split(load(from), load(from + kLanes)),
                             rows + i * tiles::kGroupParts + r * tiles::kRowParts, tiles::kGroupB / 2);
      }
      tiles::settle();
      for (int64_t c = 0; c < g.c_blocks; ++c) {
        float* const total = sums + (k * g.c_blocks + c) * kBlockSums;
        Ahead ahead(total, kBlockSums, count * tiles::kFetches);
        tiles::multiply_groups(
            registers, true, count, [&](int64_t i) FASTCNN_LAMBDA { return rows + i * tiles::kGroupParts; },
            tiles::kGroupB / 2, parts + (c * g.chunk + first) * tiles::kGroupParts, block, ahead);
        if (fresh && first == 0) {
          tiles::store_sums(total, tiles::kColumns, registers.upper, true);
          continue;
        }
        tiles::store_sums(block, tiles::kColumns, registers.upper, true);
        tiles::settle();
        for (int64_t i = 0; i < kBlockSums; i += kLanes) store(total + i, load(total + i) + load(block + i));
      }
    }
#else
  const int64_t count = groups * kTilesOfGroup;
  for (int64_t k = 0; k < g.k_blocks; ++k, z += g.chunk * kGroupFloatsDy)
    for (int64_t c = 0; c < g.c_blocks; ++c, sums += kBlockSums) {
      const float* const a = v + c * g.chunk * kGroupFloatsX;
      for_tiles(kSideX, [&](int64_t row, int64_t rows) {
        with_rows(rows, [&]<int MR>() {
          constexpr int64_t kChain = kGroupsOfSum * kTilesOfGroup;
          for (int64_t first = 0; first < count; first += kChain) {
            Tile<MR> tile;
            tile.zero();
            tile.multiply(BlockA<1, kSideX>{a + first * kSideX + row}, z + first * kNR, kNR,
                          smaller(kChain, count - first));
            if (!fresh || first) tile.add_from(sums + row * kNR, kNR);
            tile.store_to(sums + row * kNR, kNR);
          }
        });
      });
    }
#endif
}

// dw (+)= G^T sums G of kLanes x kLanes channels from c and k on; sums: of their block in the first plane
static void transform_sums(const Conv2DShape& s, const WinogradGrid& g, const float* sums, bool fresh, int64_t c,
                           int64_t k, float* dw) {
  constexpr int64_t kStep = FASTCNN_TILES ? kSideX : kSideDy;  // to the next row
  const float* const from =
      FASTCNN_TILES ? sums + k % kSideDy * kStep + c % kSideX : sums + c % kSideX * kStep + k % kSideDy;
  vf taps[9][kLanes];
  for (int64_t i = 0; i < kLanes; ++i) {
    const auto at = [&](int64_t f) FASTCNN_LAMBDA { return load(from + f * g.sum_plane + i * kStep); };
    vf t[3 * 6], out[9];
    for (int64_t q = 0; q < 6; ++q)
      weight_gradient_pass(at(q), at(6 + q), at(12 + q), at(18 + q), at(24 + q), at(30 + q), t + q, 6);
    for (int64_t r = 0; r < 3; ++r) {
      const vf* row = t + r * 6;
      weight_gradient_pass(row[0], row[1], row[2], row[3], row[4], row[5], out + r * 3, 1);
    }
    for (int64_t tap = 0; tap < 9; ++tap) taps[tap][i] = out[tap];
  }
  const int64_t n = smaller(kLanes, s.K - k);
  for (int64_t tap = 0; tap < 9; ++tap) {
#if FASTCNN_TILES
    tiles::transpose(taps[tap]);
#endif
    for (int64_t i = 0; i < smaller(kLanes, s.C - c); ++i) {
      float* const to = dw + (tap * s.C + c + i) * s.K + k;
      store_upto(to, fresh ? taps[tap][i] : load_upto(to, n) + taps[tap][i], n);
    }
  }
}
// The same of all columns of one row of kLanes channels c
static void transform_row_of_sums(const Conv2DShape& s, const WinogradGrid& g, const float* sums, bool fresh, int64_t c,
                                  float* dw) {
  for (int64_t k = 0; k < s.K; k += kLanes)
    transform_sums(s, g, sums + (k / kSideDy * g.c_blocks + c / kSideX) * kBlockSums, fresh, c, k, dw);
}

// One worker's view of its memory.
struct WinogradMemory {
  float *v, *z, *sums, *zeros, *parts;
};
FASTCNN_INLINE WinogradMemory winograd_memory(const Conv2DShape& s, const WinogradGrid& g, const Scratch& scratch,
                                              int worker) {
  const WinogradLayout l = winograd_layout(s, g);
  char* const own = scratch.workers + worker * scratch.worker_bytes;
  char* const planes = g.shared ? scratch.shared : own;
  const auto floats = [](char* at) { return reinterpret_cast<float*>(at); };
  const WinogradMemory m{floats(planes + l.v), floats(planes + l.z), floats(planes + l.sums), floats(own + l.zeros),
                         floats(own + l.parts)};
  for (int64_t c = 0; c < round_up(s.C, kSideX); ++c) m.zeros[c] = 0;
  return m;
}

// All work on one chunk after the other: its transforms, then the products of its points.
static void run_winograd_shared(const Conv2DShape& s, const WinogradGrid& g, const Prologue& prologue, const float* x,
                                const float* dy, bool accumulate, float* dw, const Scratch& scratch) {
  const int64_t x_tasks = ceil_div(g.c_blocks, kBlocksOfTask), tasks = x_tasks + ceil_div(g.k_blocks, kBlocksOfTask);
  const int64_t tile_work = (s.C + s.K) * kOutputs * kMoved, work = kPoints * s.C * s.K;
  for (int64_t chunk = 0; chunk < g.chunks; ++chunk) {
    const int64_t first = chunk * g.chunk, groups = smaller(g.chunk, g.groups - first);
    parallel_for_tasks(groups * tasks, groups * kTilesOfGroup * tile_work, [&](int64_t index, int worker) {
      const WinogradMemory m = winograd_memory(s, g, scratch, worker);
      const int64_t place = index % groups, task = index / groups;
      const bool of_x = task < x_tasks;
      const int64_t block = (of_x ? task : task - x_tasks) * kBlocksOfTask;
      const int64_t blocks = smaller(kBlocksOfTask, (of_x ? g.c_blocks : g.k_blocks) - block);
      if (of_x)
        transform_inputs_of_group(s, g, prologue, x, first + place, block, blocks, m.zeros,
                                  m.v + (block * g.chunk + place) * kGroupFloatsX);
      else
        transform_outputs_of_group(s, g, dy, first + place, block, blocks, m.parts,
                                   m.z + (block * g.chunk + place) * kGroupFloatsDy);
    });
    parallel_for_tasks(kPoints, groups * kTilesOfGroup * work, [&](int64_t f, int worker) {
      const WinogradMemory m = winograd_memory(s, g, scratch, worker);
      multiply_point(g, m.v + f * g.v_plane, m.z + f * g.z_plane, groups, chunk == 0, m.parts,
                     m.sums + f * g.sum_plane);
    });
  }
  parallel_for_tasks(ceil_div(s.C, kLanes), work, [&](int64_t row, int worker) {
    transform_row_of_sums(s, g, winograd_memory(s, g, scratch, worker).sums, !accumulate, row * kLanes, dw);
  });
}

// Each worker takes whole parts, whose gradients are added up at the end.
static void run_winograd_apart(const Conv2DShape& s, const WinogradGrid& g, const Prologue& prologue, const float* x,
                               const float* dy, bool accumulate, float* dw, const Scratch& scratch) {
  float* const of_parts = g.parts > 1 ? shared_floats(scratch) : dw;
  parallel_for_tasks(g.parts, g.tiles.all * kPoints * s.C * s.K, [&](int64_t part, int worker) {
    const WinogradMemory m = winograd_memory(s, g, scratch, worker);
    const int64_t begin = part * g.part_chunks, end = smaller(g.chunks, begin + g.part_chunks);
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      const int64_t first = chunk * g.chunk, groups = smaller(g.chunk, g.groups - first);
      for (int64_t place = 0; place < groups; ++place) {
        transform_inputs_of_group(s, g, prologue, x, first + place, 0, g.c_blocks, m.zeros,
                                  m.v + place * kGroupFloatsX);
        transform_outputs_of_group(s, g, dy, first + place, 0, g.k_blocks, m.parts, m.z + place * kGroupFloatsDy);
      }
      for (int64_t f = 0; f < kPoints; ++f)
        multiply_point(g, m.v + f * g.v_plane, m.z + f * g.z_plane, groups, chunk == begin, m.parts,
                       m.sums + f * g.sum_plane);
    }
    const bool fresh = g.parts > 1 || !accumulate;
    float* const to = of_parts + (g.parts > 1 ? part * g.size : 0);
    for (int64_t c = 0; c < s.C; c += kLanes) transform_row_of_sums(s, g, m.sums, fresh, c, to);
  });
  if (g.parts > 1) add_parts(of_parts, g.parts, g.size, accumulate, dw);
}

static void run_winograd(const Conv2DShape& s, const Prologue& prologue, const float* x, const float* dy,
                         bool accumulate, float* dw, const Scratch& scratch) {
  const WinogradGrid g = winograd_grid(s);
  (g.shared ? run_winograd_shared : run_winograd_apart)(s, g, prologue, x, dy, accumulate, dw, scratch);
}

// Worth it: products of whole tiles against those of the direct sums, which on tile registers leave out the padding of
// small maps. On vectors 36 planes of sums cost as much as so many products of each pair of channels, more than those
// of a few tiles. Fitted to the layers of VGG and ResNet, at batches of 1 to 64.
constexpr int64_t kSumsCost = 1100;
FASTCNN_INLINE bool winograd_pays(const Conv2DShape& s) {
  if (s.C < 8 || s.K < 8) return false;
  const int64_t products = kPoints * ceil_div(s.P, winograd::kTile) * ceil_div(s.Q, winograd::kTile);
#if FASTCNN_TILES
  return 2 * products < reached(s.P, s.R, 1, s.pad_top, 1, s.H) * reached(s.Q, s.S, 1, s.pad_left, 1, s.W);
#else
  return 13 * s.N * products + 10 * kSumsCost < 10 * s.N * 9 * s.P * s.Q;
#endif
}

}  // namespace weights
}  // namespace fastcnn::FASTCNN_ISA
