// The sums of conv_weights.hpp on tile registers.
//
// The reduction runs over pixels. Of a block of them one operand is turned, channels becoming rows (A), the other lies
// in pairs of neighbouring pixels (B); both are split once for all taps and channels of the other. Windows: A is dy,
// and rows of outputs are as far apart as the pixels below them (gemm::Area), with zeros between two of them, so that
// every tap finds its pixels in the same pairs, some rows further on; taps that are an odd number of pixels away use a
// second copy, paired the other way. Single pixels: A is the operand with fewer channels, as turning costs more. Small
// maps in large batches: the values of k are the images, for each output pixel on its own, so that neither padding nor
// the ends of rows are multiplied.
//
// Channels of a block whose largest value is so small that parts of products would be flushed, or is not finite, send
// the block to the vectors.
#pragma once
#include "kernels/conv_tiles.hpp"
#include "kernels/conv_weights.hpp"

#if FASTCNN_TILES
namespace fastcnn::FASTCNN_ISA {
namespace weights {

constexpr int64_t kGroupsOfBlock = 8;
constexpr int64_t kGroupsAtOnce = 4;  // whose A stays in the L1 cache for all columns and taps
constexpr int64_t kMostWindow = 256;  // values of a joined window
constexpr int64_t kFlat = kGroupsOfBlock * tiles::kGroup;  // pixels of a unit without windows
constexpr int32_t kFewestBitsX = (127 - 40) << 23, kFewestBitsDy = (127 - 60) << 23, kMostBits = (127 + 60) << 23;

// A block is some units: output rows of one image; without windows, a run of pixels; by pixel, an output pixel of many
// images.
struct TileGrid {
  bool flat, by_pixel, x_turned;
  gemm::Area area;  // of a unit
  int64_t rows, image_units, units;  // output rows of a unit; units of an image, and all
  int64_t groups, pixels;  // groups of outputs of a unit; pixels of a plane of it
  int64_t planes, copies, pairs;  // of the operand in pairs: planes of a block, copies of a plane, pairs of a copy
  int64_t block_units, blocks;
  int64_t c_block, c_blocks, k_block, k_blocks, parts, part_blocks, size;
};

// The problem whose channels are the windows of another.
FASTCNN_INLINE Conv2DShape with_joined_windows(const Conv2DShape& s) {
  Conv2DShape flat = s;
  flat.H = s.P;
  flat.W = s.Q;
  flat.C = s.R * s.S * s.C;
  flat.R = flat.S = flat.stride_h = flat.stride_w = flat.dilation_h = flat.dilation_w = 1;
  flat.pad_top = flat.pad_left = 0;
  return flat;
}
FASTCNN_INLINE bool is_flat(const Conv2DShape& s) {
  return s.R * s.S == 1 && s.stride_h == 1 && s.stride_w == 1 && s.P == s.H && s.Q == s.W;
}
// Whether a tap finds output p an input of `size`, and which.
FASTCNN_INLINE int64_t input_of(int64_t p, int64_t stride, int64_t pad, int64_t tap, int64_t dilation) {
  return p * stride - pad + tap * dilation;
}
FASTCNN_INLINE bool inside(int64_t at, int64_t size) { return at >= 0 && at < size; }
// Outputs that find an input, of all taps along an axis.
FASTCNN_INLINE int64_t reached(int64_t P, int64_t R, int64_t stride, int64_t pad, int64_t dilation, int64_t size) {
  int64_t count = 0;
  for (int64_t p = 0; p < P; ++p)
    for (int64_t r = 0; r < R; ++r) count += inside(input_of(p, stride, pad, r, dilation), size);
  return count;
}
// Whether some tap finds input `at` for some output.
FASTCNN_INLINE bool is_read(int64_t at, int64_t P, int64_t R, int64_t stride, int64_t pad, int64_t dilation) {
  for (int64_t p = 0; p < P; ++p)
    for (int64_t r = 0; r < R; ++r)
      if (input_of(p, stride, pad, r, dilation) == at) return true;
  return false;
}
FASTCNN_INLINE bool is_read(const Conv2DShape& s, int64_t pixel) {
  return is_read(pixel / s.W, s.P, s.R, s.stride_h, s.pad_top, s.dilation_h) &&
         is_read(pixel % s.W, s.Q, s.S, s.stride_w, s.pad_left, s.dilation_w);
}
constexpr int64_t kMostPixels = 64;  // of a map whose pixels are taken one by one
FASTCNN_INLINE int64_t unit_rows(const Conv2DShape& s) {
  const gemm::Problem p = gemm::forward_problem(s);
  int64_t rows = 1;
  while (rows < s.P && gemm::area(p, rows + 1).outputs <= kFlat) ++rows;
  return ceil_div(s.P, ceil_div(s.P, rows));
}
// Few pixels under windows would leave most of a group empty.
FASTCNN_INLINE bool by_area(const Conv2DShape& s) {
  return s.P * s.Q >= 16 && gemm::area_pays(gemm::forward_problem(s));
}
// Whether groups of images hold fewer products than groups of a unit's outputs do.
FASTCNN_INLINE bool by_pixel(const Conv2DShape& s) {
  if (is_flat(s) || s.P * s.Q > kMostPixels || s.H * s.W > 4 * kMostPixels || s.N < 16) return false;
  if (!by_area(s)) return true;
  const int64_t rows = unit_rows(s), units = ceil_div(s.P, rows);
  const int64_t outputs = gemm::area(gemm::forward_problem(s), rows).outputs;
  const int64_t of_area = s.N * units * round_up(outputs, tiles::kGroup) * s.R * s.S;
  return round_up(s.N, tiles::kGroup) * reached(s.P, s.R, s.stride_h, s.pad_top, s.dilation_h, s.H) *
             reached(s.Q, s.S, s.stride_w, s.pad_left, s.dilation_w, s.W) <
         of_area;
}
FASTCNN_INLINE bool on_tiles(const Conv2DShape& s) {
  if (is_joined(s)) return s.K >= 32 && s.R * s.S * s.C >= 16 && s.R * s.S * s.C <= kMostWindow;
  return s.C >= 32 && s.K >= 32 && (is_flat(s) || by_pixel(s) || by_area(s));
}

FASTCNN_INLINE TileGrid tile_grid(const Conv2DShape& s) {
  TileGrid g;
  const gemm::Problem p = gemm::forward_problem(s);
  g.flat = is_flat(s);
  g.by_pixel = by_pixel(s);
  g.x_turned = g.flat && s.C <= s.K;
  g.size = s.R * s.S * s.C * s.K;
  if (g.flat) {
    g.area = {};
    g.rows = g.image_units = 0;
    g.units = ceil_div(s.N * s.P * s.Q, kFlat);
    g.groups = kGroupsOfBlock;
    g.pixels = kFlat;
    g.planes = g.copies = 1;
  } else if (g.by_pixel) {
    g.area = {};
    g.rows = g.image_units = 0;
    g.groups = larger(1, smaller(ceil_div(s.N, tiles::kGroup), kGroupsOfBlock / (s.P * s.Q)));
    g.units = ceil_div(s.N, g.groups * tiles::kGroup) * s.P * s.Q;
    g.pixels = g.groups * tiles::kGroup;
    g.planes = s.H * s.W;
    g.copies = 1;
  } else {
    g.rows = unit_rows(s);
    g.area = gemm::area(p, g.rows);
    g.image_units = ceil_div(s.P, g.rows);
    g.units = s.N * g.image_units;
    g.groups = ceil_div(g.area.outputs, tiles::kGroup);
    g.pixels = g.groups * tiles::kGroup + (g.area.height - g.rows) * g.area.width + g.area.width - s.Q + 2;
    g.planes = (s.R > 1 ? s.stride_h : 1) * (s.S > 1 ? s.stride_w : 1);
    g.copies = 2;
  }
  g.pairs = ceil_div(g.pixels, 2);
  g.block_units = g.by_pixel ? s.P * s.Q : larger(1, kGroupsOfBlock / g.groups);
  if (!g.by_pixel) g.planes *= g.block_units;
  g.blocks = larger(1, ceil_div(g.units, g.block_units));
  int64_t c_most = g.flat ? (g.x_turned ? 256 : 512) : 128, k_most = g.flat ? (g.x_turned ? 512 : 256) : 256;
  if (g.by_pixel && s.P * s.Q > 16) c_most = k_most = 64;
  g.c_block = smaller(c_most, round_up(s.C, tiles::kRows));
  g.c_blocks = ceil_div(s.C, g.c_block);
  g.k_block = smaller(k_most, round_up(s.K, tiles::kRows));
  g.k_blocks = ceil_div(s.K, g.k_block);
  const int64_t wanted = smaller(g.blocks, ceil_div(kTasks, g.c_blocks * g.k_blocks));
  g.part_blocks = ceil_div(g.blocks, wanted);
  g.parts = ceil_div(g.blocks, g.part_blocks);
  return g;
}

// One worker's memory: where the pixels of a block are, joined windows of a unit, A [32
// channels][unit][group][part][channel][16 pairs], B [32 channels][part][half][unit][plane][copy][pair][16 channels], a
// tile of sums; the vectors' blocks take the same place. Then the sums of all blocks [32 channels of A][32 of
// B][tap][32][32].
struct TileLayout {
  int64_t windows, turned, paired, sums, all_sums, bytes;
  int64_t b_half;  // floats
};
FASTCNN_INLINE int64_t window_floats(const Conv2DShape& s) { return s.C + kLanes; }  // of a joined window, C of them
FASTCNN_INLINE TileLayout tile_layout(const Conv2DShape& s, const TileGrid& g, bool joined) {
  const int64_t taps = s.R * s.S;
  TileLayout l;
  const int64_t turned = g.x_turned ? g.c_block : g.k_block, paired = g.x_turned ? g.k_block : g.c_block;
  l.windows = round_up(larger(g.groups * tiles::kGroup, 2 * g.pairs + 1) * 8, 64);
  l.turned = round_up(l.windows + (joined ? (kFlat + 1) * window_floats(s) * 4 : 0), 64);
  l.paired = l.turned + g.block_units * g.groups * turned / tiles::kRows * tiles::kGroupParts * 4;
  // An odd number of lines: halves and parts must not share cache sets.
  l.b_half = (g.planes * g.copies * g.pairs / 2 * 2 + 3) * tiles::kRowParts;
  l.sums = l.paired + paired / tiles::kColumns * 2 * tiles::kParts * l.b_half * 4;
  const int64_t plain = block_floats(g.c_block, g.k_block) * 4;
  l.all_sums = round_up(larger(l.sums + tiles::kRows * tiles::kColumns * 4, plain), 64);
  l.bytes = l.all_sums + taps * turned * paired * 4;
  return l;
}
FASTCNN_INLINE ScratchSize tile_scratch_size(const Conv2DShape& s) {
  const Conv2DShape flat = is_joined(s) ? with_joined_windows(s) : s;
  const TileGrid g = tile_grid(flat);
  return {g.parts > 1 ? g.parts * g.size * 4 : 0, tile_layout(flat, g, is_joined(s)).bytes};
}

// An operand: channels first..first+count-1 of `all` that a pixel has.
struct Operand {
  const float* data;
  int64_t all, first, count;
  int32_t fewest;  // bits of a channel's largest value, if it is not zero
  const Prologue* prologue;  // null: none
  FASTCNN_INLINE vf at(const float* pixel, int64_t c) const {
    const int64_t n = smaller(kLanes, all - first - c);
    if (!pixel || n <= 0) return vf{};
    const vf v = load_upto(pixel + first + c, n);
    return prologue ? normalised(*prologue, v, first + c, n) : v;
  }
  FASTCNN_INLINE bool fits(vi most) const { return !tiles::any(((most > 0) & (most < fewest)) | (most >= kMostBits)); }
};
// Where pixel `pixel` of `size` is in images first..first+count-1; null for zeros.
static void find_in_images(const Operand& o, int64_t N, int64_t size, int64_t pixel, int64_t first, int64_t count,
                           const float** at) {
  for (int64_t i = 0; i < count; ++i) at[i] = first + i < N ? o.data + ((first + i) * size + pixel) * o.all : nullptr;
}
// Where the first `count` pixels of a unit without windows are; null for zeros.
static void find_flat(const Conv2DShape& s, const Operand& o, int64_t unit, int64_t count, const float** at) {
  const int64_t pixels = s.N * s.P * s.Q;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t pixel = unit * kFlat + i;
    at[i] = i < kFlat && pixel < pixels ? o.data + pixel * o.all : nullptr;
  }
}

// The same of joined windows of the convolution `s`, which are copied to `rows`, `step` floats apart.
static void find_joined(const Conv2DShape& s, const Prologue& prologue, const float* x, int64_t unit, int64_t count,
                        float* rows, int64_t step, const float** at) {
  const gemm::Problem p = gemm::forward_problem(s);
  const int64_t pixels = s.N * s.P * s.Q;
  gemm::Pixel pixel = gemm::pixel(p, unit * kFlat);
  for (int64_t i = 0; i < count; ++i, rows += step) {
    at[i] = nullptr;
    if (i >= kFlat || unit * kFlat + i >= pixels) continue;
    gemm::join_row(p, x, pixel, prologue, rows);
    gemm::advance(p, pixel);
    at[i] = rows;
  }
}

// Of rows or columns of an image: where they begin, how far apart they are, and how many there are.
struct Along {
  int64_t first, step, size;
};
// The same of `rows` rows of `width` places, which may lie outside image n.
static void find_in_image(const Operand& o, int64_t n, const Along& h, const Along& w, int64_t rows, int64_t width,
                          int64_t count, const float** at) {
  for (int64_t i = 0, row = 0, column = 0; i < count; ++i) {
    const int64_t y = h.first + row * h.step, x = w.first + column * w.step;
    const bool inside = row < rows && y >= 0 && y < h.size && x >= 0 && x < w.size;
    at[i] = inside ? o.data + ((n * h.size + y) * w.size + x) * o.all : nullptr;
    if (++column == width) {
      column = 0;
      ++row;
    }
  }
}
static void find_outputs(const Conv2DShape& s, const TileGrid& g, const Operand& dy, int64_t unit, int64_t count,
                         const float** at) {
  find_in_image(dy, unit / g.image_units, {unit % g.image_units * g.rows, 1, s.P}, {0, 1, s.Q},
                unit < g.units ? g.rows : 0, g.area.width, count, at);
}
static void find_inputs(const Conv2DShape& s, const TileGrid& g, const Operand& x, int64_t unit, int64_t plane,
                        int64_t count, const float** at) {
  const int64_t planes_w = s.S > 1 ? s.stride_w : 1;
  const int64_t top = unit % g.image_units * g.rows * s.stride_h + g.area.first_h + plane / planes_w;
  const int64_t left = g.area.first_w + plane % planes_w;
  find_in_image(x, unit / g.image_units, {top, s.stride_h, s.H}, {left, s.stride_w, s.W},
                unit < g.units ? g.area.height : 0, g.area.width, count, at);
}

// One unit as A; `most` are the largest absolute bits of each channel so far.
static void turn_unit(const TileGrid& g, const Operand& o, const float* const* at, int64_t unit, vi* most, float* a) {
  for (int64_t c = 0; c < o.count; c += kLanes)
    for (int64_t group = 0; group < g.groups; ++group) {
      const float* const* const pixels = at + group * tiles::kGroup;
      vf parts[tiles::kParts][kLanes];
      for (int64_t i = 0; i < kLanes; ++i) {
        const vf even = o.at(pixels[2 * i], c), odd = o.at(pixels[2 * i + 1], c);
        most[c / kLanes] = gemm::larger_magnitude(gemm::larger_magnitude(most[c / kLanes], even), odd);
        const tiles::Parts pair = tiles::split(even, odd);
        FASTCNN_UNROLL for (int64_t part = 0; part < tiles::kParts; ++part) parts[part][i] =
            reinterpret_cast<vf>(pair.part[part]);
      }
      float* to = a + ((c / tiles::kRows * g.block_units + unit) * g.groups + group) * tiles::kGroupParts +
                  c % tiles::kRows * tiles::kRowParts;
      for (int64_t part = 0; part < tiles::kParts; ++part, to += tiles::kGroupB / 2) {
        tiles::transpose(parts[part]);
        for (int64_t i = 0; i < kLanes; ++i) store(to + i * tiles::kRowParts, parts[part][i]);
      }
    }
}

// A run of pixels as B, all its copies; b: of the first copy.
static void pair_pixels(const TileGrid& g, const TileLayout& l, const Operand& o, const float* const* at, vi* most,
                        float* b) {
  for (int64_t c = 0; c < o.count; c += kLanes) {
    float* to = b + (c / tiles::kColumns * tiles::kParts * 2 + c % tiles::kColumns / kLanes) * l.b_half;
    vi largest = most[c / kLanes];
    for (int64_t copy = 0; copy < g.copies; ++copy)
      for (int64_t i = 0; i < g.pairs; ++i, to += tiles::kRowParts) {
        const vf even = o.at(at[2 * i + copy], c), odd = o.at(at[2 * i + 1 + copy], c);
        if (copy == 0) largest = gemm::larger_magnitude(gemm::larger_magnitude(largest, even), odd);
        tiles::store_parts(tiles::split(even, odd), to, 2 * l.b_half);
      }
    most[c / kLanes] = largest;
  }
}

// Both operands of a block; false if a channel does not fit. joined: null, or the convolution whose windows `s` has for
// channels.
static bool place_block(const Conv2DShape& s, const Conv2DShape* joined, const Prologue& prologue, const TileGrid& g,
                        const TileLayout& l, const Operand& turned, const Operand& paired, int64_t first_unit,
                        char* memory) {
  const float** const at = reinterpret_cast<const float**>(memory);
  float* const a = reinterpret_cast<float*>(memory + l.turned);
  float* b = reinterpret_cast<float*>(memory + l.paired);
  const auto find_pixels = [&](const Operand& o, bool of_x, int64_t unit, int64_t count) {
    if (joined && of_x)
      find_joined(*joined, prologue, o.data, unit, count, reinterpret_cast<float*>(memory + l.windows),
                  window_floats(s), at);
    else
      find_flat(s, o, unit, count, at);
  };
  vi most_turned[512 / kLanes] = {}, most_paired[512 / kLanes] = {};
  const int64_t outputs = g.groups * tiles::kGroup, pixels = 2 * g.pairs + 1;
  const int64_t first_image = first_unit / g.block_units * outputs;  // by pixel
  for (int64_t i = 0; i < g.block_units; ++i) {
    const int64_t unit = first_unit + i;
    if (g.flat)
      find_pixels(turned, g.x_turned, unit, outputs);
    else if (g.by_pixel)
      find_in_images(turned, s.N, s.P * s.Q, i, first_image, outputs, at);
    else
      find_outputs(s, g, turned, unit, outputs, at);
    turn_unit(g, turned, at, i, most_turned, a);
    const int64_t begin = g.planes * i / g.block_units, end = g.planes * (i + 1) / g.block_units;
    for (int64_t plane = begin; plane < end; ++plane, b += g.copies * g.pairs * tiles::kRowParts) {
      if (g.by_pixel && !is_read(s, plane)) continue;
      if (g.by_pixel)
        find_in_images(paired, s.N, s.H * s.W, plane, first_image, g.pixels, at);
      else if (g.flat)
        find_pixels(paired, !g.x_turned, unit, pixels);
      else
        find_inputs(s, g, paired, unit, plane - begin, pixels, at);
      pair_pixels(g, l, paired, at, most_paired, b);
    }
  }
  bool fits = true;
  for (int64_t c = 0; c < turned.count / kLanes; ++c) fits = fits && turned.fits(most_turned[c]);
  for (int64_t c = 0; c < paired.count / kLanes; ++c) fits = fits && paired.fits(most_paired[c]);
  return fits;
}

// f(tile, tap, row, column): the tiles of a task, rows of A and columns of B
template <class F>
FASTCNN_INLINE void for_sums(const Conv2DShape& s, const Operand& turned, const Operand& paired, const F& f) {
  int64_t tile = 0;
  for (int64_t row = 0; row < turned.count; row += tiles::kRows)
    for (int64_t column = 0; column < paired.count; column += tiles::kColumns)
      for (int64_t tap = 0; tap < s.R * s.S; ++tap) f(tile++, tap, row, column);
}
constexpr int64_t kTileFloats = tiles::kRows * tiles::kColumns;

// The sums of `count` groups of a placed block for all taps join those before them.
static void add_block_on_tiles(const Conv2DShape& s, const TileGrid& g, const TileLayout& l, const Operand& turned,
                               const Operand& paired, int64_t first, int64_t count, bool fresh, char* memory) {
  const int64_t planes_w = s.S > 1 ? s.stride_w : 1, copy_floats = g.pairs * tiles::kRowParts;
  const int64_t groups = g.block_units * g.groups, unit_planes = g.by_pixel ? 0 : g.planes / g.block_units;
  const tiles::Steps steps{tiles::kGroupB / 2, 2 * l.b_half, l.b_half};
  float* const sums = reinterpret_cast<float*>(memory + l.sums);
  tiles::Registers registers;
  registers.configure(tiles::kRows);
  tiles::settle();
  for_sums(s, turned, paired, [&](int64_t tile, int64_t tap, int64_t row, int64_t column) FASTCNN_LAMBDA {
    const int64_t h = tap / s.S * s.dilation_h, w = tap % s.S * s.dilation_w;
    const int64_t plane = unit_planes > 1 ? h % s.stride_h * planes_w + w % s.stride_w : 0;
    const int64_t shift = g.flat || g.by_pixel ? 0 : h / s.stride_h * g.area.width + w / s.stride_w;
    const float* const a =
        reinterpret_cast<float*>(memory + l.turned) + (row / tiles::kRows * groups + first) * tiles::kGroupParts;
    const float* const b = reinterpret_cast<float*>(memory + l.paired) +
                           column / tiles::kColumns * 2 * tiles::kParts * l.b_half +
                           (plane * g.copies + shift % 2) * copy_floats + shift / 2 * tiles::kRowParts;
    float* const total = reinterpret_cast<float*>(memory + l.all_sums) + tile * kTileFloats;
    Ahead ahead(total, kTileFloats, count * tiles::kFetches);
    tiles::zero_sums(true);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t unit = (first + i) / g.groups, group = (first + i) % g.groups;
      int64_t at = unit * unit_planes;
      if (g.by_pixel) {
        const int64_t y = input_of(unit / s.Q, s.stride_h, s.pad_top, tap / s.S, s.dilation_h);
        const int64_t x = input_of(unit % s.Q, s.stride_w, s.pad_left, tap % s.S, s.dilation_w);
        if (!inside(y, s.H) || !inside(x, s.W)) continue;
        at = y * s.W + x;
      }
      const int64_t place = at * g.copies * copy_floats + group * tiles::kGroup / 2 * tiles::kRowParts;
      tiles::multiply<true>(a + i * tiles::kGroupParts, b + place, steps, registers.upper, ahead);
    }
    if (fresh) return tiles::store_sums(total, tiles::kColumns, registers.upper, true);
    tiles::store_sums(sums, tiles::kColumns, registers.upper, true);
    for (int64_t i = 0; i < kTileFloats; i += kLanes) store(total + i, load(total + i) + load(sums + i));
  });
}

// dw (+)= a tile of sums whose first row and column are channels c and k, turned: k and c
static void add_sums(const Conv2DShape& s, const float* sums, bool turned, bool fresh, int64_t c, int64_t k,
                     float* dw) {
  vf quarter[kLanes];
  for (int64_t i = 0; i < tiles::kRows && c + i < s.C; i += kLanes)
    for (int64_t j = 0; j < tiles::kColumns; j += kLanes) {
      const int64_t n = smaller(kLanes, s.K - k - j);
      if (n <= 0) break;
      for (int64_t r = 0; r < kLanes; ++r)
        quarter[r] = load(sums + (turned ? (j + r) * tiles::kColumns + i : (i + r) * tiles::kColumns + j));
      if (turned) tiles::transpose(quarter);
      for (int64_t r = 0; r < smaller(kLanes, s.C - c - i); ++r) {
        float* const to = dw + (c + i + r) * s.K + k + j;
        store_upto(to, fresh ? quarter[r] : load_upto(to, n) + quarter[r], n);
      }
    }
}

// The same on vectors; `s` with its own windows.
static void add_block_plainly(const Conv2DShape& s, const TileGrid& g, const Prologue& prologue, const Operand& x,
                              const Operand& dy, int64_t block, bool fresh, float* memory, float* dw) {
  const Grid plain = grid(s);
  const int64_t rows = is_joined(s) ? plain.width : smaller(x.count, s.C - x.first), image = s.P * s.Q;
  float* const of_dy = memory + pitch(rows) * kPixels;
  if (g.by_pixel) {
    const int64_t begin = block * g.pixels * image, end = smaller(s.N, (block + 1) * g.pixels) * image;
    add_blocks(s, plain, prologue, x.data, dy.data, x.first, rows, dy.first, dy.count, begin, end, fresh, memory, of_dy,
               dw);
    return;
  }
  for (int64_t unit = block * g.block_units; unit < smaller(g.units, (block + 1) * g.block_units); ++unit) {
    const int64_t part = g.flat ? 0 : unit % g.image_units * g.rows * s.Q;
    const int64_t begin = g.flat ? unit * kFlat : unit / g.image_units * image + part;
    const int64_t end = g.flat ? smaller(s.N * image, begin + kFlat) : begin + smaller(g.rows * s.Q, image - part);
    add_blocks(s, plain, prologue, x.data, dy.data, x.first, rows, dy.first, dy.count, begin, end, fresh, memory, of_dy,
               dw);
    fresh = false;
  }
}

static void run_on_tiles(const Conv2DShape& shape, const Prologue& prologue, const float* x, const float* dy,
                         bool accumulate, float* dw, const Scratch& scratch) {
  const bool joined = is_joined(shape);
  const Conv2DShape s = joined ? with_joined_windows(shape) : shape;
  const TileGrid g = tile_grid(s);
  const TileLayout l = tile_layout(s, g, joined);
  float* const sums = g.parts > 1 ? shared_floats(scratch) : dw;
  const bool fresh_sums = g.parts > 1 || !accumulate;
  const int64_t places = g.c_blocks * g.k_blocks;
  parallel_for_tasks(g.parts * places, s.N * s.P * s.Q * g.size, [&](int64_t task, int worker) {
    const int64_t part = task / places, c0 = task % places / g.k_blocks * g.c_block,
                  k0 = task % places % g.k_blocks * g.k_block;
    const Prologue* const before = prologue.mean && !joined ? &prologue : nullptr;  // windows are joined behind it
    const Operand of_x{x, s.C, c0, smaller(g.c_block, round_up(s.C - c0, tiles::kRows)), kFewestBitsX, before};
    const Operand of_dy{dy, s.K, k0, smaller(g.k_block, round_up(s.K - k0, tiles::kRows)), kFewestBitsDy, nullptr};
    char* const memory = scratch.workers + worker * scratch.worker_bytes;
    float* const out = sums + part * (g.parts > 1 ? g.size : 0);
    const int64_t begin = part * g.part_blocks, end = smaller(g.blocks, begin + g.part_blocks);
    const Operand &turned = g.x_turned ? of_x : of_dy, &paired = g.x_turned ? of_dy : of_x;
    bool fresh = fresh_sums, none = true;
    for (int64_t block = begin; block < end; ++block)
      if (place_block(s, joined ? &shape : nullptr, prologue, g, l, turned, paired, block * g.block_units, memory)) {
        const int64_t groups = g.block_units * g.groups;
        for (int64_t i = 0; i < groups; i += kGroupsAtOnce, none = false)
          add_block_on_tiles(s, g, l, turned, paired, i, smaller(kGroupsAtOnce, groups - i), none, memory);
      } else {
        add_block_plainly(shape, g, prologue, of_x, of_dy, block, fresh, reinterpret_cast<float*>(memory), out);
        fresh = false;
      }
    if (none) return;
    for_sums(s, turned, paired, [&](int64_t tile, int64_t tap, int64_t row, int64_t column) {
      const float* const tile_sums = reinterpret_cast<float*>(memory + l.all_sums) + tile * kTileFloats;
      const int64_t c = c0 + (g.x_turned ? row : column), k = k0 + (g.x_turned ? column : row);
      add_sums(s, tile_sums, !g.x_turned, fresh, c, k, out + tap * s.C * s.K);
    });
  });
  if (g.parts > 1) add_parts(sums, g.parts, g.size, accumulate, dw);
}

}  // namespace weights
}  // namespace fastcnn::FASTCNN_ISA
#endif
