// Gradient of the weights: dw[tap][c][k] (+)= sum over output pixels of x[row(pixel, tap)][c] * dy[pixel][k].
//
// A GEMM whose reduction runs over pixels, so both operands are packed per block of pixels: dy once, x once per tap.
// Where C and K are small the pixels are cut into a fixed number of parts with sums of their own, added in order at the
// end: the cut depends on the shape only.
#pragma once
#include "kernels/conv_gemm.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace weights {

constexpr int64_t kPixels = 256;  // pixels a block: a panel of dy fills half the L1 cache
constexpr int64_t kRowBlock = 16 * kMR;
constexpr int64_t kColumnBlock = 128;
constexpr int64_t kTasks = 8;

struct Grid {
  int64_t taps, width;  // with few channels a tap is a whole window row of S*C values
  int64_t row_blocks, row_block, column_blocks, column_block;
  int64_t pixels, parts, part_pixels;
  int64_t size;  // of dw
};

FASTCNN_INLINE Grid grid(const Conv2DShape& s) {
  Grid g;
  const bool joined = s.dilation_w == 1 && s.C < kDepth;
  g.taps = joined ? s.R : s.R * s.S;
  g.width = joined ? s.S * s.C : s.C;
  g.row_block = smaller(kRowBlock, round_up(g.width, kMR));
  g.row_blocks = ceil_div(g.width, g.row_block);
  g.column_block = smaller(kColumnBlock, round_up(s.K, kNR));
  g.column_blocks = ceil_div(s.K, g.column_block);
  g.pixels = s.N * s.P * s.Q;
  g.size = s.R * s.S * s.C * s.K;
  const int64_t blocks = larger(1, ceil_div(g.pixels, kPixels));
  const int64_t wanted = smaller(blocks, ceil_div(kTasks, g.row_blocks * g.column_blocks));
  g.part_pixels = ceil_div(blocks, wanted) * kPixels;
  g.parts = larger(1, ceil_div(g.pixels, g.part_pixels));
  return g;
}

FASTCNN_INLINE ScratchSize scratch_size(const Conv2DShape& s) {
  const Grid g = grid(s);
  return {g.parts > 1 ? g.parts * g.size * 4 : 0, (g.row_block + g.column_block) * kPixels * 4};
}

// a[block of MR][pixel][MR] = x[row(pixel, tap)][c0 + ...], zeros beyond C and in the padding
static void pack_x(const Conv2DShape& s, const Grid& g, const float* x, int64_t tap, int64_t c0, int64_t rows,
                   int64_t first, int64_t count, float* a) {
  const bool joined = g.taps == s.R && g.width == s.S * s.C && s.dilation_w == 1 && s.C < kDepth;
  const int64_t r = joined ? tap : tap / s.S, column = joined ? 0 : tap % s.S;
  const int64_t plane = s.P * s.Q;
  int64_t n = first / plane, p = first % plane / s.Q, q = first % s.Q;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t h = p * s.stride_h - s.pad_top + r * s.dilation_h;
    const int64_t w = q * s.stride_w - s.pad_left + column * s.dilation_w;
    // c0..c0+rows of the tap's values; those from begin to end lie inside the picture
    int64_t begin = 0, end = smaller(rows, g.width - c0);
    if (h < 0 || h >= s.H) {
      end = 0;
    } else if (joined) {
      begin = smaller(end, larger(0, -w * s.C - c0));
      end = larger(begin, smaller(end, (s.W - w) * s.C - c0));
    } else if (w < 0 || w >= s.W) {
      end = 0;
    }
    const float* from = x + ((n * s.H + h) * s.W + w) * s.C + c0;
    float* to = a + i * kMR;
    if (begin == 0 && end == rows) {
      for (int64_t c = 0; c < rows; c += kMR, to += kPixels * kMR)
        FASTCNN_UNROLL for (int j = 0; j < kMR; ++j) to[j] = from[c + j];
    } else {
      for (int64_t c = 0; c < rows; c += kMR, to += kPixels * kMR)
        for (int64_t j = 0; j < kMR; ++j) to[j] = c + j >= begin && c + j < end ? from[c + j] : 0.0f;
    }
    if (++q == s.Q) {
      q = 0;
      if (++p == s.P) {
        p = 0;
        ++n;
      }
    }
  }
}

// b[panel][pixel][NR] = dy[pixel][k0 + ...], zeros beyond K
static void pack_dy(const float* dy, int64_t K, int64_t k0, int64_t columns, int64_t first, int64_t count, float* b) {
  for (int64_t j = 0; j < columns; j += kNR, b += kPixels * kNR) {
    const float* from = dy + first * K + k0 + j;
    const int64_t width = smaller(kNR, K - k0 - j);
    if (width == kNR) {
      for (int64_t i = 0; i < count; ++i, from += K) {
        store(b + i * kNR, load(from));
        store(b + i * kNR + kLanes, load(from + kLanes));
      }
    } else {
      for (int64_t i = 0; i < count; ++i, from += K)
        for (int64_t c = 0; c < kNR; ++c) b[i * kNR + c] = c < width ? from[c] : 0.0f;
    }
  }
}

template <int MR>
FASTCNN_INLINE void add_tile(Tile<MR>& tile, bool fresh, int64_t rows, int64_t width, int64_t K, float* dw) {
  FASTCNN_UNROLL for (int i = 0; i < MR; ++i) {
    FASTCNN_UNROLL for (int half = 0; half < 2; ++half) {
      const int64_t n = smaller(kLanes, width - half * kLanes);
      float* at = dw + i * K + half * kLanes;
      if (i < rows && n > 0) store_upto(at, fresh ? tile.c[i][half] : load_upto(at, n) + tile.c[i][half], n);
    }
  }
}

// Adds the part of `count` pixels from `first` on to `rows` rows from c0 on and columns k0.. of dw; a, b: memory for
// packed blocks, for rows in whole tiles.
static void add_pixels(const Conv2DShape& s, const Grid& g, const float* x, const float* dy, int64_t c0, int64_t rows,
                       int64_t k0, int64_t columns, int64_t first, int64_t count, bool fresh, float* a, float* b,
                       float* dw) {
  pack_dy(dy, s.K, k0, columns, first, count, b);
  for (int64_t tap = 0; tap < g.taps; ++tap) {
    pack_x(s, g, x, tap, c0, round_up(rows, kMR), first, count, a);
    for (int64_t j = 0; j < columns; j += kNR)
      for (int64_t i = 0; i < rows; i += kMR) {
        Tile<kMR> tile;
        tile.zero();
        tile.multiply(BlockA<1, kMR>{a + i * kPixels}, b + j * kPixels, kNR, count);
        float* at = dw + (tap * g.width + c0 + i) * s.K + k0 + j;
        add_tile(tile, fresh, rows - i, smaller(kNR, s.K - k0 - j), s.K, at);
      }
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

static void run(const Conv2DShape& s, const float* x, const float* dy, bool accumulate, float* dw,
                const Scratch& scratch) {
  const Grid g = grid(s);
  float* sums = g.parts > 1 ? shared_floats(scratch) : dw;
  const bool fresh_sums = g.parts > 1 || !accumulate;
  const int64_t tasks = g.parts * g.row_blocks * g.column_blocks;
  parallel_for_tasks(tasks, g.pixels * g.size, [&](int64_t task, int worker) {
    const int64_t part = task / (g.row_blocks * g.column_blocks), block = task % (g.row_blocks * g.column_blocks);
    const int64_t c0 = block / g.column_blocks * g.row_block, k0 = block % g.column_blocks * g.column_block;
    const int64_t rows = smaller(g.row_block, g.width - c0);
    const int64_t columns = smaller(g.column_block, round_up(s.K - k0, kNR));
    float* a = worker_floats(scratch, worker);
    float* b = a + g.row_block * kPixels;
    float* out = sums + part * (g.parts > 1 ? g.size : 0);
    const int64_t begin = part * g.part_pixels, end = smaller(g.pixels, begin + g.part_pixels);
    for (int64_t first = begin; first < end; first += kPixels)
      add_pixels(s, g, x, dy, c0, rows, k0, columns, first, smaller(kPixels, end - first), fresh_sums && first == begin,
                 a, b, out);
  });
  if (g.parts > 1) add_parts(sums, g.parts, g.size, accumulate, dw);
}

}  // namespace weights
}  // namespace fastcnn::FASTCNN_ISA
