"""Every timed operation in good float32 NumPy: buffers made beforehand, BLAS for products, whole arrays at a time.

Each function takes the inputs and the outputs, makes its buffers, and returns a call without arguments that fills the
outputs from the inputs. Shapes and letters are those of `fastcnn.reference`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fastcnn.layers.base import Padding, Pair

Array = NDArray[np.float32]
Call = Callable[[], None]


class _Padded:
    """An image batch [N,H,W,C] with room for its padding; without any it is x itself."""

    def __init__(self, x: Array, padding: Padding, value: float = 0.0) -> None:
        (top, bottom), (left, right) = padding
        N, H, W, C = x.shape
        self.needed = any((top, bottom, left, right))
        self.x = x
        self.memory = np.full((N, H + top + bottom, W + left + right, C), value, np.float32) if self.needed else x
        self.inside = self.memory[:, top : top + H, left : left + W]

    def fill(self) -> None:
        if self.needed:
            np.copyto(self.inside, self.x)


def _taps(padded: Array, window: Pair, strides: Pair, output: Pair) -> Iterator[Array]:
    """Yield for each tap r, s of a window the view [N,P,Q,C] of the pixels under it."""
    for r in range(window[0]):
        for s in range(window[1]):
            rows = slice(r, r + (output[0] - 1) * strides[0] + 1, strides[0])
            columns = slice(s, s + (output[1] - 1) * strides[1] + 1, strides[1])
            yield padded[:, rows, columns]


# -- convolution -------------------------------------------------------------------------------------------------------


class _Columns:
    """im2col: x [N,H,W,C] as a matrix [N*P*Q, R*S*C]; for 1x1 windows with stride 1 that is x itself."""

    def __init__(self, x: Array, window: Pair, strides: Pair, padding: Padding) -> None:
        self.padded = _Padded(x, padding)
        R, S = window
        views = sliding_window_view(self.padded.memory, (R, S), axis=(1, 2))[:, :: strides[0], :: strides[1]]
        self.windows: Any = views.transpose(0, 1, 2, 4, 5, 3)  # [N,P,Q,R,S,C]
        N, P, Q = self.windows.shape[:3]
        self.copied = (R, S, *strides) != (1, 1, 1, 1) or self.padded.needed
        self.columns = np.empty(self.windows.shape, np.float32) if self.copied else x
        self.matrix = self.columns.reshape(N * P * Q, R * S * x.shape[3])

    def fill(self) -> None:
        self.padded.fill()
        if self.copied:
            np.copyto(self.columns, self.windows)


def conv2d_forward(x: Array, w: Array, y: Array, strides: Pair, padding: Padding) -> Call:
    """y [N,P,Q,K] = x [N,H,W,C] * w [R,S,C,K]: im2col and one matrix product."""
    R, S, C, K = w.shape
    columns, weights, rows = _Columns(x, (R, S), strides, padding), w.reshape(R * S * C, K), y.reshape(-1, K)

    def call() -> None:
        columns.fill()
        np.matmul(columns.matrix, weights, out=rows)

    return call


def conv2d_backward_data(dy: Array, w: Array, dx: Array, strides: Pair, padding: Padding) -> Call:
    """dx [N,H,W,C] of dy [N,P,Q,K]: a convolution by the turned window, or col2im where strides leave gaps."""
    R, S, C, K = w.shape
    if strides == (1, 1) and max(*padding[0], *padding[1]) < min(R, S):
        (top, bottom), (left, right) = padding
        sides = ((R - 1 - top, R - 1 - bottom), (S - 1 - left, S - 1 - right))
        turned = np.empty((R, S, K, C), np.float32)
        forward = conv2d_forward(dy, turned, dx, (1, 1), sides)

        def call() -> None:
            np.copyto(turned, w[::-1, ::-1].swapaxes(2, 3))
            forward()

        return call
    N, P, Q, _ = dy.shape
    padded = _Padded(dx, padding)
    columns = np.empty((N, P, Q, R, S, C), np.float32)
    matrix, rows, weights = columns.reshape(N * P * Q, R * S * C), dy.reshape(-1, K), w.reshape(R * S * C, K)

    def scatter() -> None:
        np.matmul(rows, weights.T, out=matrix)
        padded.memory.fill(0)
        for i, tap in enumerate(_taps(padded.memory, (R, S), strides, (P, Q))):
            tap += columns[:, :, :, i // S, i % S]
        if padded.needed:
            np.copyto(dx, padded.inside)

    return scatter


def conv2d_backward_weights(x: Array, dy: Array, dw: Array, strides: Pair, padding: Padding) -> Call:
    """dw [R,S,C,K] of x [N,H,W,C] and dy [N,P,Q,K]: im2col and one matrix product."""
    R, S, C, K = dw.shape
    columns, rows, gradient = _Columns(x, (R, S), strides, padding), dy.reshape(-1, K), dw.reshape(R * S * C, K)

    def call() -> None:
        columns.fill()
        np.matmul(columns.matrix.T, rows, out=gradient)

    return call


# -- pooling -----------------------------------------------------------------------------------------------------------


def max_pool2d_forward(x: Array, y: Array, pool: Pair, strides: Pair, padding: Padding) -> Call:
    """y [N,P,Q,C]: the maximum over the taps of strided views."""
    padded = _Padded(x, padding, -np.inf)
    first, *others = _taps(padded.memory, pool, strides, (y.shape[1], y.shape[2]))

    def call() -> None:
        padded.fill()
        np.copyto(y, first)
        for tap in others:
            np.maximum(y, tap, out=y)

    return call


def max_pool2d_backward(
    dy: Array, argmax: NDArray[np.uint8], dx: Array, pool: Pair, strides: Pair, padding: Padding
) -> Call:
    """dx [N,H,W,C]: dy [N,P,Q,C] at the places `argmax` [N,P,Q,C] of the maxima."""
    padded = _Padded(dx, padding)
    taps = list(_taps(padded.memory, pool, strides, (dy.shape[1], dy.shape[2])))
    won, share = np.empty(dy.shape, np.bool_), np.empty_like(dy)
    covered = (dy.shape[1] * pool[0], dy.shape[2] * pool[1]) == dx.shape[1:3]
    apart = pool == strides and covered and not padded.needed  # every pixel lies under one tap

    def call() -> None:
        if not apart:
            padded.memory.fill(0)
        for i, tap in enumerate(taps):
            np.equal(argmax, i, out=won)
            if apart:
                np.multiply(dy, won, out=tap)
            else:
                np.multiply(dy, won, out=share)
                tap += share
        if padded.needed:
            np.copyto(dx, padded.inside)

    return call


def average_pool2d_forward(x: Array, y: Array, pool: Pair, strides: Pair, padding: Padding) -> Call:
    """y [N,P,Q,C]: the sum over the taps of strided views, times 1 / pixels inside x."""
    padded = _Padded(x, padding)
    first, *others = _taps(padded.memory, pool, strides, (y.shape[1], y.shape[2]))
    shares = _shares(x, y, pool, strides, padding)

    def call() -> None:
        padded.fill()
        np.copyto(y, first)
        for tap in others:
            np.add(y, tap, out=y)
        np.multiply(y, shares, out=y)

    return call


def average_pool2d_backward(dy: Array, dx: Array, pool: Pair, strides: Pair, padding: Padding) -> Call:
    """dx [N,H,W,C]: dy [N,P,Q,C] shared by the pixels of its window."""
    padded = _Padded(dx, padding)
    taps = list(_taps(padded.memory, pool, strides, (dy.shape[1], dy.shape[2])))
    shares, share = _shares(dx, dy, pool, strides, padding), np.empty_like(dy)

    def call() -> None:
        padded.memory.fill(0)
        np.multiply(dy, shares, out=share)
        for tap in taps:
            tap += share
        if padded.needed:
            np.copyto(dx, padded.inside)

    return call


def _shares(x: Array, y: Array, pool: Pair, strides: Pair, padding: Padding) -> Array:
    """Return 1 / (how many pixels of x a window covers), [1,P,Q,1]."""
    inside = _Padded(np.ones((1, *x.shape[1:3], 1), np.float32), padding)
    inside.fill()
    counts = np.zeros((1, *y.shape[1:3], 1), np.float32)
    for tap in _taps(inside.memory, pool, strides, (y.shape[1], y.shape[2])):
        counts += tap
    return (1 / counts).astype(np.float32)


def global_average_pool2d_forward(x: Array, y: Array) -> Call:
    """y [N,C]: the mean of x [N,H,W,C] over its pixels."""
    pixels = x.reshape(x.shape[0], -1, x.shape[3])
    return lambda: _ignore(np.mean(pixels, axis=1, out=y))


def global_average_pool2d_backward(dy: Array, dx: Array) -> Call:
    """dx [N,H,W,C]: dy [N,C] shared by all pixels."""
    shares, factor = dy[:, None, None, :], np.float32(1 / (dx.shape[1] * dx.shape[2]))
    return lambda: np.copyto(dx, shares * factor)


def _ignore(value: object) -> None:
    """Take what a function returns besides writing it."""


# -- batch normalisation and dense layers ------------------------------------------------------------------------------


def batchnorm_forward(x: Array, gamma: Array, beta: Array, y: Array, epsilon: float) -> Call:
    """y = gamma * (x - mean) / std + beta by the batch's statistics, in two passes; sums by BLAS."""
    rows, out = x.reshape(-1, x.shape[-1]), y.reshape(-1, x.shape[-1])
    n, ones = np.float32(len(rows)), np.ones(len(rows), np.float32)
    squares = np.empty_like(rows)

    def call() -> None:
        mean = ones @ rows / n
        np.subtract(rows, mean, out=out)
        np.multiply(out, out, out=squares)
        variance = ones @ squares / n
        np.multiply(out, gamma / np.sqrt(variance + np.float32(epsilon)), out=out)
        np.add(out, beta, out=out)

    return call


def batchnorm_backward(
    x: Array, dy: Array, mean: Array, inv_std: Array, gamma: Array, dx: Array, dgamma: Array, dbeta: Array
) -> Call:
    """dx, dgamma [C], dbeta [C] by the formula simplified on paper, of the forward's mean and 1 / std; sums by BLAS."""
    C = x.shape[-1]
    rows, gradients, out = x.reshape(-1, C), dy.reshape(-1, C), dx.reshape(-1, C)
    n, ones = np.float32(len(rows)), np.ones(len(rows), np.float32)
    products = np.empty_like(rows)

    def call() -> None:
        np.matmul(ones, gradients, out=dbeta)
        np.subtract(rows, mean, out=out)
        np.multiply(out, gradients, out=products)
        np.matmul(ones, products, out=dgamma)
        np.multiply(dgamma, inv_std, out=dgamma)
        scale = gamma * inv_std
        np.multiply(out, -scale * inv_std * dgamma / n, out=out)
        np.add(out, -scale * dbeta / n, out=out)
        np.multiply(gradients, scale, out=products)
        np.add(out, products, out=out)

    return call


def dense_forward(x: Array, w: Array, y: Array) -> Call:
    """y [N,K] = x [N,C] w [C,K]."""
    return lambda: _ignore(np.matmul(x, w, out=y))


def dense_backward_data(dy: Array, w: Array, dx: Array) -> Call:
    """dx [N,C] = dy [N,K] w^T."""
    return lambda: _ignore(np.matmul(dy, w.T, out=dx))


def dense_backward_weights(x: Array, dy: Array, dw: Array) -> Call:
    """dw [C,K] = x^T dy."""
    return lambda: _ignore(np.matmul(x.T, dy, out=dw))
