"""Faults of the gradients of weights, direct and by Winograd."""

from __future__ import annotations

from fault import Fault

WEIGHTS = "kernels/conv_weights.hpp"
WEIGHTS_TILES = "kernels/conv_weights_tiles.hpp"
WEIGHTS_WINOGRAD = "kernels/conv_weights_winograd.hpp"

FAULTS_WEIGHTS = [
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
        "begin, end, fresh_sums, a, b, out);",
        "begin, end, fresh_sums && part == 0, a, b, out);",
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
]
