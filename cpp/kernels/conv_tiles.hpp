// The sums of conv_gemm.hpp on tile registers: blocks of rows and panels of weights as three bfloat16 parts
// (tiles.hpp).
//
// A row or column whose values all lie far from 1 is scaled by a power of two before it is split, and its outputs are
// scaled back; one with an infinity or NaN is multiplied plainly. So the range of float32 is kept, but for values that
// are less than 2^-80 of the largest in their window.
#pragma once
#include "kernels/conv_finish.hpp"
#include "kernels/conv_rows.hpp"

#if FASTCNN_TILES
namespace fastcnn::FASTCNN_ISA {
namespace gemm {

constexpr int64_t kFewestBits = (127 - 40) << 23, kMostBits = (127 + 100) << 23;  // of values that need no scaling

// A power of two and its inverse; `plain`: there is a value that is not finite.
struct Range {
  float scale, inverse;
  bool plain;
};
// For values of which `bits` are the largest absolute one.
FASTCNN_INLINE Range range(int32_t bits) {
  if (bits == 0 || (bits >= kFewestBits && bits < kMostBits)) return {1, 1, false};
  const int32_t exponent = bits >> 23;
  if (exponent == 255) return {1, 1, true};
  const int32_t scale = exponent > 252 ? 1 : 253 - exponent;
  const int32_t scale_bits = scale << 23, inverse_bits = (254 - scale) << 23;
  Range r{0, 0, false};
  __builtin_memcpy(&r.scale, &scale_bits, 4);
  __builtin_memcpy(&r.inverse, &inverse_bits, 4);
  return r;
}

FASTCNN_INLINE int32_t magnitude(float x) {
  int32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits & 0x7fffffff;
}
FASTCNN_INLINE vi larger_lanes(vi a, vi b) { return a > b ? a : b; }

// -- weights ----------------------------------------------------------------------------------------------------------

// A panel begins with the factors that scale its columns back and what its columns need.
enum : int32_t { kUsual = 0, kScaled = 1, kPlain = 2 };
FASTCNN_INLINE int32_t state_of(const float* panel) {
  int32_t state;
  __builtin_memcpy(&state, panel + tiles::kColumns, 4);
  return state;
}

// weight(tap, c, k) -> packed[panel][head, group][part][half][pair][column][2]
template <class F>
static void pack_parts(int64_t window, int64_t C, int64_t K, bool joined, const F& weight, float* packed) {
  const int64_t runs = joined ? 1 : window, length = joined ? window * C : C;
  const int64_t groups = ceil_div(length, tiles::kGroup), size = panel_floats_on_tiles(window, C, joined);
  const auto value = [&](int64_t run, int64_t k, int64_t column) {
    if (k >= length || column >= K) return 0.0f;
    return joined ? weight(k / C, k % C, column) : weight(run, k, column);
  };
  parallel_for_tasks(panels(K), window * C * K * 4 * kMoved, [&](int64_t j, int) {
    float* const head = packed + j * size;
    int32_t state = kUsual;
    float scales[tiles::kColumns];
    for (int64_t i = 0; i < tiles::kColumns; ++i) {
      int32_t most = 0;
      for (int64_t run = 0; run < runs; ++run)
        for (int64_t k = 0; k < length; ++k) {
          const int32_t bits = magnitude(value(run, k, j * kNR + i));
          most = bits > most ? bits : most;
        }
      const Range r = range(most);
      scales[i] = r.scale;
      head[i] = r.inverse;
      const int32_t needs = r.plain ? kPlain : r.scale != 1 ? kScaled : kUsual;
      state = needs > state ? needs : state;
    }
    for (int64_t i = tiles::kColumns; i < kPanelHead; ++i) head[i] = 0;
    __builtin_memcpy(head + tiles::kColumns, &state, 4);
    float* to = head + kPanelHead;
    for (int64_t run = 0; run < runs; ++run)
      for (int64_t g = 0; g < groups; ++g, to += tiles::kGroupB)
        for (int64_t half = 0; half < 2; ++half)
          for (int64_t i = 0; i < tiles::kGroup / 2; ++i) {
            vf x{}, y{};
            for (int64_t lane = 0; lane < kLanes; ++lane) {
              const int64_t column = half * kLanes + lane, k = g * tiles::kGroup + i;
              x[lane] = value(run, k, j * kNR + column) * scales[column];
              y[lane] = value(run, k + kLanes, j * kNR + column) * scales[column];
            }
            const tiles::Parts parts = tiles::split_any(x, y);
            for (int64_t part = 0; part < tiles::kParts; ++part)
              store(to + ((part * 2 + half) * 16 + i) * 16, reinterpret_cast<vf>(parts.part[part]));
          }
  });
}

static void pack_tiles(const Problem& p, const float* w, const float* scale, float* packed) {
  pack_parts(
      p.window, p.C, p.K, depth(p).joined,
      [&](int64_t tap, int64_t c, int64_t k) {
        const float value = w[(tap * p.C + c) * p.K + k];
        return scale ? value * scale[k] : value;
      },
      packed);
}
// For backward-data; `s` is the shape of the forward pass.
static void pack_tiles_turned(const Conv2DShape& s, const float* w, const float* scale, float* packed) {
  pack_parts(
      s.R * s.S, s.K, s.C, depth(phase_problem(s, 0, 0)).joined,
      [&](int64_t tap, int64_t k, int64_t c) {
        const float value = w[(tap * s.C + c) * s.K + k];
        return scale ? value * scale[k] : value;
      },
      packed);
}

// -- rows -------------------------------------------------------------------------------------------------------------

// The values of one run of k of a row.
struct Run {
  const float* x;  // null: padding
  int64_t length;
  const Prologue* prologue;
  FASTCNN_INLINE vf at(int64_t c) const {
    if (!x || c >= length) return vf{};
    const int64_t n = smaller(kLanes, length - c);
    vf v = load_upto(x + c, n);
    if (prologue) {
      v = (v - load_upto(prologue->mean + c, n)) * load_upto(prologue->scale + c, n) +
          load_upto(prologue->shift + c, n);
      if (prologue->relu) v = relu(v);
    }
    return v;
  }
};

FASTCNN_INLINE void store_parts(const tiles::Parts& parts, float* to, int64_t part_step) {
  FASTCNN_UNROLL for (int64_t i = 0; i < tiles::kParts; ++i)
      store(to + i * part_step, reinterpret_cast<vf>(parts.part[i]));
}

// Parts of a run, as they are; the largest absolute bits of each lane join `most`.
FASTCNN_INLINE float* place_run(const Run& run, float* to, int64_t part_step, vi& most) {
  const auto put = [&](vf x, vf y) FASTCNN_LAMBDA {
    most = larger_lanes(most, larger_lanes(reinterpret_cast<vi>(x) & 0x7fffffff, reinterpret_cast<vi>(y) & 0x7fffffff));
    store_parts(tiles::split(x, y), to, part_step);
    to += tiles::kParts * part_step;
  };
  int64_t c = 0;
  if (run.x && !run.prologue)
    for (; c + tiles::kGroup <= run.length; c += tiles::kGroup) put(load(run.x + c), load(run.x + c + kLanes));
  for (; c < run.length; c += tiles::kGroup) put(run.at(c), run.at(c + kLanes));
  return to;
}
static float* place_run_scaled(const Run& run, float scale, float* to, int64_t part_step) {
  for (int64_t c = 0; c < run.length; c += tiles::kGroup, to += tiles::kParts * part_step)
    store_parts(tiles::split_any(run.at(c) * scale, run.at(c + kLanes) * scale), to, part_step);
  return to;
}

FASTCNN_INLINE int64_t row_floats(const Depth& d) { return d.planes * tiles::kParts * tiles::kRowParts; }

// What the rows of a block need: factors that scale them back, 0 for a row to be multiplied plainly.
struct RowNeeds {
  int64_t rare;  // whether any row is not usual
  float* inverse;
};
FASTCNN_INLINE RowNeeds row_needs(const Layout& l, char* memory) {
  float* const at = reinterpret_cast<float*>(memory + l.needs);
  int64_t rare;
  __builtin_memcpy(&rare, at, 8);
  return {rare, at + 16};
}

// f(run) for the runs of k of an output pixel
template <class F>
FASTCNN_INLINE void for_runs(const Problem& p, const Depth& d, const Prologue& prologue, const float* x,
                             const Pixel& at, float* joined, const F& f) {
  if (d.joined) {
    join_row(p, x, at, prologue, joined);
    f(Run{joined, d.length, nullptr});
    return;
  }
  const Prologue* const before = prologue.mean ? &prologue : nullptr;
  for (int64_t a = 0; a < p.rows.count; ++a)
    for (int64_t b = 0; b < p.columns.count; ++b) f(Run{row(p, x, at, a, b), p.C, before});
}

static void place_rows_on_tiles(const Problem& p, const Depth& d, const Layout& l, const Prologue& prologue,
                                const float* x, int64_t first, int64_t rows, char* memory) {
  float* const joined = reinterpret_cast<float*>(memory + l.joined);
  float* const out = reinterpret_cast<float*>(memory + l.rows);
  float* const inverse = row_needs(l, memory).inverse;
  int64_t rare = 0;
  Pixel at = pixel(p, first);
  for_tiles<tiles::kRows>(rows, [&](int64_t m, int64_t count) {
    const int64_t part_step = count * tiles::kRowParts;
    for (int64_t i = 0; i < count; ++i, advance(p, at)) {
      float* const start = out + m * row_floats(d) + i * tiles::kRowParts;
      float* to = start;
      vi most{};
      for_runs(p, d, prologue, x, at, joined,
               [&](const Run& run) FASTCNN_LAMBDA { to = place_run(run, to, part_step, most); });
      inverse[m + i] = 1;
      if (tiles::any(most >= static_cast<int32_t>(kFewestBits)) && !tiles::any(most >= static_cast<int32_t>(kMostBits)))
        continue;
      int32_t bits = 0;
      for (int64_t lane = 0; lane < kLanes; ++lane) bits = most[lane] > bits ? most[lane] : bits;
      const Range r = range(bits);
      if (r.scale == 1 && !r.plain) continue;
      to = start;
      for_runs(p, d, prologue, x, at, joined,
               [&](const Run& run) { to = place_run_scaled(run, r.scale, to, part_step); });
      inverse[m + i] = r.plain ? 0 : r.inverse;
      rare = 1;
    }
  });
  __builtin_memcpy(memory + l.needs, &rare, 8);
}

// -- products ---------------------------------------------------------------------------------------------------------

// One row of sums from the parts themselves, in float32.
static void multiply_plainly(const Depth& d, const Plane* planes, const float* a, int64_t part_step, const float* panel,
                             float* sums) {
  for (int64_t i = 0; i < kNR; ++i) sums[i] = 0;
  for (int64_t k = 0; k < d.planes; ++k, a += tiles::kParts * part_step)
    for (int64_t i = 0; i < tiles::kGroup; ++i) {
      const int64_t pair = i % 16, half_of_pair = i / 16;
      const uint16_t* from = reinterpret_cast<const uint16_t*>(a) + pair * 2 + half_of_pair;
      const float ai = tiles::joined(from, part_step * 2);
      const uint16_t* b = reinterpret_cast<const uint16_t*>(panel + planes[k].weights);
      for (int64_t column = 0; column < kNR; ++column) {
        const int64_t at = ((column / 16 * 16 + pair) * 16 + column % 16) * 2 + half_of_pair;
        sums[column] += ai * tiles::joined(b + at, 2 * 16 * 16 * 2);
      }
    }
}

// What scaled or plain rows and columns still need when their sums are complete.
static void mend(const Depth& d, const Plane* planes, const RowNeeds& needs, const float* a, int64_t m, int64_t count,
                 const float* panel, float* sums) {
  const int32_t state = state_of(panel);
  for (int64_t i = 0; i < count; ++i, sums += kNR) {
    if (state == kPlain || needs.inverse[m + i] == 0) {
      multiply_plainly(d, planes, a + i * tiles::kRowParts, count * tiles::kRowParts, panel, sums);
      const float scale = needs.inverse[m + i] == 0 ? 1 : needs.inverse[m + i];
      for (int64_t column = 0; column < kNR; ++column) sums[column] = sums[column] * scale * panel[column];
    } else {
      for (int64_t column = 0; column < kNR; ++column)
        sums[column] = sums[column] * needs.inverse[m + i] * panel[column];
    }
  }
}

constexpr int64_t kGroupsAhead = 8;

// Sums of `count` rows and a panel, in registers. They are complete in one go: sums that wait in memory cost a fifth.
template <bool kBoth>
FASTCNN_INLINE void multiply_tile(const Plane* planes, int64_t count, const float* a, int64_t rows, int64_t upper,
                                  const float* panel, bool fresh) {
  tiles::zero_sums(kBoth);
  const int64_t group = tiles::kParts * rows * tiles::kRowParts;
  for (int64_t k = 0; k < count; ++k) {
    const float* const weights = panel + planes[k].weights;
    if (fresh)
      for (int64_t i = 0; i < tiles::kGroupB; i += 16) prefetch_to_l2(weights + kGroupsAhead * tiles::kGroupB + i);
    tiles::multiply<kBoth>(a + k * group, weights, rows, upper);
  }
}

// One block of output pixels times one group of panels, as run_task.
static void run_task_on_tiles(const Problem& p, const Grid& g, const Depth& d, const Layout& l,
                              const Prologue& prologue, const float* x, const float* packed, const Epilogue& epilogue,
                              float* y, int64_t block, int64_t group, int64_t& placed, char* memory) {
  const int64_t first = first_output(p, g, epilogue.pool, block);
  const int64_t rows = epilogue.pool ? g.block_rows : smaller(g.block_rows, p.N * p.OH * p.OW - first);
  Plane* const planes = reinterpret_cast<Plane*>(memory + l.planes);
  const float* const placed_rows = reinterpret_cast<float*>(memory + l.rows);
  float* const sums = reinterpret_cast<float*>(memory + l.panel);
  if (placed != block) {
    if (placed < 0) make_planes(p, d, planes);
    place_rows_on_tiles(p, d, l, prologue, x, first, rows, memory);
    placed = block;
  }
  const RowNeeds needs = row_needs(l, memory);
  const int64_t panel_size = panel_floats_on_tiles(p.window, p.C, d.joined);
  Epilogue after = epilogue;  // maxima come before ReLU: fewer to do, and the same result
  after.relu = epilogue.relu && !epilogue.pool;
  tiles::Registers registers;

  const int64_t last_panel = smaller(panels(p.K), (group + 1) * g.group_panels);
  for (int64_t j = group * g.group_panels; j < last_panel; ++j) {
    const float* const panel = packed + j * panel_size;
    const int64_t column = j * kNR, width = smaller(kNR, p.K - column);
    const auto finish_tile = [&](int64_t m, int64_t count) FASTCNN_LAMBDA {
      float* const tile = sums + m * kNR;
      const float* const a = placed_rows + m * row_floats(d);
      if (needs.rare || state_of(panel) != kUsual) mend(d, planes, needs, a, m, count, panel, tile);
      constexpr int kAtOnce = 8;
      for (int64_t i = 0; i < count; i += kAtOnce)
        with_rows<kAtOnce>(smaller(kAtOnce, count - i), [&]<int MR>() FASTCNN_LAMBDA {
          int64_t offsets[MR];
          for (int r = 0; r < MR; ++r)
            offsets[r] = epilogue.pool ? (m + i + r) * kNR : output_offset(p, first + m + i + r) + column;
          Tile<MR> part;
          part.load_from(tile + i * kNR, kNR);
          finish(part, after, column, width, offsets, epilogue.pool ? sums : y);
        });
    };
    // A tile is finished while the registers multiply the next one.
    int64_t waiting = 0, waiting_count = 0;
    for_tiles<tiles::kRows>(rows, [&](int64_t m, int64_t count) {
      registers.configure(count);
      const float* const a = placed_rows + m * row_floats(d);
      // Weights that pass by once come from memory; others are where the last block left them.
      const bool fresh = m == 0 && g.blocks <= 2;
      if (!epilogue.pool)
        for (int64_t i = 0; i < count; ++i) {
          const int64_t to = output_offset(p, first + m + i) + column;
          if (epilogue.residual) prefetch(epilogue.residual + to);
          prefetch_to_write(y + to);
        }
      if (registers.lower)
        multiply_tile<true>(planes, d.planes, a, count, registers.upper, panel, fresh);
      else
        multiply_tile<false>(planes, d.planes, a, count, registers.upper, panel, fresh);
      if (waiting_count) finish_tile(waiting, waiting_count);
      tiles::store_sums(sums + m * kNR, kNR, registers.upper, registers.lower > 0);
      waiting = m;
      waiting_count = count;
    });
    finish_tile(waiting, waiting_count);
    finish_panel(p, epilogue, block, first, rows, column, width, sums, y);
  }
  if (epilogue.counts && group == 0) epilogue.counts[block] = rows;
}

}  // namespace gemm
}  // namespace fastcnn::FASTCNN_ISA
#endif
