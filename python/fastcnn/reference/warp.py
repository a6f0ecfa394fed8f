"""A picture seen through an affine map, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.reference.arrays import Array, check_shape, float64, special_values

_EDGE = 1e-6  # pixels beyond the outer pixels' centres that still count as the picture


def _place(i: int, size: int, fill_mode: str) -> int:
    """Return the pixel of 0..size-1 that stands at place i; reading it off a written-out row shows the rule."""
    row = list(range(size))
    if fill_mode == "wrap":
        return row[i % size]
    if fill_mode == "reflect":
        there_and_back = row + row[::-1]
        return there_and_back[i % (2 * size)]
    return min(max(i, 0), size - 1)


@special_values
def warp_forward(
    x: ArrayLike,
    matrix: ArrayLike,
    size: tuple[int, int],
    fill_mode: str = "nearest",
    value: float = 0.0,
    bilinear: bool = True,
) -> Array:
    """Return y[P,Q,C] whose pixel [p,q] is x[H,W,C] at (row, column) = matrix[2,3] (p, q, 1); `size` is (P, Q).

    Between pixel centres, which lie at whole numbers, values are mixed linearly or taken from the nearest centre.
    Beyond the picture stand copies of its outer pixels ("nearest"), `value` ("constant"), its mirror image ("reflect",
    d c b a | a b c d | d c b a) or the picture again ("wrap").
    """
    x = float64("warp_forward", "x", x, 3)
    matrix = float64("warp_forward", "matrix", matrix, 2)
    check_shape("warp_forward", "matrix", matrix.shape, (2, 3))
    if fill_mode not in ("nearest", "constant", "reflect", "wrap"):
        raise ValueError(f"warp_forward: fill_mode must be nearest, constant, reflect or wrap, got {fill_mode!r}")
    H, W, C = x.shape
    y = np.full((*size, C), float(value))
    for p in range(size[0]):
        for q in range(size[1]):
            row, column = matrix @ (p, q, 1)
            if fill_mode == "constant" and not (-_EDGE <= row <= H - 1 + _EDGE and -_EDGE <= column <= W - 1 + _EDGE):
                continue
            if not bilinear:
                h, w = math.floor(row + 0.5), math.floor(column + 0.5)
                y[p, q] = x[_place(h, H, fill_mode), _place(w, W, fill_mode)]
                continue
            h, w = math.floor(row), math.floor(column)
            y[p, q] = 0
            for i, part in ((h, h + 1 - row), (h + 1, row - h)):
                for j, share in ((w, w + 1 - column), (w + 1, column - w)):
                    y[p, q] += part * share * x[_place(i, H, fill_mode), _place(j, W, fill_mode)]
    return y


def warp_magnitude(
    x: ArrayLike,
    matrix: ArrayLike,
    size: tuple[int, int],
    fill_mode: str = "nearest",
    value: float = 0.0,
    bilinear: bool = True,
) -> Array:
    """Return S[P,Q,C] of warp_forward: of each pixel the largest absolute value that it may have looked at.

    That is the largest of the picture and `value`: a mixture is computed by differences of neighbours.
    """
    x = float64("warp_magnitude", "x", x, 3)
    return np.full((*size, x.shape[2]), max(float(np.abs(x).max()), abs(value)))
