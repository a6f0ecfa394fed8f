"""Convolution as a sum over window taps of matrix products.

  y[n,p,q,k] = b[k] + sum over r,s,c of w[r,s,c,k] * x[n, p*stride + r*dilation - top, q*stride + s*dilation - left, c]

x [N,H,W,C], w [R,S,C,K], b [K], y [N,P,Q,K]; strides and dilation are (rows, columns), padding is
((top, bottom), (left, right)) in pixels. Padding is the number 0 and takes part in the products: 0 * Inf is NaN.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.reference.arrays import Array, Shape, check_shape, float64, special_values, sum_over
from fastcnn.reference.window import VALID, Padding, Pair, Window


def _window(operation: str, x: Shape, w: Shape, strides: Pair, padding: Padding, dilation: Pair) -> Window:
    for argument, shape in (("x", x), ("w", w)):
        if len(shape) != 4:
            raise ValueError(f"{operation}: {argument} has rank {len(shape)}, expected 4 ({argument} is {list(shape)})")
    if w[2] != x[3]:
        raise ValueError(f"{operation}: w has {w[2]} input channels but x has {x[3]} (x is {list(x)}, w is {list(w)})")
    return Window.over(operation, (x[1], x[2]), (w[0], w[1]), strides, padding, dilation)


def _rows(pixels: Array) -> Array:
    """Return pixels [N,P,Q,C] as a matrix [N*P*Q,C]."""
    return pixels.reshape(math.prod(pixels.shape[:3]), pixels.shape[3])


@special_values
def conv2d_forward(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    strides: Pair = (1, 1),
    padding: Padding = VALID,
    dilation: Pair = (1, 1),
) -> Array:
    """Return y [N,P,Q,K] for x [N,H,W,C], w [R,S,C,K] and b [K]; raise ValueError when the shapes disagree."""
    x = float64("conv2d_forward", "x", x, 4)
    w = float64("conv2d_forward", "w", w, 4)
    window = _window("conv2d_forward", x.shape, w.shape, strides, padding, dilation)
    padded = window.pad(x)
    y = np.zeros((x.shape[0], window.P, window.Q, w.shape[3]))
    for r, s, under in window.taps():
        y += (_rows(padded[under]) @ w[r, s]).reshape(y.shape)
    if b is None:
        return y
    b = float64("conv2d_forward", "b", b, 1)
    check_shape("conv2d_forward", "b", b.shape, w.shape[3:])
    return y + b


@special_values
def conv2d_backward_data(
    dy: ArrayLike,
    w: ArrayLike,
    x_shape: Shape,
    *,
    strides: Pair = (1, 1),
    padding: Padding = VALID,
    dilation: Pair = (1, 1),
) -> Array:
    """Return dx of x_shape [N,H,W,C] for dy [N,P,Q,K] and w [R,S,C,K]; raise ValueError when the shapes disagree."""
    dy = float64("conv2d_backward_data", "dy", dy, 4)
    w = float64("conv2d_backward_data", "w", w, 4)
    window = _window("conv2d_backward_data", x_shape, w.shape, strides, padding, dilation)
    N, C, K = x_shape[0], x_shape[3], w.shape[3]
    check_shape("conv2d_backward_data", "dy", dy.shape, (N, window.P, window.Q, K))
    padded = window.zeros(N, C)
    for r, s, under in window.taps():
        padded[under] += (_rows(dy) @ w[r, s].T).reshape(N, window.P, window.Q, C)
    return window.crop(padded)


@special_values
def conv2d_backward_weights(
    x: ArrayLike,
    dy: ArrayLike,
    w_shape: Shape,
    *,
    strides: Pair = (1, 1),
    padding: Padding = VALID,
    dilation: Pair = (1, 1),
) -> Array:
    """Return dw of w_shape [R,S,C,K] for x [N,H,W,C] and dy [N,P,Q,K]; raise ValueError when the shapes disagree."""
    x = float64("conv2d_backward_weights", "x", x, 4)
    dy = float64("conv2d_backward_weights", "dy", dy, 4)
    window = _window("conv2d_backward_weights", x.shape, w_shape, strides, padding, dilation)
    check_shape("conv2d_backward_weights", "dy", dy.shape, (x.shape[0], window.P, window.Q, w_shape[3]))
    padded = window.pad(x)
    dw = np.zeros(w_shape)
    for r, s, under in window.taps():
        dw[r, s] = _rows(padded[under]).T @ _rows(dy)
    return dw


@special_values
def conv2d_backward_bias(dy: ArrayLike) -> Array:
    """Return db [K], the sum of dy [N,P,Q,K] over all but the channels."""
    return sum_over(float64("conv2d_backward_bias", "dy", dy, 4), 0, 1, 2)
