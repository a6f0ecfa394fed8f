"""Losses of outputs x[N,C] for targets t[N,C]: (loss [N], dx [N,C]), dx the gradient of the row's own loss.

Probabilities are clipped to [floor, 1 - floor] as in Keras, both bounds rounded to float32; a floor of 0 leaves them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.reference.arrays import Array, check_shape, float64, special_values, sum_over
from fastcnn.reference.pointwise import sigmoid_forward


def _pair(operation: str, x: ArrayLike, t: ArrayLike) -> tuple[Array, Array]:
    x, t = float64(operation, "x", x, 2), float64(operation, "t", t, 2)
    check_shape(operation, "t", t.shape, x.shape)
    return x, t


def _bounds(floor: float) -> tuple[float, float]:
    return float(np.float32(floor)), float(np.float32(1) - np.float32(floor))


def _weighed(weight: Array, log_p: Array) -> Array:
    """Return weight * log_p, nothing where the weight is 0 and the logarithm may be -Inf."""
    return np.where(weight == 0, 0.0, weight * log_p)


@special_values
def sigmoid_cross_entropy(x: ArrayLike, t: ArrayLike, floor: float = 1e-7) -> tuple[Array, Array]:
    """Return the binary cross-entropy of p = sigmoid(x): -mean(t*log(p) + (1-t)*log(1-p)), and dx = (p - t)/C.

    The clip limits the loss alone; dx is that of the unclipped loss, so that a sure and wrong output can be unlearned.
    """
    x, t = _pair("sigmoid_cross_entropy", x, t)
    least, most = _bounds(floor)
    soft = np.log1p(np.exp(-np.abs(x)))
    log_p = np.clip(np.where(x < 0, x - soft, -soft), np.log(least), np.log(most))
    log_rest = np.clip(np.where(x < 0, -soft, -x - soft), np.log(1 - most), np.log(most))
    loss = -np.mean(_weighed(t, log_p) + _weighed(1 - t, log_rest), axis=1)
    return loss, (sigmoid_forward(x) - t) / x.shape[1]


@special_values
def categorical_cross_entropy(x: ArrayLike, t: ArrayLike, floor: float = 1e-7) -> tuple[Array, Array]:
    """Return -sum t*log(q) with q = x / sum(x) clipped, and dx = (sum T - T/q) / sum(x).

    T are the targets of the classes that the clip leaves as they are.
    """
    x, t = _pair("categorical_cross_entropy", x, t)
    least, most = _bounds(floor)
    total = sum_over(x, 1, keepdims=True)
    q = x / total
    loss = -sum_over(_weighed(t, np.log(np.clip(q, least, most))), 1)
    passing = np.where((q >= least) & (q <= most), t, 0.0)
    ratio = np.where(passing == 0, 0.0, passing / q)
    return loss, (sum_over(passing, 1, keepdims=True) - ratio) / total


@special_values
def binary_cross_entropy(x: ArrayLike, t: ArrayLike, floor: float = 1e-7) -> tuple[Array, Array]:
    """Return -mean(t*log(p) + (1-t)*log(1-p)) with p = clip(x), and dx, 0 where the clip holds."""
    x, t = _pair("binary_cross_entropy", x, t)
    least, most = _bounds(floor)
    p = np.clip(x, least, most)
    loss = -np.mean(_weighed(t, np.log(p)) + _weighed(1 - t, np.log(np.minimum(1 - p, most))), axis=1)
    slope = np.where(t == 1, 0.0, (1 - t) / (1 - p)) - np.where(t == 0, 0.0, t / p)
    return loss, np.where((x >= least) & (x <= most), slope, 0.0) / x.shape[1]


@special_values
def squared_error(x: ArrayLike, t: ArrayLike) -> tuple[Array, Array]:
    """Return mean (x - t)^2 and dx = 2*(x - t)/C."""
    x, t = _pair("squared_error", x, t)
    return np.mean((x - t) ** 2, axis=1), 2 * (x - t) / x.shape[1]
