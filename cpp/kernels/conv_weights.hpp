// Gradient of the weights: dw[tap][c][k] (+)= sum over output pixels of x[row(pixel, tap)][c] * dy[pixel][k].
//
// A GEMM whose reduction runs over pixels, so both operands are copied per block of pixels: dy once, x once per tap.
// Where C and K are small the pixels are cut into equal parts with sums of their own, added in order at the end: the
// cut depends on the shape only.
#pragma once
#include "kernels/conv_gemm.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace weights {

constexpr int64_t kPixels = 128;  // pixels a block at most: a panel of dy fills a third of the L1 cache
// Whose operands and sums share the L2 cache; whole panels
constexpr int64_t kRowBlock = 256, kColumnBlock = round_up(512, kPanelNR);
constexpr int64_t kTasks = 8;

// Windows on few channels are copied one after the other and then are the channels of single pixels.
constexpr int64_t kMostJoined = 512;  // values of a window
FASTCNN_INLINE bool is_joined(const Conv2DShape& s) {
  return s.R * s.S > 1 && s.C < kDepth && s.R * s.S * s.C <= kMostJoined;
}

struct Grid {
  int64_t taps, width;  // joined windows are one tap of R*S*C values
  int64_t row_blocks, row_block, column_blocks, column_block;
  int64_t pixels, parts, part_pixels, block_pixels;
  int64_t size;  // of dw
};

FASTCNN_INLINE Grid grid(const Conv2DShape& s) {
  Grid g;
  const bool joined = is_joined(s);
  g.taps = joined ? 1 : s.R * s.S;
  g.width = joined ? s.R * s.S * s.C : s.C;
  g.row_block = joined ? g.width : smaller(kRowBlock, g.width);
  g.row_blocks = ceil_div(g.width, g.row_block);
  g.column_block = smaller(kColumnBlock, round_up(s.K, kPanelNR));
  g.column_blocks = ceil_div(s.K, g.column_block);
  g.pixels = s.N * s.P * s.Q;
  g.size = s.R * s.S * s.C * s.K;
  const int64_t blocks = larger(1, ceil_div(g.pixels, kPixels));
  const int64_t parts = smaller(blocks, ceil_div(kTasks, g.row_blocks * g.column_blocks));
  g.part_pixels = larger(1, ceil_div(g.pixels, parts));
  g.parts = larger(1, ceil_div(g.pixels, g.part_pixels));
  g.block_pixels = ceil_div(g.part_pixels, ceil_div(g.part_pixels, kPixels));
  return g;
}

// Floats from one packed pixel of x to the next: no power of two, so that pixels do not share cache sets.
FASTCNN_INLINE int64_t pitch(int64_t rows) { return round_up(rows, 16) + 16; }
// Of the packed operands of a block.
FASTCNN_INLINE int64_t block_floats(int64_t rows, int64_t columns) { return (pitch(rows) + columns) * kPixels; }

FASTCNN_INLINE ScratchSize scratch_size(const Conv2DShape& s) {
  const Grid g = grid(s);
  return {g.parts > 1 ? g.parts * g.size * 4 : 0, block_floats(g.row_block, g.column_block) * 4};
}

// a[pixel][pitch] = x[row(pixel, tap)][c0 + ...], zeros in the padding, or the pixel's joined window
static void pack_x(const Conv2DShape& s, const Prologue& prologue, const float* x, int64_t tap, int64_t c0,
                   int64_t rows, int64_t first, int64_t count, float* a) {
  const gemm::Problem p = gemm::forward_problem(s);
  gemm::Pixel at = gemm::pixel(p, first);
  const bool joined = is_joined(s);
  for (int64_t i = 0; i < count; ++i, gemm::advance(p, at), a += pitch(rows)) {
    if (joined) {
      gemm::join_row(p, x, at, prologue, a);
      continue;
    }
    const float* const pixel = gemm::row(p, x, at, tap / s.S, tap % s.S);
    if (!pixel) {
      for (int64_t c = 0; c < rows; c += kLanes) store(a + c, vf{});
    } else if (prologue.mean) {
      for (int64_t c = 0; c < rows; c += kLanes)
        store(a + c, normalised(prologue, load_upto(pixel + c0 + c, rows - c), c0 + c, rows - c));
    } else {
      for (int64_t c = 0; c < rows; c += kLanes) store(a + c, load_upto(pixel + c0 + c, rows - c));
    }
  }
}

// b[panel][pixel][NR] = dy[pixel][k0 + ...], zeros beyond K
static void pack_dy(const float* dy, int64_t K, int64_t k0, int64_t columns, int64_t first, int64_t count, float* b) {
  for (int64_t j = 0; j < columns; j += kPanelNR, b += kPixels * kPanelNR) {
    const float* from = dy + first * K + k0 + j;
    const int64_t width = smaller(kPanelNR, K - k0 - j);
    if (width == kPanelNR) {
      for (int64_t i = 0; i < count; ++i, from += K)
        for (int64_t c = 0; c < kPanelNR; c += kLanes) store(b + i * kPanelNR + c, load(from + c));
    } else {
      for (int64_t i = 0; i < count; ++i, from += K)
        for (int64_t c = 0; c < kPanelNR; c += kLanes)
          store(b + i * kPanelNR + c, c < width ? load_upto(from + c, width - c) : vf{});
    }
  }
}

// While pixels are multiplied, what x (of taps, the first) and dy have of those that follow is fetched into the L2
// cache, a few lines in each of so many `calls`.
struct NextPixels {
  NextPixels(const Conv2DShape& s, const float* x, int64_t rows, const float* dy, int64_t columns, int64_t first,
             int64_t count, int64_t calls)
      : p(gemm::forward_problem(s)),
        at(gemm::pixel(p, first)),
        x(x),
        dy(dy + first * s.K),
        x_lines(is_joined(s) ? 0 : ceil_div(rows, kLine)),
        lines(x_lines + ceil_div(columns, kLine)),
        left(lines * count),
        a_call(ceil_div(left, larger(1, calls))) {}
  FASTCNN_INLINE void fetch() {
    for (int64_t i = 0; i < a_call && left > 0; ++i, --left) {
      const float* const from = line < x_lines ? gemm::row(p, x, at, 0, 0) : dy;
      if (from) prefetch_to_l2(from + (line < x_lines ? line : line - x_lines) * kLine);
      if (++line < lines) continue;
      line = 0;
      dy += p.K;
      gemm::advance(p, at);
    }
  }

 private:
  static constexpr int64_t kLine = 16;
  gemm::Problem p;
  gemm::Pixel at;
  const float *x, *dy;
  int64_t x_lines, lines;  // of a pixel
  int64_t left, a_call;
  int64_t line = 0;
};

// Adds the part of `count` pixels from `first` on, after which `next` come, to `rows` rows from c0 on and columns k0..
// of dw; a, b: memory for packed blocks.
static void add_pixels(const Conv2DShape& s, const Grid& g, const Prologue& prologue, const float* x, const float* dy,
                       int64_t c0, int64_t rows, int64_t k0, int64_t columns, int64_t first, int64_t count,
                       int64_t next, bool fresh, float* a, float* b, float* dw) {
  constexpr int64_t kStep = 16;  // pixels between fetches
  const int64_t tiles = g.taps * (columns / kPanelNR) * ceil_div(rows, kPanelMR);
  NextPixels ahead(s, x + c0, rows, dy + k0, smaller(columns, s.K - k0), first + count, next,
                   tiles * ceil_div(count, kStep));
  pack_dy(dy, s.K, k0, columns, first, count, b);
  for (int64_t tap = 0; tap < g.taps; ++tap) {
    pack_x(s, prologue, x, tap, c0, rows, first, count, a);
    for (int64_t j = 0; j < columns; j += kPanelNR)
      for_tiles<kPanelMR>(rows, [&](int64_t i, int64_t of_tile) {
        with_rows<kPanelMR>(of_tile, [&]<int MR>() {
          float* const sums = dw + (tap * g.width + c0 + i) * s.K + k0 + j;
          const int64_t width = s.K - k0 - j;
          const auto run_tile = [&](auto tile) FASTCNN_LAMBDA {
            tile.zero();
            tile.each([&](vf&, int row, int64_t column)
                          FASTCNN_LAMBDA { prefetch_to_write(sums + row * s.K + column); });
            for (int64_t k = 0; k < count; k += kStep) {
              ahead.fetch();
              tile.multiply(StridedA{a + k * pitch(rows) + i, 1, pitch(rows)}, b + j * kPixels + k * kPanelNR, kPanelNR,
                            smaller(kStep, count - k));
            }
            tile.each([&](const vf& sum, int row, int64_t column) FASTCNN_LAMBDA {
              float* const at = sums + row * s.K + column;
              const int64_t n = width - column;
              if (n > 0) store_upto(at, fresh ? sum : load_upto(at, n) + sum, n);
            });
          };
          with_vectors(width, [&]<int kVectors>() { run_tile(Tile<MR, kVectors>()); });
        });
      });
  }
}

// The same for pixels begin..end-1, block by block.
static void add_blocks(const Conv2DShape& s, const Grid& g, const Prologue& prologue, const float* x, const float* dy,
                       int64_t c0, int64_t rows, int64_t k0, int64_t columns, int64_t begin, int64_t end, bool fresh,
                       float* a, float* b, float* dw) {
  for (int64_t first = begin; first < end; first += g.block_pixels, fresh = false) {
    const int64_t left = end - first, count = smaller(g.block_pixels, left);
    add_pixels(s, g, prologue, x, dy, c0, rows, k0, columns, first, count, smaller(g.block_pixels, left - count), fresh,
               a, b, dw);
  }
}

// dw (+)= the sums of `parts` parts, in order
static void add_parts(const float* sums, int64_t parts, int64_t size, bool accumulate, float* dw) {
  parallel_for(size, kGrain, size * parts * kMoved, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kLanes) {
      const int64_t n = smaller(kLanes, end - i);
      vf sum = accumulate ? load_upto(dw + i, n) : vf{};
      for (int64_t part = 0; part < parts; ++part) sum += load_upto(sums + part * size + i, n);
      store_upto(dw + i, sum, n);
    }
  });
}

static void run(const Conv2DShape& s, const Prologue& prologue, const float* x, const float* dy, bool accumulate,
                float* dw, const Scratch& scratch) {
  const Grid g = grid(s);
  float* sums = g.parts > 1 ? shared_floats(scratch) : dw;
  const bool fresh_sums = g.parts > 1 || !accumulate;
  const int64_t tasks = g.parts * g.row_blocks * g.column_blocks;
  parallel_for_tasks(tasks, g.pixels * g.size, [&](int64_t task, int worker) {
    const int64_t part = task / (g.row_blocks * g.column_blocks), block = task % (g.row_blocks * g.column_blocks);
    const int64_t c0 = block / g.column_blocks * g.row_block, k0 = block % g.column_blocks * g.column_block;
    const int64_t rows = smaller(g.row_block, g.width - c0);
    const int64_t columns = smaller(g.column_block, round_up(s.K - k0, kPanelNR));
    float* a = worker_floats(scratch, worker);
    float* b = a + pitch(g.row_block) * kPixels;
    float* out = sums + part * (g.parts > 1 ? g.size : 0);
    const int64_t begin = part * g.part_pixels, end = smaller(g.pixels, begin + g.part_pixels);
    add_blocks(s, g, prologue, x, dy, c0, rows, k0, columns, begin, end, fresh_sums, a, b, out);
  });
  if (g.parts > 1) add_parts(sums, g.parts, g.size, accumulate, dw);
}

}  // namespace weights
}  // namespace fastcnn::FASTCNN_ISA
