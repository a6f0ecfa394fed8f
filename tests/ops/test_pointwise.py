"""Elementwise operations against the float64 reference, on every instruction set, size and thread count."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcnn import _core, reference

Array = NDArray[Any]
NAN, INF = np.nan, np.inf
SPECIAL = [NAN, INF, -INF, -0.0, 0.0, 1e-45, -1e-45, 3.4e38, -3.4e38]


def sizes() -> list[int]:
    """Return vector tails, and sizes of several chunks that keep all threads busy."""
    lanes = _core.lanes()
    return [0, 1, lanes - 1, lanes, lanes + 1, 33, 16_384, 70_001]


def normal(size: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def same(a: Array, b: Array) -> bool:
    """Tell whether float32 a is b rounded to float32, NaN for NaN and -0 for -0."""
    with np.errstate(over="ignore"):
        b = b.astype(np.float32)
    numbers = ~np.isnan(b)
    return bool(np.array_equal(np.isnan(a), ~numbers)) and a[numbers].tobytes() == b[numbers].tobytes()


def test_relu_forward(isa: str, out: Callable[..., Array], on_threads: Callable[..., Array]) -> None:
    for size in sizes():
        x = normal(size)

        def run(x: Array = x) -> Array:
            y = out(x.shape)
            _core.relu_forward(x, y)
            in_place = out(x)
            _core.relu_forward(in_place, in_place)
            assert in_place.tobytes() == y.tobytes()
            return y

        assert same(on_threads(run), reference.relu_forward(x))


@pytest.mark.parametrize("accumulate", [False, True])
def test_relu_backward(isa: str, out: Callable[..., Array], on_threads: Callable[..., Array], accumulate: bool) -> None:
    for size in sizes():
        y, dy, before = np.maximum(normal(size), 0), normal(size, 1), normal(size, 2)

        def run(y: Array = y, dy: Array = dy, before: Array = before) -> Array:
            dx = out(before)
            _core.relu_backward(y, dy, dx, accumulate=accumulate)
            if not accumulate:
                in_place = out(dy)
                _core.relu_backward(y, in_place, in_place)
                assert in_place.tobytes() == dx.tobytes()
            return dx

        expected = reference.relu_backward(dy, y)
        assert same(on_threads(run), before + expected.astype(np.float32) if accumulate else expected)


SLOPES = [float(np.float32(slope)) for slope in (0, 0.3, 1, 2.5)]


@pytest.mark.parametrize("slope", SLOPES)
def test_leaky_relu_forward(
    isa: str, out: Callable[..., Array], on_threads: Callable[..., Array], slope: float
) -> None:
    for size in sizes():
        x = normal(size)

        def run(x: Array = x) -> Array:
            y = out(x.shape)
            _core.leaky_relu_forward(x, y, negative_slope=slope)
            in_place = out(x)
            _core.leaky_relu_forward(in_place, in_place, negative_slope=slope)
            assert in_place.tobytes() == y.tobytes()
            return y

        assert same(on_threads(run), reference.leaky_relu_forward(x, slope))


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("accumulate", [False, True])
def test_leaky_relu_backward(
    isa: str, out: Callable[..., Array], on_threads: Callable[..., Array], accumulate: bool, slope: float
) -> None:
    for size in sizes():
        y, dy, before = normal(size), normal(size, 1), normal(size, 2)

        def run(y: Array = y, dy: Array = dy, before: Array = before) -> Array:
            dx = out(before)
            _core.leaky_relu_backward(y, dy, dx, negative_slope=slope, accumulate=accumulate)
            if not accumulate:
                in_place = out(dy)
                _core.leaky_relu_backward(y, in_place, in_place, negative_slope=slope)
                assert in_place.tobytes() == dx.tobytes()
            return dx

        expected = reference.leaky_relu_backward(dy, y, slope)
        if not accumulate:
            assert same(on_threads(run), expected)
            continue
        units = reference.error_units(on_threads(run), before + expected, np.abs(before) + np.abs(expected))
        assert np.all(units <= 2)  # a product and a sum, each rounded once


@pytest.mark.parametrize("std", [1e-3, 1.0, 30.0, 3e37])
def test_sigmoid_forward(isa: str, out: Callable[..., Array], on_threads: Callable[..., Array], std: float) -> None:
    for size in sizes():
        x = (normal(size) * np.float32(std)).astype(np.float32)

        def run(x: Array = x) -> Array:
            y, in_place = out(x.shape), out(x)
            _core.sigmoid_forward(x, y)
            _core.sigmoid_forward(in_place, in_place)
            assert in_place.tobytes() == y.tobytes()
            return y

        assert np.all(reference.error_ulps(on_threads(run), reference.sigmoid_forward(x)) <= 4)


@pytest.mark.parametrize("accumulate", [False, True])
def test_sigmoid_backward(
    isa: str, out: Callable[..., Array], on_threads: Callable[..., Array], accumulate: bool
) -> None:
    for size in sizes():
        y = reference.sigmoid_forward(normal(size)).astype(np.float32)
        dy, before = normal(size, 1), normal(size, 2)

        def run(y: Array = y, dy: Array = dy, before: Array = before) -> Array:
            dx = out(before)
            _core.sigmoid_backward(y, dy, dx, accumulate=accumulate)
            if not accumulate:
                in_place = out(dy)
                _core.sigmoid_backward(y, in_place, in_place)
                assert in_place.tobytes() == dx.tobytes()
            return dx

        r = reference.sigmoid_backward(dy, y)
        S = np.abs(r)
        if accumulate:
            r, S = before + r, np.abs(before) + S
        assert np.all(reference.error_units(on_threads(run), r, S) <= 4)  # a difference, two products and a sum


def test_special_values_of_the_sigmoid(isa: str, out: Callable[..., Array]) -> None:
    for size in range(1, 34):
        for place in {0, size // 2, size - 1}:
            for value, expected in ((NAN, NAN), (INF, 1.0), (-INF, 0.0), (-0.0, 0.5)):
                x = np.ones(size, np.float32)
                x[place] = value
                y = out(x.shape)
                _core.sigmoid_forward(x, y)
                np.testing.assert_array_equal(y[place], np.float32(expected))
                assert np.all(np.delete(y, place) == reference.sigmoid_forward(1.0).astype(np.float32))


BOUNDS = [(INF, 0.0, 0.0), (6.0, 0.0, 0.0), (1.5, 0.25, 0.5), (0.25, 0.0, 0.5), (INF, 2.0, 1.0)]


@pytest.mark.parametrize(("max_value", "slope", "threshold"), BOUNDS)
def test_bounded_relu_forward(
    isa: str,
    out: Callable[..., Array],
    on_threads: Callable[..., Array],
    max_value: float,
    slope: float,
    threshold: float,
) -> None:
    bounds = {"max_value": max_value, "negative_slope": slope, "threshold": threshold}
    for size in sizes():
        x = 4 * normal(size)
        x[: min(size, 4)] = [threshold, -INF, INF, NAN][:size]

        def run(x: Array = x) -> Array:
            y = out(x.shape)
            _core.bounded_relu_forward(x, y, **bounds)
            in_place = out(x)
            _core.bounded_relu_forward(in_place, in_place, **bounds)
            assert in_place.tobytes() == y.tobytes()
            return y

        y, expected = on_threads(run), reference.bounded_relu_forward(x, max_value, slope, threshold)
        finite = np.isfinite(expected)
        assert np.array_equal(y[~finite], expected[~finite].astype(np.float32), equal_nan=True)
        terms = slope * (np.abs(x[finite].astype(np.float64)) + threshold) if slope else 0.0
        assert np.all(np.abs(y[finite] - expected[finite]) <= 2 * reference.UNIT_ROUNDOFF * terms)  # 0: exact


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize(("max_value", "slope", "threshold"), BOUNDS)
def test_bounded_relu_backward(
    isa: str,
    out: Callable[..., Array],
    on_threads: Callable[..., Array],
    accumulate: bool,
    max_value: float,
    slope: float,
    threshold: float,
) -> None:
    bounds = {"max_value": max_value, "negative_slope": slope, "threshold": threshold}
    for size in sizes():
        x, dy, before = 4 * normal(size), normal(size, 1), normal(size, 2)
        x[: min(size, 3)] = [threshold, min(max_value, 99.0), NAN][:size]

        def run(x: Array = x, dy: Array = dy, before: Array = before) -> Array:
            dx = out(before)
            _core.bounded_relu_backward(x, dy, dx, **bounds, accumulate=accumulate)
            if not accumulate:
                in_place = out(dy)
                _core.bounded_relu_backward(x, in_place, in_place, **bounds)
                assert in_place.tobytes() == dx.tobytes()
            return dx

        expected = reference.bounded_relu_backward(dy, x, max_value, slope, threshold)
        base = before if accumulate else np.zeros(size)
        units = reference.error_units(on_threads(run), base + expected, np.abs(base) + np.abs(expected))
        assert np.all(units <= 2)


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 0.9])
def test_dropout(
    isa: str, out: Callable[..., Array], on_threads: Callable[..., Array], rate: float, accumulate: bool
) -> None:
    for size in sizes():
        x, before = normal(size), normal(size, 1)
        state = np.array([-(2**60) + size, 7])

        def run(x: Array = x, before: Array = before, state: Array = state) -> Array:
            y = out(before)
            _core.dropout(x, y, state, rate=rate, accumulate=accumulate)
            if not accumulate:
                in_place = out(x)
                _core.dropout(in_place, in_place, state, rate=rate)
                assert in_place.tobytes() == y.tobytes()
            return y

        y = on_threads(run)
        expected = reference.dropout(x, (int(state[0]) % 2**64, 7), rate)
        base = before if accumulate else np.zeros(size)
        units = reference.error_units(y, base + expected, np.abs(base) + np.abs(expected))
        assert np.all(units <= 3)  # 1/(1-rate), a product and a sum
        if not accumulate:
            assert np.array_equal(y == 0, expected == 0)


def test_dropout_reads_its_state_when_it_runs() -> None:
    x = np.ones(4000, np.float32)
    y, state = np.empty_like(x), np.array([11, 0])
    program = _core.Program()
    program.dropout(x, y, state, rate=0.5)
    masks = []
    for step in range(3):
        state[1] = step
        program.run()
        masks.append(y > 0)
        assert np.array_equal(y, reference.dropout(x, (11, step), 0.5))
    shares = [np.mean(a) for a in masks] + [np.mean(a == b) for a, b in pairwise(masks)]
    assert all(abs(share - 0.5) < 0.04 for share in shares)  # five standard deviations


@pytest.mark.parametrize("parts", [[1, 2], [5], [3, 16, 1], [20_000, 7]])
def test_concatenate(isa: str, out: Callable[..., Array], on_threads: Callable[..., Any], parts: list[int]) -> None:
    rows = 3 if max(parts) > 100 else 1100
    xs = [normal(rows * C, C).reshape(rows, C) for C in parts]
    dy = normal(rows * sum(parts), 1).reshape(rows, -1)
    offsets = np.cumsum([0, *parts[:-1]]).tolist()

    def run() -> tuple[Array, ...]:
        y = out(dy.shape)
        fresh, sums = [out(x.shape) for x in xs], [out(x) for x in xs]
        for x, dx, total, offset in zip(xs, fresh, sums, offsets, strict=True):
            _core.concatenate_forward(x, y, offset=offset)
            _core.concatenate_backward(dy, dx, offset=offset)
            _core.concatenate_backward(dy, total, offset=offset, accumulate=True)
        return (y, *fresh, *sums)

    y, *gradients = on_threads(run)
    assert same(y, reference.concatenate_forward(xs))
    expected = reference.concatenate_backward(dy, parts)
    for i, x in enumerate(xs):
        assert same(gradients[i], expected[i])
        assert same(gradients[len(xs) + i], x + expected[i].astype(np.float32))


def test_wall_of_concatenate() -> None:
    x, y = normal(6).reshape(2, 3), normal(16, 1).reshape(2, 8)
    for offset in (-1, 6):
        with pytest.raises(ValueError, match=rf"^concatenate_forward: offset must lie in 0\.\.5 .* but is {offset}"):
            _core.concatenate_forward(x, y, offset=offset)
        with pytest.raises(ValueError, match=rf"^concatenate_backward: offset must lie in 0\.\.5 .* but is {offset}"):
            _core.concatenate_backward(y, x, offset=offset)
    with pytest.raises(ValueError, match=r"^concatenate_forward: y must be \[3, any\] but is \[2, 8\]"):
        _core.concatenate_forward(normal(9).reshape(3, 3), y, offset=0)
    with pytest.raises(ValueError, match=r"^concatenate_backward: dy must be \[2, any\] but is \[3, 3\]"):
        _core.concatenate_backward(normal(9).reshape(3, 3), x, offset=0)
    with pytest.raises(ValueError, match=r"^concatenate_forward: x must have rank 2"):
        _core.concatenate_forward(normal(6), y, offset=0)
    with pytest.raises(TypeError, match=r"^concatenate_backward: dx must be float32"):
        _core.concatenate_backward(y, x.astype(np.float64), offset=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^concatenate_forward: y shares memory with x"):
        _core.concatenate_forward(x, x, offset=0)
    with pytest.raises(ValueError, match=r"^concatenate_backward: dx shares memory with dy"):
        _core.concatenate_backward(x, x, offset=0)


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.01), (0.5, 0.0), (0.25, 0.125)])
def test_penalty(isa: str, out: Callable[..., Array], on_threads: Callable[..., Any], l1: float, l2: float) -> None:
    for size in sizes():
        w, before = normal(size), normal(size, 1)
        w[: size // 3] = 0

        def run(w: Array = w, before: Array = before) -> tuple[Array, Array]:
            loss, dw = out(np.array([2.0])), out(before)
            _core.penalty_forward(w, loss, l1=l1, l2=l2)
            _core.penalty_backward(w, dw, l1=l1, l2=l2)
            return loss, dw

        loss, dw = on_threads(run)
        assert loss[0] == pytest.approx(2.0 + reference.penalty_forward(w, l1, l2), rel=1e-14)
        expected = reference.penalty_backward(w, l1, l2)
        units = reference.error_units(dw, before + expected, np.abs(before) + l1 + 2 * l2 * np.abs(w))
        assert np.all(units <= 4)


def test_wall_of_penalty() -> None:
    w = normal(6)
    with pytest.raises(TypeError, match=r"^penalty_forward: loss must be float64 but is float32"):
        _core.penalty_forward(w, np.zeros(1, np.float32), l1=0, l2=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^penalty_forward: loss must be \[1\] but is \[2\]"):
        _core.penalty_forward(w, np.zeros(2), l1=0, l2=0)
    with pytest.raises(TypeError, match=r"^penalty_forward: w must be float32 but is float64"):
        _core.penalty_forward(np.zeros(6), np.zeros(1), l1=0, l2=0)  # type: ignore[arg-type]
    for l1, l2, name in ((-1.0, 0.0, "l1"), (0.0, NAN, "l2"), (INF, 0.0, "l1")):
        with pytest.raises(ValueError, match=rf"^penalty_forward: {name} must be a finite number of 0 or more"):
            _core.penalty_forward(w, np.zeros(1), l1=l1, l2=l2)
        with pytest.raises(ValueError, match=rf"^penalty_backward: {name} must be a finite number of 0 or more"):
            _core.penalty_backward(w, normal(6), l1=l1, l2=l2)


@pytest.mark.parametrize("relu", [False, True])
def test_add_forward(isa: str, out: Callable[..., Array], on_threads: Callable[..., Array], relu: bool) -> None:
    for size in sizes():
        a, b = normal(size), normal(size, 1)

        def run(a: Array = a, b: Array = b) -> Array:
            y, in_a, in_b = out(a.shape), out(a), out(b)
            _core.add_forward(a, b, y, relu=relu)
            _core.add_forward(in_a, b, in_a, relu=relu)
            _core.add_forward(a, in_b, in_b, relu=relu)
            assert in_a.tobytes() == in_b.tobytes() == y.tobytes()
            return y

        expected = reference.add_forward(a, b)
        assert same(on_threads(run), reference.relu_forward(expected) if relu else expected)


@pytest.mark.parametrize("accumulate", [False, True])
def test_copy(isa: str, out: Callable[..., Array], on_threads: Callable[..., Array], accumulate: bool) -> None:
    for size in sizes():
        x, before = normal(size), normal(size, 1)

        def run(x: Array = x, before: Array = before) -> Array:
            y = out(before)
            _core.copy(x, y, accumulate=accumulate)
            return y

        assert same(on_threads(run), reference.add_forward(x, before) if accumulate else x)


def test_copy_reshapes(isa: str, out: Callable[..., Array]) -> None:
    x, y = normal(24).reshape(2, 3, 4), out((4, 6))
    _core.copy(x, y)
    assert y.tobytes() == x.tobytes()


def test_scale(isa: str, out: Callable[..., Array], on_threads: Callable[..., Array]) -> None:
    factor, offset = float(np.float32(1 / 127.5)), -1.0
    for size in sizes():
        x = (np.arange(size) % 256).astype(np.float32)

        def run(x: Array = x) -> Array:
            y, in_place = out(x.shape), out(x)
            _core.scale(x, y, factor, offset)
            _core.scale(in_place, in_place, factor, offset)
            assert in_place.tobytes() == y.tobytes()
            return y

        r = x.astype(np.float64) * factor + offset
        units = reference.error_units(on_threads(run), r, np.abs(x.astype(np.float64) * factor) + abs(offset))
        assert np.all(units <= 2)  # a product and a sum, each rounded once


def test_scale_offset_is_zero_by_default(isa: str, out: Callable[..., Array]) -> None:
    x = normal(33)
    y = out(x.shape)
    _core.scale(x, y, 2.0)
    assert same(y, 2.0 * x.astype(np.float64))


def test_fill(isa: str, out: Callable[..., Array], on_threads: Callable[..., Array]) -> None:
    for size in sizes():

        def run(size: int = size) -> Array:
            y = out((size,))
            _core.fill(y, 0.1)
            return y

        assert np.array_equal(on_threads(run), np.full(size, 0.1, np.float32))


@pytest.mark.parametrize("value", SPECIAL)
def test_special_values_at_every_place_of_every_width(isa: str, value: float) -> None:
    for width in range(1, 34):
        x = np.where(np.eye(width, dtype=bool), np.float32(value), np.float32(1.5))  # row i has the value at place i
        ones = np.ones(width, np.float32)
        for row in x:
            y = np.full_like(row, 7)
            _core.relu_forward(row, y)
            assert same(y, reference.relu_forward(row))
            _core.add_forward(row, ones, y)
            assert same(y, reference.add_forward(row, ones))
            _core.copy(row, y)
            assert same(y, row)
            _core.relu_backward(ones, row, y)  # the gradient passes
            assert same(y, row)
            _core.relu_backward(row, ones, y)
            assert same(y, reference.relu_backward(ones, row))
            _core.leaky_relu_forward(row, y, negative_slope=0.25)
            assert same(y, reference.leaky_relu_forward(row, 0.25))
            _core.leaky_relu_backward(ones, row, y, negative_slope=0.25)
            assert same(y, row)
            _core.leaky_relu_backward(row, ones, y, negative_slope=0.25)
            assert same(y, reference.leaky_relu_backward(ones, row, 0.25))


def test_rank_0_and_empty_arrays(isa: str) -> None:
    x, y = np.array(-2, np.float32), np.array(7, np.float32)
    _core.relu_forward(x, y)
    assert y == 0
    _core.relu_forward(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32))


def arrays(*names: str) -> dict[str, Array]:
    return {name: normal(6, seed).reshape(2, 3) for seed, name in enumerate(names)}


BOUND: dict[str, Any] = {"max_value": 6.0, "negative_slope": 0.5, "threshold": 1.0}
STATE: dict[str, Any] = {"state": np.array([3, 5])}
WALL: dict[str, tuple[dict[str, Any], set[str], set[tuple[str, str]]]] = {
    "relu_forward": (arrays("x", "y"), {"y"}, {("y", "x")}),
    "relu_backward": (arrays("y", "dy", "dx"), {"dx"}, {("dx", "dy")}),
    "leaky_relu_forward": ({**arrays("x", "y"), "negative_slope": 0.3}, {"y"}, {("y", "x")}),
    "leaky_relu_backward": ({**arrays("y", "dy", "dx"), "negative_slope": 0.3}, {"dx"}, {("dx", "dy")}),
    "sigmoid_forward": (arrays("x", "y"), {"y"}, {("y", "x")}),
    "sigmoid_backward": (arrays("y", "dy", "dx"), {"dx"}, {("dx", "dy")}),
    "add_forward": (arrays("a", "b", "y"), {"y"}, {("y", "a"), ("y", "b")}),
    "copy": (arrays("x", "y"), {"y"}, set()),
    "scale": ({**arrays("x", "y"), "factor": 2.0}, {"y"}, {("y", "x")}),
    "bounded_relu_forward": ({**arrays("x", "y"), **BOUND}, {"y"}, {("y", "x")}),
    "bounded_relu_backward": ({**arrays("x", "dy", "dx"), **BOUND}, {"dx"}, {("dx", "dy")}),
    "dropout": ({**arrays("x", "y"), **STATE, "rate": 0.5}, {"y"}, {("y", "x")}),
    "penalty_backward": ({**arrays("w", "dw"), "l1": 0.5, "l2": 0.5}, {"dw"}, set()),
}


@pytest.mark.parametrize("op", WALL)
def test_wall(op: str, wall: Callable[..., None]) -> None:
    wall(op, *WALL[op])


def test_wall_of_accumulation_in_place() -> None:
    y, dy = normal(6), normal(6, 1)
    with pytest.raises(ValueError, match=r"^relu_backward: dx shares memory with dy"):
        _core.relu_backward(y, dy, dy, accumulate=True)
    with pytest.raises(ValueError, match=r"^leaky_relu_backward: dx shares memory with dy"):
        _core.leaky_relu_backward(y, dy, dy, negative_slope=0.3, accumulate=True)
    with pytest.raises(ValueError, match=r"^sigmoid_backward: dx shares memory with dy"):
        _core.sigmoid_backward(y, dy, dy, accumulate=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_value": -1.0}, "max_value must be 0 or more"),
        ({"max_value": NAN}, "max_value must be 0 or more"),
        ({"negative_slope": -1.0}, "negative_slope must be a finite float32 of 0 or more"),
        ({"threshold": -1.0}, "threshold must be a finite float32 of 0 or more"),
        ({"threshold": INF}, "threshold must be a finite float32 of 0 or more"),
    ],
)
def test_wall_of_bounds(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^bounded_relu_forward: {message}"):
        _core.bounded_relu_forward(normal(6), normal(6), **{**BOUND, **wrong})
    with pytest.raises(ValueError, match=f"^bounded_relu_backward: {message}"):
        _core.bounded_relu_backward(normal(6), normal(6), normal(6), **{**BOUND, **wrong})


@pytest.mark.parametrize("rate", [-0.1, 1.0, NAN])
def test_wall_of_dropout(rate: float) -> None:
    with pytest.raises(ValueError, match=r"^dropout: rate must lie in \[0, 1\)"):
        _core.dropout(normal(6), normal(6), STATE["state"], rate=rate)
    x = normal(6)
    with pytest.raises(ValueError, match=r"^dropout: y shares memory with x"):
        _core.dropout(x, x, STATE["state"], rate=0.5, accumulate=True)


@pytest.mark.parametrize("slope", [-0.1, NAN, INF, 1e39])
def test_wall_of_slopes(slope: float) -> None:
    a, b, c = normal(6), normal(6), normal(6)
    with pytest.raises(ValueError, match=r"^leaky_relu_forward: negative_slope must be a finite float32 of 0 or more"):
        _core.leaky_relu_forward(a, b, negative_slope=slope)
    with pytest.raises(ValueError, match=r"^leaky_relu_backward: negative_slope must be a finite float32 of 0 or more"):
        _core.leaky_relu_backward(a, b, c, negative_slope=slope)


def test_wall_of_fill() -> None:
    with pytest.raises(TypeError, match=r"^fill: y must be float32 but is float64"):
        _core.fill(np.zeros(3), 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^fill: y must be C-contiguous"):
        _core.fill(np.zeros(6, np.float32)[::2], 1.0)
