"""Softmax and its cross-entropy against the float64 reference, on every instruction set, tail and thread count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcnn import _core, reference

Array = NDArray[Any]
NAN, INF = np.nan, np.inf


def shapes() -> list[tuple[int, int]]:
    """Return rows and classes: vector tails, usual numbers of classes, and enough work for all threads."""
    lanes = _core.lanes()
    tails = [(3, C) for C in sorted({1, 2, lanes - 1, lanes, lanes + 1, 2 * lanes, 33})]
    return [*tails, (32, 10), (7, 1000), (0, 5), (64, 1001)]


def normal(*shape: int, seed: int = 0, std: float = 1.0) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * std).astype(np.float32)


def targets(rows: int, C: int) -> Array:
    """Rows in turn: one class, smoothed, nothing, and weights that do not sum to one."""
    t = np.zeros((rows, C), np.float32)
    t[np.arange(rows), np.arange(rows) * 7 % C] = 1
    t[1::4] = t[1::4] * 0.9 + 0.1 / C
    t[2::4] = 0
    t[3::4] *= 2.5
    return t


def units(y: Array, r: Array, S: Array) -> float:
    return float(np.max(reference.error_units(y, r, S), initial=0))


@pytest.mark.parametrize("std", [1e-3, 1.0, 30.0, 3e37])
def test_softmax_forward(isa: str, out: Callable[..., Array], on_threads: Callable[..., Any], std: float) -> None:
    for shape in shapes():
        x = normal(*shape, std=std)

        def run(x: Array = x) -> Array:
            y, in_place = out(x.shape), out(x)
            _core.softmax_forward(x, y)
            _core.softmax_forward(in_place, in_place)
            assert in_place.tobytes() == y.tobytes()
            return y

        assert np.all(reference.error_ulps(on_threads(run), reference.softmax_forward(x)) <= 4)


def test_exponential_over_its_whole_range(isa: str, out: Callable[..., Array]) -> None:
    """A row (0, a) gives exp(a) / (1 + exp(a)): denormal results, and 0 where they round to it, too."""
    a = np.linspace(-110, 0, 40_001, dtype=np.float32)
    x = np.stack([np.zeros_like(a), a], axis=1)
    y = out(x.shape)
    _core.softmax_forward(x, y)
    ulps = reference.error_ulps(y, reference.softmax_forward(x))
    assert np.all(ulps <= 3)
    assert y[0, 1] == 0
    assert 0 < y[np.searchsorted(a, -103), 1] < 2.0**-126


def test_softmax_of_any_rank(isa: str, out: Callable[..., Array]) -> None:
    x = normal(2, 3, 4, 5)
    y, vector = out(x.shape), out((5,))
    _core.softmax_forward(x, y)
    _core.softmax_forward(x[0, 0, 0], vector)
    assert np.all(reference.error_ulps(y, reference.softmax_forward(x)) <= 4)
    assert vector.tobytes() == y[0, 0, 0].tobytes()


def test_classes_are_independent_of_the_row_beside(isa: str, out: Callable[..., Array]) -> None:
    x = normal(9, 33)
    together, alone = out(x.shape), out((1, 33))
    _core.softmax_forward(x, together)
    for row, y in zip(x, together, strict=True):
        _core.softmax_forward(row[None], alone)
        assert alone.tobytes() == y.tobytes()


@pytest.mark.parametrize("accumulate", [False, True])
def test_softmax_backward(
    isa: str, out: Callable[..., Array], on_threads: Callable[..., Any], accumulate: bool
) -> None:
    for shape in shapes():
        y = reference.softmax_forward(normal(*shape)).astype(np.float32)
        dy, before = normal(*shape, seed=1), normal(*shape, seed=2)

        def run(y: Array = y, dy: Array = dy, before: Array = before) -> Array:
            dx = out(before)
            _core.softmax_backward(y, dy, dx, accumulate=accumulate)
            if not accumulate:
                in_place = out(dy)
                _core.softmax_backward(y, in_place, in_place)
                assert in_place.tobytes() == dx.tobytes()
            return dx

        r = reference.softmax_backward(dy, y)
        S = y * (np.abs(dy) + np.sum(np.abs(dy.astype(np.float64) * y), axis=1, keepdims=True))
        if accumulate:
            r, S = before + r, np.abs(before) + S
        assert units(on_threads(run), r, S) <= reference.gate(shape[1])


def clipped_loss(x: Array, t: Array, floor: float) -> Array:
    """Return -sum t*log(clip(p, floor, 1 - floor)) in float64, the bounds rounded to float32 as Keras has them."""
    lowest, highest = np.float32(floor), np.float32(1) - np.float32(floor)
    with np.errstate(divide="ignore"):
        log_p = np.clip(reference.log_softmax(x), np.log(np.float64(lowest)), np.log(np.float64(highest)))
    loss: Array = -np.sum(np.where(t == 0, 0, t * log_p), axis=1)
    return loss


@pytest.mark.parametrize("floor", [0.0, 1e-7])
@pytest.mark.parametrize("std", [1.0, 30.0, 1e4])
def test_softmax_cross_entropy(
    isa: str, out: Callable[..., Array], on_threads: Callable[..., Any], std: float, floor: float
) -> None:
    for rows, C in shapes():
        x, t = normal(rows, C, std=std), targets(rows, C)
        weight = np.abs(normal(rows, seed=1)) / max(rows, 1)

        def run(x: Array = x, t: Array = t, weight: Array = weight) -> tuple[Array, ...]:
            p, loss, dx = out(x.shape), out(weight.shape), out(x.shape)
            _core.softmax_cross_entropy(x, t, weight, p, loss, floor=floor, dx=dx)
            in_place, only_loss = out(x), out(weight.shape)
            _core.softmax_cross_entropy(in_place, t, weight, in_place, only_loss, floor=floor)
            assert in_place.tobytes() == p.tobytes()
            assert only_loss.tobytes() == loss.tobytes()
            return p, loss, dx

        p, loss, dx = on_threads(run)
        r = reference.softmax_forward(x)
        assert np.all(reference.error_ulps(p, r) <= 4)
        largest = np.max(np.abs(x), axis=1)
        r_loss = clipped_loss(x, t, floor)
        assert units(loss, r_loss, np.abs(r_loss) + t.sum(axis=1) * largest) <= 4
        sums = t.sum(axis=1, dtype=np.float64)[:, None]
        S = (r * sums + t) * weight[:, None]
        # 4 ULP of p are up to 8 units; below the normal numbers a unit is one of the smallest steps
        assert np.all(np.abs(dx - (r * sums - t) * weight[:, None]) <= 12 * (reference.UNIT_ROUNDOFF * S + 2.0**-149))


def test_losses_are_those_of_keras(isa: str, out: Callable[..., Array]) -> None:
    x = np.array([[50, -50, 0], [50, -50, 0]], np.float32)
    t = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    p, loss = out(x.shape), out((2,))
    _core.softmax_cross_entropy(x, t, np.ones(2, np.float32), p, loss)
    assert np.allclose(loss, [1.19209e-7, 16.118095], rtol=1e-5)
    _core.softmax_cross_entropy(x, t, np.ones(2, np.float32), p, loss, floor=0.0)
    assert loss[0] < 1e-20
    assert loss[1] == 100


def test_loss_from_logits_is_finite_where_probabilities_underflow(isa: str, out: Callable[..., Array]) -> None:
    x = np.array([[0, -1000, 3e38]], np.float32)
    for place, expected in enumerate([3e38, 3e38, 0]):
        p, loss, dx = out(x.shape), out((1,)), out(x.shape)
        t = np.eye(3, dtype=np.float32)[place : place + 1]
        _core.softmax_cross_entropy(x, t, np.ones(1, np.float32), p, loss, floor=0.0, dx=dx)
        assert p.tolist() == [[0, 0, 1]]
        assert loss[0] == np.float32(expected)
        assert np.array_equal(dx, p - t)


def test_impossible_classes_that_are_not_wanted_cost_nothing(isa: str, out: Callable[..., Array]) -> None:
    x, t = np.array([[-INF, 1, 1]], np.float32), np.array([[0, 0.5, 0.5]], np.float32)
    p, loss = out(x.shape), out((1,))
    _core.softmax_cross_entropy(x, t, np.ones(1, np.float32), p, loss, floor=0.0)
    assert loss[0] == np.float32(np.log(2))
    _core.softmax_cross_entropy(x, t[:, ::-1].copy(), np.ones(1, np.float32), p, loss, floor=0.0)
    assert loss[0] == INF


# A row of three values and the softmax of it.
ROWS: list[tuple[list[float], list[float]]] = [
    ([NAN, 1, 2], [NAN] * 3),
    ([1, 2, NAN], [NAN] * 3),
    ([INF, 1, 2], [NAN] * 3),
    ([1, INF, -INF], [NAN] * 3),
    ([-INF, -INF, -INF], [NAN] * 3),
    ([-INF, 0, -INF], [0, 1, 0]),
    ([-INF, 2, 2], [0, 0.5, 0.5]),
    ([3.4e38, -3.4e38, 3.4e38], [0.5, 0, 0.5]),
    ([-0.0, 0.0, -INF], [0.5, 0.5, 0]),
]


@pytest.mark.parametrize(("row", "expected"), ROWS)
def test_special_values_at_every_width(
    isa: str, out: Callable[..., Array], row: list[float], expected: list[float]
) -> None:
    for C in range(3, 34):
        for places in ([0, 1, 2], [C - 3, C - 2, C - 1], [0, C // 2, C - 1]):
            x = np.full((2, C), -INF, np.float32)
            x[0, places], x[1] = row, 1
            y, p, loss, dx = out(x.shape), out(x.shape), out((2,)), out(x.shape)
            _core.softmax_forward(x, y)
            _core.softmax_cross_entropy(x, np.ones_like(x), np.ones(2, np.float32), p, loss, dx=dx)
            r = np.zeros(C) if not np.isnan(expected[0]) else np.full(C, NAN)
            r[places] = expected
            assert np.array_equal(y[0], r.astype(np.float32), equal_nan=True)
            assert p.tobytes() == y.tobytes()
            assert np.isnan(loss[0]) == np.isnan(expected[0]) == np.all(np.isnan(dx[0]))
            assert np.all(np.isfinite(y[1]))
            assert np.isfinite(loss[1])


X = normal(4, 3)
ROW = normal(4)
WALL: dict[str, tuple[dict[str, Any], set[str], set[tuple[str, str]]]] = {
    "softmax_forward": ({"x": X, "y": X.copy()}, {"y"}, {("y", "x")}),
    "softmax_backward": ({"y": X, "dy": X.copy(), "dx": X.copy()}, {"dx"}, {("dx", "dy")}),
    "softmax_cross_entropy": (
        {
            **{name: X.copy() for name in ("x", "t", "p", "dx")},
            **{name: ROW.copy() for name in ("weight", "loss")},
        },
        {"p", "loss", "dx"},
        {("p", "x")},
    ),
}


@pytest.mark.parametrize("op", WALL)
def test_wall(op: str, wall: Callable[..., None]) -> None:
    wall(op, *WALL[op])


@pytest.mark.parametrize("floor", [-1e-7, 0.5, NAN])
def test_wall_of_floor(floor: float) -> None:
    with pytest.raises(ValueError, match=r"^softmax_cross_entropy: floor must be within 0 to 0.5 but is"):
        _core.softmax_cross_entropy(**WALL["softmax_cross_entropy"][0], floor=floor)


def test_wall_of_shapes() -> None:
    with pytest.raises(ValueError, match=r"^softmax_cross_entropy: x must have rank 2 \[N, C\] but is \[4\]"):
        _core.softmax_cross_entropy(ROW, ROW, ROW, ROW, ROW)
    empty, scalar = np.zeros((3, 0), np.float32), np.zeros((), np.float32)
    with pytest.raises(ValueError, match=r"^softmax_forward: x has no classes"):
        _core.softmax_forward(empty, empty)
    with pytest.raises(ValueError, match=r"^softmax_forward: x must be \[..., C\] but has no axis"):
        _core.softmax_forward(scalar, scalar)
    dy = X.copy()
    with pytest.raises(ValueError, match=r"^softmax_backward: dx shares memory with dy"):
        _core.softmax_backward(X, dy, dy, accumulate=True)
