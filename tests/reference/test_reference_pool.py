"""The float64 pooling against loops and finite differences."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from reference_arrays import assert_gradient, distinct, integers, normal

from fastcnn import reference

NAN, INF = np.nan, np.inf


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
