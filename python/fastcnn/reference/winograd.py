"""Winograd convolution in float64: m outputs of an r-tap filter from n = m + r - 1 products instead of m * r.

    Y = A^T [(G g G^T) o (B^T d B)] A      (Lavin and Gray, arXiv 1509.09308; points: Barabasz et al., arXiv 1803.10986)

Dilation 1. With absolute=True inputs and matrices are taken by their absolute values: the result is S_w, the unit of
Winograd's error bound.

Tiles at the lower and right edge can be nested: with m < 4 outputs they drop 4 - m points, and the transformed weights
of the others are those of whole tiles. Strides of 2 are four convolutions of stride 1, each over the pixels and taps of
one parity of rows and columns, summed at the same points (Huang et al., DWM, arXiv 2002.00552).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod, sqrt

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.reference.arrays import Array, Shape, check_shape, float64, special_values
from fastcnn.reference.window import VALID, Padding, Pair, Window

Point = int | float | Fraction

# 0, +-a, +-b with a = 1/sqrt(2), b = sqrt(2), and infinity: half the error of 0, +-1, +-2.
DEFAULT_POINTS: tuple[Point, ...] = (0, sqrt(0.5), -sqrt(0.5), sqrt(2), -sqrt(2))
_POINTS = {  # of F(m, r); with infinity where they are m + r - 2
    (4, 3): DEFAULT_POINTS,
    (3, 4): DEFAULT_POINTS,
    (3, 3): DEFAULT_POINTS,
    (2, 3): DEFAULT_POINTS[1:],
    (1, 3): DEFAULT_POINTS[:3],
    (4, 2): DEFAULT_POINTS[1:],
    (4, 1): DEFAULT_POINTS[1:],
}


def _monic(roots: Sequence[Point]) -> list[Point]:
    """Return the coefficients of the product of (t - root), constant first."""
    coefficients: list[Point] = [1]
    for root in roots:
        shifted = [0, *coefficients]
        coefficients = [up - root * same for up, same in zip(shifted, [*coefficients, 0], strict=True)]
    return coefficients


def winograd_matrices(m: int, r: int, points: Sequence[Point] = DEFAULT_POINTS) -> tuple[Array, Array, Array]:
    """Return (A_T [m,n], G [n,r], B_T [n,n]) of F(m, r), n = m + r - 1, for distinct finite points.

    They are n, or n - 1, with infinity as the last. Computed in the points' own arithmetic (exact for integers and
    fractions), then rounded to float64. Raises ValueError for a wrong number of points or a repeated one.
    """
    n, finite = m + r - 1, len(points)
    if finite not in (n - 1, n) or len(set(points)) != finite:
        raise ValueError(f"winograd_matrices: F({m}, {r}) needs {n - 1} distinct finite points, got {list(points)}")
    others = [[q for j, q in enumerate(points) if j != i] for i in range(finite)]
    scales = [prod(point - q for q in rest) for point, rest in zip(points, others, strict=True)]
    # A filter or output polynomial evaluated at the points; at infinity that is its leading coefficient.
    A: list[list[Point]] = [[q**k for k in range(m)] for q in points]
    G: list[list[Point]] = [[q**k / scale for k in range(r)] for q, scale in zip(points, scales, strict=True)]
    # Interpolation transposed: row i is the numerator of the Lagrange polynomial of point i, G carries its denominator.
    B_T = [[*_monic(rest), *[0] * (n - finite)] for rest in others]
    if finite == n - 1:
        A.append([*[0] * (m - 1), 1])
        G.append([*[0] * (r - 1), 1])
        B_T.append(_monic(points))
    return np.array(A, np.float64).T, np.array(G, np.float64), np.array(B_T, np.float64)


def _transform(rows: Array, tiles: Array, columns: Array) -> Array:
    """Return rows * tile * columns^T for tiles [n,m,...], whose first two axes are the tile's rows and columns."""
    transformed: Array = np.einsum("ij,jk...,lk->il...", rows, tiles, columns, optimize=True)
    return transformed


def _tiles(image: Array, sizes: tuple[int, int], step: int, rows: int, columns: int) -> Array:
    """Return rows x columns tiles of image [N,H,W,C], one every step pixels, as [*sizes,T,C]; outside are zeros."""
    N, H, W, C = image.shape
    high, wide = (rows - 1) * step + sizes[0], (columns - 1) * step + sizes[1]
    image = np.pad(image, ((0, 0), (0, max(high - H, 0)), (0, max(wide - W, 0)), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(image, sizes, axis=(1, 2))
    every = windows[:, : (rows - 1) * step + 1 : step, : (columns - 1) * step + 1 : step]
    return every.transpose(4, 5, 0, 1, 2, 3).reshape(*sizes, N * rows * columns, C)


def _matrices(m: int, r: int, absolute: bool) -> tuple[Array, Array, Array]:
    A_T, G, B_T = winograd_matrices(m, r, _POINTS[m, r])
    return (np.abs(A_T), np.abs(G), np.abs(B_T)) if absolute else (A_T, G, B_T)


def _window(operation: str, x: Shape, w: Shape, padding: Padding, strides: Pair = (1, 1)) -> Window:
    if len(x) != 4 or len(w) != 4 or w[:3] != (3, 3, x[3]):
        raise ValueError(
            f"{operation}: x is {list(x)} and w is {list(w)}, expected [N, H, W, C] and [3, 3, C, K] with the same C"
        )
    return Window.over(operation, (x[1], x[2]), (3, 3), strides, padding)


def _outputs(x: Array, w: Array, m: tuple[int, int], tiles: tuple[int, int], absolute: bool) -> Array:
    """Return the outputs [N,rows,columns,K] of so many rows and columns of tiles with m outputs each."""
    (A_rows, G_rows, B_rows), (A_columns, G_columns, B_columns) = (
        _matrices(outputs, taps, absolute) for outputs, taps in zip(m, w.shape[:2], strict=True)
    )
    N, K = x.shape[0], w.shape[3]
    sizes = m[0] + w.shape[0] - 1, m[1] + w.shape[1] - 1
    V = _transform(B_rows, _tiles(x, sizes, 4, *tiles), B_columns)
    U = _transform(G_rows, w, G_columns)
    Y = _transform(A_rows, V @ U, A_columns).reshape(*m, N, *tiles, K)
    return Y.transpose(2, 3, 0, 4, 1, 5).reshape(N, tiles[0] * m[0], tiles[1] * m[1], K)


def _cuts(size: int, nested: bool) -> list[tuple[int, int, int]]:
    """Return first output, number of tiles and outputs of each for the whole tiles of an axis and, nested, the last."""
    whole = size // 4 if nested else -(-size // 4)
    return [cut for cut in ((0, whole, 4), (whole * 4, 1, size - whole * 4)) if cut[1] > 0 and cut[2] > 0]


def _stride_1(x: Array, w: Array, P: int, Q: int, nested: bool, absolute: bool) -> Array:
    y = np.zeros((x.shape[0], P, Q, w.shape[3]))
    for top, rows, high in _cuts(P, nested):
        for left, columns, wide in _cuts(Q, nested):
            part = y[:, top : top + rows * high, left : left + columns * wide]
            outputs = _outputs(x[:, top:, left:], w, (high, wide), (rows, columns), absolute)
            part[...] = outputs[:, : part.shape[1], : part.shape[2]]
    return y


def _stride_2(x: Array, w: Array, P: int, Q: int, absolute: bool) -> Array:
    tiles = -(-P // 4), -(-Q // 4)
    y = np.zeros((x.shape[0], tiles[0] * 4, tiles[1] * 4, w.shape[3]))
    for odd_row, odd_column in np.ndindex(2, 2):
        y += _outputs(x[:, odd_row::2, odd_column::2], w[odd_row::2, odd_column::2], (4, 4), tiles, absolute)
    return y[:, :P, :Q].copy()


@special_values
def conv2d_winograd_forward(
    x: ArrayLike,
    w: ArrayLike,
    padding: Padding = VALID,
    strides: Pair = (1, 1),
    *,
    nested: bool = False,
    absolute: bool = False,
) -> Array:
    """Return conv2d_forward's y [N,P,Q,K] by F(4x4,3x3) for x [N,H,W,C] and w [3,3,C,K], or its S_w if absolute.

    Strides are both 1, with whole or nested tiles, of which S_w is the larger, or both 2; ValueError for others.
    """
    x = float64("conv2d_winograd_forward", "x", x, 4)
    w = float64("conv2d_winograd_forward", "w", w, 4)
    window = _window("conv2d_winograd_forward", x.shape, w.shape, padding, strides)
    if strides not in ((1, 1), (2, 2)):
        raise ValueError(f"conv2d_winograd_forward: strides must be (1, 1) or (2, 2), got {strides}")
    if absolute:
        x, w = np.abs(x), np.abs(w)
    padded, P, Q = window.pad(x), window.P, window.Q
    if strides == (2, 2):
        return _stride_2(padded, w, P, Q, absolute)
    if not absolute:
        return _stride_1(padded, w, P, Q, nested, False)
    return np.maximum(*(_stride_1(padded, w, P, Q, of_nested, True) for of_nested in (False, True)))


@special_values
def conv2d_winograd_backward_data(
    dy: ArrayLike, w: ArrayLike, x_shape: Shape, padding: Padding = VALID, *, absolute: bool = False
) -> Array:
    """Return conv2d_backward_data's dx by F(4x4,3x3) for dy [N,P,Q,K] and w [3,3,C,K], or its S_w if absolute.

    It is the forward pass of dy by the filter turned half round, channels swapped, padded by 2 - padding.
    Raises ValueError for padding above 2.
    """
    dy = float64("conv2d_winograd_backward_data", "dy", dy, 4)
    w = float64("conv2d_winograd_backward_data", "w", w, 4)
    window = _window("conv2d_winograd_backward_data", x_shape, w.shape, padding)
    check_shape("conv2d_winograd_backward_data", "dy", dy.shape, (x_shape[0], window.P, window.Q, w.shape[3]))
    (top, bottom), (left, right) = padding
    if max(top, bottom, left, right) > 2:
        raise ValueError(f"conv2d_winograd_backward_data: padding must be at most 2, got {padding}")
    turned = w[::-1, ::-1].swapaxes(2, 3)
    return conv2d_winograd_forward(dy, turned, ((2 - top, 2 - bottom), (2 - left, 2 - right)), absolute=absolute)


@special_values
def conv2d_winograd_backward_weights(
    x: ArrayLike, dy: ArrayLike, padding: Padding = VALID, *, absolute: bool = False
) -> Array:
    """Return conv2d_backward_weights' dw by F(3x3,4x4) for x [N,H,W,C] and dy [N,P,Q,K], or its S_w if absolute.

    A 4x4 tile of dy is the filter and the 6x6 tile of x the input; the products are summed over all tiles.
    """
    x = float64("conv2d_winograd_backward_weights", "x", x, 4)
    dy = float64("conv2d_winograd_backward_weights", "dy", dy, 4)
    N, C, K = x.shape[0], x.shape[3], dy.shape[3]
    window = _window("conv2d_winograd_backward_weights", x.shape, (3, 3, C, K), padding)
    check_shape("conv2d_winograd_backward_weights", "dy", dy.shape, (N, window.P, window.Q, K))
    if absolute:
        x, dy = np.abs(x), np.abs(dy)
    A_T, G, B_T = _matrices(3, 4, absolute)
    rows, columns = -(-window.P // 4), -(-window.Q // 4)
    V = _transform(B_T, _tiles(window.pad(x), (6, 6), 4, rows, columns), B_T)
    Z = _transform(G, _tiles(dy, (4, 4), 4, rows, columns), G)
    return _transform(A_T, V.swapaxes(2, 3) @ Z, A_T)
