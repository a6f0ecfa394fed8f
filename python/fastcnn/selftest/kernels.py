"""Every kind of kernel against the float64 reference, on the instruction set in use.

A check yields (what, error / allowed error); what is allowed is said in units of u*S, as in `fastcnn.reference.error`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn import _core, reference

Array = NDArray[Any]
Findings = Iterator[tuple[str, float]]
Pair = tuple[int, int]

ONE = ((1, 1), (1, 1))
EPSILON = 1e-3
ULPS = 4.0  # allowed in a softmax and in a step of an optimizer
PLAIN = (1.0, np.inf, 0.0)  # scale, limit and decay of an optimizer's step that change nothing


def normal(*shape: int, seed: int = 0) -> Array:
    """Return standard normal numbers as float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def empty(like: Array | tuple[int, ...]) -> Array:
    """Return an output full of NaN of a shape or of an array's."""
    return np.full(like.shape if isinstance(like, np.ndarray) else like, np.nan, np.float32)


def share(y: Array, r: Array, S: Array, gate: float, terms: int = 0) -> float:
    """Return the worst error of y in u*S as a share of the gate."""
    return float(reference.error_units(y, r, S, terms).max()) / gate


def ulps(y: Array, r: Array, scale: Array) -> float:
    """Return the worst error of y in float32 spacings at `scale`, as a share of those allowed."""
    return float(reference.error_ulps(y, r, scale).max()) / ULPS


# -- convolution and dense ---------------------------------------------------------------------------------------------


def conv2d(window: int, stride: int, channels: int, algorithm: str) -> Findings:
    """Check all passes of a convolution that keeps the size at stride 1."""
    pad = window // 2
    x, w = normal(2, 13, 11, channels), normal(window, window, channels, 21, seed=1)
    options: Any = {"strides": (stride, stride), "padding": ((pad, pad), (pad, pad))}
    r = reference.conv2d_forward(x, w, **options)
    dy = normal(*r.shape, seed=2)
    r_dx = reference.conv2d_backward_data(dy, w, x.shape, **options)
    if algorithm == "winograd":
        turned = w[::-1, ::-1].swapaxes(2, 3)
        S = reference.conv2d_winograd_forward(x, w, ONE, absolute=True)
        S_dx = reference.conv2d_winograd_forward(dy, turned, ONE, absolute=True)
        S_dw = reference.conv2d_winograd_backward_weights(x, dy, ONE, absolute=True)
        gate, gate_dx = reference.winograd_gate(channels), reference.winograd_gate(w.shape[3])
        gate_dw = reference.winograd_gate(x.shape[0] * -(-r.shape[1] // 4) * -(-r.shape[2] // 4))
    else:
        S = reference.conv2d_magnitude(x, w, **options)
        S_dx = reference.magnitude(reference.conv2d_backward_data, dy, w, x.shape, **options)
        S_dw = reference.magnitude(reference.conv2d_backward_weights, x, dy, w.shape, **options)
        gate, gate_dx = reference.gate(window**2 * channels), reference.gate(window**2 * w.shape[3])
        gate_dw = reference.gate(dy[..., 0].size)
    y, dx, dw = empty(r), empty(x), empty(w)
    _core.conv2d_forward(x, _core.PackedConv2D(w, x.shape[1:3], algorithm=algorithm, **options), y)
    packed = _core.PackedConv2D(w, x.shape[1:3], algorithm=algorithm, backward_data=True, **options)
    _core.conv2d_backward_data(dy, packed, dx)
    yield "forward", share(y, r, S, gate, window**2 * channels)
    yield "backward data", share(dx, r_dx, S_dx, gate_dx, window**2 * w.shape[3])
    _core.conv2d_backward_weights(x, dy, dw, algorithm=algorithm, **options)
    r_dw = reference.conv2d_backward_weights(x, dy, w.shape, **options)
    yield "backward weights", share(dw, r_dw, S_dw, gate_dw, dy[..., 0].size)


def strided_winograd() -> Findings:
    """Check the forward pass of a 3x3 convolution of stride 2 by Winograd; its gradients are computed directly."""
    x, w = normal(2, 13, 11, 20), normal(3, 3, 20, 21, seed=1)
    r = reference.conv2d_forward(x, w, strides=(2, 2), padding=ONE)
    S = reference.conv2d_winograd_forward(x, w, ONE, (2, 2), absolute=True)
    y = empty(r)
    packed = _core.PackedConv2D(w, x.shape[1:3], strides=(2, 2), padding=ONE, algorithm="winograd")
    _core.conv2d_forward(x, packed, y)
    yield "forward", share(y, r, S, reference.winograd_gate(4 * 20), 9 * 20)


def dense() -> Findings:
    """Check all passes of a dense layer."""
    N, C, K = 5, 131, 67
    x, w, dy = normal(N, C), normal(C, K, seed=1), normal(N, K, seed=2)
    passes: list[tuple[str, int, Any, Any, tuple[Array, ...]]] = [
        ("forward", C, reference.dense_forward, _core.dense_forward, (x, w)),
        ("backward data", K, reference.dense_backward_data, _core.dense_backward_data, (dy, w)),
        ("backward weights", N, reference.dense_backward_weights, _core.dense_backward_weights, (x, dy)),
        ("backward bias", N, reference.dense_backward_bias, _core.bias_backward, (dy,)),
    ]
    for what, terms, oracle, kernel, arrays in passes:
        r = oracle(*arrays)
        y = empty(r)
        kernel(*arrays, y)
        yield what, share(y, r, reference.magnitude(oracle, *arrays), reference.gate(terms), terms)


# -- pooling and normalisation -----------------------------------------------------------------------------------------


def pooling() -> Findings:
    """Check pooling over windows and whole maps; maxima and their places must be equal."""
    x, size, strides = normal(2, 9, 8, 19), (3, 3), (2, 2)
    options: Any = {"pool_size": size, "strides": strides, "padding": ONE}
    r, places = reference.max_pool_forward(x, size, strides, ONE)
    y, argmax, dx, dy = empty(r), np.full(r.shape, 255, np.uint8), empty(x), normal(*r.shape, seed=1)
    _core.max_pool2d_forward(x, y, argmax=argmax, **options)
    _core.max_pool2d_backward(dy, argmax, dx, **options)
    yield "maxima", 0.0 if np.array_equal(y, r) and np.array_equal(argmax, places) else np.inf
    r, S = (reference.max_pool_backward(g, places, x.shape, size, strides, ONE) for g in (dy, np.abs(dy)))
    yield "maxima backward", share(dx, r, S, reference.gate(9))
    r, S = (reference.average_pool_forward(a, size, strides, ONE) for a in (x, np.abs(x)))
    _core.average_pool2d_forward(x, y, **options)
    yield "averages", share(y, r, S, reference.gate(9))
    r, S = (reference.average_pool_backward(g, x.shape, size, strides, ONE) for g in (dy, np.abs(dy)))
    _core.average_pool2d_backward(dy, dx, **options)
    yield "averages backward", share(dx, r, S, reference.gate(9))
    r, S = (reference.global_average_pool_forward(a) for a in (x, np.abs(x)))
    y = empty(r)
    _core.global_average_pool2d_forward(x, y)
    yield "whole maps", share(y, r, S, reference.gate(x[0, ..., 0].size))


def batchnorm() -> Findings:
    """Check normalisation by the batch's statistics, and its gradients."""
    x, C = normal(3, 7, 6, 19) + np.float32(0.5), 19
    gamma, beta, dy = normal(C, seed=1), normal(C, seed=2), normal(*x.shape, seed=3)
    rows = x[..., 0].size
    gate = reference.batchnorm_gate(rows)
    blocks = _core.batchnorm_blocks(rows, C)
    statistics, counts = empty((blocks, 2, C)), np.zeros(blocks, np.int64)
    mean, inv_std, y = empty((C,)), empty((C,)), empty(x)
    _core.batchnorm_statistics(x, statistics, counts)
    _core.batchnorm_merge(statistics, counts, mean, inv_std, epsilon=EPSILON)
    _core.batchnorm_forward(x, mean, inv_std, y, gamma=gamma, beta=beta)
    r, cache = reference.batchnorm_forward(x, gamma, beta, EPSILON)
    yield "forward", share(y, r, reference.batchnorm_forward_magnitude(x, gamma, beta, EPSILON), gate)
    dx, dgamma, dbeta = empty(x), empty((C,)), empty((C,))
    _core.batchnorm_backward(x, dy, mean, inv_std, gamma=gamma, dx=dx, dgamma=dgamma, dbeta=dbeta)
    gradients = reference.batchnorm_backward(dy, cache)
    magnitudes = reference.batchnorm_backward_magnitude(dy, x, gamma, EPSILON)
    for what, found, r, S in zip(("dx", "dgamma", "dbeta"), (dx, dgamma, dbeta), gradients, magnitudes, strict=True):
        yield what, share(found, r, S, gate)


# -- loss and optimizers -----------------------------------------------------------------------------------------------


def softmax() -> Findings:
    """Check softmax with cross-entropy, and its gradient."""
    N, K = 9, 37
    x, t = normal(N, K) * np.float32(3), np.eye(K, dtype=np.float32)[np.arange(N) * 7 % K]
    p, loss, dx = empty(x), empty((N,)), empty(x)
    _core.softmax_cross_entropy(x, t, np.full(N, 1 / N, np.float32), p, loss, floor=0.0, dx=dx)
    r_loss, r_dx = reference.softmax_cross_entropy_forward(x, t)
    r_p = reference.softmax_forward(x)
    yield "probabilities", ulps(p, r_p, r_p)
    yield "loss", share(loss, r_loss, np.abs(r_loss) + np.abs(x).max(axis=1), 4)
    yield "gradient", share(dx, r_dx, (r_p + t) / N, 12)


def optimizers() -> Findings:
    """Check a step of each rule."""
    size, rate = 1003, 0.01
    w, g, m = normal(size), normal(size, seed=1), normal(size, seed=2) * np.float32(0.1)
    v = np.square(normal(size, seed=3))

    values, first = w.copy(), m.copy()
    _core.sgd_step(values, g, np.array([rate, 0.9, 1, *PLAIN]), first)
    r_w, r_m = reference.sgd_step(w, g, m, rate, 0.9, True)
    terms = np.abs(0.9 * m) + np.abs(rate * g)
    yield "sgd", max(ulps(first, r_m, terms), ulps(values, r_w, np.maximum(np.abs(w), terms)))

    values, first, second = w.copy(), m.copy(), v.copy()
    numbers = (rate, 0.9, 0.999, 1e-7)
    _core.adam_step(values, g, first, second, np.array([*numbers, 3, *PLAIN]))
    r_w, r_m, r_v = reference.adam_step(w, g, m, v, 3, *numbers)
    terms = np.abs(0.9 * m) + np.abs(0.1 * g)
    step, _, _ = reference.adam_step(np.zeros(size), np.zeros(size), terms / 0.9, r_v / 0.999, 3, *numbers)
    yield (
        "adam",
        max(ulps(first, r_m, terms), ulps(second, r_v, r_v), ulps(values, r_w, np.maximum(np.abs(w), np.abs(step)))),
    )

    values, first, second = w.copy(), m.copy(), v.copy()
    _core.rmsprop_step(values, g, second, np.array([rate, 0.9, 0.9, 1e-7, *PLAIN]), first)
    r_w, r_v, r_m, _ = reference.rmsprop_step(w, g, v, m, np.zeros(size), rate, 0.9, 0.9, 1e-7)
    terms = np.abs(0.9 * m) + rate * np.abs(g) / np.sqrt(r_v + 1e-7)
    u = reference.UNIT_ROUNDOFF
    bound = 8 * u * terms + 2 * u * np.maximum(np.abs(w), terms)  # the square's 4 roundings come before the step's
    yield "rmsprop", max(ulps(second, r_v, r_v), float(np.max(np.abs(values - r_w) / bound)))


CHECKS: dict[str, Callable[[], Findings]] = {
    "convolution 3x3": partial(conv2d, 3, 1, 20, "gemm"),
    "convolution 3x3 by Winograd": partial(conv2d, 3, 1, 20, "winograd"),
    "convolution 3x3, stride 2, by Winograd": strided_winograd,
    "convolution 1x1": partial(conv2d, 1, 1, 35, "gemm"),
    "convolution 7x7, stride 2": partial(conv2d, 7, 2, 3, "gemm"),
    "pooling": pooling,
    "batch normalisation": batchnorm,
    "dense layer": dense,
    "softmax and cross-entropy": softmax,
    "optimizers": optimizers,
}
