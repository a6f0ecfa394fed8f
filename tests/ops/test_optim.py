"""Optimizer steps against the float64 reference, on every instruction set, size and thread count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcnn import _core, reference

Array = NDArray[Any]
NAN, INF = np.nan, np.inf


def sizes() -> list[int]:
    lanes = _core.lanes()
    return [0, 1, lanes - 1, lanes, lanes + 1, 33, 70_001]


def normal(size: int, seed: int = 0, std: float = 1.0) -> Array:
    return (np.random.default_rng(seed).standard_normal(size) * std).astype(np.float32)


def ulps(y: Array, r: Array, scale: Array) -> float:
    return float(np.max(reference.error_ulps(y, r, scale), initial=0))


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(("rate", "momentum"), [(0.01, 0.9), (1.0, 0.0), (1e-7, 0.99), (0.0, 0.5)])
def test_sgd_step(
    isa: str, out: Callable[..., Array], on_threads: Callable[..., Any], rate: float, momentum: float, nesterov: bool
) -> None:
    settings = np.array([rate, momentum, nesterov], np.float64)
    for size in sizes():
        w, g, m = normal(size), normal(size, 1), normal(size, 2, 0.1)

        def run(w: Array = w, g: Array = g, m: Array = m) -> tuple[Array, Array]:
            values, velocity = out(w), out(m)
            _core.sgd_step(values, g, settings, velocity)
            return values, velocity

        values, velocity = on_threads(run)
        r_w, r_m = reference.sgd_step(w, g, m, rate, momentum, nesterov)
        terms = np.abs(momentum * m) + np.abs(rate * g)
        assert ulps(velocity, r_m, terms) <= 4
        assert ulps(values, r_w, np.maximum(np.abs(w), terms)) <= 4


def test_sgd_step_without_momentum(isa: str, out: Callable[..., Array], on_threads: Callable[..., Any]) -> None:
    settings = np.array([0.1, 0.0, 0.0])
    for size in sizes():
        w, g = normal(size), normal(size, 1)

        def run(w: Array = w, g: Array = g) -> Array:
            values = out(w)
            _core.sgd_step(values, g, settings)
            return values

        r, _ = reference.sgd_step(w, g, np.zeros(size), 0.1, 0.0)
        assert ulps(on_threads(run), r, np.maximum(np.abs(w), np.abs(0.1 * g))) <= 4


@pytest.mark.parametrize("t", [1, 2, 1000, 10**7])
@pytest.mark.parametrize("std", [1e-12, 1e-3, 1.0, 1e6])
def test_adam_step(isa: str, out: Callable[..., Array], on_threads: Callable[..., Any], t: int, std: float) -> None:
    numbers: Any = {"lr": 1e-3, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
    settings = np.array([1e-3, 0.9, 0.999, 1e-7, t])
    for size in sizes():
        w, g = normal(size), normal(size, 1, std)
        m = normal(size, 2, std) if t > 1 else np.zeros(size, np.float32)
        v = normal(size, 3, std) ** 2 if t > 1 else np.zeros(size, np.float32)

        def run(w: Array = w, g: Array = g, m: Array = m, v: Array = v) -> tuple[Array, ...]:
            values, first, second = out(w), out(m), out(v)
            _core.adam_step(values, g, first, second, settings)
            return values, first, second

        values, first, second = on_threads(run)
        r_w, r_m, r_v = reference.adam_step(w, g, m, v, t, **numbers)
        terms = np.abs(0.9 * m) + np.abs(0.1 * g)
        assert ulps(first, r_m, terms) <= 4
        assert ulps(second, r_v, r_v) <= 4
        step, _, _ = reference.adam_step(np.zeros(size), np.zeros(size), terms / 0.9, r_v / 0.999, t, **numbers)
        assert ulps(values, r_w, np.maximum(np.abs(w), np.abs(step))) <= 4


def test_many_adam_steps_follow_the_reference(isa: str, out: Callable[..., Array]) -> None:
    w = normal(100)
    values, first, second = out(w), out(np.zeros_like(w)), out(np.zeros_like(w))
    r: tuple[Array, ...] = (w.astype(np.float64), np.zeros(100), np.zeros(100))
    for t in range(1, 51):
        grads = normal(100, t)
        _core.adam_step(values, grads, first, second, np.array([0.01, 0.9, 0.999, 1e-7, t]))
        r = reference.adam_step(r[0], grads, r[1], r[2], t, 0.01, 0.9, 0.999, 1e-7)
    assert ulps(values, r[0], np.abs(w) + 0.5) <= 50


def test_settings_are_read_when_the_step_runs() -> None:
    w, g, settings = np.zeros(5, np.float32), np.ones(5, np.float32), np.array([1.0, 0.0, 0.0])
    program = _core.Program()
    program.sgd_step(w, g, settings)
    settings[0] = 0.25
    program.run()
    assert np.all(w == -0.25)
    settings = np.array([0.0, 0.5, 0.5, 1e-7, 1.0])
    m, v, w = np.zeros(5, np.float32), np.zeros(5, np.float32), np.zeros(5, np.float32)
    program = _core.Program()
    program.adam_step(w, g, m, v, settings)
    settings[0] = 0.125
    program.run()
    assert np.allclose(w, -0.125, rtol=1e-6)
    del settings  # the program keeps it
    program.run()
    assert np.all(w < -0.125)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_non_finite_gradients_stay_at_their_place(isa: str, out: Callable[..., Array], value: float) -> None:
    for size in range(1, 34):
        for place in {0, size // 2, size - 1}:
            g = np.ones(size, np.float32)
            g[place] = value
            zero = np.zeros(size, np.float32)
            plain, heavy, nesterov, adam = out(zero), out(zero), out(zero), out(zero)
            _core.sgd_step(plain, g, np.array([0.1, 0.0, 0.0]))
            _core.sgd_step(heavy, g, np.array([0.1, 0.9, 0.0]), out(zero))
            _core.sgd_step(nesterov, g, np.array([0.1, 0.9, 1.0]), out(zero))
            _core.adam_step(adam, g, out(zero), out(zero), np.array([0.1, 0.9, 0.999, 1e-7, 1.0]))
            for array in (plain, heavy, nesterov, adam):
                assert np.isfinite(array).tolist() == (np.arange(size) != place).tolist()


def arrays(*names: str) -> dict[str, Array]:
    return {name: np.abs(normal(6, seed)).reshape(2, 3) for seed, name in enumerate(names)}


WALL: dict[str, tuple[dict[str, Any], set[str]]] = {
    "sgd_step": ({**arrays("values", "grads", "m"), "settings": np.array([0.1, 0.9, 1.0])}, {"values", "m"}),
    "adam_step": (
        {**arrays("values", "grads", "m", "v"), "settings": np.array([0.1, 0.9, 0.999, 1e-7, 1.0])},
        {"values", "m", "v"},
    ),
}


@pytest.mark.parametrize("op", WALL)
def test_wall(op: str, wall: Callable[..., None]) -> None:
    wall(op, *WALL[op])
