// Convolution as a sum over window taps of GEMMs: y[m][k] = sum over taps of x[row(m, tap)] * w[tap].
//
// Rows m are output pixels; a tap's row is a pixel of x, or zeros where the window lies in the padding. 1x1 is one tap.
// The same loops run backward-data: dx is split into stride_h * stride_w phases, and each phase is such a sum over dy
// with the taps r that satisfy (h + pad - r*dilation) % stride == 0. Weights are packed [panel][tap][C][NR].
//
// A block of rows is first copied, normalised on the way if asked, into the order in which the micro-kernel reads it:
// [tile][plane][row of the tile][kDepth]. Pixels of x itself lie a power of two apart and would share a few cache sets.
// The product of a block and a panel goes chain by chain of planes, so that the panel's part stays in a near cache for
// all tiles of the block; a chain is in ascending k, and chains are added up in memory.
#pragma once
#include "kernels/conv_finish.hpp"
#include "kernels/conv_strip.hpp"
#include "kernels/conv_tiles.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace gemm {

static void stream_panel(const Problem& p, const Epilogue& epilogue, int64_t block, int64_t first, int64_t rows,
                         int64_t column, int64_t width, const float* panel, float* y) {
  if (epilogue.statistics) {
    float* mean = epilogue.statistics + block * 2 * p.K + column;
    block_statistics(panel, rows, kPanelNR, width, mean, mean + p.K);
  }
  for (int64_t m = 0; m < rows; ++m)
    for (int64_t c = 0; c < width; c += kLanes)
      stream(y + (first + m) * p.K + column + c, load(panel + m * kPanelNR + c));
  end_stream();
}

// One block of output pixels times one group of panels. `placed` is the block whose rows the worker's memory holds.
static void run_task(const Problem& p, const Grid& g, const Depth& d, const Layout& l, const Prologue& prologue,
                     const float* x, const float* packed, const Epilogue& epilogue, float* y, int64_t block,
                     int64_t group, int64_t& placed, char* memory) {
  const auto [first, rows] = outputs(p, g, epilogue.pool, block);
  Plane* planes = reinterpret_cast<Plane*>(memory + l.planes);
  float* placed_rows = reinterpret_cast<float*>(memory + l.rows);
  float* panel = reinterpret_cast<float*>(memory + l.panel);
  if (placed != block) {
    if (placed < 0) make_planes(p, g, d, planes);
    place_rows(p, d, prologue, x, first, rows, reinterpret_cast<float*>(memory + l.joined), placed_rows);
    placed = block;
  }
  const bool whole = p.out_step_h == 1 && p.out_step_w == 1 && p.out_H == p.OH && p.out_W == p.OW;
  const int64_t panel_size = p.window * p.C * kPanelNR;
  const Chains sums = chains(d);
  // Maxima come before ReLU: fewer to do, and the same result.
  Epilogue after = epilogue;
  after.relu = epilogue.relu && !epilogue.pool;
  const bool streamed = !epilogue.pool && !epilogue.residual && whole && streams(y, p.N * p.OH * p.OW * p.K, p.K);
  const bool in_panel = epilogue.pool || streamed;
  float* const target = in_panel ? panel : y;

  // Whether the next block begins in x where this one ends, and is most likely this worker's.
  const bool next_follows = p.window == 1 && p.in_step_h == 1 && p.in_step_w == 1 && p.OH == p.IH && p.OW == p.IW &&
                            p.C % kDepth == 0 && g.groups == 1 && block + 1 < g.blocks;
  const int64_t last_panel = smaller(panels(p.K), (group + 1) * g.group_panels);
  for (int64_t j = group * g.group_panels; j < last_panel; ++j) {
    const float* b = packed + j * panel_size;
    const auto [column, width] = columns(p.K, j);
    const bool fetches_x = next_follows && j == last_panel - 1;
    for (int64_t chain = 0; chain < sums.all; ++chain) {
      const int64_t begin = sums.begin(chain), end = sums.begin(chain + 1);
      const bool last = chain == sums.all - 1;
      const int64_t length = (end - begin) * kDepth, steps = ceil_div(rows, kPanelMR) * (end - begin);
      Ahead ahead(begin < end ? b + planes[begin].weights + length * kPanelNR : b, length * kPanelNR,
                  steps * (kDepth / kFetchDepth));
      Ahead ahead_x(x + ((first + rows) * d.planes + rows * begin) * kDepth, fetches_x ? length * rows : 0, steps);
      for_tiles<kPanelMR>(rows, [&](int64_t m, int64_t count) {
        with_rows<kPanelMR>(count, [&]<int MR>() {
          int64_t offsets[MR] = {};  // of the rows' first element in `target`
          if (last) {
            if (in_panel) {
              for (int i = 0; i < MR; ++i) offsets[i] = (m + i) * kPanelNR;
            } else if (whole) {
              for (int i = 0; i < MR; ++i) offsets[i] = (first + m + i) * p.K + column;
            } else {
              Pixel at = pixel(p, first + m);
              for (int i = 0; i < MR; ++i, advance(p, at))
                offsets[i] =
                    ((at.n * p.out_H + p.out_h + at.oh * p.out_step_h) * p.out_W + p.out_w + at.ow * p.out_step_w) *
                        p.K +
                    column;
            }
          }
          const auto run_tile = [&](auto tile) FASTCNN_LAMBDA {
            tile.zero();
            const float* a = placed_rows + m * d.planes * kDepth;
            for (int64_t k = begin; k < end; ++k) {
              const float* weights = b + planes[k].weights;
              ahead_x.fetch();
              // What the epilogue will touch, row by row: many lines at once would hold up the loads that follow.
              const int64_t fetched = last ? (k - begin) * MR / (end - begin) : MR;
              for (int64_t i = fetched; i < (k + 1 - begin) * MR / (end - begin); ++i)
                fetch_outputs(epilogue.residual, target, offsets[i], width);
              const auto multiply = [&](int64_t begin_k, int64_t depth) FASTCNN_LAMBDA {
                ahead.fetch();
                const BlockA<kDepth, 1> rows_a{a + k * MR * kDepth + begin_k};
                tile.multiply(rows_a, weights + begin_k * kPanelNR, kPanelNR, depth);
              };
              if (planes[k].count < kDepth) {
                multiply(0, planes[k].count);
                continue;
              }
              for (int64_t i = 0; i < kDepth; i += kFetchDepth) multiply(i, kFetchDepth);
            }
            if (chain) tile.add_from(panel + m * kPanelNR, kPanelNR);
            if (last)
              finish(tile, after, column, width, offsets, target);
            else
              tile.store_to(panel + m * kPanelNR, kPanelNR);
          };
          with_vectors(width, [&]<int kVectors>() { run_tile(Tile<MR, kVectors>()); });
        });
      });
    }
    if (streamed)
      stream_panel(p, epilogue, block, first, rows, column, width, panel, y);
    else
      finish_panel(p, epilogue, block, first, rows, column, width, panel, y);
  }
  if (epilogue.counts && group == 0) epilogue.counts[block] = rows;
}

// Outputs that no tap reaches, as in phases of a strided backward-data: zeros, which change no sum.
static void run_without_taps(const Problem& p, const Epilogue& epilogue, float* y) {
  if (epilogue.residual == y) return;
  const bool streamed = streams(y, p.N * p.OH * p.OW * p.K, p.K);
  parallel_for_tasks(p.N * p.OH, p.N * p.OH * p.OW * p.K * kMoved, [&](int64_t row, int) {
    for (int64_t ow = 0; ow < p.OW; ++ow) {
      float* const to = y + output_offset(p, row * p.OW + ow);
      for (int64_t k = 0; k < p.K; k += kLanes) {
        if (streamed)
          stream(to + k, vf{});
        else
          store_upto(to + k, vf{}, smaller(kLanes, p.K - k));
      }
    }
    if (streamed) end_stream();
  });
}

static void run_part(const Problem& p, const Prologue& prologue, const float* x, const float* packed,
                     const Epilogue& epilogue, float* y, const Scratch& scratch) {
  const bool plain = !epilogue.bias && !epilogue.relu && !epilogue.statistics && !epilogue.pool;
  if (tap_count(p) == 0 && plain && (!epilogue.residual || epilogue.residual == y))
    return run_without_taps(p, epilogue, y);
  const Grid g = grid(p, epilogue.pool);
  const Depth d = depth(p);
  const Layout l = layout(p, g, d, epilogue.pool);
  const int64_t work = p.N * p.OH * p.OW * p.K * p.C * tap_count(p);
  int64_t placed[kMostThreads];
  for (int64_t& block : placed) block = -1;
  // Panels vary fastest: neighbouring tasks read the same block of x.
  const bool strips = in_strip(p);
  parallel_for_tasks(g.blocks * g.groups, work, [&](int64_t task, int worker) {
    const int64_t block = task / g.groups, group = task % g.groups;
    char* const memory = scratch.workers + worker * scratch.worker_bytes;
    if (strips)
      run_strip_task(p, g, l, prologue, x, packed, epilogue, y, block, group, placed[worker], memory);
#if FASTCNN_TILES
    else if (on_tiles(p))
      run_task_on_tiles(p, g, d, l, prologue, x, packed, epilogue, y, block, group, placed[worker], memory);
#endif
    else
      run_task(p, g, d, l, prologue, x, packed, epilogue, y, block, group, placed[worker], memory);
  });
}

static void run(const Problem& p, const Prologue& prologue, const float* x, const float* packed,
                const Epilogue& epilogue, float* y, const Scratch& scratch) {
  Epilogue after = epilogue;
  for_parts(p, epilogue.pool, [&](const Problem& part) {
    run_part(part, prologue, x, packed, after, y, scratch);
    const int64_t blocks = grid(part, epilogue.pool).blocks;
    if (after.statistics) after.statistics += blocks * 2 * p.K;
    if (after.counts) after.counts += blocks;
  });
}
static int64_t blocks(const Problem& p) {
  int64_t all = 0;
  for_parts(p, false, [&](const Problem& part) { all += grid(part, false).blocks; });
  return all;
}

// packed[panel][tap][C][NR] from w[R,S,C,K], columns scaled; the last panel is filled with zeros.
static void pack(const Conv2DShape& s, [[maybe_unused]] bool batched, const float* w, const float* scale,
                 float* packed) {
#if FASTCNN_TILES
  const Problem p = forward_problem(s, batched);
  if (on_tiles(p)) return pack_tiles(p, w, scale, packed);
#endif
  const int64_t window = s.R * s.S, C = s.C, K = s.K;
  parallel_for_tasks(panels(K) * window, window * C * K * kMoved, [&](int64_t task, int) {
    const int64_t tap = task % window;
    const auto [column, width] = columns(K, task / window);
    const float* from = w + tap * C * K + column;
    float* to = packed + task * C * kPanelNR;
    for (int64_t c = 0; c < C; ++c, from += K, to += kPanelNR) {
      FASTCNN_UNROLL for (int64_t i = 0; i < kPanelNR; i += kLanes) {
        const int64_t n = smaller(kLanes, width - i);
        vf values{};
        if (n > 0) values = load_upto(from + i, n);
        if (n > 0 && scale) values *= load_upto(scale + column + i, n);
        store(to + i, values);
      }
    }
  });
}

// packed[panel over C][tap][K][NR] from w[R,S,C,K]: rows and columns change places; dy is scaled by scale[K] if given.
static void pack_turned(const Conv2DShape& s, [[maybe_unused]] bool batched, const float* w, const float* scale,
                        float* packed) {
#if FASTCNN_TILES
  if (on_tiles(phase_problem(s, 0, 0, batched))) return pack_tiles_turned(s, batched, w, scale, packed);
#endif
  const int64_t window = s.R * s.S, C = s.C, K = s.K;
  parallel_for_tasks(panels(C) * window, window * C * K * kMoved, [&](int64_t task, int) {
    const int64_t tap = task % window;
    const auto [column, width] = columns(C, task / window);
    float* to = packed + task * K * kPanelNR;
    // Line by line: rows lie a power of two apart and share few cache sets.
    for (int64_t k0 = 0; k0 < K; k0 += kDepth, to += kDepth * kPanelNR)
      for (int64_t i = 0; i < kPanelNR; ++i) {
        const float* from = w + (tap * C + column + i) * K + k0;
        if (i < width) prefetch(from + kDepth);
        for (int64_t k = 0; k < smaller(kDepth, K - k0); ++k)
          to[k * kPanelNR + i] = i < width ? (scale ? from[k] * scale[k0 + k] : from[k]) : 0.0f;
      }
  });
}

}  // namespace gemm
}  // namespace fastcnn::FASTCNN_ISA
