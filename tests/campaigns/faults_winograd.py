"""Faults of Winograd's convolution: transforms, packing, products, late weights."""

from __future__ import annotations

from fault import Fault

WINOGRAD_TRANSFORMS = "kernels/winograd_transforms.hpp"
WINOGRAD = "kernels/conv_winograd.hpp"
WINOGRAD_PACKING = "kernels/winograd_packing.hpp"
WINOGRAD_LATE = "kernels/winograd_late.hpp"

FAULTS_WINOGRAD = [
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
        WINOGRAD,
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
        "v + f * g.v_plane, weights(f, panel),",
        "v + f * g.v_plane, weights(f, 0),",
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
        WINOGRAD,
        "tiles::store_parts(tiles::split(load(from), load(from + kLanes)), parts",
        "tiles::store_parts(tiles::split(load(from), load(from)), parts",
        "the second half of a group's channels repeats the first where V is split",
        isa="amx",
    ),
]
