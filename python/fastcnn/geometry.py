"""Affine maps of pictures: one home for the generator's and the layers' rotations, shifts, shears and zooms.

A map is a 3x3 matrix that takes an output pixel (row, column, 1), seen from the picture's centre, to the input place
that it shows; maps are chained by `@`, the one applied to the input place first stands on the left.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fastcnn import _core

Array = NDArray[np.float32]
Map = NDArray[np.float64]

FILL_MODES = ("constant", "nearest", "reflect", "wrap")


def rotation(degrees: float) -> Map:
    """Return the map that turns a picture counter-clockwise."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    return np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def look_at(rows: float, columns: float) -> Map:
    """Return the map that shows what lies `rows` below and `columns` to the right: the picture moves the other way."""
    return np.array([[1.0, 0.0, rows], [0.0, 1.0, columns], [0.0, 0.0, 1.0]])


def shear(degrees: float) -> Map:
    """Return Keras' shear: columns lean by an angle and rows shrink by its cosine."""
    angle = math.radians(degrees)
    return np.array([[1.0, -math.sin(angle), 0.0], [0.0, math.cos(angle), 0.0], [0.0, 0.0, 1.0]])


def zoom(rows: float, columns: float) -> Map:
    """Return the map that shows `rows` x `columns` times as much of the picture: above 1 it gets smaller."""
    return np.diag([rows, columns, 1.0])


def warp(
    x: Array,
    centred: Map,
    *,
    size: tuple[int, int] | None = None,
    fill_mode: str = "nearest",
    value: float = 0.0,
    bilinear: bool = True,
) -> Array:
    """Return y[P,Q,C], what a map about the centres shows of x[H,W,C]; `size` is (P, Q), by default that of x.

    Beyond the picture stand copies of its outer pixels ("nearest"), `value` ("constant"), its mirror image ("reflect",
    d c b a | a b c d | d c b a) or the picture again ("wrap"). Without `bilinear` the nearest pixel is taken.
    """
    x = np.ascontiguousarray(x, np.float32)
    H, W, C = x.shape
    P, Q = size or (H, W)
    matrix = look_at((H - 1) / 2, (W - 1) / 2) @ centred @ look_at(-(P - 1) / 2, -(Q - 1) / 2)
    y = np.empty((P, Q, C), np.float32)
    _core.warp_forward(x, np.ascontiguousarray(matrix[:2]), y, fill_mode, value, bilinear)
    return y


def resized(x: Array, top: int, left: int, height: int, width: int, size: tuple[int, int]) -> Array:
    """Return the window of x[H,W,C] that begins at (top, left), stretched bilinearly to `size` (P, Q)."""
    window = x[top : top + height, left : left + width]
    return warp(window, zoom(height / size[0], width / size[1]), size=size)


def check_fill_mode(owner: str, fill_mode: str) -> str:
    """Return `fill_mode`; raises ValueError unless it is one of FILL_MODES."""
    if fill_mode not in FILL_MODES:
        raise ValueError(f"{owner}: fill_mode must be one of {', '.join(FILL_MODES)}, got {fill_mode!r}")
    return fill_mode
