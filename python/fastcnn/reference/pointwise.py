"""Element by element: ReLUs, sigmoid, addition, zero padding, dropout, concatenation, weight penalties."""

from __future__ import annotations

from collections.abc import Sequence

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


@special_values
def bounded_relu_forward(
    x: ArrayLike, max_value: float = np.inf, negative_slope: float = 0.0, threshold: float = 0.0
) -> Array:
    """Return x > threshold ? min(x, max_value) : (x - threshold)*negative_slope, which keeps NaN."""
    x = float64("bounded_relu_forward", "x", x)
    below = (x - threshold) * negative_slope if negative_slope else np.where(np.isnan(x), x, 0.0)
    return np.where(x > threshold, np.minimum(x, max_value), below)


@special_values
def bounded_relu_backward(
    dy: ArrayLike, x: ArrayLike, max_value: float = np.inf, negative_slope: float = 0.0, threshold: float = 0.0
) -> Array:
    """Return dx = x > threshold ? (x < max_value ? dy : 0) : dy*negative_slope."""
    dy = float64("bounded_relu_backward", "dy", dy)
    x = float64("bounded_relu_backward", "x", x)
    check_shape("bounded_relu_backward", "dy", dy.shape, x.shape)
    return np.where(x > threshold, np.where(x < max_value, dy, 0.0), dy * negative_slope)


def dropout(x: ArrayLike, state: tuple[int, int], rate: float) -> Array:
    """Return x/(1-rate) where kept, else 0; the same from dy to dx.

    Element i of x is kept if number i of NumPy's Philox stream of the key `state` is at least rate*2^32; each word of
    the stream is two numbers, the lower half first.
    """
    x = float64("dropout", "x", x)
    words = np.random.Philox(key=np.array(state, np.uint64)).random_raw((x.size + 1) // 2)
    numbers = np.stack([words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)], axis=1).ravel()[: x.size]
    return np.where(numbers.reshape(x.shape) >= round(rate * 2**32), x / (1 - rate), 0.0)


def concatenate_forward(xs: Sequence[ArrayLike], axis: int = -1) -> Array:
    """Return the arrays behind one another along an axis."""
    return np.concatenate([float64("concatenate_forward", "xs", x) for x in xs], axis)


def concatenate_backward(dy: ArrayLike, sizes: Sequence[int], axis: int = -1) -> list[Array]:
    """Return dy cut into arrays of `sizes` along an axis."""
    dy = float64("concatenate_backward", "dy", dy)
    return np.split(dy, np.cumsum(sizes)[:-1], axis)


def penalty_forward(w: ArrayLike, l1: float, l2: float) -> float:
    """Return the sum of l1*|w| + l2*w*w."""
    w = float64("penalty_forward", "w", w)
    return float(l1 * np.abs(w).sum() + l2 * np.square(w).sum())


def penalty_backward(w: ArrayLike, l1: float, l2: float) -> Array:
    """Return the gradient l1*sign(w) + 2*l2*w; the sign of 0 is 0."""
    w = float64("penalty_backward", "w", w)
    return l1 * np.sign(w) + 2 * l2 * w
