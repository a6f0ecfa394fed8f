"""Winograd's matrices, exactly, and the float64 convolution by them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from reference_arrays import Array, integers, normal, relative

from fastcnn import reference


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
    nested = reference.conv2d_winograd_forward(x, w, padding, nested=True)
    strided = reference.conv2d_winograd_forward(x, w, padding, (2, 2))
    dx = reference.conv2d_winograd_backward_data(dy, w, x.shape, padding)
    dw = reference.conv2d_winograd_backward_weights(x, dy, padding)
    assert relative(y, reference.conv2d_forward(x, w, padding=padding)) <= 1e-12
    assert relative(nested, reference.conv2d_forward(x, w, padding=padding)) <= 1e-12
    assert relative(strided, reference.conv2d_forward(x, w, padding=padding, strides=(2, 2))) <= 1e-12
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
            reference.conv2d_winograd_forward(x, w, padding, (2, 2), absolute=True),
            S(reference.conv2d_forward, x, w, padding=padding, strides=(2, 2)),
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
    with pytest.raises(ValueError, match=r"strides must be \(1, 1\) or \(2, 2\), got \(1, 2\)"):
        reference.conv2d_winograd_forward(np.zeros((1, 6, 6, 2)), np.zeros((3, 3, 2, 4)), strides=(1, 2))
    with pytest.raises(ValueError, match=r"conv2d_winograd_forward: x is \[1, 6, 6, 2\] and w is \[3, 3, 4, 4\]"):
        reference.conv2d_winograd_forward(np.zeros((1, 6, 6, 2)), np.zeros((3, 3, 4, 4)))
    with pytest.raises(ValueError, match="conv2d_winograd_backward_data: padding must be at most 2"):
        reference.conv2d_winograd_backward_data(
            np.zeros((1, 10, 4, 1)), np.zeros((3, 3, 1, 1)), (1, 6, 6, 1), ((3, 3), (0, 0))
        )
