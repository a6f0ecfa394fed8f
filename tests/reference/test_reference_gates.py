"""Error units and gates: what they allow and what they catch."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from reference_arrays import integers, normal

from fastcnn import reference

NAN, INF = np.nan, np.inf


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
