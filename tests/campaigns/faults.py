"""The faults that `planted_faults.py` plants, one changed place of cpp/ each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One changed line of cpp/: `old` occurs once in the file."""

    file: str
    old: str
    new: str
    why: str
    isa: str = "avx2"  # the set whose engine gets it

    def line(self, text: str) -> int:
        """Return the line of the fault in the text of its file; raise ValueError unless `old` occurs exactly once."""
        if text.count(self.old) != 1:
            raise ValueError(
                f"{self.file}: {self.old!r} occurs {text.count(self.old)} times, expected once ({self.why})"
            )
        return text[: text.index(self.old)].count("\n") + 1

    def apply(self, text: str) -> str:
        self.line(text)
        return text.replace(self.old, self.new)


PROBLEM, ROWS, FINISH = "kernels/conv_problem.hpp", "kernels/conv_rows.hpp", "kernels/conv_finish.hpp"
GEMM, WINOGRAD, WEIGHTS = "kernels/conv_gemm.hpp", "kernels/conv_winograd.hpp", "kernels/conv_weights.hpp"
WINOGRAD_TRANSFORMS, WINOGRAD_PACKING = "kernels/winograd_transforms.hpp", "kernels/winograd_packing.hpp"
WINOGRAD_LATE, WEIGHTS_WINOGRAD = "kernels/winograd_late.hpp", "kernels/conv_weights_winograd.hpp"
CONV, DENSE, POOL, NORM = "kernels/conv.cpp", "kernels/dense.cpp", "kernels/pool.cpp", "kernels/norm.cpp"
POINTWISE, SOFTMAX, OPTIM = "kernels/pointwise.cpp", "kernels/softmax.cpp", "kernels/optim.cpp"
LOSS, TILES, CONV_TILES = "kernels/loss.cpp", "simd/tiles.hpp", "kernels/conv_tiles.hpp"
WEIGHTS_TILES = "kernels/conv_weights_tiles.hpp"

FAULTS = [
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
        FINISH,
        "const vi wins = (v > best) | ((v != v) & (best == best));",
        "const vi wins = v > best;",
        "the epilogue's max-pool drops NaN",
    ),
    Fault(
        FINISH,
        "(i / 2) * Q * kPanelNR + (i % 2) * kPanelNR",
        "(i % 2) * Q * kPanelNR + (i / 2) * kPanelNR",
        "rows and columns swapped in the argmax of the epilogue's max-pool",
    ),
    Fault(
        GEMM,
        "(scale ? from[i] * scale[j * kPanelNR + i] : from[i])",
        "(scale ? from[i] * scale[i] : from[i])",
        "batch normalisation folded with the first panel's scales",
    ),
    Fault(
        GEMM,
        "scratch.workers + worker * scratch.worker_bytes;",
        "scratch.workers;",
        "workers share one scratch memory",
    ),
    Fault(
        GEMM,
        "a + row * p.in_step_h * area.pitch + m * p.in_step_w * p.C",
        "a + row * area.pitch + m * p.in_step_w * p.C",
        "output rows of a strip one input row apart, whatever the stride",
    ),
    Fault(
        ROWS,
        "smaller(columns, p.IW - p.columns.offset)",
        "smaller(columns, p.IW)",
        "a strip's right margin begins too early",
    ),
    Fault(
        ROWS,
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
        "if (p.OH % r == 0) rows = r;",
        "rows = r;",
        "blocks of a strip leave out the map's last rows",
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
        WINOGRAD_TRANSFORMS,
        "columns = ceil_div(p.Q, kTile);",
        "columns = larger(1, p.Q / kTile);",
        "the partial tiles at the right edge are missing",
    ),
    Fault(
        WINOGRAD_TRANSFORMS,
        "const bool inside = h >= 0 && h < p.H && w >= 0 && w < p.W;",
        "const bool inside = h >= 0 && h < p.H && w >= 0 && w <= p.W;",
        "a tile reads one column too many",
    ),
    Fault(
        WINOGRAD_TRANSFORMS,
        "odd_b = (x3 - x1 * kA2) * kB;",
        "odd_b = (x3 - x1 * kA2) * kA;",
        "a wrong constant in the input transform",
    ),
    Fault(
        WINOGRAD_TRANSFORMS,
        "difference_a * kA3 + difference_b * kB3 + m5;",
        "difference_a * kA3 + difference_b * kB3;",
        "the point at infinity is missing in the output transform",
    ),
    Fault(
        WINOGRAD,
        "for (int64_t c = 0; c < g.depth * kDepth; c += kLanes) {",
        "for (int64_t c = 0; c < p.C; c += kLanes) {",
        "channels up to the next multiple of 16 are not cleared",
    ),
    Fault(
        WINOGRAD_TRANSFORMS,
        "return rows[k] == zeros ? vf{} : select(v < least, least, v);",
        "return select(v < least, least, v);",
        "the prologue normalises the padding",
    ),
    Fault(
        WINOGRAD,
        "for (int64_t d = begin; d < end; ++d) {",
        "for (int64_t d = begin; d < smaller(end, 2); ++d) {",
        "channels from the 33rd on are missing",
    ),
    Fault(
        WINOGRAD,
        "if (epilogue.residual) v += load_upto(epilogue.residual + to, n);",
        "if (epilogue.residual && r < 3) v += load_upto(epilogue.residual + to, n);",
        "the residual is missing in the fourth row of a tile",
    ),
    Fault(
        WINOGRAD,
        "if (ph >= PH || pw >= PW) continue;",
        "if (ph >= PH || pw > PW) continue;",
        "a pooled tile writes past the right edge",
    ),
    Fault(
        WINOGRAD,
        "pixels += smaller(kTile, p.P - at.h) * smaller(kTile, p.Q - at.w);",
        "pixels += kTile * kTile;",
        "partial tiles count as full in the statistics",
    ),
    Fault(
        WINOGRAD_PACKING,
        "w + ((8 - tap) * K + k0 + i) * C + c0;",
        "w + (tap * K + k0 + i) * C + c0;",
        "the window is not turned for backward-data",
    ),
    Fault(
        GEMM,
        "const bool last = chain == sums.all - 1;",
        "const bool last = true;",
        "the epilogue runs after every chunk",
    ),
    Fault(
        ROWS,
        "readable - i >= kLanes ? load(from + i)",
        "readable - i >= kLanes ? load(from)",
        "joined taps beyond the first vector repeat it",
    ),
    Fault(GEMM, "if (placed != block) {", "if (placed < 0) {", "a worker keeps the rows of its first block"),
    Fault(
        WINOGRAD_LATE,
        "u[4] = even_b - odd_b;",
        "u[4] = even_b + odd_b;",
        "a wrong sign in the late transform of weights",
    ),
    Fault(
        WINOGRAD_LATE,
        "for (int64_t s = 0; s < kStored; ++s) run_tile",
        "for (int64_t s = 0; s < kStored - 1; ++s) run_tile",
        "the last point of a part is missing for weights transformed late",
    ),
    Fault(
        WINOGRAD_PACKING,
        "i = c < channels ? larger(0, columns) : 0;",
        "i = larger(0, columns);",
        "packed channels up to a multiple of 16 are not cleared",
    ),
    Fault(
        WINOGRAD_PACKING,
        "scale ? from[i] * double{scale[k0 + i]} : from[i]",
        "from[i]",
        "the folded scale is missing in Winograd's weights",
    ),
    Fault(
        WEIGHTS,
        "for (int64_t part = 0; part < parts; ++part) sum +=",
        "for (int64_t part = 0; part + 1 < parts; ++part) sum +=",
        "the last part of the pixels is not merged",
    ),
    Fault(
        WEIGHTS,
        "float* out = sums + part * (g.parts > 1 ? g.size : 0);",
        "float* out = sums + worker * (g.parts > 1 ? g.size : 0);",
        "partial sums kept per thread: bits depend on threads",
    ),
    Fault(
        WEIGHTS,
        "fresh_sums && first == begin,",
        "fresh_sums && first == 0,",
        "stale accumulators: only the first part starts afresh",
    ),
    Fault(
        WEIGHTS,
        "const bool fresh_sums = g.parts > 1 || !accumulate;",
        "const bool fresh_sums = true;",
        "accumulate ignored where the pixels are one part",
    ),
    Fault(
        WEIGHTS,
        "gemm::row(p, x, at, tap / s.S, tap % s.S)",
        "gemm::row(p, x, at, tap % s.S, tap / s.S)",
        "rows and columns of windows swapped in weight gradients",
    ),
    Fault(
        DENSE,
        "finish_row(b ? b + k : nullptr, with_relu, width, y + n * s.K + k);",
        "finish_row(nullptr, with_relu, width, y + n * s.K + k);",
        "lost bias of several rows",
    ),
    Fault(
        DENSE,
        "const int64_t left = smaller(kLanes, width - k);",
        "const int64_t left = smaller(kLanes, width - k - 1);",
        "the last column of a few rows is missing",
    ),
    Fault(
        DENSE,
        "packed, depth, width, c == 0, y + k, s.K);",
        "packed, depth, width, true, y + k, s.K);",
        "a block of depth overwrites the ones before",
    ),
    Fault(DENSE, "if (k < s.K) add(k,", "if (k + 1 < s.K) add(k,", "a tail of one lane is dropped in dot products"),
    Fault(DENSE, "double sum = accumulate ? db[c] : 0.0;", "double sum = 0.0;", "accumulate ignored in column sums"),
    Fault(
        DENSE,
        "float sum = accumulate ? at[i * s.K + j] : 0.0f;",
        "float sum = 0.0f;",
        "accumulate ignored in the last panel of a dense weight gradient",
    ),
    Fault(
        POOL,
        "smaller((at + pad) / stride + 1, count)",
        "smaller((at + pad) / stride, count)",
        "the last window over a pixel is missing in the backward pass",
    ),
    Fault(
        POOL,
        "return ~(value <= best) & (best == best);",
        "return value > best;",
        "max-pool drops NaN",
    ),
    Fault(
        POOL,
        "static_cast<int32_t>(r.begin * s.S + c.begin)",
        "static_cast<int32_t>(r.begin + c.begin)",
        "wrong argmax where the window starts in the padding",
    ),
    Fault(
        POOL,
        "if (first) __builtin_memset(to, 0, static_cast<size_t>(s.C) * 4);",
        "",
        "pixels under no window are not cleared",
    ),
    Fault(
        POOL,
        "static_cast<float>((r.end - r.begin) * (c.end - c.begin))",
        "static_cast<float>(shape.R * shape.S)",
        "the gradient of average pooling counts the padding",
    ),
    Fault(
        NORM,
        "(square[c] < 0 ? 0 : square[c]) / static_cast<double>(total);",
        "(square[c] < 0 ? 0 : square[c]) / static_cast<double>(total - 1);",
        "unbiased variance",
    ),
    Fault(
        NORM,
        "square[c] += static_cast<double>(slot[C + c]) + d * d * weight;",
        "square[c] += static_cast<double>(slot[C + c]);",
        "merged blocks lose the spread of their means",
    ),
    Fault(
        NORM, "static_cast<float>(-scale * sum[i] / rows);", "0;", "dx of batch normalisation without the mean of dy"
    ),
    Fault(
        POINTWISE,
        "if (i < end) store_tail(y + i, f(i, end - i), end - i);",
        "if (i < end) store_tail(y + i, f(i, end - i), end - i - 1);",
        "the last element of a tail is not stored",
    ),
    Fault("simd/simd.hpp", "return select(a < vf{}, vf{}, a);", "return select(a > vf{}, a, vf{});", "ReLU drops NaN"),
    Fault(
        POINTWISE,
        "(a >> 64) ^ c[3] ^ key1;",
        "(a >> 64) ^ c[3];",
        "dropout: one half of the key is left out",
    ),
    Fault(
        POINTWISE,
        "static_cast<uint64_t>(i / kPhiloxBlock) + 1, numbers",
        "static_cast<uint64_t>(i / kPhiloxBlock), numbers",
        "dropout: the counter begins at 0",
    ),
    Fault(
        POINTWISE,
        "to[c] += from[c];",
        "to[c] = from[c];",
        "concatenation: an accumulated gradient is overwritten",
    ),
    Fault(
        POINTWISE,
        "a < broadcast(max_value)",
        "a <= broadcast(max_value)",
        "bounded ReLU: the gradient passes at the bound",
    ),
    Fault(
        POINTWISE,
        "sign + broadcast(2 * l2) * a",
        "sign + broadcast(l2) * a",
        "penalty: half the gradient",
    ),
    Fault(
        POINTWISE,
        "j < end - i; ++j) add",
        "j < end - i - 1; ++j) add",
        "penalty: the last weight is left out",
    ),
    Fault(
        SOFTMAX,
        "load_upto(to + c, n) * factor - load_upto(target + c, n)",
        "load_upto(to + c, n) - load_upto(target + c, n)",
        "the gradient takes targets to sum to one",
    ),
    Fault(
        SOFTMAX,
        "const double dot = sum_over(C,",
        "const double dot = sum_over(C - 1,",
        "the last class is missing in the softmax gradient's mean",
    ),
    Fault(
        OPTIM,
        "__builtin_pow(beta_2, settings.t)",
        "__builtin_pow(beta_2, settings.t + 1)",
        "Adam's bias correction is one step ahead",
    ),
    Fault(OPTIM, "step - broadcast(momentum) * v", "-v", "Nesterov's step is plain momentum"),
    Fault(
        OPTIM, "relu(variance - centre * centre)", "variance - centre * centre", "a centered variance may be negative"
    ),
    Fault(OPTIM, "select(second < most, most, second)", "second", "AMSGrad forgets the largest square"),
    Fault(OPTIM, "chunk < ceil_div(size, kGrain)", "chunk < size / kGrain", "a norm leaves its last chunk out"),
    Fault(OPTIM, "step + broadcast(decay) * w", "step + broadcast(decay)", "weight decay does not see the weight"),
    Fault(LOSS, "free - (passes ? wanted / q : 0)", "1 - (passes ? wanted / q : 0)", "targets are taken to sum to one"),
    Fault(LOSS, "(probability - target) *", "(target - probability) *", "the sigmoid's gradient has the wrong sign"),
    Fault(
        LOSS,
        "clipped(1 - p, 1 - clip.most, clip.most)",
        "1 - p",
        "the clip of 1 - p is lost",
    ),
    Fault(
        "core/parallel.hpp",
        "parts_[i].end = count * (i + 1) / members;",
        "parts_[i].end = count / members * (i + 1);",
        "the tasks left over by an even split are lost",
    ),
    Fault(TILES, "add_products<kBoth>();  // 2 x 2", "// 2 x 2", "the product of the middle parts is missing", "amx"),
    Fault(
        TILES,
        "add_products<kBoth>();  // 3 x 1",
        "// 3 x 1",
        "the product with a row's last part is missing",
        "amx",
    ),
    Fault(
        CONV_TILES,
        "sums[column] * (back == 0 ? 1 : back) * panel[column];",
        "sums[column] * (back == 0 ? 1 : back);",
        "a scaled output channel is not scaled back",
        "amx",
    ),
    Fault(
        CONV_TILES,
        "if (state == kPlain || back == 0) multiply_plainly",
        "if (back == 0) multiply_plainly",
        "weights that are not finite are multiplied on tile registers",
        "amx",
    ),
    Fault(
        CONV_TILES,
        "inverse[m] = r.plain ? 0 : r.inverse;",
        "inverse[m] = r.inverse;",
        "rows that are not finite are multiplied on tile registers",
        "amx",
    ),
    Fault(
        CONV_TILES,
        "if (r.scale != 1 || r.plain) {",
        "if (r.plain) {",
        "rows far from 1 are not scaled",
        "amx",
    ),
    Fault(
        CONV_TILES,
        "    finish_part(waiting);\n    finish_panel",
        "    finish_panel",
        "the last tile of a panel is not finished",
        "amx",
    ),
    Fault(
        CONV_TILES,
        "depth(phase_problem(s, 0, 0, batched)).joined",
        "false",
        "turned weights of few channels are packed tap by tap",
        "amx",
    ),
    Fault(
        PROBLEM,
        "p.out_H * p.out_W > kFewPixels);",
        "p.OH * p.OW > kFewPixels);",
        "each phase decides by itself whether it runs on tile registers",
        "amx",
    ),
    Fault(
        WINOGRAD,
        "transform_tile(rows, zeros, d * g.side + kLanes,",
        "transform_tile(rows, zeros, d * g.side,",
        "the second half of a group repeats the first in Winograd on tile registers",
        "amx",
    ),
    Fault(
        WINOGRAD,
        "kPartsOfU + begin * v_depth + t * tiles::kRowParts;",
        "kPartsOfU + t * tiles::kRowParts;",
        "Winograd on tile registers reads the first 64 channels only",
        "amx",
    ),
    Fault(
        CONV_TILES,
        "if (inside && !usual(most) && largest(most) != 0) return false;",
        "",
        "pixels of an area far from 1 or not finite are multiplied as they are",
        "amx",
    ),
    Fault(
        CONV_TILES,
        "part_rows = tiles::part_rows(rows);\n  const int64_t a_part = (from_area ? whole.planes * whole.pixels",
        "part_rows = tiles::part_rows(rows);\n  const int64_t a_part = (from_area ? whole.pixels",
        "the parts of an area are read from its first phase",
        "amx",
    ),
    Fault(
        CONV_TILES,
        "i += area.width - w;",
        "i += area.width - w + 1;",
        "the first output of a row is skipped after those that do not count",
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
        WEIGHTS_TILES,
        "return !tiles::any(((most > 0) & (most < fewest)) | (most >= kMostBits));",
        "return !tiles::any(most >= kMostBits);",
        "tiny channels of the weight gradients are multiplied on tile registers",
        "amx",
    ),
    Fault(
        WEIGHTS_TILES,
        "(plane * g.copies + shift % 2) * copy_floats",
        "(plane * g.copies) * copy_floats",
        "taps an odd number of pixels away read the other pairs",
        "amx",
    ),
    Fault(
        WEIGHTS_TILES,
        "if (turned) tiles::transpose(quarter);",
        "",
        "turned sums of the weight gradients stay turned",
        "amx",
    ),
    Fault(
        WEIGHTS_TILES,
        "y >= 0 && y < h.size &&",
        "y >= 0 &&",
        "the last unit of an image takes rows of the next",
        "amx",
    ),
    Fault(
        WEIGHTS_TILES,
        "store(total + i, load(total + i) + load(sums + i));",
        "store(total + i, load(sums + i));",
        "only the last groups of pixels count",
        "amx",
    ),
    Fault(
        TILES,
        " | (high & static_cast<int32_t>(0xffff0000));",
        " | high;",
        "what is left of a subnormal number spoils its neighbour",
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
    Fault(
        WEIGHTS_TILES,
        "if (!inside(y, s.H) || !inside(x, s.W)) continue;",
        "if (!inside(y, s.H)) continue;",
        "pixels left and right of an image count in weight gradients by pixel",
        "amx",
    ),
    Fault(
        WEIGHTS_TILES,
        "first + i < N ? o.data",
        "first + i <= N ? o.data",
        "weight gradients by pixel read an image too many",
        "amx",
    ),
    Fault(
        WEIGHTS_TILES,
        "const int64_t begin = block * g.pixels * image,",
        "const int64_t begin = block * g.pixels,",
        "a block by pixel that goes to the vectors begins at a wrong pixel",
        "amx",
    ),
    Fault(
        WEIGHTS_TILES,
        "plain.width : smaller(x.count, s.C - x.first)",
        "plain.width : round_up(smaller(x.count, s.C - x.first), kMR)",
        "channels behind a block that goes to the vectors are added twice",
        "amx",
    ),
    Fault(
        WEIGHTS_TILES,
        "    gemm::advance(p, pixel);\n    at[i] = rows;",
        "    at[i] = rows;",
        "joined windows are all those of the first pixel",
        "amx",
    ),
    Fault(
        WEIGHTS_TILES,
        "is_joined(s) ? plain.width :",
        "is_joined(s) ? s.C :",
        "only the first pixels of windows count where joined ones go to the vectors",
        "amx",
    ),
    Fault(GEMM, "if (epilogue.residual == y) return;", "", "phases without taps overwrite where they should add"),
    Fault(
        WINOGRAD,
        "return smaller(g.packed_group, g.panels - first) * g.depth * g.side * kPanelNR;",
        "return g.packed_group * g.depth * g.side * kPanelNR;",
        "planes of the last packed group are taken for full ones",
        "amx",
    ),
    Fault(
        WEIGHTS_WINOGRAD,
        "none || h >= s.P || w >= s.Q ? nullptr",
        "none || h >= s.P ? nullptr",
        "outputs right of the map count in Winograd's weight gradients",
    ),
    Fault(
        WEIGHTS_WINOGRAD,
        "t[2 * step] = (sum_b - sum_a) * third + u5;",
        "t[2 * step] = (sum_b - sum_a) * third;",
        "the point at infinity is missing in Winograd's weight gradients",
    ),
    Fault(
        WEIGHTS_WINOGRAD,
        "odd_b = y1 * kB + y3 * kB3;",
        "odd_b = y1 * kB + y3 * kA3;",
        "a wrong constant in the transform of gradients",
    ),
    Fault(
        WEIGHTS_WINOGRAD,
        "groups, chunk == 0, m.parts",
        "groups, true, m.parts",
        "only the last shared chunk counts in Winograd's weight gradients",
    ),
    Fault(
        WEIGHTS_WINOGRAD,
        "groups, chunk == begin, m.parts",
        "groups, true, m.parts",
        "only a part's last chunk counts in Winograd's weight gradients",
    ),
    Fault(
        WEIGHTS_WINOGRAD,
        "winograd_memory(s, g, scratch, worker).sums, !accumulate,",
        "winograd_memory(s, g, scratch, worker).sums, true,",
        "Winograd's shared weight gradients forget what they are added to",
    ),
    Fault(
        WEIGHTS_WINOGRAD,
        "const bool fresh = g.parts > 1 || !accumulate;\n    float* const to = of_parts",
        "const bool fresh = true;\n    float* const to = of_parts",
        "Winograd's weight gradients of one part forget what they are added to",
    ),
    Fault(
        WEIGHTS_WINOGRAD,
        "g.parts > 1 ? part * g.size : 0",
        "0",
        "the parts of Winograd's weight gradients overwrite each other",
    ),
    Fault(
        WEIGHTS_WINOGRAD,
        "if (!fresh || first) tile.add_from(sums + row * kNR, kNR);",
        "if ((!fresh || first) && row) tile.add_from(sums + row * kNR, kNR);",
        "the first rows of a block forget earlier chunks",
    ),
    Fault(
        WEIGHTS_WINOGRAD,
        "if (fresh && first == 0) {",
        "if (fresh) {",
        "only the last groups of a chunk count",
        "amx",
    ),
    Fault(
        WEIGHTS,
        "load_upto(pixel + c0 + c, rows - c), c0 + c, rows - c)",
        "load_upto(pixel + c0 + c, rows - c), c, rows - c)",
        "later channels of weight gradients are normalised as the first",
    ),
    Fault(
        WINOGRAD,
        "finish_panels(p, g, epilogue, chunk, panel, 1, m + panel * g.rows * kPanelNR, y);",
        "finish_panels(p, g, epilogue, chunk, panel, 1, m, y);",
        "all panels of shared products give the outputs of the first",
    ),
    Fault(
        WINOGRAD,
        "v + f * g.v_plane, weights(f, panel),",
        "v + f * g.v_plane, weights(f, 0),",
        "shared products of all panels use the weights of the first",
    ),
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
        NORM,
        "relu ? Mask::input : Mask::none;",
        "Mask::none;",
        "the ReLU made again from x lets every gradient through",
    ),
    Fault(
        NORM,
        "if (scale) scale[begin + c] = scale_of(gamma, inv_std, begin + c);",
        "if (scale) scale[begin + c] = scale_of(nullptr, inv_std, begin + c);",
        "gamma is missing where the reader normalises",
    ),
    Fault(
        WINOGRAD_LATE,
        "store(to, chunk ? sum + load(to) : sum);",
        "store(to, sum);",
        "sums in registers forget the chains before the last",
    ),
    Fault(
        WINOGRAD_LATE,
        "const vf even = load(at) * g0 + load(at + 6 * kLateTap) * g2, odd = load(at + 3 * kLateTap) * g1;",
        "const vf even = load(at) * g0 - load(at + 6 * kLateTap) * g2, odd = load(at + 3 * kLateTap) * g1;",
        "a wrong sign where two rows of late weights share their products",
        isa="avx512",
    ),
    Fault(
        WINOGRAD_LATE,
        "if (chunk) tile.add_from(sums, kPanelNR);",
        "",
        "tiles of late weights forget the chains before the last",
    ),
    Fault(
        PROBLEM,
        "(p.N >= kManyImages && chains_end_with_taps)",
        "p.N >= kManyImages",
        "a small map in a batch has other chains than alone",
    ),
    Fault(
        WINOGRAD,
        "tiles::store_parts(tiles::split(load(from), load(from + kLanes)), parts",
        "tiles::store_parts(tiles::split(load(from), load(from)), parts",
        "the second half of a group's channels repeats the first where V is split",
        isa="amx",
    ),
    Fault(
        DENSE,
        "if (c) add_run(out + n * columns, width, c == kRun, y + n * s.K + k0);",
        "if (c) add_run(out, width, c == kRun, y + n * s.K + k0);",
        "all rows that weights stream past get the sums of the first",
    ),
]
