"""Pooling over windows R x S and over whole images; padding is absent: it never wins and is never counted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.reference.arrays import Array, Shape, check_shape, float64, special_values, sum_over
from fastcnn.reference.window import VALID, Padding, Pair, Window

Indices = NDArray[np.integer[Any]]


def _window(operation: str, x: Shape, pool: Pair, strides: Pair | None, padding: Padding) -> tuple[Window, Array]:
    """Return the window and how many pixels of x each of its positions covers, [1,P,Q,1]."""
    if len(x) != 4:
        raise ValueError(f"{operation}: x has rank {len(x)}, expected 4 (x is {list(x)})")
    window = Window.over(operation, (x[1], x[2]), pool, pool if strides is None else strides, padding)
    inside = window.pad(np.ones((1, x[1], x[2], 1)))
    counts = np.zeros((1, window.P, window.Q, 1))
    for _, _, under in window.taps():
        counts += inside[under]
    if not counts.all():
        raise ValueError(f"{operation}: padding {padding} leaves a window {pool} without input (x is {list(x)})")
    return window, counts


@special_values
def max_pool_forward(
    x: ArrayLike, pool: Pair, strides: Pair | None = None, padding: Padding = VALID
) -> tuple[Array, Indices]:
    """Return (y, argmax), both [N,P,Q,C], argmax = r*S + s of the winner; strides None means pool.

    The first of equal values wins, NaN beats every number, and in a window of -Inf alone its first pixel wins.
    Raises ValueError when a window holds padding alone.
    """
    x = float64("max_pool_forward", "x", x, 4)
    window, _ = _window("max_pool_forward", x.shape, pool, strides, padding)
    padded = window.pad(x)
    inside = window.pad(np.ones((1, window.H, window.W, 1))) > 0
    y = np.full((x.shape[0], window.P, window.Q, x.shape[3]), -np.inf)
    argmax = np.full(y.shape, -1)
    for r, s, under in window.taps():
        value = padded[under]
        wins = (argmax < 0) | (value > y) | (np.isnan(value) & ~np.isnan(y))
        wins &= inside[under]
        y = np.where(wins, value, y)
        argmax = np.where(wins, r * window.S + s, argmax)
    return y, argmax


@special_values
def max_pool_backward(
    dy: ArrayLike,
    argmax: Indices,
    x_shape: Shape,
    pool: Pair,
    strides: Pair | None = None,
    padding: Padding = VALID,
) -> Array:
    """Return dx of x_shape [N,H,W,C]: each dy [N,P,Q,C] is added to the pixel that won its window."""
    dy = float64("max_pool_backward", "dy", dy, 4)
    window, _ = _window("max_pool_backward", x_shape, pool, strides, padding)
    N, C = x_shape[0], x_shape[3]
    check_shape("max_pool_backward", "dy", dy.shape, (N, window.P, window.Q, C))
    check_shape("max_pool_backward", "argmax", argmax.shape, dy.shape)
    padded = window.zeros(N, C)
    for r, s, under in window.taps():
        padded[under] += np.where(argmax == r * window.S + s, dy, 0.0)
    return window.crop(padded)


@special_values
def average_pool_forward(x: ArrayLike, pool: Pair, strides: Pair | None = None, padding: Padding = VALID) -> Array:
    """Return y [N,P,Q,C], the mean over the pixels of each window that lie inside x; strides None means pool.

    Raises ValueError when a window holds padding alone.
    """
    x = float64("average_pool_forward", "x", x, 4)
    window, counts = _window("average_pool_forward", x.shape, pool, strides, padding)
    padded = window.pad(x)
    total = np.zeros((x.shape[0], window.P, window.Q, x.shape[3]))
    for _, _, under in window.taps():
        total += padded[under]
    return total / counts


@special_values
def average_pool_backward(
    dy: ArrayLike, x_shape: Shape, pool: Pair, strides: Pair | None = None, padding: Padding = VALID
) -> Array:
    """Return dx of x_shape [N,H,W,C]: each dy [N,P,Q,C] is shared equally by the pixels of its window inside x."""
    dy = float64("average_pool_backward", "dy", dy, 4)
    window, counts = _window("average_pool_backward", x_shape, pool, strides, padding)
    N, C = x_shape[0], x_shape[3]
    check_shape("average_pool_backward", "dy", dy.shape, (N, window.P, window.Q, C))
    padded = window.zeros(N, C)
    for _, _, under in window.taps():
        padded[under] += dy / counts
    return window.crop(padded)


def _pixels(operation: str, x_shape: Shape) -> int:
    """Return H*W; raise ValueError unless x_shape is [N,H,W,C] with at least one pixel."""
    if len(x_shape) != 4 or x_shape[1] * x_shape[2] == 0:
        raise ValueError(f"{operation}: x is {list(x_shape)}, expected [N, H, W, C] with at least one pixel")
    return x_shape[1] * x_shape[2]


@special_values
def global_average_pool_forward(x: ArrayLike) -> Array:
    """Return y [N,C], the mean of x [N,H,W,C] over its pixels."""
    x = float64("global_average_pool_forward", "x", x, 4)
    return sum_over(x, 1, 2) / _pixels("global_average_pool_forward", x.shape)


@special_values
def global_average_pool_backward(dy: ArrayLike, x_shape: Shape) -> Array:
    """Return dx of x_shape [N,H,W,C]: dy [N,C] shared equally by all pixels."""
    dy = float64("global_average_pool_backward", "dy", dy, 2)
    share = dy / _pixels("global_average_pool_backward", x_shape)
    check_shape("global_average_pool_backward", "dy", dy.shape, (x_shape[0], x_shape[3]))
    return np.broadcast_to(share[:, None, None, :], x_shape).copy()


@special_values
def global_max_pool_forward(x: ArrayLike) -> tuple[Array, Indices]:
    """Return (y, argmax), both [N,C], argmax = h*W + w of the winner by max_pool_forward's rules."""
    x = float64("global_max_pool_forward", "x", x, 4)
    _pixels("global_max_pool_forward", x.shape)
    y, argmax = max_pool_forward(x, (x.shape[1], x.shape[2]))
    return y[:, 0, 0, :], argmax[:, 0, 0, :]


@special_values
def global_max_pool_backward(dy: ArrayLike, argmax: Indices, x_shape: Shape) -> Array:
    """Return dx of x_shape [N,H,W,C]: dy [N,C] goes to the pixel that won."""
    dy = float64("global_max_pool_backward", "dy", dy, 2)
    _pixels("global_max_pool_backward", x_shape)
    return max_pool_backward(dy[:, None, None, :], argmax[:, None, None, :], x_shape, (x_shape[1], x_shape[2]))
