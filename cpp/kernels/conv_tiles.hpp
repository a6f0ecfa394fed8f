// The sums of conv_gemm.hpp on tile registers, from blocks of rows and panels of weights as three bfloat16 parts
// (tiles.hpp). Rows are split when a block is placed, weights a few groups at a time when they are used.
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

// The largest absolute bits so far of each lane.
FASTCNN_INLINE vi larger_magnitude(vi most, vf x) {
  const vi bits = reinterpret_cast<vi>(x) & 0x7fffffff;
  return most > bits ? most : bits;
}

// -- weights ----------------------------------------------------------------------------------------------------------

// A panel begins with the factors that scale its columns back and what its columns need.
enum : int32_t { kUsual = 0, kScaled = 1, kPlain = 2 };
FASTCNN_INLINE int32_t state_of(const float* panel) {
  int32_t state;
  __builtin_memcpy(&state, panel + tiles::kColumns, 4);
  return state;
}

// packed[panel][head, run, group][kGroup][kColumns], zeros beyond a run's `length` and beyond K; block(run, k, column,
// n, rows) gives kLanes rows from k on, each of n <= kLanes neighbouring weights, zeros beyond both.
template <class F>
static void pack_panels(int64_t runs, int64_t length, int64_t K, const F& block, float* packed) {
  const int64_t groups = ceil_div(length, tiles::kGroup), size = kPanelHead + runs * groups * tiles::kGroupB;
  parallel_for_tasks(panels(K), runs * length * K * kMoved, [&](int64_t j, int) {
    float* const head = packed + j * size;
    vi most[2] = {};
    float* to = head + kPanelHead;
    for (int64_t run = 0; run < runs; ++run)
      for (int64_t k = 0; k < groups * tiles::kGroup; k += kLanes, to += kLanes * kNR)
        for (int64_t half = 0; half < 2; ++half) {
          const int64_t column = j * kNR + half * kLanes;
          vf rows[kLanes] = {};
          if (k < length && column < K) block(run, k, column, smaller(kLanes, K - column), rows);
          for (int64_t i = 0; i < kLanes; ++i) {
            most[half] = larger_magnitude(most[half], rows[i]);
            store(to + i * kNR + half * kLanes, rows[i]);
          }
        }
    int32_t state = kUsual;
    for (int64_t half = 0; half < 2; ++half) {
      vf scales{};
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const Range r = range(most[half][lane]);
        scales[lane] = r.scale;
        head[half * kLanes + lane] = r.inverse;
        const int32_t needs = r.plain ? kPlain : r.scale != 1 ? kScaled : kUsual;
        state = needs > state ? needs : state;
      }
      if (state == kUsual) continue;
      to = head + kPanelHead + half * kLanes;
      for (int64_t k = 0; k < runs * groups * tiles::kGroup; ++k, to += kNR) store(to, load(to) * scales);
    }
    for (int64_t i = tiles::kColumns; i < kPanelHead; ++i) head[i] = 0;
    __builtin_memcpy(head + tiles::kColumns, &state, 4);
  });
}

static void pack_tiles(const Problem& p, const float* w, const float* scale, float* packed) {
  const bool joined = depth(p).joined;  // rows of weights follow one another in both cases
  const int64_t runs = joined ? 1 : p.window, length = joined ? p.window * p.C : p.C;
  pack_panels(
      runs, length, p.K,
      [&](int64_t run, int64_t k, int64_t column, int64_t n, vf* rows) FASTCNN_LAMBDA {
        const float* from = w + (run * length + k) * p.K + column;
        for (int64_t i = 0; i < smaller(kLanes, length - k); ++i, from += p.K) {
          prefetch(from + kLanes * p.K);  // the next block, which no hardware foresees
          rows[i] = load_upto(from, n);
          if (scale) rows[i] *= load_upto(scale + column, n);
        }
      },
      packed);
}
// For backward-data; `s` is the shape of the forward pass.
static void pack_tiles_turned(const Conv2DShape& s, bool batched, const float* w, const float* scale, float* packed) {
  const bool joined = depth(phase_problem(s, 0, 0, batched)).joined;
  const int64_t runs = joined ? 1 : s.R * s.S, length = joined ? s.R * s.S * s.K : s.K;
  pack_panels(
      runs, length, s.C,
      [&](int64_t run, int64_t k, int64_t column, int64_t n, vf* rows) FASTCNN_LAMBDA {
        if (!joined && n == kLanes && k + kLanes <= length) {
          const float* from = w + (run * s.C + column) * s.K + k;
          for (int64_t lane = 0; lane < kLanes; ++lane, from += s.K) {
            prefetch(from + 2 * kLanes);
            rows[lane] = load(from);
          }
          tiles::transpose(rows);
        } else {
          for (int64_t i = 0; i < smaller(kLanes, length - k); ++i) {
            const int64_t tap = joined ? (k + i) / s.K : run, from = joined ? (k + i) % s.K : k + i;
            for (int64_t lane = 0; lane < n; ++lane) rows[i][lane] = w[(tap * s.C + column + lane) * s.K + from];
          }
        }
        if (scale)
          for (int64_t i = 0; i < smaller(kLanes, length - k); ++i) rows[i] *= broadcast(scale[(k + i) % s.K]);
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
    const vf v = load_upto(x + c, n);
    return prologue ? normalised(*prologue, v, c, n) : v;
  }
};

// Parts of a run, as they are; the largest absolute bits of each lane join `most`.
FASTCNN_INLINE float* place_run(const Run& run, float* to, int64_t part_step, vi& most) {
  const auto put = [&](vf x, vf y) FASTCNN_LAMBDA {
    most = larger_magnitude(larger_magnitude(most, x), y);
    tiles::store_parts(tiles::split(x, y), to, part_step);
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
    tiles::store_parts(tiles::split_any(run.at(c) * scale, run.at(c + kLanes) * scale), to, part_step);
  return to;
}

FASTCNN_INLINE int64_t row_floats(const Depth& d) { return d.planes * tiles::kParts * tiles::kRowParts; }

// How the rows of a block were placed, and the factors that scale them back, 0 for a row to be multiplied plainly.
enum : int64_t { kRowsUsual = 0, kRowsRare = 1, kRowsInArea = 2 };
struct RowNeeds {
  int64_t state;
  float* inverse;
};
FASTCNN_INLINE RowNeeds row_needs(const Layout& l, char* memory) {
  float* const at = reinterpret_cast<float*>(memory + l.needs);
  int64_t state;
  __builtin_memcpy(&state, at, 8);
  return {state, at + 16};
}
FASTCNN_INLINE bool usual(vi most) {
  return tiles::any(most >= static_cast<int32_t>(kFewestBits)) && !tiles::any(most >= static_cast<int32_t>(kMostBits));
}
FASTCNN_INLINE int32_t largest(vi lanes) {
  int32_t bits = 0;
  for (int64_t lane = 0; lane < kLanes; ++lane) bits = lanes[lane] > bits ? lanes[lane] : bits;
  return bits;
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
  int64_t state = kRowsUsual;
  Pixel at = pixel(p, first);
  const int64_t part_rows = tiles::part_rows(rows), part_step = part_rows * tiles::kRowParts;
  for (int64_t m = 0; m < tiles::padded_rows(rows); ++m) {
    float* const start = out + m / part_rows * part_rows * row_floats(d) + m % part_rows * tiles::kRowParts;
    if (m >= rows) {
      for (int64_t i = 0; i < d.planes * tiles::kParts; ++i) store(start + i * part_step, vf{});
      continue;
    }
    float* to = start;
    vi most{};
    for_runs(p, d, prologue, x, at, joined,
             [&](const Run& run) FASTCNN_LAMBDA { to = place_run(run, to, part_step, most); });
    inverse[m] = 1;
    if (!usual(most)) {
      const Range r = range(largest(most));
      if (r.scale != 1 || r.plain) {
        to = start;
        for_runs(p, d, prologue, x, at, joined,
                 [&](const Run& run) { to = place_run_scaled(run, r.scale, to, part_step); });
        inverse[m] = r.plain ? 0 : r.inverse;
        state = kRowsRare;
      }
    }
    advance(p, at);
  }
  __builtin_memcpy(memory + l.needs, &state, 8);
}

// The pixels under a block; false if one is not usual, for rows are scaled one by one and share pixels.
static bool place_area(const Problem& p, const Area& area, const Layout& l, const Prologue& prologue, const float* x,
                       int64_t first, char* memory) {
  const Prologue* const before = prologue.mean ? &prologue : nullptr;
  const int64_t part_step = area.planes * area.pixels * tiles::kRowParts;
  const Pixel at = pixel(p, first);
  float* to = reinterpret_cast<float*>(memory + l.rows);
  for (int64_t plane = 0; plane < area.planes; ++plane) {
    const int64_t top = at.oh * p.in_step_h + area.first_h + plane / p.in_step_w;
    const int64_t left = area.first_w + plane % p.in_step_w;
    for (int64_t i = 0; i < area.pixels; ++i, to += tiles::kRowParts) {
      const int64_t h = top + i / area.width * p.in_step_h, w = left + i % area.width * p.in_step_w;
      const bool inside = i < area.height * area.width && h >= 0 && h < p.IH && w >= 0 && w < p.IW;
      vi most{};
      place_run({inside ? x + ((at.n * p.IH + h) * p.IW + w) * p.C : nullptr, p.C, before}, to, part_step, most);
      if (inside && !usual(most) && largest(most) != 0) return false;
    }
  }
  const int64_t state = kRowsInArea;
  __builtin_memcpy(memory + l.needs, &state, 8);
  return true;
}

// -- products ---------------------------------------------------------------------------------------------------------

// One row of sums in float32, from the row's parts and the weights; a(k): the row in plane k.
template <class A>
static void multiply_plainly(const Depth& d, const Plane* planes, const A& a, int64_t a_part, const float* panel,
                             float* sums) {
  for (int64_t i = 0; i < kNR; ++i) sums[i] = 0;
  for (int64_t k = 0; k < d.planes; ++k)
    for (int64_t i = 0; i < tiles::kGroup; ++i) {
      const int64_t pair = i % 16, half_of_pair = i / 16;
      const float ai = tiles::joined(reinterpret_cast<const uint16_t*>(a(k)) + pair * 2 + half_of_pair, a_part * 2);
      const float* const b = panel + planes[k].weights + i * kNR;
      for (int64_t column = 0; column < kNR; ++column) sums[column] += ai * b[column];
    }
}

// What scaled or plain rows and columns still need when their sums are complete; inverse: of the rows, null: 1.
template <class A>
static void mend(const Depth& d, const Plane* planes, const float* inverse, int64_t count, const A& a, int64_t a_part,
                 const float* panel, float* sums) {
  const int32_t state = state_of(panel);
  for (int64_t i = 0; i < count; ++i, sums += kNR) {
    const float back = inverse ? inverse[i] : 1;
    const auto row = [&](int64_t k) FASTCNN_LAMBDA { return a(k) + i * tiles::kRowParts; };
    if (state == kPlain || back == 0) multiply_plainly(d, planes, row, a_part, panel, sums);
    for (int64_t column = 0; column < kNR; ++column)
      sums[column] = sums[column] * (back == 0 ? 1 : back) * panel[column];
  }
}

// f(i, output, n): rows i..i+n-1 of `count` rows from m on hold outputs output.. of the block
template <class F>
FASTCNN_INLINE void for_outputs(const Problem& p, const Area& area, bool in_area, int64_t m, int64_t count,
                                const F& f) {
  constexpr int64_t kAtOnce = 8;
  for (int64_t i = m; i < m + count;) {
    int64_t n = smaller(kAtOnce, m + count - i), output = i;
    if (in_area) {
      const int64_t h = i / area.width, w = i % area.width;
      if (w >= p.OW) {
        i += area.width - w;
        continue;
      }
      n = smaller(n, p.OW - w);
      output = h * p.OW + w;
    }
    f(i, output, n);
    i += n;
  }
}

FASTCNN_INLINE void copy_rows(int64_t rows, const float* from, float* to) {
  for (int64_t i = 0; i < rows * kNR; i += kLanes) store(to + i, load(from + i));
}
FASTCNN_INLINE void add_rows(int64_t rows, const float* from, float* to) {
  for (int64_t i = 0; i < rows * kNR; i += kLanes) store(to + i, load(to + i) + load(from + i));
}

// One block of output pixels times one group of panels, as run_task.
static void run_task_on_tiles(const Problem& p, const Grid& g, const Depth& d, const Layout& l,
                              const Prologue& prologue, const float* x, const float* packed, const Epilogue& epilogue,
                              float* y, int64_t block, int64_t group, int64_t& placed, char* memory) {
  const auto [first, outputs_of_block] = outputs(p, g, epilogue.pool, block);
  Plane* const planes = reinterpret_cast<Plane*>(memory + l.planes);
  const float* const placed_rows = reinterpret_cast<float*>(memory + l.rows);
  float* const sums = reinterpret_cast<float*>(memory + l.panel);
  float* const totals = reinterpret_cast<float*>(memory + l.totals);
  float* const parts = reinterpret_cast<float*>(memory + l.parts);
  const Area whole = in_area(p) ? area(p, g.block_rows / p.OW) : Area{};
  if (placed != block) {
    if (placed < 0) make_planes(p, g, d, planes);
    if (!in_area(p) || !place_area(p, whole, l, prologue, x, first, memory))
      place_rows_on_tiles(p, d, l, prologue, x, first, outputs_of_block, memory);
    placed = block;
  }
  const RowNeeds needs = row_needs(l, memory);
  const bool from_area = needs.state == kRowsInArea;
  const int64_t rows = from_area ? area(p, outputs_of_block / p.OW).outputs : outputs_of_block;
  const int64_t panel_size = panel_floats_on_tiles(p.window, p.C, d.joined);
  const int64_t chunks = larger(1, ceil_div(d.planes, tiles::kGroupsB)), part_rows = tiles::part_rows(rows);
  const int64_t a_part = (from_area ? whole.planes * whole.pixels : part_rows) * tiles::kRowParts;
  Epilogue after = epilogue;  // maxima come before ReLU: fewer to do, and the same result
  after.relu = epilogue.relu && !epilogue.pool;
  const auto rows_at = [&](int64_t m) FASTCNN_LAMBDA {
    return [&, m](int64_t k) FASTCNN_LAMBDA {
      return placed_rows +
             (from_area ? planes[k].area + m * tiles::kRowParts : m * row_floats(d) + k * tiles::kParts * a_part);
    };
  };
  tiles::Registers registers;
  registers.configure(part_rows);

  const int64_t last_panel = smaller(panels(p.K), (group + 1) * g.group_panels);
  for (int64_t j = group * g.group_panels; j < last_panel; ++j) {
    const float* const panel = packed + j * panel_size;
    const int64_t column = j * kNR, width = smaller(kNR, p.K - column);
    const auto finish_part = [&](int64_t m) FASTCNN_LAMBDA {
      const int64_t count = smaller(part_rows, rows - m);
      if (d.planes > kTileSumGroups) add_rows(count, totals + m * kNR, sums + m * kNR);
      if (state_of(panel) != kUsual || needs.state == kRowsRare)
        mend(d, planes, from_area ? nullptr : needs.inverse + m, count, rows_at(m), a_part, panel, sums + m * kNR);
      // Maxima need the block's outputs side by side: they move down to free places.
      for_outputs(p, whole, from_area, m, count, [&](int64_t i, int64_t output, int64_t n) FASTCNN_LAMBDA {
        with_rows<8>(n, [&]<int MR>() FASTCNN_LAMBDA {
          int64_t offsets[MR];
          for (int r = 0; r < MR; ++r)
            offsets[r] = epilogue.pool ? (output + r) * kNR : output_offset(p, first + output + r) + column;
          Tile<MR> part;
          part.load_from(sums + i * kNR, kNR);
          finish(part, after, column, width, offsets, epilogue.pool ? sums : y);
        });
      });
    };
    // A part is finished while the registers multiply the next one.
    int64_t waiting = -1;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t begin = chunk * tiles::kGroupsB, end = smaller(d.planes, begin + tiles::kGroupsB);
      const bool last = chunk == chunks - 1;
      for (int64_t k = begin; k < end; ++k)
        tiles::split_group(panel + planes[k].weights, state_of(panel) == kPlain,
                           parts + (k - begin) * tiles::kGroupParts);
      tiles::settle();
      const float* const next = last ? panel + panel_size + kPanelHead : panel + planes[end].weights;
      Ahead ahead(next, (end - begin) * tiles::kGroupB, ceil_div(rows, part_rows) * (end - begin) * tiles::kFetches);
      for (int64_t m = 0; m < rows; m += part_rows) {
        const int64_t count = smaller(part_rows, rows - m);
        if (last && !epilogue.pool)
          for_outputs(p, whole, from_area, m, count, [&](int64_t, int64_t output, int64_t n) FASTCNN_LAMBDA {
            for (int64_t r = 0; r < n; ++r) {
              const int64_t to = output_offset(p, first + output + r) + column;
              if (epilogue.residual) prefetch(epilogue.residual + to);
              prefetch_to_write(y + to);
            }
          });
        const auto a = rows_at(m);
        const bool fresh =
            begin % kTileSumGroups == 0;  // a long chain would round every product to the size of its end
        if (fresh && begin == kTileSumGroups)
          copy_rows(count, sums + m * kNR, totals + m * kNR);
        else if (fresh && begin)
          add_rows(count, sums + m * kNR, totals + m * kNR);
        tiles::multiply_groups(
            registers, fresh, end - begin, [&](int64_t k) FASTCNN_LAMBDA { return a(begin + k); }, a_part, parts,
            sums + m * kNR, ahead);
        if (waiting >= 0) finish_part(waiting);
        tiles::store_sums(sums + m * kNR, kNR, registers.upper, registers.lower > 0);
        if (last) waiting = m;
      }
    }
    finish_part(waiting);
    finish_panel(p, epilogue, block, first, outputs_of_block, column, width, sums, y);
  }
  if (epilogue.counts && group == 0) epilogue.counts[block] = outputs_of_block;
}

}  // namespace gemm
}  // namespace fastcnn::FASTCNN_ISA
#endif
