"""Faults of Winograd's convolution: transforms, packing, products, late weights."""

from __future__ import annotations

from fault import Fault

WINOGRAD_TRANSFORMS = "kernels/winograd_transforms.hpp"
WINOGRAD = "kernels/conv_winograd.hpp"
WINOGRAD_PACKING = "kernels/winograd_packing.hpp"
WINOGRAD_GRID = "kernels/winograd_grid.hpp"
WINOGRAD_OUTPUTS = "kernels/winograd_outputs.hpp"
WINOGRAD_LATE = "kernels/winograd_late.hpp"
WINOGRAD_STRIDED = "kernels/winograd_strided.hpp"

FAULTS_WINOGRAD = [
    Fault(
        WINOGRAD_TRANSFORMS,
        "columns = ceil_div(p.Q, kTile);\n  Tiling g",
        "columns = larger(1, p.Q / kTile);\n  Tiling g",
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
        "for (int64_t c = 0; c < g.depth * kDepth; c += kLanes) {\n      float* const out",
        "for (int64_t c = 0; c < p.C; c += kLanes) {\n      float* const out",
        "channels up to the next multiple of 16 are not cleared",
    ),
    Fault(
        WINOGRAD_TRANSFORMS,
        "return from == zeros ? vf{} : select(v < least, least, v);",
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
        WINOGRAD_OUTPUTS,
        "if (epilogue.residual) v += load_upto(epilogue.residual + to, n);",
        "if (epilogue.residual && r < 3) v += load_upto(epilogue.residual + to, n);",
        "the residual is missing in the fourth row of a tile",
    ),
    Fault(
        WINOGRAD_OUTPUTS,
        "if (ph >= PH || pw >= PW) continue;",
        "if (ph >= PH || pw > PW) continue;",
        "a pooled tile writes past the right edge",
    ),
    Fault(
        WINOGRAD_OUTPUTS,
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
        WINOGRAD_LATE,
        "use(4, even_b - h[1] * kB);",
        "use(4, even_b + h[1] * kB);",
        "a wrong sign in the late transform of weights",
    ),
    Fault(
        WINOGRAD,
        "put(f, u * late::kFactors.of[f])",
        "put(f, u)",
        "inputs lack the factors that weights transformed late leave to them",
    ),
    Fault(
        WINOGRAD_LATE,
        "if (same >> s & 1) run_tile",
        "if (same >> s & 1 && s < kStored - 1) run_tile",
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
        WINOGRAD,
        "zeros, d * g.side + kLanes, p.C, prologue, keep(high)",
        "zeros, d * g.side, p.C, prologue, keep(high)",
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
        WINOGRAD_GRID,
        "return smaller(g.packed_group, g.panels - first) * g.depth * g.side * kPanelNR;",
        "return g.packed_group * g.depth * g.side * kPanelNR;",
        "planes of the last packed group are taken for full ones",
        "amx",
    ),
    Fault(
        WINOGRAD,
        "finish_panels(p, g, epilogue, chunk, panel, 1, m + panel * g.rows * kPanelNR, y);",
        "finish_panels(p, g, epilogue, chunk, panel, 1, m, y);",
        "all panels of shared products give the outputs of the first",
    ),
    Fault(
        WINOGRAD,
        "tiles_of_point(g, chunk, f), v, weights(f, panel),",
        "tiles_of_point(g, chunk, f), v, weights(f, 0),",
        "shared products of all panels use the weights of the first",
    ),
    Fault(
        WINOGRAD_LATE,
        "store(to, chunk ? sum + load(to) : sum);",
        "store(to, sum);",
        "sums in registers forget the chains before the last",
    ),
    Fault(
        WINOGRAD_LATE,
        "h[1][s] = even - load(at + 3 * kLateTap) * q;",
        "h[1][s] = even + load(at + 3 * kLateTap) * q;",
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
        WINOGRAD_TRANSFORMS,
        "four ? (x2 - x0 * kB2) * kA2",
        "four ? (x2 - x0 * kB2) * kB2",
        "a wrong constant for nested tiles of two outputs",
    ),
    Fault(
        WINOGRAD_TRANSFORMS,
        "odd_a = x1 * ((kA2 - kB2) * kA);",
        "odd_a = x1 * (kA2 - kB2);",
        "a wrong constant for nested tiles of one output",
    ),
    Fault(
        WINOGRAD_TRANSFORMS,
        "!in_row ? order.last_row : in_column ? g.all : order.corners",
        "!in_row || !in_column ? order.last_row : g.all",
        "tiles of the last row miss the points that corners have not",
    ),
    Fault(
        WINOGRAD_OUTPUTS,
        "return at.has(r * 6 + s);",
        "return at.has(r * 6);",
        "nested tiles read sums that nobody made",
    ),
    Fault(
        WINOGRAD_STRIDED,
        "if (!odd) t[4 * step] = (x0 - x2 * kSum) + x4;",
        "if (!odd) t[4 * step] = (x0 - x2 * kSum);",
        "the point at infinity misses the last pixel where strides are 2",
    ),
    Fault(
        WINOGRAD_STRIDED,
        "to[2] = odd ? 0 : i < 4 ? kOverN[i] * kPoint[i] : 1;",
        "to[2] = odd ? 0 : i < 4 ? kOverN[i] : 1;",
        "the last tap is weighed like the first where strides are 2",
    ),
    Fault(
        WINOGRAD_PACKING,
        "(panel - first) * planes_of_point(p.strided, f) + i",
        "(panel - first) + i",
        "planes of parities are packed over each other where strides are 2",
    ),
    Fault(
        WINOGRAD,
        "shared + worker * (v_bytes(g) / 4)",
        "shared",
        "two workers with chunks of their own share a V",
    ),
    Fault(
        WINOGRAD,
        "tiles::store_parts(tiles::split(load(from), load(from + kLanes)), parts",
        "tiles::store_parts(tiles::split(load(from), load(from)), parts",
        "the second half of a group's channels repeats the first where V is split",
        isa="amx",
    ),
]
