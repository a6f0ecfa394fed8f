// What a convolution by GEMM computes, and how the work is cut; see conv_gemm.hpp.
#pragma once
#include "kernels/gemm.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace gemm {

// Planes summed in one chain, whose weights stay in the L1 or L2 cache: errors grow with its length.
constexpr int64_t kChainPlanes = 8;
constexpr int64_t kChainPlanesOfWindow = 6;  // fewer where many chains make long sums
constexpr int64_t kTapPlanes = 5;    // planes of a tap from which on chains end with it
// Values of k between fetches of weights: many at once would hold up loads, but where registers are few a loop of four
// values would lose more.
constexpr int64_t kFetchDepth = kManyRegisters ? 4 : kDepth;
constexpr int64_t kFewPixels = 16;  // of a map for which reading the weights takes longer than multiplying them
constexpr int64_t kManyImages = 16;  // that make up for reading a tap's weights once for each pixel

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
  bool batched;  // rows are many though the map is small
};

FASTCNN_INLINE Problem forward_problem(const Conv2DShape& s, bool batched = false) {
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
          1,
          batched};
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

FASTCNN_INLINE Problem phase_problem(const Conv2DShape& s, int64_t ph, int64_t pw, bool batched = false) {
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
          s.stride_w,
          batched};
}

// The taps of an axis that find output `at` an input of `size`, for that output alone.
FASTCNN_INLINE Axis trimmed(const Axis& axis, int64_t in_step, int64_t at, int64_t size) {
  Axis found{0, 0, axis.step, 0, axis.offset_step};
  for (int64_t t = 0; t < axis.count; ++t) {
    const int64_t offset = at * in_step + axis.offset + t * axis.offset_step;
    if (offset < 0 || offset >= size) continue;
    if (found.count++ == 0) {
      found.first = axis.first + t * axis.step;
      found.offset = offset;
    }
  }
  return found;
}
// Windows on few pixels lie half in the padding: each pixel is then computed on its own, from the taps that are inside.
// One image alone reads the weights once instead; its chains are the same where they end with the taps, and what the
// padding adds to them is zero unless a weight is infinite or NaN.
FASTCNN_INLINE bool by_pixel(const Problem& p) {
  const bool chains_end_with_taps = p.C > (kTapPlanes - 1) * kDepth && p.out_step_h == 1 && p.out_step_w == 1;
  return p.window > 1 && p.out_H * p.out_W <= 4 && (p.batched || (p.N >= kManyImages && chains_end_with_taps));
}

// f(problem) for the parts of a problem, whose outputs may be pooled
template <class F>
FASTCNN_INLINE void for_parts(const Problem& p, bool pool, const F& f) {
  if (pool || !by_pixel(p)) return f(p);
  for (int64_t h = 0; h < p.OH; ++h)
    for (int64_t w = 0; w < p.OW; ++w) {
      Problem part = p;
      part.rows = trimmed(p.rows, p.in_step_h, h, p.IH);
      part.columns = trimmed(p.columns, p.in_step_w, w, p.IW);
      part.OH = part.OW = 1;
      part.out_h = p.out_h + h * p.out_step_h;
      part.out_w = p.out_w + w * p.out_step_w;
      f(part);
    }
}
template <class F>
FASTCNN_INLINE void for_phases(const Conv2DShape& s, bool batched, const F& f) {
  for (int64_t ph = 0; ph < smaller(s.stride_h, s.H); ++ph)
    for (int64_t pw = 0; pw < smaller(s.stride_w, s.W); ++pw) for_parts(phase_problem(s, ph, pw, batched), false, f);
}

constexpr int64_t kBlockRows = 102;  // rows whose A stays in the L2 cache over all panels
constexpr int64_t kStripRows = 224;
constexpr int64_t kStripDepth = 192;  // values of k at most
constexpr int64_t kTasks = 16;  // at least so many, so that no core idles at the end
constexpr int64_t kTileMostDepth = 4608;  // values of k whose parts, of kTileFewRows rows, stay in the L2 cache
#if FASTCNN_TILES
constexpr int64_t kTileBlockRows = 224;
constexpr int64_t kTileBlockFloats = 224 * 1024;
constexpr int64_t kTileFewRows = 50;
constexpr int64_t kTileSumGroups = 4;  // groups summed in one chain
#endif

FASTCNN_INLINE int64_t panels(int64_t K) { return ceil_div(K, kPanelNR); }
// The columns of panel j. Of panels of three vectors the last but one gives one to a last that would have one alone,
// too few sums to keep the multipliers busy.
struct Columns {
  int64_t begin, width;
};
FASTCNN_INLINE Columns columns(int64_t K, int64_t j) {
  const int64_t last = panels(K) - 1;
  const bool shared = kPanelNR == 3 * kLanes && last > 0 && K - last * kPanelNR <= kLanes;
  const auto begin = [&](int64_t i) { return i > last ? K : i * kPanelNR - (shared && i == last ? kLanes : 0); };
  return {begin(j), begin(j + 1) - begin(j)};
}
FASTCNN_INLINE int64_t tap_count(const Problem& p) { return p.rows.count * p.columns.count; }

// Whether the windows of neighbouring outputs are read from a strip: few channels, undilated, forward, strides for
// which the micro-kernel has the distance between two outputs.
FASTCNN_INLINE bool in_strip(const Problem& p) {
  const auto plain = [](const Axis& axis) { return axis.first == 0 && axis.step == 1 && axis.offset_step == 1; };
  const int64_t distance = p.in_step_w * p.C;
  return p.C < kDepth && p.window > 1 && !by_pixel(p) && tap_count(p) == p.window && plain(p.rows) &&
         plain(p.columns) && p.window * p.C <= kStripDepth && (distance == 1 || distance == 3 || distance == 6) &&
         p.out_step_h == 1 && p.out_step_w == 1;
}

// Whether the products are done on tile registers, with weights packed for them. Beyond so many values of k the rows of
// a block of useful size no longer fit in the L2 cache; for a map of few pixels reading the weights takes longest,
// unless many images share them. The same for all parts of a problem and all phases of backward-data.
FASTCNN_INLINE bool on_tiles(const Problem& p) {
  return FASTCNN_TILES && !in_strip(p) && p.window * p.C <= kTileMostDepth &&
         (p.batched || p.out_H * p.out_W > kFewPixels);
}

// How k is cut into planes. Few channels: the taps of a row are joined first, as they lie in the packed weights.
struct Depth {
  bool joined, window;  // window: of several taps, even where one alone lies inside the picture
  int64_t runs, length, planes;  // a run is a tap or all of them; planes of all runs
};
FASTCNN_INLINE Depth depth(const Problem& p) {
  const int64_t taps = tap_count(p), side = on_tiles(p) ? 2 * kDepth : kDepth;
  if (p.C < side && p.window > 1 && !by_pixel(p) && p.out_step_h == 1 && p.out_step_w == 1)
    return {true, true, 1, taps * p.C, ceil_div(taps * p.C, side)};
  return {false, p.window > 1, taps, p.C, taps * ceil_div(p.C, side)};
}
// The chains of a sum: so many of each run of planes, which is a tap or all of them.
struct Chains {
  int64_t planes, of_run, all;
  FASTCNN_INLINE int64_t begin(int64_t chain) const {
    return chain / of_run * planes + planes * (chain % of_run) / of_run;
  }
};
FASTCNN_INLINE Chains chains(const Depth& d) {
  const int64_t taps = larger(1, d.runs), of_tap = d.planes / taps;
  const int64_t runs = of_tap < kTapPlanes ? 1 : taps, planes = d.planes / runs;
  const int64_t most = !d.window || planes == kChainPlanes ? kChainPlanes : kChainPlanesOfWindow;
  const int64_t of_run = larger(1, ceil_div(planes, most));
  return {planes, of_run, runs * of_run};
}
#if FASTCNN_TILES
constexpr int64_t kPanelHead = 64;  // floats before the weights of a panel; see conv_tiles.hpp
FASTCNN_INLINE int64_t panel_floats_on_tiles(int64_t window, int64_t C, bool joined) {
  const int64_t groups = joined ? ceil_div(window * C, tiles::kGroup) : window * ceil_div(C, tiles::kGroup);
  return kPanelHead + groups * tiles::kGroupB;
}
#endif
// Floats of the packed weights; `p` is any phase of backward-data.
FASTCNN_INLINE int64_t packed_size(const Problem& p) {
#if FASTCNN_TILES
  if (on_tiles(p)) return panels(p.K) * panel_floats_on_tiles(p.window, p.C, depth(p).joined);
#endif
  return panels(p.K) * p.window * p.C * kPanelNR;
}

// How the work is cut; a function of the shape only.
struct Grid {
  int64_t blocks, block_rows, groups, group_panels;
  int64_t image_blocks;  // of whole output rows; 0: blocks run on from one image to the next
};

// Output rows of a block: as many as divide the map and keep within kStripRows outputs; whole pairs where outputs are
// pooled, of which fewer keep their panel in the L1 cache.
FASTCNN_INLINE int64_t strip_rows(const Problem& p, bool pool) {
  const int64_t step = pool ? 2 : 1, OH = p.OH / step * step;
  int64_t rows = step;
  for (int64_t r = step; r <= OH && r * p.OW <= kStripRows / step; r += step)
    if (OH % r == 0) rows = r;
  return rows;
}

// Blocks of equal size come in pairs, so that each core gets as many rows.
FASTCNN_INLINE int64_t block_rows(int64_t M) {
  const int64_t blocks = M <= kBlockRows ? 1 : round_up(ceil_div(M, kBlockRows), 2);
  return larger(1, ceil_div(M, blocks));
}

#if FASTCNN_TILES
// The pixels under `rows` output rows, in a plane for each phase of the strides, padding included. Output (h, w) is row
// h * width + w of the products, and a tap finds its pixel at that row plus a constant; rows with w >= OW do not count.
struct Area {
  int64_t first_h, first_w;  // of the taps' offsets
  int64_t height, width, outputs;
  int64_t planes, pixels;  // planes; pixels of one, with what the last tile and tap read beyond
};
FASTCNN_INLINE int64_t first_offset(const Axis& axis) {
  return smaller(axis.offset, axis.offset + (axis.count - 1) * axis.offset_step);
}
FASTCNN_INLINE int64_t reach(const Axis& axis, int64_t in_step) {
  return (axis.count - 1) * larger(axis.offset_step, -axis.offset_step) / in_step;
}
FASTCNN_INLINE Area area(const Problem& p, int64_t rows) {
  Area a;
  a.first_h = first_offset(p.rows);
  a.first_w = first_offset(p.columns);
  a.height = rows + reach(p.rows, p.in_step_h);
  a.width = p.OW + reach(p.columns, p.in_step_w);
  a.outputs = (rows - 1) * a.width + p.OW;
  a.planes = p.in_step_h * p.in_step_w;
  a.pixels = tiles::padded_rows(a.outputs) + (a.height - rows) * a.width + a.width - p.OW;
  return a;
}
FASTCNN_INLINE int64_t area_floats(const Problem& p, const Area& a) {
  return ceil_div(p.C, tiles::kGroup) * tiles::kParts * a.planes * a.pixels * tiles::kRowParts;
}
// Whether most rows of the products count and each phase of the strides is some tap's.
FASTCNN_INLINE bool area_pays(const Problem& p) {
  const auto reached = [](const Axis& axis, int64_t in_step) { return axis.count == 1 || in_step <= axis.count; };
  return reached(p.rows, p.in_step_h) && reached(p.columns, p.in_step_w) && 2 * area(p, 1).width <= 3 * p.OW;
}
// Whether windows are found in place in an area, so that each pixel is split once and not for every tap; not those of
// many small images, which fill a block together.
FASTCNN_INLINE bool in_area(const Problem& p) {
  return on_tiles(p) && tap_count(p) > 1 && !depth(p).joined && p.out_step_h == 1 && p.out_step_w == 1 &&
         area_pays(p) && (p.N == 1 || area(p, p.OH).outputs > tiles::kRows);
}
// Output rows of a block, of the OH that count; whole pairs where outputs are pooled.
FASTCNN_INLINE int64_t area_rows(const Problem& p, int64_t OH, int64_t pair) {
  constexpr int64_t kFloats = kTileBlockFloats * tiles::kParts / 2;
  const auto fits = [&](int64_t rows) {
    return area(p, rows).outputs <= kTileBlockRows && area_floats(p, area(p, rows)) <= kFloats;
  };
  int64_t rows = pair;
  while (rows < OH && fits(rows + pair)) rows += pair;
  return larger(pair, round_up(ceil_div(OH, larger(1, ceil_div(OH, rows))), pair));
}
#endif

FASTCNN_INLINE Grid grid(const Problem& p, bool pool) {
  Grid g;
  g.image_blocks = 0;
#if FASTCNN_TILES
  if (in_area(p)) {
    const int64_t OH = pool ? p.OH / 2 * 2 : p.OH, rows = area_rows(p, OH, pool ? 2 : 1);
    g.image_blocks = ceil_div(OH, rows);
    g.block_rows = rows * p.OW;
    g.blocks = p.N * g.image_blocks;
  } else
#endif
      if (in_strip(p)) {
    g.block_rows = strip_rows(p, pool) * p.OW;
    g.image_blocks = p.OH / strip_rows(p, pool);
    g.blocks = p.N * g.image_blocks;
  } else if (pool) {  // a block is a pair of output rows
    g.blocks = p.N * (p.OH / 2);
    g.block_rows = 2 * p.OW;
  } else {
    const int64_t M = p.N * p.OH * p.OW;
    g.block_rows = block_rows(M);
#if FASTCNN_TILES
    if (on_tiles(p)) {
      const int64_t depth = larger(1, p.C * tap_count(p));
      const int64_t limit = smaller(kTileBlockRows, larger(kTileFewRows, kTileBlockFloats / depth));
      // Two blocks split all weights twice, one that all workers place for themselves its rows twice.
      const bool one = M < kTileFewRows || (M <= limit && (by_pixel(p) || p.K >= 2 * M));
      const int64_t blocks = one ? 1 : round_up(ceil_div(M, limit), 2);
      g.block_rows = larger(1, ceil_div(M, blocks));
    }
#endif
    g.blocks = ceil_div(M, g.block_rows);
  }
  const int64_t all = panels(p.K);
  g.groups = g.blocks ? smaller(ceil_div(kTasks, g.blocks), larger(1, all * kPanelNR / (2 * kNR))) : 1;
  g.group_panels = ceil_div(all, g.groups);
  g.groups = ceil_div(all, g.group_panels);
  return g;
}

struct Plane {
  int64_t weights, count;  // where its weights begin in a panel, values of k
  int64_t area;  // where its first row begins in an area
};

// The rows of x under a block: their number, and the floats from one to the next.
struct Strip {
  int64_t rows, pitch;
};
FASTCNN_INLINE Strip strip(const Problem& p, const Grid& g) {
  return {(g.block_rows / larger(1, p.OW) - 1) * p.in_step_h + p.rows.count,
          ((p.OW - 1) * p.in_step_w + p.columns.count) * p.C};
}

// One worker's memory: the planes, a tile's rows of joined taps, the rows of a block or its strip, the sums of a panel;
// on tile registers also the totals of earlier chains, parts of weights and what each row needs.
struct Layout {
  int64_t planes, joined, rows, panel, totals, parts, needs, bytes;
};

FASTCNN_INLINE Layout layout(const Problem& p, const Grid& g, const Depth& d, bool pool) {
  Layout l;
  if (in_strip(p)) {
    const Strip area = strip(p, g);
    l.planes = l.joined = l.rows = 0;
    l.panel = round_up((area.rows * area.pitch + kLanes) * 4, 64);
    l.totals = l.parts = l.needs = l.bytes = l.panel + (pool ? g.block_rows * kPanelNR * 4 : 0);
    return l;
  }
#if FASTCNN_TILES
  if (on_tiles(p)) {
    l.planes = 0;
    l.joined = round_up(d.planes * static_cast<int64_t>(sizeof(Plane)), 64);
    l.rows = l.joined + (d.joined ? (d.planes * tiles::kGroup + kLanes) * 4 : 0);
    const int64_t rows = tiles::padded_rows(g.block_rows);
    int64_t floats = rows * d.planes * tiles::kParts * tiles::kRowParts, sums = rows;
    if (in_area(p)) {
      const Area a = area(p, g.block_rows / p.OW);
      floats = larger(floats, area_floats(p, a));
      sums = tiles::padded_rows(a.outputs);
    }
    l.panel = l.rows + floats * 4;
    l.totals = l.panel + sums * kPanelNR * 4;
    l.parts = l.totals + (d.planes > kTileSumGroups ? sums * kPanelNR * 4 : 0);
    l.needs = l.parts + tiles::kGroupsB * tiles::kGroupParts * 4;
    l.bytes = round_up(l.needs + 64 + rows * 4, 64);
    return l;
  }
#endif
  l.planes = 0;
  l.joined = round_up(d.planes * static_cast<int64_t>(sizeof(Plane)), 64);
  l.rows = l.joined + (d.joined ? (kPanelMR * d.planes * kDepth + kLanes) * 4 : 0);
  l.panel = l.rows + g.block_rows * d.planes * kDepth * 4;
  l.totals = l.parts = l.needs = l.bytes = l.panel + g.block_rows * kPanelNR * 4;
  return l;
}

FASTCNN_INLINE ScratchSize scratch_size(const Problem& p, bool pool) {
  ScratchSize size{0, 0};
  for_parts(p, pool, [&](const Problem& part) {
    size.per_worker = larger(size.per_worker, layout(part, grid(part, pool), depth(part), pool).bytes);
  });
  return size;
}

#if FASTCNN_TILES
// Where tap (a, b) of output 0 finds group `i` of its channels in an area, in floats.
FASTCNN_INLINE int64_t place_in_area(const Problem& p, const Grid& g, int64_t a, int64_t b, int64_t i) {
  const Area at = area(p, g.block_rows / p.OW);
  const int64_t h = p.rows.offset + a * p.rows.offset_step - at.first_h;
  const int64_t w = p.columns.offset + b * p.columns.offset_step - at.first_w;
  const int64_t plane = h % p.in_step_h * p.in_step_w + w % p.in_step_w;
  return ((i * tiles::kParts * at.planes + plane) * at.pixels + h / p.in_step_h * at.width + w / p.in_step_w) *
         tiles::kRowParts;
}
#endif

FASTCNN_INLINE void make_planes(const Problem& p, [[maybe_unused]] const Grid& g, const Depth& d, Plane* planes) {
  const int64_t row = p.C * kPanelNR;
  for (int64_t a = 0; a < (d.joined ? 1 : p.rows.count); ++a)
    for (int64_t b = 0; b < (d.joined ? 1 : p.columns.count); ++b) {
      const int64_t tap = (p.rows.first + a * p.rows.step) * p.window_columns + p.columns.first + b * p.columns.step;
#if FASTCNN_TILES
      if (on_tiles(p)) {
        const int64_t groups = d.planes / larger(1, d.runs);
        for (int64_t i = 0; i < groups; ++i)
          *planes++ = {kPanelHead + ((d.joined ? 0 : tap * groups) + i) * tiles::kGroupB, tiles::kGroup,
                       in_area(p) ? place_in_area(p, g, a, b, i) : 0};
        continue;
      }
#endif
      for (int64_t k = 0; k < d.length; k += kDepth)
        *planes++ = {(d.joined ? 0 : tap * row) + k * kPanelNR, smaller(kDepth, d.length - k), 0};
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

// Where the channels of output pixel m of the grid begin in y.
FASTCNN_INLINE int64_t output_offset(const Problem& p, int64_t m) {
  if (p.out_step_h == 1 && p.out_step_w == 1 && p.out_H == p.OH && p.out_W == p.OW) return m * p.K;
  const Pixel at = pixel(p, m);
  return ((at.n * p.out_H + p.out_h + at.oh * p.out_step_h) * p.out_W + p.out_w + at.ow * p.out_step_w) * p.K;
}

// The outputs of a block.
struct Outputs {
  int64_t first, count;
};
FASTCNN_INLINE Outputs outputs(const Problem& p, const Grid& g, bool pool, int64_t block) {
  const int64_t image = p.OH * p.OW;
  if (g.image_blocks) {
    const int64_t first = block % g.image_blocks * g.block_rows, all = pool ? p.OH / 2 * 2 * p.OW : image;
    return {block / g.image_blocks * image + first, smaller(g.block_rows, all - first)};
  }
  if (pool) return {(block / (p.OH / 2) * p.OH + block % (p.OH / 2) * 2) * p.OW, g.block_rows};
  return {block * g.block_rows, smaller(g.block_rows, p.N * image - block * g.block_rows)};
}

}  // namespace gemm
}  // namespace fastcnn::FASTCNN_ISA
