"""Faults of products on tile registers."""

from __future__ import annotations

from fault import Fault

TILES = "simd/tiles.hpp"
CONV_TILES = "kernels/conv_tiles.hpp"

FAULTS_TILES = [
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
        TILES,
        " | (high & static_cast<int32_t>(0xffff0000));",
        " | high;",
        "what is left of a subnormal number spoils its neighbour",
        "amx",
    ),
]
