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
UNIT = reference.UNIT_ROUNDOFF


def sizes() -> list[int]:
    lanes = _core.lanes()
    return [0, 1, lanes - 1, lanes, lanes + 1, 33, 70_001]


def normal(size: int, seed: int = 0, std: float = 1.0) -> Array:
    return (np.random.default_rng(seed).standard_normal(size) * std).astype(np.float32)


def ulps(y: Array, r: Array, scale: Array) -> float:
    return float(np.max(reference.error_ulps(y, r, scale), initial=0))


PLAIN = (1.0, INF, 0.0)  # scale, limit and decay that change nothing
UPDATES = [PLAIN, (0.25, INF, 0.0), (1.0, 0.5, 0.0), (0.5, 0.25, 1e-3)]


def settings_of(*numbers: float, update: tuple[float, float, float] = PLAIN) -> Array:
    return np.array([*numbers, *update], np.float64)


def taken(g: Array, update: tuple[float, float, float]) -> Array:
    """Return the gradients that a rule sees."""
    scale, limit, _ = update
    clipped: Array = np.clip(g.astype(np.float64) * np.float32(scale), -np.float32(limit), np.float32(limit))
    return clipped


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(("rate", "momentum"), [(0.01, 0.9), (1.0, 0.0), (1e-7, 0.99), (0.0, 0.5)])
def test_sgd_step(
    isa: str,
    out: Callable[..., Array],
    on_threads: Callable[..., Any],
    rate: float,
    momentum: float,
    nesterov: bool,
    update: tuple[float, float, float],
) -> None:
    settings = settings_of(rate, momentum, nesterov, update=update)
    for size in sizes():
        w, g, m = normal(size), normal(size, 1), normal(size, 2, 0.1)

        def run(w: Array = w, g: Array = g, m: Array = m) -> tuple[Array, Array]:
            values, velocity = out(w), out(m)
            _core.sgd_step(values, g, settings, velocity)
            return values, velocity

        values, velocity = on_threads(run)
        g = taken(g, update)
        r_w, r_m = reference.sgd_step(w, g, m, rate, momentum, nesterov)
        r_w -= update[2] * w
        terms = np.abs(momentum * m) + np.abs(rate * g)
        assert ulps(velocity, r_m, terms) <= 4
        assert ulps(values, r_w, np.maximum(np.abs(w), terms)) <= 4


@pytest.mark.parametrize("update", UPDATES)
def test_sgd_step_without_momentum(
    isa: str, out: Callable[..., Array], on_threads: Callable[..., Any], update: tuple[float, float, float]
) -> None:
    settings = settings_of(0.1, 0.0, 0.0, update=update)
    for size in sizes():
        w, g = normal(size), normal(size, 1)

        def run(w: Array = w, g: Array = g) -> Array:
            values = out(w)
            _core.sgd_step(values, g, settings)
            return values

        g = taken(g, update)
        r, _ = reference.sgd_step(w, g, np.zeros(size), 0.1, 0.0)
        r -= update[2] * w
        assert ulps(on_threads(run), r, np.maximum(np.abs(w), np.abs(0.1 * g))) <= 4


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("update", [PLAIN, UPDATES[-1]])
@pytest.mark.parametrize("t", [1, 2, 1000, 10**7])
@pytest.mark.parametrize("std", [1e-12, 1e-3, 1.0, 1e6])
def test_adam_step(
    isa: str,
    out: Callable[..., Array],
    on_threads: Callable[..., Any],
    t: int,
    std: float,
    update: tuple[float, float, float],
    amsgrad: bool,
) -> None:
    numbers: Any = {"lr": 1e-3, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
    settings = settings_of(1e-3, 0.9, 0.999, 1e-7, t, update=update)
    for size in sizes():
        w, g = normal(size), normal(size, 1, std)
        m = normal(size, 2, std) if t > 1 else np.zeros(size, np.float32)
        v = normal(size, 3, std) ** 2 if t > 1 else np.zeros(size, np.float32)
        most = normal(size, 4, std) ** 2

        def run(w: Array = w, g: Array = g, m: Array = m, v: Array = v, most: Array = most) -> tuple[Array, ...]:
            values, first, second, largest = out(w), out(m), out(v), out(most)
            _core.adam_step(values, g, first, second, settings, largest if amsgrad else None)
            return values, first, second, largest

        values, first, second, largest = on_threads(run)
        g = taken(g, update)
        r_w, r_m, r_v = reference.adam_step(w, g, m, v, t, **numbers)
        root = r_v
        if amsgrad:
            r_w, r_m, r_v, root = reference.amsgrad_step(w, g, m, v, most, t, **numbers)
            assert ulps(largest, root, root) <= 4
        r_w -= update[2] * w
        terms = np.abs(0.9 * m) + np.abs(0.1 * g)
        assert ulps(first, r_m, terms) <= 4
        assert ulps(second, r_v, r_v) <= 4
        step, _, _ = reference.adam_step(np.zeros(size), np.zeros(size), terms / 0.9, root / 0.999, t, **numbers)
        # the decay is added to the step, which rounds their sum once more
        assert ulps(values, r_w, np.maximum(np.abs(w), np.abs(step))) <= (5 if update[2] else 4)


@pytest.mark.parametrize("update", [PLAIN, UPDATES[-1]])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("std", [1e-3, 1.0, 1e6])
def test_rmsprop_step(
    isa: str,
    out: Callable[..., Array],
    on_threads: Callable[..., Any],
    std: float,
    centered: bool,
    momentum: float,
    update: tuple[float, float, float],
) -> None:
    settings = settings_of(1e-2, 0.9, momentum, 1e-7, update=update)
    for size in sizes():
        w, g, m, mean = normal(size), normal(size, 1, std), normal(size, 2, 0.1), normal(size, 3, std)
        v = mean**2 + normal(size, 4, std) ** 2  # as averages of one sequence are: v >= mean^2

        def run(w: Array = w, g: Array = g, v: Array = v, m: Array = m, mean: Array = mean) -> tuple[Array, ...]:
            values, square, velocity, centre = out(w), out(v), out(m), out(mean)
            _core.rmsprop_step(
                values, g, square, settings, velocity if momentum else None, centre if centered else None
            )
            return values, square, velocity, centre

        values, square, velocity, centre = on_threads(run)
        g = taken(g, update)
        r_w, r_v, r_m, r_mean = reference.rmsprop_step(w, g, v, m, mean, 1e-2, 0.9, momentum, 1e-7, centered)
        r_w -= update[2] * w
        assert ulps(square, r_v, r_v) <= 4
        if centered:
            assert ulps(centre, r_mean, np.abs(0.9 * mean) + np.abs(0.1 * g)) <= 4
        # v and mean^2 are rounded a few times each before they cancel; the root halves what is left of it
        under = r_v - r_mean**2 * centered + 1e-7
        lost = 4 * UNIT * (r_v + (np.abs(0.9 * mean) + np.abs(0.1 * g)) ** 2 * centered) / under
        step = 1e-2 * np.abs(g) / np.sqrt(under)
        terms = np.abs(momentum * m) + step
        bound = (4 * UNIT + lost) * terms + 2 * UNIT * np.maximum(np.abs(w), terms)
        assert np.all(lost < 0.5)
        assert np.all(np.abs(values - r_w) <= bound)
        if momentum:
            assert np.all(np.abs(velocity - r_m) <= (4 * UNIT + lost) * terms)


def test_a_centered_variance_is_never_below_zero(isa: str, out: Callable[..., Array]) -> None:
    """Gradients that stay equal leave only rounding errors of v - mean^2, many of which are below -epsilon."""
    g = normal(70_001, 1, 1e4)
    values, v, mean = out(np.zeros_like(g)), out(g * g), out(g)
    _core.rmsprop_step(values, g, v, settings_of(1e-3, 0.9, 0.0, 1e-7), None, mean)
    assert np.sum(v - mean.astype(np.float64) ** 2 < -1e-7) > 10_000
    assert np.isfinite(values).all()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99])
def test_ema_step(
    isa: str, out: Callable[..., Array], on_threads: Callable[..., Any], momentum: float, overwrite: bool
) -> None:
    for size in sizes():
        w, average = normal(size), normal(size, 1)

        def run(w: Array = w, average: Array = average) -> tuple[Array, Array]:
            values, mean = out(w), out(average)
            _core.ema_step(values, mean, np.array([momentum, overwrite], np.float64))
            return values, mean

        values, mean = on_threads(run)
        r = reference.ema_step(w, average, momentum)
        assert ulps(mean, r, np.abs(momentum * average) + np.abs((1 - momentum) * w)) <= 4
        assert values.tobytes() == (mean if overwrite else w).tobytes()
        if momentum == 0:
            assert mean.tobytes() == w.tobytes()


@pytest.mark.parametrize("std", [1e-30, 1.0, 1e30])
def test_squared_norms(isa: str, on_threads: Callable[..., Any], std: float) -> None:
    lengths = [0, 1, 16, 16_384, 16_385, 33, 0, 100_000, 7]
    offsets = np.cumsum([0, *lengths])
    g = normal(int(offsets[-1]), 1, std)

    def run() -> Array:
        sums = np.full(len(lengths), NAN)
        _core.squared_norms(g, offsets, sums)
        return sums

    r = reference.squared_norms(g, offsets)
    # squares of float32 are exact in double; n sums of positive terms lose at most n roundings of 2^-53
    assert np.all(np.abs(on_threads(run) - r) <= np.array(lengths) * 2.0**-52 * r)


def test_squared_norms_show_what_is_not_finite(isa: str) -> None:
    for value in (NAN, INF, -INF):
        for place in (0, 40, 69_999):
            g = np.ones(70_000, np.float32)
            g[place] = value
            sums = np.zeros(2)
            _core.squared_norms(g, np.array([0, 41, 70_000]), sums)
            assert np.isfinite(sums).tolist() == [place > 40, place <= 40]


@pytest.mark.parametrize("offsets", [[0, 7, 6], [1, 3, 6], [0, 3, 5], [0, 7, 7], [0, -1, 6]])
def test_wall_of_offsets(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match=r"^squared_norms: offsets must ascend from 0 to the size of grads, 6"):
        _core.squared_norms(normal(6), np.array(offsets), np.zeros(2))


def test_many_adam_steps_follow_the_reference(isa: str, out: Callable[..., Array]) -> None:
    w = normal(100)
    values, first, second = out(w), out(np.zeros_like(w)), out(np.zeros_like(w))
    r: tuple[Array, ...] = (w.astype(np.float64), np.zeros(100), np.zeros(100))
    for t in range(1, 51):
        grads = normal(100, t)
        _core.adam_step(values, grads, first, second, settings_of(0.01, 0.9, 0.999, 1e-7, t))
        r = reference.adam_step(r[0], grads, r[1], r[2], t, 0.01, 0.9, 0.999, 1e-7)
    assert ulps(values, r[0], np.abs(w) + 0.5) <= 50


def test_settings_are_read_when_the_step_runs() -> None:
    w, g, settings = np.zeros(5, np.float32), np.ones(5, np.float32), settings_of(1.0, 0.0, 0.0)
    program = _core.Program()
    program.sgd_step(w, g, settings)
    settings[0] = 0.25
    program.run()
    assert np.all(w == -0.25)
    settings = settings_of(0.0, 0.5, 0.5, 1e-7, 1.0)
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
            written = [out(zero) for _ in range(8)]
            plain, heavy, nesterov, adam, amsgrad, rmsprop, centered, average = written
            _core.sgd_step(plain, g, settings_of(0.1, 0.0, 0.0))
            _core.sgd_step(heavy, g, settings_of(0.1, 0.9, 0.0), out(zero))
            _core.sgd_step(nesterov, g, settings_of(0.1, 0.9, 1.0), out(zero))
            _core.adam_step(adam, g, out(zero), out(zero), settings_of(0.1, 0.9, 0.999, 1e-7, 1.0))
            _core.adam_step(amsgrad, g, out(zero), out(zero), settings_of(0.1, 0.9, 0.999, 1e-7, 1.0), out(zero))
            _core.rmsprop_step(rmsprop, g, out(zero), settings_of(0.1, 0.9, 0.9, 1e-7), out(zero))
            _core.rmsprop_step(centered, g, out(zero), settings_of(0.1, 0.9, 0.0, 1e-7), None, out(zero))
            _core.ema_step(out(g), average, np.array([0.5, 0.0]))
            for array in written:
                assert np.isfinite(array).tolist() == (np.arange(size) != place).tolist()


# -- with the gradient of a dense layer, which no array holds ----------------------------------------------------------

RULES: dict[str, tuple[int, tuple[float, ...]]] = {  # arrays beside the values, and numbers
    "sgd_step": (1, (0.1, 0.9, 1.0)),
    "adam_step": (3, (1e-3, 0.9, 0.999, 1e-7, 3)),
    "rmsprop_step": (2, (0.1, 0.9, 0.5, 1e-7)),
}


def ruled(rule: str, grads: Any, numbers: Array, values: Array, slots: list[Array]) -> None:
    """Do a rule with all the arrays that it can have."""
    before = 2 if rule == "adam_step" else 1 if rule == "rmsprop_step" else 0
    getattr(_core, rule)(values, grads, *slots[:before], numbers, *slots[before:])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("N", "C", "K"), [(1, 1, 1), (3, 7, 33), (8, 257, 70), (33, 16, 1000), (0, 5, 4), (5, 1000, 1), (2, 600, 700)]
)
def test_gradients_made_in_the_update_give_the_same_bits(
    isa: str, out: Callable[..., Array], on_threads: Callable[..., Any], rule: str, N: int, C: int, K: int
) -> None:
    count, numbers = RULES[rule]
    settings = settings_of(*numbers, update=UPDATES[-1])
    x, dy = normal(N * C).reshape(N, C), normal(N * K, 1).reshape(N, K)
    start = [normal(C * K, 2), *(normal(C * K, 3 + i) ** 2 + 4 for i in range(count))]
    whole = np.empty((C, K), np.float32)
    if N:
        _core.dense_backward_weights(x, dy, whole)
    else:
        whole.fill(0)
    wanted = [array.copy() for array in start]
    ruled(rule, whole.reshape(-1), settings, wanted[0], wanted[1:])

    def run() -> tuple[Array, ...]:
        found = [out(array) for array in start]
        ruled(rule, _core.DenseGradient(x, dy), settings, found[0], found[1:])
        return tuple(found)

    for array, expected in zip(on_threads(run), wanted, strict=True):
        if isa == "avx2x16":  # the compiler splits its vectors, and makes other FMAs of the last one of a range
            assert ulps(array, expected, np.abs(expected) + 1) <= 4
        else:
            assert array.tobytes() == expected.tobytes()


def test_a_gradient_made_in_the_update_must_fit() -> None:
    x, dy, settings = normal(6).reshape(2, 3), normal(8).reshape(2, 4), settings_of(0.1, 0.9, 0.0)
    gradient, w = _core.DenseGradient(x, dy), normal(12)
    assert gradient.x is x
    assert gradient.dy is dy
    for wrong, message in (
        ((x, dy[:1]), r"grads.dy must be \[2, 4\] but is \[1, 4\]"),
        ((x, dy[:, :3].copy()), r"grads has \[3, 3\] weights but values is \[12\]"),
        ((x.reshape(-1), dy), r"grads.x must have rank 2 \[N,C\]"),
        ((x, dy.astype(np.float64)), r"grads.dy"),
        ((x.T.copy().T, dy), r"grads.x"),
    ):
        with pytest.raises((ValueError, TypeError), match=f"^sgd_step: {message}"):
            _core.sgd_step(w, _core.DenseGradient(*wrong), settings)
    for shared in ((w[:6].reshape(2, 3), dy), (x, w[:8].reshape(2, 4))):
        with pytest.raises(ValueError, match=r"^sgd_step: values .* grads\."):
            _core.sgd_step(w, _core.DenseGradient(*shared), settings)
    with pytest.raises(TypeError):
        _core.sgd_step(w, (x, dy), settings)
    program = _core.Program()
    program.sgd_step(w, gradient, settings)
    program.adam_step(w, gradient, np.zeros(12, np.float32), np.zeros(12, np.float32), np.zeros(8))
    assert program.steps == ["dense_sgd_step", "dense_adam_step"]


def arrays(*names: str) -> dict[str, Array]:
    return {name: np.abs(normal(6, seed)).reshape(2, 3) for seed, name in enumerate(names)}


WALL: dict[str, tuple[dict[str, Any], set[str]]] = {
    "sgd_step": ({**arrays("values", "grads", "m"), "settings": settings_of(0.1, 0.9, 1.0)}, {"values", "m"}),
    "adam_step": (
        {**arrays("values", "grads", "m", "v", "v_max"), "settings": settings_of(0.1, 0.9, 0.999, 1e-7, 1.0)},
        {"values", "m", "v", "v_max"},
    ),
    "rmsprop_step": (
        {**arrays("values", "grads", "v", "m", "mean"), "settings": settings_of(0.1, 0.9, 0.9, 1e-7)},
        {"values", "v", "m", "mean"},
    ),
    "ema_step": ({**arrays("values", "average"), "settings": np.array([0.9, 0.0])}, {"values", "average"}),
    "squared_norms": ({"grads": normal(6), "offsets": np.array([0, 2, 6]), "sums": np.zeros(2)}, {"sums"}),
}


@pytest.mark.parametrize("op", WALL)
def test_wall(op: str, wall: Callable[..., None]) -> None:
    wall(op, *WALL[op])
