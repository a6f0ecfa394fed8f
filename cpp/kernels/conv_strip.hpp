// Convolutions of pictures, whose channels are so few that copying every tap costs more than multiplying: a block is
// whole output rows, and the rows of x under it are copied once, with their padding, into a strip in which each window
// is found in place.
#pragma once
#include "kernels/conv_finish.hpp"
#include "kernels/conv_rows.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace gemm {

// One row of x with its padding, normalised if asked; up to a vector after it is overwritten.
FASTCNN_INLINE void place_strip_row(const Problem& p, int64_t n, int64_t h, const Prologue& prologue, const float* x,
                                    int64_t columns, float* out) {
  const int64_t before = h < 0 || h >= p.IH ? columns : smaller(columns, larger(0, -p.columns.offset));
  const int64_t end = smaller(columns, p.IW - p.columns.offset);
  for (int64_t i = 0; i < before * p.C; ++i) out[i] = 0;
  if (before == columns) return;
  const int64_t from = ((n * p.IH + h) * p.IW + p.columns.offset + before) * p.C;
  copy_run(x + from, (end - before) * p.C, p.N * p.IH * p.IW * p.C - from, out + before * p.C);
  for (int64_t i = end * p.C; i < columns * p.C; ++i) out[i] = 0;
  if (!prologue.mean) return;
  for (int64_t i = before; i < end; ++i)
    for (int64_t c = 0; c < p.C; ++c) {
      float& v = out[i * p.C + c];
      v = normalised(prologue, v, c);
    }
}

static void place_strip(const Problem& p, const Strip& area, const Prologue& prologue, const float* x, int64_t first,
                        float* out) {
  const Pixel at = pixel(p, first);
  const int64_t h = at.oh * p.in_step_h + p.rows.offset;
  for (int64_t i = 0; i < area.rows; ++i)
    place_strip_row(p, at.n, h + i, prologue, x, area.pitch / p.C, out + i * area.pitch);
}

// All taps of MR neighbouring outputs; the distance between two must be a constant for the micro-kernel's addresses.
template <int DISTANCE, class T>
FASTCNN_INLINE void multiply_apart(T& tile, const Problem& p, const float* a, int64_t pitch, const float* b) {
  const int64_t length = p.columns.count * p.C;
  for (int64_t r = 0; r < p.rows.count; ++r, a += pitch, b += length * kPanelNR)
    tile.multiply(BlockA<DISTANCE, 1>{a}, b, kPanelNR, length);
}

template <class T>
FASTCNN_INLINE void multiply_windows(T& tile, const Problem& p, const float* a, int64_t pitch, const float* b) {
  switch (p.in_step_w * p.C) {
    case 1:
      return multiply_apart<1>(tile, p, a, pitch, b);
    case 3:
      return multiply_apart<3>(tile, p, a, pitch, b);
    default:
      return multiply_apart<6>(tile, p, a, pitch, b);
  }
}

// Windows on one channel with half a vector of outputs or fewer: a vector holds two neighbouring pixels of a row.
FASTCNN_INLINE bool in_pairs(const Problem& p) {
  return kCanPair && p.in_step_w * p.C == 1 && p.K <= kLanes / 2 && p.OW % 2 == 0;
}
template <int MR>
FASTCNN_INLINE void multiply_pairs(Tile<MR, 1>& tile, const Problem& p, const float* a, int64_t pitch, const float* b) {
  for (int64_t r = 0; r < p.rows.count; ++r, a += pitch)
    for (int64_t k = 0; k < p.columns.count; ++k, b += kPanelNR) {
      const vf columns = each_twice(load(b));
      FASTCNN_UNROLL for (int i = 0; i < MR; ++i) tile.c[i][0] += load_pair(a + 2 * i + k) * columns;
    }
}

// One block of whole output rows, read from a strip, times one group of panels; `placed` as in run_task.
static void run_strip_task(const Problem& p, const Grid& g, const Layout& l, const Prologue& prologue, const float* x,
                           const float* packed, const Epilogue& epilogue, float* y, int64_t block, int64_t group,
                           int64_t& placed, char* memory) {
  const int64_t first = outputs(p, g, epilogue.pool, block).first;
  const Strip area = strip(p, g);
  float* a = reinterpret_cast<float*>(memory + l.rows);
  float* panel = reinterpret_cast<float*>(memory + l.panel);
  if (placed != block) place_strip(p, area, prologue, x, first, a);
  placed = block;
  Epilogue after = epilogue;  // maxima come before ReLU: fewer to do, and the same result
  after.relu = epilogue.relu && !epilogue.pool;
  const int64_t last_panel = smaller(panels(p.K), (group + 1) * g.group_panels);
  for (int64_t j = group * g.group_panels; j < last_panel; ++j) {
    const float* b = packed + j * p.window * p.C * kPanelNR;
    const auto [column, width] = columns(p.K, j);
    // Where output `pixel` of the block begins in y or the panel
    const auto offset = [&](int64_t pixel) {
      return epilogue.pool ? pixel * kPanelNR : (first + pixel) * p.K + column;
    };
    float* const target = epilogue.pool ? panel : y;
    for (int64_t row = 0; row < g.block_rows / p.OW; ++row) {
      const float* const under = a + row * p.in_step_h * area.pitch;
      if (in_pairs(p)) {
        for_tiles(p.OW / 2, [&](int64_t m, int64_t count) {
          with_rows(count, [&]<int MR>() {
            Tile<MR, 1> pairs;
            pairs.zero();
            multiply_pairs(pairs, p, under + 2 * m, area.pitch, b);
            FASTCNN_UNROLL for (int second = 0; second < 2; ++second) {
              Tile<MR, 1> tile;
              int64_t offsets[MR] = {};
              FASTCNN_UNROLL for (int i = 0; i < MR; ++i) {
                tile.c[i][0] = of_pair(pairs.c[i][0], second);
                offsets[i] = offset(row * p.OW + 2 * (m + i) + second);
              }
              finish(tile, after, column, width, offsets, target);
            }
          });
        });
        continue;
      }
      with_vectors(width, [&]<int kVectors>() {
        for_tiles<kRowsOf<kVectors>>(p.OW, [&](int64_t m, int64_t count) {
          with_rows<kRowsOf<kVectors>>(count, [&]<int MR>() {
            int64_t offsets[MR] = {};
            for (int i = 0; i < MR; ++i) offsets[i] = offset(row * p.OW + m + i);
            if (!epilogue.pool) {
              FASTCNN_UNROLL for (int i = 0; i < MR; ++i) fetch_outputs(nullptr, y, offsets[i], width);
            }
            Tile<MR, kVectors> tile;
            tile.zero();
            multiply_windows(tile, p, under + m * p.in_step_w * p.C, area.pitch, b);
            finish(tile, after, column, width, offsets, target);
          });
        });
      });
    }
    finish_panel(p, epilogue, block, first, g.block_rows, column, width, panel, y);
  }
  if (epilogue.counts && group == 0) epilogue.counts[block] = g.block_rows;
}

}  // namespace gemm
}  // namespace fastcnn::FASTCNN_ISA
