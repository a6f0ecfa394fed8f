"""The float64 convolution against loops, finite differences and adjoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from reference_arrays import Array, assert_gradient, integers, normal

from fastcnn import reference

NAN, INF = np.nan, np.inf


CONV = {  # H W R S, strides, padding, dilation
    "plain": (5, 6, 3, 3, (1, 1), ((0, 0), (0, 0)), (1, 1)),
    "same": (5, 4, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1)),
    "stride2-keras-same": (6, 6, 3, 3, (2, 2), ((0, 1), (0, 1)), (1, 1)),
    "strides-differ": (7, 8, 3, 2, (2, 3), ((1, 0), (2, 1)), (1, 1)),
    "stride-leaves-rest": (6, 7, 2, 2, (3, 4), ((0, 0), (0, 0)), (1, 1)),
    "stride-above-window": (7, 7, 1, 1, (2, 2), ((0, 0), (0, 0)), (1, 1)),
    "dilated": (7, 6, 3, 2, (1, 1), ((1, 2), (0, 3)), (2, 3)),
    "dilated-strided": (8, 9, 2, 3, (2, 1), ((2, 0), (1, 1)), (3, 2)),
    "one-pixel": (1, 1, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1)),
    "one-output": (4, 5, 4, 5, (2, 2), ((0, 0), (0, 0)), (1, 1)),
    "top": (4, 4, 2, 2, (1, 1), ((1, 0), (0, 0)), (1, 1)),
    "bottom": (4, 4, 2, 2, (1, 1), ((0, 1), (0, 0)), (1, 1)),
    "left": (4, 4, 2, 2, (1, 1), ((0, 0), (1, 0)), (1, 1)),
    "right": (4, 4, 2, 2, (1, 1), ((0, 0), (0, 1)), (1, 1)),
}
conv_cases = pytest.mark.parametrize("case", CONV.values(), ids=CONV)


def conv_case(case: tuple[Any, ...], make: Callable[..., Array] = normal) -> tuple[Array, Array, Array, Array, Any]:
    H, W, R, S, strides, padding, dilation = case
    options = {"strides": strides, "padding": padding, "dilation": dilation}
    x, w, b = make(2, H, W, 3, seed=1), make(R, S, 3, 4, seed=2), make(4, seed=3)
    dy = make(*reference.conv2d_forward(x, w, b, **options).shape, seed=4)
    return x, w, b, dy, options


@conv_cases
def test_conv2d_forward_equals_loops(case: tuple[Any, ...]) -> None:
    x, w, b, _, options = conv_case(case, integers)
    (sh, sw), ((top, bottom), (left, right)), (dh, dw) = options.values()
    N, H, W, C = x.shape
    R, S, _, K = w.shape
    P = (H + top + bottom - (R - 1) * dh - 1) // sh + 1
    Q = (W + left + right - (S - 1) * dw - 1) // sw + 1
    y = np.zeros((N, P, Q, K))
    for n, p, q, k in np.ndindex(y.shape):
        y[n, p, q, k] = b[k]
        for r, s, c in np.ndindex(R, S, C):
            h, v = p * sh + r * dh - top, q * sw + s * dw - left
            if 0 <= h < H and 0 <= v < W:
                y[n, p, q, k] += x[n, h, v, c] * w[r, s, c, k]
    assert np.array_equal(reference.conv2d_forward(x, w, b, **options), y)
    assert np.array_equal(reference.conv2d_forward(x, w, **options), y - b)


@conv_cases
def test_conv2d_gradients(case: tuple[Any, ...]) -> None:
    x, w, b, dy, options = conv_case(case)
    forward = reference.conv2d_forward
    dx = reference.conv2d_backward_data(dy, w, x.shape, **options)
    dw = reference.conv2d_backward_weights(x, dy, w.shape, **options)
    assert_gradient(lambda x: forward(x, w, b, **options), x, dy, dx)
    assert_gradient(lambda w: forward(x, w, b, **options), w, dy, dw)
    assert_gradient(lambda b: forward(x, w, b, **options), b, dy, reference.conv2d_backward_bias(dy))


@conv_cases
def test_conv2d_adjoints_are_exact_on_integers(case: tuple[Any, ...]) -> None:
    x, w, _, dy, options = conv_case(case, integers)
    inner = np.sum(reference.conv2d_forward(x, w, **options) * dy)
    assert inner == np.sum(x * reference.conv2d_backward_data(dy, w, x.shape, **options))
    assert inner == np.sum(w * reference.conv2d_backward_weights(x, dy, w.shape, **options))


def test_conv2d_takes_float32_and_computes_in_float64() -> None:
    x, w = np.array([[[[1e8, 1, -1e8]]]], np.float32), np.ones((1, 1, 3, 1), np.float32)
    y = reference.conv2d_forward(x, w)
    assert y.dtype == np.float64
    assert y.item() == 1


def test_conv2d_of_an_empty_batch() -> None:
    x, w = np.zeros((0, 4, 4, 3)), normal(3, 3, 3, 2)
    y = reference.conv2d_forward(x, w)
    assert y.shape == (0, 2, 2, 2)
    assert reference.conv2d_backward_data(y, w, x.shape).shape == x.shape
    assert not reference.conv2d_backward_weights(x, y, w.shape).any()


def test_conv2d_special_values() -> None:
    x, w = np.ones((1, 3, 3, 1)), np.ones((3, 3, 1, 1))
    x[0, 0, 0, 0] = NAN
    y = reference.conv2d_forward(x, w, padding=((1, 1), (1, 1)))[0, :, :, 0]
    assert np.array_equal(np.isnan(y), [[True, True, False], [True, True, False], [False, False, False]])
    x[0, 0, 0, 0], x[0, 0, 1, 0] = INF, -INF
    assert np.isnan(reference.conv2d_forward(x, w)).all()
    # Padding is the number 0, so an infinite weight over it gives NaN.
    w[0, 0, 0, 0] = INF
    y = reference.conv2d_forward(np.ones((1, 3, 3, 1)), w, padding=((1, 0), (0, 0)))
    assert np.array_equal(np.isnan(y[0, :, :, 0]), [[True], [False]])


@pytest.mark.parametrize(
    ("x", "w", "options", "message"),
    [
        ((8, 5, 5, 32), (3, 3, 64, 8), {}, "w has 64 input channels but x has 32"),
        ((5, 5, 3), (3, 3, 3, 8), {}, "x has rank 3, expected 4"),
        ((1, 5, 5, 3), (3, 3, 3), {}, "w has rank 3, expected 4"),
        ((1, 5, 5, 3), (3, 3, 3, 8), {"strides": (0, 1)}, "strides must be at least 1"),
        ((1, 5, 5, 3), (3, 3, 3, 8), {"dilation": (1, 0)}, "dilation must be at least 1"),
        ((1, 5, 5, 3), (3, 3, 3, 8), {"padding": ((0, 0), (-1, 0))}, "padding must be at least 0"),
        ((1, 5, 5, 3), (0, 3, 3, 8), {}, "window must be at least 1"),
        (
            (1, 5, 5, 3),
            (3, 3, 3, 8),
            {"dilation": (1, 3)},
            "the window covers 3 x 7 pixels but the padded input has 5 x 5",
        ),
        ((1, 5, 5, 3), (3, 3, 3, 8), {"b": np.zeros(7)}, r"b is \[7\], expected \[8\]"),
    ],
)
def test_conv2d_refuses(x: tuple[int, ...], w: tuple[int, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"conv2d_forward: {message}"):
        reference.conv2d_forward(np.zeros(x), np.zeros(w), **options)


def test_conv2d_backward_refuses_another_dy() -> None:
    x, w, dy = np.zeros((1, 5, 5, 3)), np.zeros((3, 3, 3, 8)), np.zeros((1, 3, 2, 8))
    with pytest.raises(ValueError, match=r"conv2d_backward_data: dy is \[1, 3, 2, 8\], expected \[1, 3, 3, 8\]"):
        reference.conv2d_backward_data(dy, w, x.shape)
    with pytest.raises(ValueError, match=r"conv2d_backward_weights: dy is \[1, 3, 2, 8\], expected \[1, 3, 3, 8\]"):
        reference.conv2d_backward_weights(x, dy, w.shape)


@pytest.mark.parametrize(
    ("arguments", "padding"),
    [
        ((224, 3, 1), (1, 1)),
        ((224, 3, 2), (0, 1)),
        ((225, 3, 2), (1, 1)),
        ((224, 7, 2), (2, 3)),
        ((224, 1, 2), (0, 0)),
        ((5, 2, 1), (0, 1)),
        ((7, 3, 1, 2), (2, 2)),
        ((1, 4, 1), (1, 2)),
    ],
)
def test_same_padding(arguments: tuple[int, ...], padding: tuple[int, int]) -> None:
    assert reference.same_padding(*arguments) == padding
