"""The float64 reference against loops, finite differences, adjoints and known answers."""

from __future__ import annotations

import ast
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcnn import reference

Array = NDArray[Any]
NAN, INF = np.nan, np.inf


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def integers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.float64)


def distinct(*shape: int) -> Array:
    """Values in random order, each well apart from 0 and from the next: no kink within a finite difference's step."""
    size = int(np.prod(shape))
    return np.random.default_rng(0).permutation(np.arange(size) - size / 2 + 0.25).reshape(shape)


def assert_gradient(f: Callable[[Array], Array], x: Array, dy: Array, dx: Array) -> None:
    """Compare dx with finite differences by gradcheck's tolerances: 1e-5 absolute, 1e-3 relative, for eps 1e-6."""
    expected = reference.finite_difference(f, x, dy)
    assert dx.shape == x.shape
    assert np.all(np.abs(dx - expected) <= 1e-5 + 1e-3 * np.abs(expected))
    assert np.any(expected != 0)


def relative(a: Array, b: Array) -> float:
    return float(np.max(np.abs(a - b)) / np.max(np.abs(b)))


def test_imports_numpy_and_itself_alone() -> None:
    for file in Path(reference.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [str(node.module)]
            else:
                continue
            assert not [m for m in modules if m.startswith("fastcnn") and not m.startswith("fastcnn.reference")]


def test_every_public_name_exists_and_is_explained() -> None:
    assert sorted(reference.__all__) == reference.__all__
    functions = [getattr(reference, name) for name in reference.__all__ if not name.isupper()]
    assert all(function.__doc__ for function in functions)


# ---- convolution ----

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


# ---- dense ----


@pytest.mark.parametrize(("N", "C", "K"), [(1, 1, 1), (3, 5, 2), (4, 1, 6)])
def test_dense_gradients_and_adjoints(N: int, C: int, K: int) -> None:
    x, w, b, dy = normal(N, C, seed=1), normal(C, K, seed=2), normal(K, seed=3), normal(N, K, seed=4)
    forward = reference.dense_forward
    assert_gradient(lambda x: forward(x, w, b), x, dy, reference.dense_backward_data(dy, w))
    assert_gradient(lambda w: forward(x, w, b), w, dy, reference.dense_backward_weights(x, dy))
    assert_gradient(lambda b: forward(x, w, b), b, dy, reference.dense_backward_bias(dy))
    x, w, dy = integers(N, C, seed=1), integers(C, K, seed=2), integers(N, K, seed=4)
    inner = np.sum(forward(x, w) * dy)
    assert (
        inner == np.sum(x * reference.dense_backward_data(dy, w)) == np.sum(w * reference.dense_backward_weights(x, dy))
    )


def test_dense_is_a_1x1_convolution() -> None:
    x, w, b = integers(3, 5), integers(5, 4), integers(4)
    y = reference.conv2d_forward(x[:, None, None, :], w[None, None], b)
    assert np.array_equal(reference.dense_forward(x, w, b), y[:, 0, 0])


def test_dense_refuses() -> None:
    with pytest.raises(ValueError, match="dense_forward: w has 4 input channels but x has 3"):
        reference.dense_forward(np.zeros((2, 3)), np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"dense_backward_weights: dy is \[3, 5\], expected \[2, 5\]"):
        reference.dense_backward_weights(np.zeros((2, 3)), np.zeros((3, 5)))


# ---- batch normalisation ----

batchnorm_shapes = pytest.mark.parametrize("shape", [(2, 1), (7, 5), (1, 2, 1, 3), (2, 3, 4, 5), (3, 5, 7, 1)], ids=str)


@batchnorm_shapes
def test_batchnorm_gradients(shape: tuple[int, ...]) -> None:
    x, dout, gamma, beta = normal(*shape, seed=1), normal(*shape, seed=2), normal(shape[-1]), normal(shape[-1], seed=3)
    eps = 0.1  # two values per channel and a small eps would leave a gradient of nearly nothing

    def out(x: Array, gamma: Array, beta: Array) -> Array:
        return reference.batchnorm_forward(x, gamma, beta, eps)[0]

    _, cache = reference.batchnorm_forward(x, gamma, beta, eps)
    for backward in (reference.batchnorm_backward, reference.batchnorm_backward_alt):
        dx, dgamma, dbeta = backward(dout, cache)
        assert_gradient(lambda x: out(x, gamma, beta), x, dout, dx)
        assert_gradient(lambda gamma: out(x, gamma, beta), gamma, dout, dgamma)
        assert_gradient(lambda beta: out(x, gamma, beta), beta, dout, dbeta)


@pytest.mark.parametrize("shape", [(7, 5), (256, 3), (2, 3, 4, 5), (4, 14, 14, 16)], ids=str)
def test_batchnorm_backward_equals_its_simplified_form(shape: tuple[int, ...]) -> None:
    x, dout, gamma = 3 * normal(*shape, seed=1) + 5, normal(*shape, seed=2), normal(shape[-1])
    _, cache = reference.batchnorm_forward(x, gamma, gamma, 1e-3)
    for long, short in zip(
        reference.batchnorm_backward(dout, cache), reference.batchnorm_backward_alt(dout, cache), strict=True
    ):
        assert relative(long, short) <= 1e-14


@batchnorm_shapes
def test_batchnorm_forward_normalises_by_biased_variance(shape: tuple[int, ...]) -> None:
    x, gamma, beta = normal(*shape), normal(shape[-1], seed=1), normal(shape[-1], seed=2)
    out, (x_norm, x_centered, std, kept) = reference.batchnorm_forward(x, gamma, beta, 1e-5)
    rows = x.reshape(-1, shape[-1])
    assert relative(std**2, rows.var(axis=0) + 1e-5) <= 1e-14
    assert relative(x_centered.reshape(rows.shape), rows - rows.mean(axis=0)) <= 1e-14
    assert relative(out, x_norm * gamma + beta) <= 1e-14
    assert np.array_equal(kept, gamma)
    mean, variance = reference.batchnorm_statistics(x)
    assert relative(reference.batchnorm_inference(x, gamma, beta, mean, variance, 1e-5), out) <= 1e-14


@batchnorm_shapes
def test_batchnorm_inference_gradients(shape: tuple[int, ...]) -> None:
    x, dout = normal(*shape, seed=1), normal(*shape, seed=2)
    gamma, beta, mean, variance = (normal(shape[-1], seed=seed) for seed in range(4))
    variance = variance**2 + 0.1
    rest = (mean, variance, 1e-3)
    dx, dgamma, dbeta = reference.batchnorm_inference_backward(dout, x, gamma, *rest)
    assert_gradient(lambda x: reference.batchnorm_inference(x, gamma, beta, *rest), x, dout, dx)
    assert_gradient(lambda gamma: reference.batchnorm_inference(x, gamma, beta, *rest), gamma, dout, dgamma)
    assert_gradient(lambda beta: reference.batchnorm_inference(x, gamma, beta, *rest), beta, dout, dbeta)


def test_batchnorm_statistics_survive_a_mean_far_above_the_deviation() -> None:
    x = 1e4 + 1e-2 * np.array([[-1.0], [1.0]] * 50)
    mean, variance = reference.batchnorm_statistics(x)
    assert abs(mean.item() - 1e4) <= 1e-10
    assert abs(variance.item() - 1e-4) <= 1e-12


def test_batchnorm_moving_average() -> None:
    assert reference.batchnorm_moving_average([4.0, 8.0], [0.0, 16.0], 0.75).tolist() == [3.0, 10.0]


def test_batchnorm_refuses() -> None:
    with pytest.raises(ValueError, match=r"x has 1 value\(s\) per channel, expected at least 2"):
        reference.batchnorm_forward(np.zeros((1, 1, 1, 3)), np.ones(3), np.zeros(3), 1e-3)
    with pytest.raises(ValueError, match=r"batchnorm_forward: beta is \[4\], expected \[3\]"):
        reference.batchnorm_forward(np.zeros((2, 3)), np.ones(3), np.zeros(4), 1e-3)
    with pytest.raises(ValueError, match="batchnorm_forward: x has rank 3, expected 2 or 4"):
        reference.batchnorm_forward(np.zeros((2, 2, 3)), np.ones(3), np.zeros(3), 1e-3)


@pytest.mark.parametrize("mean", [0, 30])
def test_batchnorm_in_float32_passes_its_gate_and_a_lost_value_does_not(mean: float) -> None:
    x, dout, gamma, beta = (
        normal(*shape, seed=seed).astype(np.float32)
        for seed, shape in enumerate([(4, 9, 9, 3), (4, 9, 9, 3), (3,), (3,)])
    )
    x += np.float32(mean)
    gate = reference.batchnorm_gate(4 * 9 * 9)
    axes = (0, 1, 2)
    expected, cache = reference.batchnorm_forward(x, gamma, beta, 1e-3)
    centered = x - x.mean(axis=axes)
    std = np.sqrt((centered**2).mean(axis=axes) + np.float32(1e-3))
    x_norm = centered / std
    out = gamma * x_norm + beta
    S = reference.batchnorm_forward_magnitude(x, gamma, beta, 1e-3)
    assert out.dtype == np.float32
    assert reference.error_units(out, expected, S).max() <= gate

    dbeta, dgamma = dout.sum(axis=axes), (dout * x_norm).sum(axis=axes)
    dx = gamma / std * (dout - (dbeta + x_norm * dgamma) / np.float32(4 * 9 * 9))
    assert dx.dtype == np.float32
    gradients = reference.batchnorm_backward(dout, cache)
    magnitudes = reference.batchnorm_backward_magnitude(dout, x, gamma, 1e-3)
    for gradient, r, S in zip((dx, dgamma, dbeta), gradients, magnitudes, strict=True):
        assert reference.error_units(gradient, r, S).max() <= gate
    lost = dout.copy()
    lost[0, 0, 0] = 0
    for gradient, r, S in zip(reference.batchnorm_backward(lost, cache), gradients, magnitudes, strict=True):
        assert reference.error_units(gradient, r, S).max() > gate


# ---- pooling ----

POOL = {  # H W, pool, strides, padding
    "2x2": (4, 6, (2, 2), None, ((0, 0), (0, 0))),
    "2x2-odd": (5, 7, (2, 2), None, ((0, 0), (0, 0))),
    "3x3s2-padded": (6, 7, (3, 3), (2, 2), ((1, 1), (1, 1))),
    "overlap": (5, 5, (3, 2), (1, 1), ((0, 0), (0, 0))),
    "asymmetric": (5, 6, (2, 3), (2, 1), ((0, 1), (2, 0))),
    "stride-above-pool": (7, 5, (1, 2), (3, 3), ((0, 0), (0, 0))),
    "one-pixel": (1, 1, (3, 3), (1, 1), ((1, 1), (2, 2))),
}
pool_cases = pytest.mark.parametrize("case", POOL.values(), ids=POOL)


@pool_cases
def test_pools_equal_loops(case: tuple[Any, ...]) -> None:
    H, W, pool, strides, padding = case
    (R, S), (sh, sw), ((top, _), (left, _)) = pool, strides or pool, padding
    x = integers(2, H, W, 3)  # with ties
    y, argmax = reference.max_pool_forward(x, pool, strides, padding)
    mean = reference.average_pool_forward(x, pool, strides, padding)
    assert y.shape == argmax.shape == mean.shape
    for n, p, q, c in np.ndindex(y.shape):
        h, w = p * sh - top, q * sw - left
        inside = {
            r * S + s: x[n, h + r, w + s, c]
            for r, s in product(range(R), range(S))
            if 0 <= h + r < H and 0 <= w + s < W
        }
        assert argmax[n, p, q, c] == max(inside, key=lambda i: (inside[i], -i))
        assert y[n, p, q, c] == max(inside.values())
        assert mean[n, p, q, c] == sum(inside.values()) / len(inside)


@pool_cases
def test_pool_gradients_and_conservation(case: tuple[Any, ...]) -> None:
    H, W, pool, strides, padding = case
    x = distinct(2, H, W, 3)
    y, argmax = reference.max_pool_forward(x, pool, strides, padding)
    dy = normal(*y.shape)
    dx = reference.max_pool_backward(dy, argmax, x.shape, pool, strides, padding)
    assert_gradient(lambda x: reference.max_pool_forward(x, pool, strides, padding)[0], x, dy, dx)
    dx = reference.average_pool_backward(dy, x.shape, pool, strides, padding)
    assert_gradient(lambda x: reference.average_pool_forward(x, pool, strides, padding), x, dy, dx)
    dy = integers(*y.shape)
    assert reference.max_pool_backward(dy, argmax, x.shape, pool, strides, padding).sum() == dy.sum()
    assert reference.average_pool_backward(dy * 720720, x.shape, pool, strides, padding).sum() == dy.sum() * 720720


@pytest.mark.parametrize(
    ("window", "y", "argmax"),
    [
        ([1, 3, 3, 2], 3, 1),
        ([1, NAN, 5, NAN], NAN, 1),
        ([NAN, NAN, NAN, NAN], NAN, 0),
        ([INF, NAN, 0, 0], NAN, 1),
        ([-INF, -INF, -INF, -INF], -INF, 0),
        ([-INF, -INF, -2, -INF], -2, 2),
        ([-0.0, 0.0, -1, 0.0], -0.0, 0),
        ([0.0, -0.0, -1, 0.0], 0.0, 0),
        ([-1, INF, INF, 0], INF, 1),
    ],
)
@pytest.mark.parametrize("whole", [False, True], ids=["window", "global"])
def test_max_pool_special_values(window: list[float], y: float, argmax: int, whole: bool) -> None:
    x = np.reshape(window, (1, 2, 2, 1))
    if whole:
        found, index = reference.global_max_pool_forward(x)
        dx = reference.global_max_pool_backward(np.ones((1, 1)), index, x.shape)
    else:
        found, index = reference.max_pool_forward(x, (2, 2))
        dx = reference.max_pool_backward(np.ones((1, 1, 1, 1)), index, x.shape, (2, 2))
    assert np.array_equal(found.ravel(), [y], equal_nan=True)
    assert np.signbit(found).item() == np.signbit(y)
    assert index.item() == argmax
    assert np.flatnonzero(dx).tolist() == [argmax]


def test_max_pool_padding_never_wins() -> None:
    x = np.full((1, 2, 2, 1), -INF)
    y, argmax = reference.max_pool_forward(x, (3, 3), (1, 1), ((1, 1), (1, 1)))
    assert np.all(y == -INF)
    # The first pixel inside x: below and right of the padding in the first row and column.
    assert argmax[0, :, :, 0].tolist() == [[4, 3], [1, 0]]


def test_pool_refuses_a_window_of_padding_alone() -> None:
    for pool in (reference.max_pool_forward, reference.average_pool_forward):
        with pytest.raises(ValueError, match=r"_pool_forward: padding .* leaves a window \(2, 2\) without input"):
            pool(np.zeros((1, 4, 4, 1)), (2, 2), (1, 1), ((2, 0), (0, 0)))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 5), (3, 7, 1, 2)], ids=str)
def test_global_pool_gradients(shape: tuple[int, ...]) -> None:
    x, dy = distinct(*shape), normal(shape[0], shape[3])
    assert np.array_equal(reference.global_average_pool_forward(x), x.sum(axis=(1, 2)) / (shape[1] * shape[2]))
    dx = reference.global_average_pool_backward(dy, x.shape)
    assert_gradient(reference.global_average_pool_forward, x, dy, dx)
    y, argmax = reference.global_max_pool_forward(x)
    assert np.array_equal(y, x.max(axis=(1, 2)))
    dx = reference.global_max_pool_backward(dy, argmax, x.shape)
    assert_gradient(lambda x: reference.global_max_pool_forward(x)[0], x, dy, dx)


# ---- pointwise ----


def test_relu_special_values() -> None:
    x = np.array([NAN, -NAN, -0.0, 0.0, -INF, INF, -5e-324, 5e-324, -1, 2])
    y = reference.relu_forward(x)
    assert np.array_equal(y, [NAN, NAN, -0.0, 0, 0, INF, 0, 5e-324, 0, 2], equal_nan=True)
    assert np.signbit(y[2])
    assert not np.signbit(y[4])
    dx = reference.relu_backward(np.full(10, NAN), x)
    assert np.array_equal(dx, [0, 0, 0, 0, 0, NAN, 0, NAN, 0, NAN], equal_nan=True)
    assert np.array_equal(dx, reference.relu_backward(np.full(10, NAN), y), equal_nan=True)


def test_leaky_relu_special_values() -> None:
    x = np.array([NAN, -0.0, 0.0, -INF, INF, -5e-324, 5e-324, -1, 2])
    y = reference.leaky_relu_forward(x, 0.25)
    assert np.array_equal(y, [NAN, -0.0, 0, -INF, INF, 0, 5e-324, -0.25, 2], equal_nan=True)
    assert np.signbit(y[1])
    assert not np.signbit(y[2])
    dx = reference.leaky_relu_backward(np.full(9, 4.0), x, 0.25)
    assert np.array_equal(dx, [1, 1, 1, 1, 4, 1, 4, 1, 4])
    assert np.array_equal(dx, reference.leaky_relu_backward(np.full(9, 4.0), y, 0.25))


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0, 2.0])
def test_leaky_relu_gradient(slope: float) -> None:
    x, dy = distinct(3, 4, 5), normal(3, 4, 5)
    dx = reference.leaky_relu_backward(dy, x, slope)
    assert_gradient(lambda x: reference.leaky_relu_forward(x, slope), x, dy, dx)


def test_relu_gradient() -> None:
    x, dy = distinct(3, 4, 5), normal(3, 4, 5)
    assert_gradient(reference.relu_forward, x, dy, reference.relu_backward(dy, x))


def test_add() -> None:
    assert reference.add_forward([[1.0, INF]], [[2.0, -3.0]]).tolist() == [[3.0, INF]]
    with pytest.raises(ValueError, match=r"add_forward: x2 is \[2\], expected \[1, 2\]"):
        reference.add_forward([[1.0, 2.0]], [1.0, 2.0])


def test_zero_pad() -> None:
    padding = ((1, 0), (2, 3))
    x, dy = normal(2, 3, 2, 2), normal(2, 4, 7, 2, seed=1)
    y = reference.zero_pad_forward(x, padding)
    assert np.array_equal(y[:, 1:, 2:4], x)
    assert np.count_nonzero(y) == x.size
    dx = reference.zero_pad_backward(dy, padding)
    assert_gradient(lambda x: reference.zero_pad_forward(x, padding), x, dy, dx)
    with pytest.raises(ValueError, match=r"zero_pad_backward: dy is .* smaller than its padding"):
        reference.zero_pad_backward(np.zeros((1, 1, 4, 1)), padding)


# ---- softmax and losses ----


@pytest.mark.parametrize("row", [[1, NAN, 2], [INF, 0, 1], [INF, INF, 0], [-INF, -INF, -INF]], ids=str)
def test_softmax_rows_of_nan(row: list[float]) -> None:
    x = np.array([[0.0, 1.0, 2.0], row])
    for y in (reference.softmax_forward(x), reference.log_softmax(x)):
        assert np.isnan(y).tolist() == [[False] * 3, [True] * 3]


def test_softmax_of_large_and_missing_logits() -> None:
    assert reference.softmax_forward([[1e4, 1e4, -INF]]).tolist() == [[0.5, 0.5, 0.0]]
    assert reference.log_softmax([[1e4, 0.0]]).tolist() == [[0.0, -1e4]]


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 2, 3)], ids=str)
def test_softmax_gradient(shape: tuple[int, ...]) -> None:
    x, dy = normal(*shape), normal(*shape, seed=1)
    y = reference.softmax_forward(x)
    assert relative(y, np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)) <= 1e-15
    assert relative(np.exp(reference.log_softmax(x)), y) <= 1e-15
    dx = reference.softmax_backward(dy, y)
    assert np.abs(dx - reference.finite_difference(reference.softmax_forward, x, dy)).max() <= 1e-9


@pytest.mark.parametrize("soft", [False, True], ids=["one-hot", "probabilities"])
def test_softmax_cross_entropy(soft: bool) -> None:
    N, K = 5, 4
    logits = normal(N, K)
    targets = reference.softmax_forward(normal(N, K, seed=1)) if soft else np.eye(K)[[0, 3, 1, 1, 2]]

    def loss(logits: Array) -> Array:
        return reference.softmax_cross_entropy_forward(logits, targets)[0]

    per_sample, dlogits = reference.softmax_cross_entropy_forward(logits, targets)
    assert per_sample.shape == (N,)
    assert relative(per_sample, -(targets * np.log(reference.softmax_forward(logits))).sum(axis=-1)) <= 1e-14
    assert_gradient(loss, logits, np.full(N, 1 / N), dlogits)
    keras = reference.categorical_crossentropy(7 * reference.softmax_forward(logits), targets)
    assert relative(keras, per_sample) <= 1e-14


def test_softmax_cross_entropy_ignores_impossible_classes_without_target() -> None:
    loss, dlogits = reference.softmax_cross_entropy_forward([[0.0, 0.0, -INF]], [[0.0, 1.0, 0.0]])
    assert loss.tolist() == [np.log(2)]
    assert dlogits.tolist() == [[0.5, -0.5, 0.0]]


def test_categorical_crossentropy_clips_as_keras() -> None:
    loss = reference.categorical_crossentropy([[0.0, 2.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]])
    assert loss.tolist() == [-np.log(1e-7), -np.log(1 - 1e-7)]


# ---- optimizers ----


def test_sgd_step() -> None:
    w, g, m = np.array([1.0, 2.0]), np.array([4.0, -8.0]), np.array([0.5, 0.0])
    assert [a.tolist() for a in reference.sgd_step(w, g, m, 0.25, 0.0)] == [[0.0, 4.0], [-1.0, 2.0]]
    assert [a.tolist() for a in reference.sgd_step(w, g, m, 0.25, 0.5)] == [[0.25, 4.0], [-0.75, 2.0]]
    assert [a.tolist() for a in reference.sgd_step(w, g, m, 0.25, 0.5, nesterov=True)] == [[-0.375, 5.0], [-0.75, 2.0]]
    assert w.tolist() == [1.0, 2.0]


def test_adam_step() -> None:
    w, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    w, m, v = reference.adam_step(w, [4.0], m, v, 1, 0.5, 0.75, 0.9375, 0.0)
    # Bias correction makes the first step lr * sign(g).
    assert (w.item(), m.item(), v.item()) == (0.5, 1.0, 1.0)
    w, m, v = reference.adam_step(w, [0.0], m, v, 2, 0.5, 0.75, 0.9375, 0.25)
    rate = 0.5 * np.sqrt(1 - 0.9375**2) / (1 - 0.75**2)
    assert (m.item(), v.item()) == (0.75, 0.9375)
    assert relative(w, np.array([0.5 - rate * 0.75 / (np.sqrt(0.9375) + 0.25)])) <= 1e-15
    with pytest.raises(ValueError, match="adam_step: t must be at least 1"):
        reference.adam_step(w, w, m, v, 0, 0.5, 0.75, 0.9375, 0.0)
    with pytest.raises(ValueError, match=r"adam_step: g is \[2\], expected \[1\]"):
        reference.adam_step(w, [0.0, 1.0], m, v, 1, 0.5, 0.75, 0.9375, 0.0)


def test_rmsprop_step() -> None:
    w, g, state = np.array([1.0]), np.array([4.0]), np.array([1.0])
    plain = reference.rmsprop_step(w, g, state, state, state, 0.5, 0.75, 0.5, 4.25)
    assert [a.item() for a in plain] == [1 - (0.5 + 2 / 3), 4.75, 0.5 + 2 / 3, 1.0]
    centered = reference.rmsprop_step(w, g, state, state, state, 0.5, 0.75, 0.0, 7.3125, centered=True)
    assert [a.item() for a in centered] == [1 - 2 / 3, 4.75, 2 / 3, 1.75]


def test_amsgrad_step() -> None:
    state = np.array([1.0])
    w, m, v, v_max = reference.amsgrad_step(state, [4.0], [0.0], [0.0], [4.0], 1, 0.5, 0.75, 0.9375, 0.0)
    assert [a.item() for a in (w, m, v, v_max)] == [0.75, 1.0, 1.0, 4.0]  # half of Adam's step: the root of 4 is 2
    adam = reference.adam_step(state, [4.0], [0.0], [0.0], 1, 0.5, 0.75, 0.9375, 0.0)
    assert reference.amsgrad_step(state, [4.0], [0.0], [0.0], [0.5], 1, 0.5, 0.75, 0.9375, 0.0)[:3] == adam


def test_ema_step_and_squared_norms() -> None:
    assert reference.ema_step([4.0, 8.0], [0.0, 4.0], 0.75).tolist() == [1.0, 5.0]
    assert reference.squared_norms([1.0, 2.0, -3.0], [0, 1, 1, 3]).tolist() == [1.0, 0.0, 13.0]


def test_sigmoid() -> None:
    assert reference.sigmoid_forward([0.0, 1e4, -1e4, np.log(3)]).tolist() == [0.5, 1.0, 0.0, 0.75]
    x, dy = normal(20) * 3, normal(20, seed=1)
    assert_gradient(reference.sigmoid_forward, x, dy, reference.sigmoid_backward(dy, reference.sigmoid_forward(x)))


# ---- losses ----


def test_losses_of_known_outputs() -> None:
    loss, dx = reference.squared_error([[1.0, 3.0]], [[0.0, 1.0]])
    assert (loss.tolist(), dx.tolist()) == ([2.5], [[1.0, 2.0]])
    loss, dx = reference.binary_cross_entropy([[0.25, 0.5]], [[1.0, 0.0]])
    assert abs(loss.item() - np.log(8) / 2) <= 1e-15
    assert dx.tolist() == [[-2.0, 1.0]]
    loss, dx = reference.sigmoid_cross_entropy([[np.log(3)]], [[0.0]])
    assert abs(loss.item() - np.log(4)) <= 1e-15
    assert dx.tolist() == [[0.75]]
    loss, dx = reference.categorical_cross_entropy([[1.0, 3.0]], [[1.0, 0.0]])
    assert abs(loss.item() - np.log(4)) <= 1e-15
    assert dx.tolist() == [[-0.75, 0.25]]


# ---- Winograd ----


@pytest.mark.parametrize(("m", "r"), [(2, 3), (3, 2), (4, 3), (3, 4), (6, 3)])
def test_winograd_matrices_correlate_exactly(m: int, r: int) -> None:
    points = [Fraction(q) for q in ("0", "1", "-1", "2", "-2", "1/2", "-1/2")][: m + r - 2]
    A_T, G, B_T = reference.winograd_matrices(m, r, points)
    d, g = integers(m + r - 1, seed=1), integers(r, seed=2)
    y = A_T @ ((G @ g) * (B_T @ d))
    assert np.abs(y - np.correlate(d, g, "valid")).max() <= 1e-11


def test_winograd_matrices_of_the_default_points() -> None:
    a, b = np.sqrt(0.5), np.sqrt(2)
    A_T, G, B_T = reference.winograd_matrices(4, 3)
    q = np.array([0, a, -a, b, -b])
    norms = np.array([1, -1.5, -1.5, 6, 6])  # 2a^2(a^2 - b^2), 2b^2(b^2 - a^2); p = a^2 b^2 = 1
    norms[3:] = 2 * 2 * (2 - 0.5)
    assert np.abs(A_T - np.column_stack([[q**k for k in range(4)], [0, 0, 0, 1]])).max() <= 1e-15
    assert np.abs(G[:5] - np.column_stack([q**k / norms for k in range(3)])).max() <= 1e-15
    assert G[5].tolist() == [0, 0, 1]
    rows = [[1, 0, -2.5, 0, 1, 0], [0, 1, 0, -2.5, 0, 1]]
    assert np.abs(B_T[[0, 5]] - rows).max() <= 1e-15
    for row, point, other in ((1, a, b), (2, -a, b), (3, b, a), (4, -b, a)):
        assert np.abs(B_T[row] - [0, -point * other**2, -(other**2), point, 1, 0]).max() <= 1e-15


def test_winograd_matrices_refuse_points() -> None:
    with pytest.raises(ValueError, match=r"F\(6, 3\) needs 7 distinct finite points"):
        reference.winograd_matrices(6, 3)
    with pytest.raises(ValueError, match=r"F\(2, 3\) needs 3 distinct finite points"):
        reference.winograd_matrices(2, 3, [0, 1, 1])


WINOGRAD = {  # N H W C K, padding
    "same-14": (2, 14, 14, 5, 6, ((1, 1), (1, 1))),
    "valid-one-pixel": (1, 3, 3, 1, 1, ((0, 0), (0, 0))),
    "one-tile": (1, 6, 6, 2, 3, ((0, 0), (0, 0))),
    "odd": (2, 7, 9, 3, 2, ((1, 0), (0, 1))),
    "wide": (1, 1, 17, 4, 2, ((1, 1), (2, 0))),
    "full": (1, 5, 2, 2, 2, ((2, 2), (2, 2))),
    "many-channels": (1, 8, 8, 64, 32, ((1, 1), (1, 1))),
}
winograd_cases = pytest.mark.parametrize("case", WINOGRAD.values(), ids=WINOGRAD)


def winograd_case(case: tuple[Any, ...]) -> tuple[Array, Array, Array, Any]:
    N, H, W, C, K, padding = case
    x, w = normal(N, H, W, C, seed=1), normal(3, 3, C, K, seed=2)
    return x, w, normal(*reference.conv2d_forward(x, w, padding=padding).shape, seed=3), padding


@winograd_cases
def test_winograd_equals_direct(case: tuple[Any, ...]) -> None:
    x, w, dy, padding = winograd_case(case)
    y = reference.conv2d_winograd_forward(x, w, padding)
    dx = reference.conv2d_winograd_backward_data(dy, w, x.shape, padding)
    dw = reference.conv2d_winograd_backward_weights(x, dy, padding)
    assert relative(y, reference.conv2d_forward(x, w, padding=padding)) <= 1e-12
    assert relative(dx, reference.conv2d_backward_data(dy, w, x.shape, padding=padding)) <= 1e-12
    assert relative(dw, reference.conv2d_backward_weights(x, dy, w.shape, padding=padding)) <= 1e-12


@winograd_cases
def test_winograd_magnitude_is_above_the_direct_one(case: tuple[Any, ...]) -> None:
    x, w, dy, padding = winograd_case(case)
    S = reference.magnitude
    pairs = (
        (
            reference.conv2d_winograd_forward(x, w, padding, absolute=True),
            S(reference.conv2d_forward, x, w, padding=padding),
        ),
        (
            reference.conv2d_winograd_backward_data(dy, w, x.shape, padding, absolute=True),
            S(reference.conv2d_backward_data, dy, w, x.shape, padding=padding),
        ),
        (
            reference.conv2d_winograd_backward_weights(x, dy, padding, absolute=True),
            S(reference.conv2d_backward_weights, x, dy, w.shape, padding=padding),
        ),
    )
    for winograd, direct in pairs:
        assert winograd.shape == direct.shape
        assert np.all(winograd >= direct)


def test_winograd_magnitude_of_one_tile_by_its_formula() -> None:
    x, w = normal(1, 6, 6, 1), normal(3, 3, 1, 1, seed=1)
    A, G, B = (np.abs(matrix) for matrix in reference.winograd_matrices(4, 3))
    d, g = np.abs(x[0, :, :, 0]), np.abs(w[:, :, 0, 0])
    expected = A @ ((G @ g @ G.T) * (B @ d @ B.T)) @ A.T
    assert relative(reference.conv2d_winograd_forward(x, w, absolute=True)[0, :, :, 0], expected) <= 1e-14


def test_winograd_refuses() -> None:
    with pytest.raises(ValueError, match=r"conv2d_winograd_forward: x is \[1, 6, 6, 2\] and w is \[3, 3, 4, 4\]"):
        reference.conv2d_winograd_forward(np.zeros((1, 6, 6, 2)), np.zeros((3, 3, 4, 4)))
    with pytest.raises(ValueError, match="conv2d_winograd_backward_data: padding must be at most 2"):
        reference.conv2d_winograd_backward_data(
            np.zeros((1, 10, 4, 1)), np.zeros((3, 3, 1, 1)), (1, 6, 6, 1), ((3, 3), (0, 0))
        )


# ---- error units and gates ----


def test_error_units_count_roundings() -> None:
    u = reference.UNIT_ROUNDOFF
    y, r, S = [1 + 2 * u, 1.0, -4.0], [1.0, 1.0, -4.0 - 3 * u], [1.0, 1.0, 2.0]
    assert reference.error_units(y, r, S).tolist() == [2.0, 0.0, 1.5]


@pytest.mark.parametrize(
    ("y", "r", "S", "units"),
    [
        (0.0, 0.0, 0.0, 0),
        (-0.0, 0.0, 0.0, 0),
        (1.5, 1.5, 0.0, 0),
        (1e-45, 0.0, 0.0, INF),
        (NAN, NAN, NAN, 0),
        (INF, INF, INF, 0),
        (INF, -INF, INF, INF),
        (INF, 1.0, 1.0, INF),
        (1.0, INF, INF, INF),
        (NAN, 1.0, 1.0, INF),
        (1.0, NAN, NAN, INF),
        (1.0, 2.0, NAN, INF),
    ],
)
def test_error_units_at_special_values(y: float, r: float, S: float, units: float) -> None:
    assert reference.error_units([y], [r], [S]).item() == units


def test_error_units_allow_underflow() -> None:
    smallest = reference.SMALLEST_FLOAT32
    y, r, S = [3 * smallest], [0.0], [3 * smallest]
    assert reference.error_units(y, r, S, terms=3).item() == 0
    assert reference.error_units(y, r, S, terms=2).item() == 1 / (3 * reference.UNIT_ROUNDOFF)
    assert reference.error_units([smallest], [0.0], [0.0], terms=3).item() == INF
    with pytest.raises(ValueError, match=r"error_units: S is \[2\], expected \[1\]"):
        reference.error_units([1.0], [1.0], [1.0, 1.0])


def test_error_ulps() -> None:
    r = np.array([1.0, 1.5, 4.0, 0.0, 1e-42], np.float32)
    y = np.nextafter(np.nextafter(r, np.float32(9)), np.float32(9))
    assert reference.error_ulps(y, r).tolist() == [2.0] * 5
    assert reference.error_ulps(y[:3], r[:3], [8.0, 8.0, 8.0]).tolist() == [0.25, 0.25, 1.0]
    assert reference.error_ulps([1.0, NAN], [INF, NAN]).tolist() == [INF, 0.0]


def test_gates_by_their_formulas() -> None:
    assert reference.hard_bound(9) == 11
    assert reference.gate(4608) == pytest.approx(137.76, abs=0.01)
    assert reference.gate(25088) == pytest.approx(318.78, abs=0.01)
    assert reference.winograd_gate(64) == 24
    assert reference.batchnorm_gate(3136) == 120


def test_magnitude_of_each_pass() -> None:
    options: Any = {"strides": (2, 1), "padding": ((1, 0), (0, 1))}
    x, w, b = normal(2, 5, 6, 3, seed=1), normal(3, 2, 3, 4, seed=2), normal(4, seed=3)
    y = reference.conv2d_forward(x, w, b, **options)
    S = reference.conv2d_magnitude(x, w, b, **options)
    assert np.array_equal(S, reference.conv2d_forward(np.abs(x), np.abs(w), np.abs(b), **options))
    assert np.all(np.abs(y) < S)
    dy = integers(*y.shape)
    dx = reference.magnitude(reference.conv2d_backward_data, dy, w, x.shape, **options)
    dw = reference.magnitude(reference.conv2d_backward_weights, x, dy, w.shape, **options)
    assert np.array_equal(dx, reference.conv2d_backward_data(np.abs(dy), np.abs(w), x.shape, **options))
    assert np.array_equal(dw, reference.conv2d_backward_weights(np.abs(x), np.abs(dy), w.shape, **options))


@pytest.mark.parametrize("positive", [False, True], ids=["signed", "positive"])
@pytest.mark.parametrize("K", [9, 576, 4608])
def test_float32_sum_passes_the_gate_and_a_dropped_product_does_not(K: int, positive: bool) -> None:
    x, w = normal(4, K, seed=1).astype(np.float32), normal(K, 8, seed=2).astype(np.float32)
    if positive:
        x, w = np.abs(x), np.abs(w)
    r = reference.dense_forward(x, w)
    S = reference.magnitude(reference.dense_forward, x, w)
    running = np.zeros((4, 8), np.float32)  # one product after another: the worst order
    for k in range(K):
        running += x[:, k : k + 1] * w[k]
    errors = reference.error_units(running, r, S, terms=K)
    assert errors.max() <= reference.gate(K) < reference.hard_bound(K)
    dropped = reference.dense_forward(x[:, :-1], w[:-1]).astype(np.float32)
    assert np.median(reference.error_units(dropped, r, S, terms=K)) > reference.gate(K)


@pytest.mark.parametrize("C", [16, 256])
def test_float32_winograd_passes_its_gate_and_a_dropped_channel_does_not(C: int) -> None:
    padding = ((1, 1), (1, 1))
    x, w = normal(1, 8, 8, C, seed=1).astype(np.float32), normal(3, 3, C, 16, seed=2).astype(np.float32)
    A_T, G, B_T = (matrix.astype(np.float32) for matrix in reference.winograd_matrices(4, 3))
    U = np.einsum("ij,jkcd,lk->ilcd", G, w, G)
    padded = np.pad(x, ((0, 0), *padding, (0, 0)))
    y = np.zeros((1, 8, 8, 16), np.float32)
    for h, v in product((0, 4), (0, 4)):
        V = np.einsum("ij,jkc,lk->ilc", B_T, padded[0, h : h + 6, v : v + 6], B_T)
        M = (V[:, :, None, :] @ U)[:, :, 0]
        y[0, h : h + 4, v : v + 4] = np.einsum("ij,jkd,lk->ild", A_T, M, A_T)
    r = reference.conv2d_forward(x, w, padding=padding)
    S = reference.conv2d_winograd_forward(x, w, padding, absolute=True)
    assert y.dtype == np.float32
    assert reference.error_units(y, r, S).max() <= reference.winograd_gate(C)
    dropped = reference.conv2d_winograd_forward(x[..., 1:], w[:, :, 1:], padding)
    assert np.median(reference.error_units(dropped, r, S)) > reference.winograd_gate(C)


def test_finite_difference_of_a_known_gradient() -> None:
    x = normal(2, 3)
    kept = x.copy()
    dx = reference.finite_difference(lambda x: x**3, x, np.full((2, 3), 2.0))
    assert np.abs(dx - 6 * x**2).max() <= 1e-8
    assert np.array_equal(x, kept)


# ---- warp ----


def test_warp_by_whole_pixels_is_indexing() -> None:
    x = normal(4, 5, 2)
    for fill_mode, mode in (("nearest", "edge"), ("reflect", "symmetric"), ("wrap", "wrap"), ("constant", "constant")):
        padded = np.pad(x, ((9, 9), (9, 9), (0, 0)), mode, **({"constant_values": 7} if mode == "constant" else {}))
        for bilinear in (True, False):
            y = reference.warp_forward(x, [[1, 0, -9], [0, 1, -9]], (22, 23), fill_mode, 7, bilinear)
            assert np.array_equal(y, padded), (fill_mode, bilinear)


def test_warp_is_linear_between_pixels() -> None:
    ramp = np.arange(5.0)[:, None, None] * 2 + np.arange(6.0)[:, None] * 3
    y = reference.warp_forward(ramp, [[0.5, 0, 0.25], [0, 0.25, 1.125]], (7, 9))
    expected = (np.arange(7)[:, None] * 0.5 + 0.25) * 2 + (np.arange(9) * 0.25 + 1.125) * 3
    assert np.allclose(y[..., 0], expected, rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match="fill_mode must be"):
        reference.warp_forward(ramp, np.eye(2, 3), (1, 1), "mirror")
