"""Faults of direct convolution: its problem, rows, products and what follows them."""

from __future__ import annotations

from fault import Fault

PROBLEM = "kernels/conv_problem.hpp"
ROWS = "kernels/conv_rows.hpp"
STRIP = "kernels/conv_strip.hpp"
FINISH = "kernels/conv_finish.hpp"
GEMM = "kernels/conv_gemm.hpp"
CONV = "kernels/conv.cpp"

FAULTS_CONV = [
    Fault(
        PROBLEM,
        "{s.R, 0, 1, -s.pad_top, s.dilation_h}",
        "{s.R, 0, 1, 1 - s.pad_top, s.dilation_h}",
        "top padding off by one",
    ),
    Fault(
        PROBLEM,
        "          s.Q,\n          s.stride_h,\n          s.stride_w,",
        "          s.Q,\n          s.stride_w,\n          s.stride_h,",
        "row and column strides swapped",
    ),
    Fault(
        PROBLEM,
        "{s.S, 0, 1, -s.pad_left, s.dilation_w}",
        "{s.S, 0, 1, -s.pad_left, s.dilation_h}",
        "dilation of the rows used for the columns",
    ),
    Fault(
        PROBLEM,
        "if (h < 0 || h >= p.IH || w < 0 || w >= p.IW) return nullptr;",
        "if (h < 0 || h >= p.IH || w < 0 || w > p.IW) return nullptr;",
        "one column of right padding reads the next row",
    ),
    Fault(
        ROWS,
        "smaller(width, p.IW - w)",
        "smaller(width, p.IW - w - 1)",
        "the last column of a gathered window row is dropped at the right edge",
    ),
    Fault(
        ROWS,
        "if (x && prologue.mean) v =",
        "if (prologue.mean) v =",
        "the prologue normalises the padding of a direct convolution",
    ),
    Fault(
        FINISH,
        "const int64_t n = smaller(kLanes, width - first);",
        "const int64_t n = smaller(kLanes - 1, width - first);",
        "the last lane of a full vector in a partial panel is not stored",
    ),
    Fault(
        FINISH, "sum += bias[first / kLanes];", "sum += bias[0];", "the second vector of a panel gets the first's bias"
    ),
    Fault(
        FINISH,
        "if (residual) sum += load_upto(residual + offsets[i] + first, n);",
        "",
        "the residual is missing in partial panels",
    ),
    Fault(
        PROBLEM,
        "if (p.C < side && p.window > 1 && !by_pixel(p) && p.out_step_h == 1 && p.out_step_w == 1)",
        "if (p.C < side && taps > 1)",
        "a phase's taps are taken for all taps of the window",
    ),
    Fault(PROBLEM, "axis.first = r;", "axis.first = 0;", "each phase of strided backward-data starts at the first tap"),
    Fault(
        PROBLEM,
        "for (int64_t ph = 0; ph < smaller(s.stride_h, s.H); ++ph)",
        "for (int64_t ph = 0; ph < smaller(s.stride_h, smaller(s.R, s.H)); ++ph)",
        "rows of dx between the windows are not cleared",
    ),
    Fault(
        PROBLEM,
        "smaller(g.block_rows, p.N * image - block * g.block_rows)",
        "g.block_rows",
        "the last block runs over the end",
    ),
    Fault(
        PROBLEM,
        "g.groups = ceil_div(all, g.group_panels);",
        "g.groups = all / g.group_panels;",
        "the panels of a last, smaller group are lost",
    ),
    Fault(
        GEMM,
        "epilogue.counts[block] = rows;",
        "epilogue.counts[block] = g.block_rows;",
        "the last block of the statistics counts as full",
    ),
    Fault(
        FINISH,
        "store_upto(squares + c, deviations - rest * shift, n);",
        "store_upto(squares + c, deviations, n);",
        "squared deviations are not corrected for the rounded mean",
    ),
    Fault(
        "kernels/largest.hpp",
        "const vi wins = ~(other <= value) & (value == value);",
        "const vi wins = other > value;",
        "max-pool drops NaN",
    ),
    Fault(
        FINISH,
        "(i / 2) * Q * kPanelNR + (i % 2) * kPanelNR",
        "(i % 2) * Q * kPanelNR + (i / 2) * kPanelNR",
        "rows and columns swapped in the argmax of the epilogue's max-pool",
    ),
    Fault(
        GEMM,
        "values *= load_upto(scale + column + i, n);",
        "values *= load_upto(scale + i, n);",
        "batch normalisation folded with the first panel's scales",
    ),
    Fault(
        GEMM,
        "scratch.workers + worker * scratch.worker_bytes;",
        "scratch.workers;",
        "workers share one scratch memory",
    ),
    Fault(
        STRIP,
        "a + row * p.in_step_h * area.pitch",
        "a + row * area.pitch",
        "output rows of a strip one input row apart, whatever the stride",
    ),
    Fault(
        STRIP,
        "smaller(columns, p.IW - p.columns.offset)",
        "smaller(columns, p.IW)",
        "a strip's right margin begins too early",
    ),
    Fault(
        STRIP,
        "for (int64_t i = 0; i < before * p.C; ++i) out[i] = 0;\n  if (before == columns) return;",
        "if (before == columns) return;",
        "a strip's margins hold what the block before left",
    ),
    Fault(
        PROBLEM,
        "- 1) * p.in_step_h + p.rows.count",
        "- 1) * p.in_step_h + (p.rows.count - 1)",
        "a strip lacks its last row",
    ),
    Fault(
        PROBLEM,
        "if (OH % r == 0) rows = r;",
        "rows = r;",
        "blocks of a strip leave out the map's last rows",
    ),
    Fault(
        STRIP,
        "load_pair(a + 2 * i + k)",
        "load_pair(a + i + k)",
        "pairs of pixels one pixel apart",
        isa="avx512",
    ),
    Fault(
        "kernels/gemm.hpp",
        "for (int64_t k = 0; k < K; ++k, b += b_step) {",
        "for (int64_t k = 0; k + 1 < K; ++k, b += b_step) {",
        "the last product of every sum is missing",
    ),
    Fault(
        "kernels/gemm.hpp",
        "const int64_t count = small + (t < extra);",
        "const int64_t count = small + (t + 1 < extra);",
        "the row tiles end one row early",
    ),
    Fault(CONV, "accumulate ? dx : nullptr", "nullptr", "backward-data overwrites where it should add"),
    Fault(
        CONV,
        "s.R - 1 - s.pad_top, s.S - 1 - s.pad_left,",
        "s.R - 1 - s.pad_left, s.S - 1 - s.pad_top,",
        "top and left padding swapped in Winograd's backward-data",
    ),
    Fault(
        GEMM,
        "const bool last = chain == sums.all - 1;",
        "const bool last = true;",
        "the epilogue runs after every chunk",
    ),
    Fault(
        PROBLEM,
        "!d.window || planes == kChainPlanes ?",
        "d.runs == 1 || planes == kChainPlanes ?",
        "a window with one tap inside the picture is summed unlike a whole one",
    ),
    Fault(
        ROWS,
        "readable - i >= kLanes ? load(from + i)",
        "readable - i >= kLanes ? load(from)",
        "joined taps beyond the first vector repeat it",
    ),
    Fault(GEMM, "if (placed != block) {", "if (placed < 0) {", "a worker keeps the rows of its first block"),
    Fault(
        PROBLEM,
        "p.out_H * p.out_W > kFewPixels);",
        "p.OH * p.OW > kFewPixels);",
        "each phase decides by itself whether it runs on tile registers",
        "amx",
    ),
    Fault(
        PROBLEM,
        "h % p.in_step_h * p.in_step_w + w % p.in_step_w;",
        "h % p.in_step_h * p.in_step_w;",
        "a strided tap reads the phase of the first column",
        "amx",
    ),
    Fault(
        PROBLEM,
        "a.height = rows + reach(p.rows, p.in_step_h);",
        "a.height = rows + reach(p.rows, p.in_step_h) - 1;",
        "the last row of an area is left out",
        "amx",
    ),
    Fault(
        PROBLEM,
        "{block / g.image_blocks * image + first, smaller(g.block_rows, all - first)};",
        "{block / g.image_blocks * image + first, g.block_rows};",
        "the last block of an image runs over into the next",
        "amx",
    ),
    Fault(
        PROBLEM, "found.first = axis.first + t * axis.step;", "found.first = t;", "trimmed windows forget their phase"
    ),
    Fault(
        PROBLEM,
        "part.columns = trimmed(p.columns, p.in_step_w, w, p.IW);",
        "part.columns = trimmed(p.columns, p.in_step_w, w, p.IH);",
        "columns of trimmed windows end with the rows",
    ),
    Fault(
        FINISH,
        "by_pixel(p) ? p.out_H * p.out_W * p.K : p.K",
        "p.K",
        "statistics of single pixels mix images and pixels",
    ),
    Fault(
        GEMM,
        "after.statistics += blocks * 2 * p.K;",
        "after.statistics += blocks * p.K;",
        "statistics of the parts of a problem overlap",
    ),
    Fault(GEMM, "if (epilogue.residual == y) return;", "", "phases without taps overwrite where they should add"),
    Fault(
        GEMM,
        "load(panel + m * kPanelNR + c));",
        "load(panel + c));",
        "streamed outputs are those of a block's first pixel",
    ),
    Fault(
        GEMM,
        "block_statistics(panel, rows, kPanelNR, width, mean, mean + p.K);",
        "block_statistics(panel, rows - 1, kPanelNR, width, mean, mean + p.K);",
        "statistics of streamed outputs leave out a pixel",
    ),
    Fault(
        PROBLEM,
        "(p.N >= kManyImages && chains_end_with_taps)",
        "p.N >= kManyImages",
        "a small map in a batch has other chains than alone",
    ),
]
