"""The float64 pointwise operations and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
from reference_arrays import assert_gradient, distinct, normal

from fastcnn import reference

NAN, INF = np.nan, np.inf


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


def test_sigmoid() -> None:
    assert reference.sigmoid_forward([0.0, 1e4, -1e4, np.log(3)]).tolist() == [0.5, 1.0, 0.0, 0.75]
    x, dy = normal(20) * 3, normal(20, seed=1)
    assert_gradient(reference.sigmoid_forward, x, dy, reference.sigmoid_backward(dy, reference.sigmoid_forward(x)))
