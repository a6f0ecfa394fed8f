// Convolution as a sum over window taps of GEMMs: y[m][k] = sum over taps of x[row(m, tap)] * w[tap].
//
// Rows m are output pixels; a tap's row is a pixel of x, or zeros where the window lies in the padding. 1x1 is one tap.
// The same loops run backward-data: dx is split into stride_h * stride_w phases, and each phase is such a sum over dy
// with the taps r that satisfy (h + pad - r*dilation) % stride == 0. Weights are packed [panel][tap][C][NR].
//
// A block of rows is first copied, normalised on the way if asked, into the order in which the micro-kernel reads it:
// [tile][plane][row of the tile][kDepth]. Pixels of x itself lie a power of two apart and would share a few cache sets.
// The product of a block and a panel goes chunk by chunk of planes, so that the panel's part stays in the L1 cache for
// all tiles of the block; sums wait in memory meanwhile, each still one chain in ascending k.
//
// Pictures have so few channels that copying every tap costs more than multiplying: there a block is whole output rows,
// and the rows of x under it are copied once, with their padding, into a strip in which each window is found in place.
#pragma once
#include "kernels/gemm.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace gemm {

// The taps of one axis: window index first + t*step reads input offset + t*offset_step (+ in_step * output index).
struct Axis {
  int64_t count, first, step, offset, offset_step;
};

struct Problem {
  int64_t N, IH, IW, C, K;  // input, output channels
  int64_t OH, OW;  // grid of outputs computed
  int64_t in_step_h, in_step_w;
  Axis rows, columns;
  int64_t window_columns, window;  // S and R*S of the packed weights
  int64_t out_H, out_W, out_h, out_w, out_step_h, out_step_w;  // where the grid lies in y
};

constexpr int64_t kChunkPlanes = 12;  // planes whose weights stay in the L1 cache
constexpr int64_t kBlockRows = 144;  // rows whose A stays in the L2 cache over all panels
constexpr int64_t kBlockFloats = 96 * 1024;
constexpr int64_t kFewRows = 98;  // below, the weights would pass by too often
constexpr int64_t kStripRows = 224;
constexpr int64_t kTasks = 16;  // at least so many, so that no core idles at the end

FASTCNN_INLINE int64_t panels(int64_t K) { return ceil_div(K, kNR); }
FASTCNN_INLINE int64_t tap_count(const Problem& p) { return p.rows.count * p.columns.count; }
FASTCNN_INLINE int64_t packed_size(int64_t window, int64_t C, int64_t K) { return panels(K) * window * C * kNR; }

// How k is cut into planes. Few channels: the taps of a row are joined first, as they lie in the packed weights.
struct Depth {
  bool joined;
  int64_t runs, length, planes;  // a run is a tap or all of them; planes of all runs
};
FASTCNN_INLINE Depth depth(const Problem& p) {
  const int64_t taps = tap_count(p);
  if (p.C < kDepth && taps > 1 && taps == p.window) return {true, 1, taps * p.C, ceil_div(taps * p.C, kDepth)};
  return {false, taps, p.C, taps * ceil_div(p.C, kDepth)};
}

// How the work is cut; a function of the shape only.
struct Grid {
  int64_t blocks, block_rows, groups, group_panels;
};

// Whether the windows of neighbouring outputs are read from a strip: few channels, undilated, forward, strides for
// which the micro-kernel has the distance between two outputs.
FASTCNN_INLINE bool in_strip(const Problem& p) {
  const auto plain = [](const Axis& axis) { return axis.first == 0 && axis.step == 1 && axis.offset_step == 1; };
  const int64_t distance = p.in_step_w * p.C;
  return depth(p).joined && plain(p.rows) && plain(p.columns) && p.window * p.C <= kChunkPlanes * kDepth &&
         (distance == 1 || distance == 3 || distance == 6) && p.out_step_h == 1 && p.out_step_w == 1;
}

// Output rows of a block: as many as divide the map and keep within kStripRows outputs.
FASTCNN_INLINE int64_t strip_rows(const Problem& p) {
  int64_t rows = 1;
  for (int64_t r = 2; r <= p.OH && r * p.OW <= kStripRows; ++r)
    if (p.OH % r == 0) rows = r;
  return rows;
}

// At most `limit` tiles a block, so many that blocks of equal size come in pairs and each core gets as much.
FASTCNN_INLINE int64_t tiles_a_block(int64_t M, int64_t limit) {
  const int64_t tiles = larger(1, ceil_div(M, kMR));
  if (tiles <= limit) return tiles;
  int64_t best = limit, least = -1;
  for (int64_t t = limit; t > limit * 2 / 3; --t) {
    const int64_t idle = round_up(ceil_div(tiles, t), 2) * t - tiles;
    if (least < 0 || idle < least) {
      best = t;
      least = idle;
    }
  }
  return best;
}

FASTCNN_INLINE Grid grid(const Problem& p, bool pool) {
  Grid g;
  if (pool) {  // a block is a pair of output rows
    g.blocks = p.N * (p.OH / 2);
    g.block_rows = 2 * p.OW;
  } else if (in_strip(p)) {
    g.block_rows = strip_rows(p) * p.OW;
    g.blocks = p.N * (p.OH / strip_rows(p));
  } else {
    const int64_t M = p.N * p.OH * p.OW;
    const int64_t K = larger(1, p.C * tap_count(p));
    g.block_rows = kMR * tiles_a_block(M, smaller(kBlockRows, larger(kFewRows, kBlockFloats / K)) / kMR);
    g.blocks = ceil_div(M, g.block_rows);
  }
  const int64_t all = panels(p.K);
  g.groups = g.blocks ? smaller(ceil_div(kTasks, g.blocks), larger(1, all / 2)) : 1;
  g.group_panels = ceil_div(all, g.groups);
  g.groups = ceil_div(all, g.group_panels);
  return g;
}

struct Plane {
  int64_t weights, count;  // where its weights begin in a panel, values of k
};

// The rows of x under a block: their number, and the floats from one to the next.
struct Strip {
  int64_t rows, pitch;
};
FASTCNN_INLINE Strip strip(const Problem& p, const Grid& g) {
  return {(g.block_rows / larger(1, p.OW) - 1) * p.in_step_h + p.rows.count,
          ((p.OW - 1) * p.in_step_w + p.columns.count) * p.C};
}

// One worker's memory: the planes, a tile's rows of joined taps, the rows of a block or its strip, the sums of a panel.
struct Layout {
  int64_t planes, joined, rows, panel, bytes;
};

FASTCNN_INLINE Layout layout(const Problem& p, const Grid& g, const Depth& d, bool pool) {
  Layout l;
  if (in_strip(p)) {
    const Strip area = strip(p, g);
    l.planes = l.joined = l.rows = 0;
    l.panel = round_up((area.rows * area.pitch + kLanes) * 4, 64);
    l.bytes = l.panel + (pool ? g.block_rows * kNR * 4 : 0);
    return l;
  }
  l.planes = 0;
  l.joined = round_up(d.planes * static_cast<int64_t>(sizeof(Plane)), 64);
  l.rows = l.joined + (d.joined ? (kMR * d.planes * kDepth + kLanes) * 4 : 0);
  l.panel = l.rows + g.block_rows * d.planes * kDepth * 4;
  l.bytes = l.panel + (pool || d.planes > kChunkPlanes ? g.block_rows * kNR * 4 : 0);
  return l;
}

FASTCNN_INLINE ScratchSize scratch_size(const Problem& p, bool pool) {
  return {0, layout(p, grid(p, pool), depth(p), pool).bytes};
}

FASTCNN_INLINE void make_planes(const Problem& p, const Depth& d, Plane* planes) {
  const int64_t row = p.C * kNR;
  for (int64_t a = 0; a < (d.joined ? 1 : p.rows.count); ++a)
    for (int64_t b = 0; b < (d.joined ? 1 : p.columns.count); ++b) {
      const int64_t tap = (p.rows.first + a * p.rows.step) * p.window_columns + p.columns.first + b * p.columns.step;
      for (int64_t k = 0; k < d.length; k += kDepth)
        *planes++ = {(d.joined ? 0 : tap * row) + k * kNR, smaller(kDepth, d.length - k)};
    }
}

// Output pixel m of the grid.
struct Pixel {
  int64_t n, oh, ow;
};
FASTCNN_INLINE Pixel pixel(const Problem& p, int64_t m) {
  const int64_t plane = p.OH * p.OW;
  return {m / plane, m % plane / p.OW, m % p.OW};
}
FASTCNN_INLINE void advance(const Problem& p, Pixel& at) {
  if (++at.ow < p.OW) return;
  at.ow = 0;
  if (++at.oh < p.OH) return;
  at.oh = 0;
  ++at.n;
}
// The row of x that tap (a, b) reads for an output pixel; null in the padding.
FASTCNN_INLINE const float* row(const Problem& p, const float* x, const Pixel& at, int64_t a, int64_t b) {
  const int64_t h = at.oh * p.in_step_h + p.rows.offset + a * p.rows.offset_step;
  const int64_t w = at.ow * p.in_step_w + p.columns.offset + b * p.columns.offset_step;
  if (h < 0 || h >= p.IH || w < 0 || w >= p.IW) return nullptr;
  return x + ((at.n * p.IH + h) * p.IW + w) * p.C;
}

// `count` floats in whole vectors, of which `readable` may be read: what comes after them in `to` is overwritten.
FASTCNN_INLINE void copy_run(const float* from, int64_t count, int64_t readable, float* to) {
  for (int64_t i = 0; i < count; i += kLanes)
    store(to + i, readable - i >= kLanes ? load(from + i) : load_tail(from + i, count - i));
}

// A pixel of x (null: padding), normalised if asked, to planes `step` apart; their ends are filled with zeros.
FASTCNN_INLINE void place_row(const float* x, int64_t C, const Prologue& prologue, float* out, int64_t step) {
  for (int64_t c = 0; c < C; c += kLanes) {
    const int64_t n = smaller(kLanes, C - c);
    vf v{};
    if (x) v = load_upto(x + c, n);
    if (x && prologue.mean) {
      v = (v - load_upto(prologue.mean + c, n)) * load_upto(prologue.scale + c, n) + load_upto(prologue.shift + c, n);
      if (prologue.relu) v = relu(v);
    }
    store(out + c / kDepth * step + c % kDepth, v);
  }
}

// All taps of an output pixel, one after the other; up to a vector after them is overwritten.
FASTCNN_INLINE void join_row(const Problem& p, const float* x, const Pixel& at, const Prologue& prologue, float* out) {
  for (int64_t a = 0; a < p.rows.count; ++a) {
    if (prologue.mean || p.columns.offset_step != 1) {
      for (int64_t b = 0; b < p.columns.count; ++b, out += p.C) {
        const float* from = row(p, x, at, a, b);
        for (int64_t c = 0; c < p.C; ++c) {
          float v = from ? from[c] : 0.0f;
          if (from && prologue.mean) {
            v = (v - prologue.mean[c]) * prologue.scale[c] + prologue.shift[c];
            if (prologue.relu && v < 0) v = 0;
          }
          out[c] = v;
        }
      }
      continue;
    }
    // The taps of one window row are neighbours in memory, so the part inside the picture is one copy.
    const int64_t h = at.oh * p.in_step_h + p.rows.offset + a * p.rows.offset_step;
    const int64_t w = at.ow * p.in_step_w + p.columns.offset, width = p.columns.count;
    const bool inside = h >= 0 && h < p.IH;
    const int64_t begin = inside ? smaller(width, larger(0, -w)) : width;
    const int64_t end = inside ? larger(begin, smaller(width, p.IW - w)) : width;
    for (int64_t i = 0; i < begin * p.C; ++i) out[i] = 0;
    if (end > begin) {
      const int64_t from = ((at.n * p.IH + h) * p.IW + w + begin) * p.C;
      copy_run(x + from, (end - begin) * p.C, p.N * p.IH * p.IW * p.C - from, out + begin * p.C);
    }
    for (int64_t i = end * p.C; i < width * p.C; ++i) out[i] = 0;
    out += width * p.C;
  }
}

static void place_rows(const Problem& p, const Depth& d, const Prologue& prologue, const float* x, int64_t first,
                       int64_t rows, float* joined, float* out) {
  Pixel at = pixel(p, first);
  const int64_t planes_a_tap = ceil_div(p.C, kDepth);
  for_tiles(rows, [&](int64_t m, int64_t count) {
    const int64_t length = d.planes * kDepth, step = count * kDepth;
    float* tile = out + m * length;
    if (d.joined) {  // all rows first: a load that spans two fresh stores would wait for both
      for (int64_t i = 0; i < count; ++i, advance(p, at)) join_row(p, x, at, prologue, joined + i * length);
      for (int64_t i = 0; i < count; ++i)
        for (int64_t k = 0; k < length; k += kLanes)
          store(tile + k / kDepth * step + i * kDepth + k % kDepth, load(joined + i * length + k));
      return;
    }
    for (int64_t i = 0; i < count; ++i, advance(p, at)) {
      float* to = tile + i * kDepth;
      for (int64_t a = 0; a < p.rows.count; ++a)
        for (int64_t b = 0; b < p.columns.count; ++b, to += planes_a_tap * step)
          place_row(row(p, x, at, a, b), p.C, prologue, to, step);
    }
  });
}

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
      v = (v - prologue.mean[c]) * prologue.scale[c] + prologue.shift[c];
      if (prologue.relu && v < 0) v = 0;
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
template <int DISTANCE, int MR>
FASTCNN_INLINE void multiply_apart(Tile<MR>& tile, const Problem& p, const float* a, int64_t pitch, const float* b) {
  const int64_t length = p.columns.count * p.C;
  for (int64_t r = 0; r < p.rows.count; ++r, a += pitch, b += length * kNR)
    tile.multiply(BlockA<DISTANCE, 1>{a}, b, kNR, length);
}

template <int MR>
FASTCNN_INLINE void multiply_windows(Tile<MR>& tile, const Problem& p, const float* a, int64_t pitch, const float* b) {
  switch (p.in_step_w * p.C) {
    case 1:
      return multiply_apart<1>(tile, p, a, pitch, b);
    case 3:
      return multiply_apart<3>(tile, p, a, pitch, b);
    default:
      return multiply_apart<6>(tile, p, a, pitch, b);
  }
}

constexpr int64_t kSumRun = 16;  // terms summed before they join the total: equal ones, as padding makes, round alike

// mean and sum of squared deviations of `rows` rows of one panel, in two passes while they are in cache; the second
// also sums the plain deviations, which corrects the rounded mean of the first
FASTCNN_INLINE void block_statistics(const float* y, int64_t rows, int64_t row_stride, int64_t width, float* mean,
                                     float* squares) {
  for (int64_t c = 0; c < width; c += kLanes) {
    const int64_t n = smaller(kLanes, width - c);
    vf total{}, deviations{}, rest{};
    for (int64_t first = 0; first < rows; first += kSumRun) {
      vf sum{};
      for (int64_t m = first; m < smaller(rows, first + kSumRun); ++m) sum += load_upto(y + m * row_stride + c, n);
      total += sum;
    }
    const vf average = total * broadcast(1.0f / static_cast<float>(rows));
    for (int64_t first = 0; first < rows; first += kSumRun) {
      vf squares_run{}, rest_run{};
      for (int64_t m = first; m < smaller(rows, first + kSumRun); ++m) {
        const vf d = load_upto(y + m * row_stride + c, n) - average;
        squares_run += d * d;
        rest_run += d;
      }
      deviations += squares_run;
      rest += rest_run;
    }
    const vf shift = rest * broadcast(1.0f / static_cast<float>(rows));
    store_upto(mean + c, average + shift, n);
    store_upto(squares + c, deviations - rest * shift, n);
  }
}

// Two rows of Q pixels of one panel -> one row of Q/2 maxima; NaN wins, the first of equals is taken.
FASTCNN_INLINE void pool_panel(const float* panel, int64_t Q, int64_t width, float* y, uint8_t* argmax, int64_t K) {
  for (int64_t q = 0; q < Q / 2; ++q)
    for (int64_t c = 0; c < width; c += kLanes) {
      const int64_t n = smaller(kLanes, width - c);
      const float* at = panel + 2 * q * kNR + c;
      vf best = load(at);
      vi place{};
      for (int32_t i = 1; i < 4; ++i) {
        const vf v = load(at + (i / 2) * Q * kNR + (i % 2) * kNR);
        const vi wins = (v > best) | ((v != v) & (best == best));
        best = select(wins, v, best);
        place = wins ? (vi{} + i) : place;
      }
      store_upto(y + q * K + c, best, n);
      if (argmax)
        for (int64_t j = 0; j < n; ++j) argmax[q * K + c + j] = static_cast<uint8_t>(place[j]);
    }
}

// Adds bias and residual, applies ReLU, stores the first `width` columns.
template <int MR>
FASTCNN_INLINE void finish(Tile<MR>& tile, const Epilogue& epilogue, int64_t column, int64_t width,
                           const int64_t* offsets, float* y) {
  const float* const residual = epilogue.residual;
  if (epilogue.bias) {
    const vf b0 = load_upto(epilogue.bias + column, smaller(kLanes, width));
    const vf b1 = width > kLanes ? load_upto(epilogue.bias + column + kLanes, width - kLanes) : vf{};
    FASTCNN_UNROLL for (int i = 0; i < MR; ++i) {
      tile.c[i][0] += b0;
      tile.c[i][1] += b1;
    }
  }
  if (width == kNR) {
    if (residual) {
      FASTCNN_UNROLL for (int i = 0; i < MR; ++i) {
        tile.c[i][0] += load(residual + offsets[i]);
        tile.c[i][1] += load(residual + offsets[i] + kLanes);
      }
    }
    if (epilogue.relu) {
      FASTCNN_UNROLL for (int i = 0; i < MR; ++i) {
        tile.c[i][0] = relu(tile.c[i][0]);
        tile.c[i][1] = relu(tile.c[i][1]);
      }
    }
    FASTCNN_UNROLL for (int i = 0; i < MR; ++i) {
      store(y + offsets[i], tile.c[i][0]);
      store(y + offsets[i] + kLanes, tile.c[i][1]);
    }
  } else {
    FASTCNN_UNROLL for (int i = 0; i < MR; ++i) {
      FASTCNN_UNROLL for (int half = 0; half < 2; ++half) {
        const int64_t n = smaller(kLanes, width - half * kLanes);
        if (n > 0) {
          vf v = tile.c[i][half];
          if (residual) v += load_upto(residual + offsets[i] + half * kLanes, n);
          if (epilogue.relu) v = relu(v);
          store_upto(y + offsets[i] + half * kLanes, v, n);
        }
      }
    }
  }
}

// The first output of a block.
FASTCNN_INLINE int64_t first_output(const Problem& p, const Grid& g, bool pool, int64_t block) {
  return pool ? (block / (p.OH / 2) * p.OH + block % (p.OH / 2) * 2) * p.OW : block * g.block_rows;
}

// What follows when a block's part of a panel is complete: statistics of it, or its maxima.
static void finish_panel(const Problem& p, const Epilogue& epilogue, int64_t block, int64_t first, int64_t rows,
                         int64_t column, int64_t width, const float* panel, float* y) {
  if (epilogue.statistics) {
    float* mean = epilogue.statistics + block * 2 * p.K + column;
    block_statistics(y + first * p.K + column, rows, p.K, width, mean, mean + p.K);
  }
  if (!epilogue.pool) return;
  const int64_t out = block * (p.OW / 2) * p.K + column;
  pool_panel(panel, p.OW, width, y + out, epilogue.argmax ? epilogue.argmax + out : nullptr, p.K);
  if (!epilogue.relu) return;
  for (int64_t q = 0; q < p.OW / 2; ++q)
    for (int64_t c = 0; c < width; c += kLanes) {
      float* at = y + out + q * p.K + c;
      store_upto(at, relu(load_upto(at, smaller(kLanes, width - c))), smaller(kLanes, width - c));
    }
}

// One block of whole output rows, read from a strip, times one group of panels; `placed` as in run_task.
static void run_strip_task(const Problem& p, const Grid& g, const Layout& l, const Prologue& prologue, const float* x,
                           const float* packed, const Epilogue& epilogue, float* y, int64_t block, int64_t group,
                           int64_t& placed, char* memory) {
  const int64_t first = first_output(p, g, epilogue.pool, block);
  const Strip area = strip(p, g);
  float* a = reinterpret_cast<float*>(memory + l.rows);
  float* panel = reinterpret_cast<float*>(memory + l.panel);
  if (placed != block) place_strip(p, area, prologue, x, first, a);
  placed = block;
  Epilogue after = epilogue;  // maxima come before ReLU: fewer to do, and the same result
  after.relu = epilogue.relu && !epilogue.pool;
  const int64_t last_panel = smaller(panels(p.K), (group + 1) * g.group_panels);
  for (int64_t j = group * g.group_panels; j < last_panel; ++j) {
    const float* b = packed + j * p.window * p.C * kNR;
    const int64_t column = j * kNR, width = smaller(kNR, p.K - column);
    for (int64_t row = 0; row < g.block_rows / p.OW; ++row)
      for_tiles(p.OW, [&](int64_t m, int64_t count) {
        with_rows(count, [&]<int MR>() {
          const int64_t output = row * p.OW + m;
          int64_t offsets[MR] = {};  // of the outputs' first element in y or the panel
          for (int i = 0; i < MR; ++i)
            offsets[i] = epilogue.pool ? (output + i) * kNR : (first + output + i) * p.K + column;
          if (!epilogue.pool) {
            FASTCNN_UNROLL for (int i = 0; i < MR; ++i) prefetch_to_write(y + offsets[i]);
          }
          Tile<MR> tile;
          tile.zero();
          multiply_windows(tile, p, a + row * p.in_step_h * area.pitch + m * p.in_step_w * p.C, area.pitch, b);
          finish(tile, after, column, width, offsets, epilogue.pool ? panel : y);
        });
      });
    finish_panel(p, epilogue, block, first, g.block_rows, column, width, panel, y);
  }
  if (epilogue.counts && group == 0) epilogue.counts[block] = g.block_rows;
}

// One block of output pixels times one group of panels. `placed` is the block whose rows the worker's memory holds.
static void run_task(const Problem& p, const Grid& g, const Depth& d, const Layout& l, const Prologue& prologue,
                     const float* x, const float* packed, const Epilogue& epilogue, float* y, int64_t block,
                     int64_t group, int64_t& placed, char* memory) {
  const int64_t first = first_output(p, g, epilogue.pool, block);
  const int64_t rows = epilogue.pool ? g.block_rows : smaller(g.block_rows, p.N * p.OH * p.OW - first);
  Plane* planes = reinterpret_cast<Plane*>(memory + l.planes);
  float* placed_rows = reinterpret_cast<float*>(memory + l.rows);
  float* panel = reinterpret_cast<float*>(memory + l.panel);
  if (placed != block) {
    if (placed < 0) make_planes(p, d, planes);
    place_rows(p, d, prologue, x, first, rows, reinterpret_cast<float*>(memory + l.joined), placed_rows);
    placed = block;
  }
  const bool whole = p.out_step_h == 1 && p.out_step_w == 1 && p.out_H == p.OH && p.out_W == p.OW;
  const int64_t panel_size = p.window * p.C * kNR;
  const int64_t chunks = larger(1, ceil_div(d.planes, kChunkPlanes));
  // Maxima come before ReLU: fewer to do, and the same result.
  Epilogue after = epilogue;
  after.relu = epilogue.relu && !epilogue.pool;
  float* const target = epilogue.pool ? panel : y;

  const int64_t last_panel = smaller(panels(p.K), (group + 1) * g.group_panels);
  for (int64_t j = group * g.group_panels; j < last_panel; ++j) {
    const float* b = packed + j * panel_size;
    const int64_t column = j * kNR, width = smaller(kNR, p.K - column);
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t begin = d.planes * chunk / chunks, end = d.planes * (chunk + 1) / chunks;
      const bool last = chunk == chunks - 1;
      for_tiles(rows, [&](int64_t m, int64_t count) {
        with_rows(count, [&]<int MR>() {
          int64_t offsets[MR] = {};  // of the rows' first element in `target`
          if (last) {
            if (epilogue.pool) {
              for (int i = 0; i < MR; ++i) offsets[i] = (m + i) * kNR;
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
            // The product takes long enough to fetch what the epilogue will touch.
            FASTCNN_UNROLL for (int i = 0; i < MR; ++i) {
              if (epilogue.residual) prefetch(epilogue.residual + offsets[i]);
              prefetch_to_write(target + offsets[i]);
            }
          }
          Tile<MR> tile;
          if (chunk)
            tile.load_from(panel + m * kNR, kNR);
          else
            tile.zero();
          const float* a = placed_rows + m * d.planes * kDepth;
          const float* next = begin < end ? b + planes[begin].weights + (end - begin) * kDepth * kNR : b;
          Ahead ahead(next, end - begin, m, count, rows);
          for (int64_t k = begin; k < end; ++k) {
            const float* weights = b + planes[k].weights;
            ahead.fetch();
            tile.multiply(BlockA<kDepth, 1>{a + k * MR * kDepth}, weights, kNR, planes[k].count);
          }
          if (last)
            finish(tile, after, column, width, offsets, target);
          else
            tile.store_to(panel + m * kNR, kNR);
        });
      });
    }
    finish_panel(p, epilogue, block, first, rows, column, width, panel, y);
  }
  if (epilogue.counts && group == 0) epilogue.counts[block] = rows;
}

static void run(const Problem& p, const Prologue& prologue, const float* x, const float* packed,
                const Epilogue& epilogue, float* y, const Scratch& scratch) {
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
    else
      run_task(p, g, d, l, prologue, x, packed, epilogue, y, block, group, placed[worker], memory);
  });
}

// packed[panel][tap][C][NR] from w[R,S,C,K], columns scaled; the last panel is filled with zeros.
static void pack(int64_t window, int64_t C, int64_t K, const float* w, const float* scale, float* packed) {
  parallel_for_tasks(panels(K) * window, window * C * K * kMoved, [&](int64_t task, int) {
    const int64_t j = task / window, tap = task % window, width = smaller(kNR, K - j * kNR);
    const float* from = w + tap * C * K + j * kNR;
    float* to = packed + task * C * kNR;
    for (int64_t c = 0; c < C; ++c, from += K, to += kNR)
      for (int64_t i = 0; i < kNR; ++i) to[i] = i < width ? (scale ? from[i] * scale[j * kNR + i] : from[i]) : 0.0f;
  });
}

// packed[panel over C][tap][K][NR] from w[R,S,C,K]: rows and columns change places; dy is scaled by scale[K] if given.
static void pack_turned(int64_t window, int64_t C, int64_t K, const float* w, const float* scale, float* packed) {
  parallel_for_tasks(panels(C) * window, window * C * K * kMoved, [&](int64_t task, int) {
    const int64_t j = task / window, tap = task % window, width = smaller(kNR, C - j * kNR);
    const float* from = w + (tap * C + j * kNR) * K;
    float* to = packed + task * K * kNR;
    for (int64_t k = 0; k < K; ++k, to += kNR)
      for (int64_t i = 0; i < kNR; ++i)
        to[i] = i < width ? (scale ? from[i * K + k] * scale[k] : from[i * K + k]) : 0.0f;
  });
}

FASTCNN_INLINE Problem forward_problem(const Conv2DShape& s) {
  return {s.N,
          s.H,
          s.W,
          s.C,
          s.K,
          s.P,
          s.Q,
          s.stride_h,
          s.stride_w,
          {s.R, 0, 1, -s.pad_top, s.dilation_h},
          {s.S, 0, 1, -s.pad_left, s.dilation_w},
          s.S,
          s.R * s.S,
          s.P,
          s.Q,
          0,
          0,
          1,
          1};
}

// The taps that reach input positions congruent to `phase` modulo stride.
FASTCNN_INLINE Axis phase_axis(int64_t phase, int64_t R, int64_t stride, int64_t dilation, int64_t pad) {
  Axis axis{0, 0, 1, 0, 0};
  for (int64_t r = 0; r < R; ++r) {
    if ((phase + pad - r * dilation) % stride != 0) continue;
    const int64_t offset = (phase + pad - r * dilation) / stride;
    if (axis.count == 0) {
      axis.first = r;
      axis.offset = offset;
    } else if (axis.count == 1) {
      axis.step = r - axis.first;
      axis.offset_step = offset - axis.offset;
    }
    ++axis.count;
  }
  return axis;
}

FASTCNN_INLINE Problem phase_problem(const Conv2DShape& s, int64_t ph, int64_t pw) {
  return {s.N,
          s.P,
          s.Q,
          s.K,
          s.C,
          ceil_div(s.H - ph, s.stride_h),
          ceil_div(s.W - pw, s.stride_w),
          1,
          1,
          phase_axis(ph, s.R, s.stride_h, s.dilation_h, s.pad_top),
          phase_axis(pw, s.S, s.stride_w, s.dilation_w, s.pad_left),
          s.S,
          s.R * s.S,
          s.H,
          s.W,
          ph,
          pw,
          s.stride_h,
          s.stride_w};
}

template <class F>
FASTCNN_INLINE void for_phases(const Conv2DShape& s, const F& f) {
  for (int64_t ph = 0; ph < smaller(s.stride_h, s.H); ++ph)
    for (int64_t pw = 0; pw < smaller(s.stride_w, s.W); ++pw) f(phase_problem(s, ph, pw));
}

}  // namespace gemm
}  // namespace fastcnn::FASTCNN_ISA
