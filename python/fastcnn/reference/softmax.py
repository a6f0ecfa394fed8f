"""Softmax over the last axis and the cross-entropies built on it.

A row with NaN or +Inf, or of -Inf alone, gives a row of NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.reference.arrays import Array, check_shape, float64, special_values, sum_over


def _below_maximum(x: Array) -> Array:
    """Return x less the maximum of its row, which exp cannot overflow."""
    below: Array = x - np.max(x, axis=-1, keepdims=True)
    return below


@special_values
def softmax_forward(x: ArrayLike) -> Array:
    """Return y = exp(x) / sum of exp(x) over the last axis."""
    e = np.exp(_below_maximum(float64("softmax_forward", "x", x)))
    return e / sum_over(e, -1, keepdims=True)


@special_values
def softmax_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Return dx = y * (dy - sum of dy * y over the last axis) for softmax_forward's y."""
    dy = float64("softmax_backward", "dy", dy)
    y = float64("softmax_backward", "y", y)
    check_shape("softmax_backward", "dy", dy.shape, y.shape)
    return y * (dy - sum_over(dy * y, -1, keepdims=True))


@special_values
def log_softmax(x: ArrayLike) -> Array:
    """Return x - log of the sum of exp(x) over the last axis."""
    below = _below_maximum(float64("log_softmax", "x", x))
    return below - np.log(sum_over(np.exp(below), -1, keepdims=True))


def _cross_entropy(targets: Array, log_probabilities: Array) -> Array:
    # A class of target 0 contributes nothing, even where its log-probability is -Inf.
    return -sum_over(np.where(targets == 0, 0.0, targets * log_probabilities), -1)


@special_values
def softmax_cross_entropy_forward(logits: ArrayLike, targets: ArrayLike) -> tuple[Array, Array]:
    """Return (loss [N], dlogits [N,K]) for logits and targets [N,K], each row of targets summing to one.

    loss is per sample; dlogits = (softmax - targets) / N is the gradient of the batch's mean loss.
    """
    logits = float64("softmax_cross_entropy_forward", "logits", logits, 2)
    targets = float64("softmax_cross_entropy_forward", "targets", targets, 2)
    check_shape("softmax_cross_entropy_forward", "targets", targets.shape, logits.shape)
    loss = _cross_entropy(targets, log_softmax(logits))
    return loss, (softmax_forward(logits) - targets) / logits.shape[0]


@special_values
def categorical_crossentropy(p: ArrayLike, t: ArrayLike) -> Array:
    """Return the loss [N] of probabilities p for targets t, both [N,K]; Keras clips p / sum(p) to [1e-7, 1 - 1e-7]."""
    p = float64("categorical_crossentropy", "p", p, 2)
    t = float64("categorical_crossentropy", "t", t, 2)
    check_shape("categorical_crossentropy", "t", t.shape, p.shape)
    p = np.clip(p / sum_over(p, -1, keepdims=True), 1e-7, 1 - 1e-7)
    return _cross_entropy(t, np.log(p))
