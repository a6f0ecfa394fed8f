"""Element by element: ReLU, leaky ReLU, sigmoid, addition, zero padding."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.reference.arrays import Array, check_shape, float64, special_values
from fastcnn.reference.window import Padding


@special_values
def relu_forward(x: ArrayLike) -> Array:
    """Return x < 0 ? 0 : x, which keeps NaN and -0."""
    x = float64("relu_forward", "x", x)
    return np.where(x < 0, 0.0, x)


@special_values
def relu_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Return dx = y > 0 ? dy : 0, where y may as well be relu_forward's x; the gradient at 0 and at NaN is 0."""
    dy = float64("relu_backward", "dy", dy)
    y = float64("relu_backward", "y", y)
    check_shape("relu_backward", "dy", dy.shape, y.shape)
    return np.where(y > 0, dy, 0.0)


@special_values
def leaky_relu_forward(x: ArrayLike, negative_slope: float) -> Array:
    """Return x > 0 ? x : x*negative_slope, which keeps NaN and -0."""
    x = float64("leaky_relu_forward", "x", x)
    return np.where(x > 0, x, x * negative_slope)


@special_values
def leaky_relu_backward(dy: ArrayLike, y: ArrayLike, negative_slope: float) -> Array:
    """Return dx = y > 0 ? dy : dy*negative_slope, also at 0 and NaN.

    For a slope of 0 or more, y may as well be leaky_relu_forward's x.
    """
    dy = float64("leaky_relu_backward", "dy", dy)
    y = float64("leaky_relu_backward", "y", y)
    check_shape("leaky_relu_backward", "dy", dy.shape, y.shape)
    return np.where(y > 0, dy, dy * negative_slope)


@special_values
def sigmoid_forward(x: ArrayLike) -> Array:
    """Return 1 / (1 + exp(-x)), without overflow or cancellation."""
    x = float64("sigmoid_forward", "x", x)
    e = np.exp(-np.abs(x))
    y: Array = np.where(x < 0, e, 1.0) / (1 + e)
    return y


@special_values
def sigmoid_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Return dx = dy * y * (1 - y) for sigmoid_forward's y."""
    dy = float64("sigmoid_backward", "dy", dy)
    y = float64("sigmoid_backward", "y", y)
    check_shape("sigmoid_backward", "dy", dy.shape, y.shape)
    return dy * y * (1 - y)


@special_values
def add_forward(x1: ArrayLike, x2: ArrayLike) -> Array:
    """Return x1 + x2 of one shape; the gradient of either is dy itself."""
    x1 = float64("add_forward", "x1", x1)
    x2 = float64("add_forward", "x2", x2)
    check_shape("add_forward", "x2", x2.shape, x1.shape)
    return x1 + x2


def zero_pad_forward(x: ArrayLike, padding: Padding) -> Array:
    """Return x [N,H,W,C] with ((top, bottom), (left, right)) pixels of zeros around it."""
    x = float64("zero_pad_forward", "x", x, 4)
    return np.pad(x, ((0, 0), *padding, (0, 0)))


def zero_pad_backward(dy: ArrayLike, padding: Padding) -> Array:
    """Return dx, dy without the padding; raise ValueError when dy is smaller than its padding."""
    dy = float64("zero_pad_backward", "dy", dy, 4)
    (top, bottom), (left, right) = padding
    H, W = dy.shape[1] - top - bottom, dy.shape[2] - left - right
    if H < 0 or W < 0:
        raise ValueError(f"zero_pad_backward: dy is {list(dy.shape)}, smaller than its padding {padding}")
    return dy[:, top : top + H, left : left + W].copy()
