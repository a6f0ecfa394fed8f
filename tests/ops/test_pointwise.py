"""Elementwise operations against the float64 reference: exact, on every instruction set, size and thread count."""

from __future__ import annotations

from collections.abc import Callable
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
