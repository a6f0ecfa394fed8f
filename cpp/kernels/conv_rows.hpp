// Rows of x copied, normalised on the way if asked, into the order in which the micro-kernel reads them.
#pragma once
#include "kernels/conv_problem.hpp"
#include "kernels/prologue.hpp"

namespace fastcnn::FASTCNN_ISA {
namespace gemm {

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
    if (x && prologue.mean) v = normalised(prologue, v, c, n);
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
          const float v = from ? from[c] : 0.0f;
          out[c] = from && prologue.mean ? normalised(prologue, v, c) : v;
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
  for_tiles<kPanelMR>(rows, [&](int64_t m, int64_t count) {
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

}  // namespace gemm
}  // namespace fastcnn::FASTCNN_ISA
