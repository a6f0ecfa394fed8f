"""Losses of outputs against the float64 reference, and the reference's gradients against finite differences."""

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
OPS = ("sigmoid_cross_entropy", "categorical_cross_entropy", "binary_cross_entropy", "squared_error")
CLIPPED = OPS[:3]


def shapes() -> list[tuple[int, int]]:
    lanes = _core.lanes()
    return [(3, 1), (3, lanes - 1), (2, lanes + 1), (32, 10), (0, 5), (64, 1001)]


def inputs(op: str, rows: int, C: int, seed: int = 0) -> tuple[Array, Array, Array]:
    """Return x, t, weight: outputs of any sign where the loss takes them, else probabilities within and at the clip."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, C)) * 5
    if op in ("categorical_cross_entropy", "binary_cross_entropy"):
        x = rng.random((rows, C))
        x[rng.random((rows, C)) < 0.1] = 1e-9
        x[rng.random((rows, C)) < 0.1] = 1.0
    t = rng.random((rows, C))
    t[::3] = np.eye(C)[rng.integers(0, C, len(t[::3]))]
    t[1::3] = rng.integers(0, 2, t[1::3].shape)
    return x.astype(np.float32), t.astype(np.float32), rng.random(rows).astype(np.float32)


def call(op: str, x: Array, t: Array, weight: Array, out: Callable[..., Array], **options: Any) -> tuple[Array, ...]:
    loss, dx, p = out(weight.shape), out(x.shape), out(x.shape)
    first = (p,) if op == "sigmoid_cross_entropy" else ()
    getattr(_core, op)(x, t, weight, *first, loss, dx=dx, **options)
    return loss, dx, *first


@pytest.mark.parametrize("op", OPS)
def test_loss_and_gradient(op: str, isa: str, out: Callable[..., Array], on_threads: Callable[..., Any]) -> None:
    """All is computed in double and rounded once: one unit for the rounding, one for the double terms."""
    for rows, C in shapes():
        x, t, weight = inputs(op, rows, C)

        def run(x: Array = x, t: Array = t, weight: Array = weight) -> tuple[Array, ...]:
            return call(op, x, t, weight, out)

        loss, dx, *p = on_threads(run)
        r_loss, r_dx = getattr(reference, op)(x, t)
        r_dx = r_dx * weight[:, None].astype(np.float64)
        assert np.all(reference.error_units(loss, r_loss, np.abs(r_loss)) <= 2)
        terms = np.abs(r_dx) if op != "categorical_cross_entropy" else np.abs(r_dx) + np.abs(t / np.sum(x, 1)[:, None])
        assert np.all(reference.error_units(dx, r_dx, terms, terms=1) <= 2)
        if p:
            assert np.all(reference.error_ulps(p[0], reference.sigmoid_forward(x)) <= 1)


@pytest.mark.parametrize("op", OPS)
def test_without_gradient_the_loss_is_the_same(op: str, isa: str, out: Callable[..., Array]) -> None:
    x, t, weight = inputs(op, 9, 7)
    loss = out(weight.shape)
    first = (out(x.shape),) if op == "sigmoid_cross_entropy" else ()
    getattr(_core, op)(x, t, weight, *first, loss)
    assert loss.tobytes() == call(op, x, t, weight, out)[0].tobytes()


def test_sigmoid_may_take_the_place_of_the_logits(isa: str, out: Callable[..., Array]) -> None:
    x, t, weight = inputs("sigmoid_cross_entropy", 9, 7)
    loss, dx, p = call("sigmoid_cross_entropy", x, t, weight, out)
    in_place, second_loss, second_dx = out(x), out(weight.shape), out(x.shape)
    _core.sigmoid_cross_entropy(in_place, t, weight, in_place, second_loss, dx=second_dx)
    for a, b in ((in_place, p), (second_loss, loss), (second_dx, dx)):
        assert a.tobytes() == b.tobytes()


def test_the_clip_is_that_of_keras(isa: str, out: Callable[..., Array]) -> None:
    """Sure and wrong costs 16.118 where p is clipped from below, 15.942 where 1 - p is; sure and right 1.19e-7."""
    t, weight = np.array([[1], [0], [1], [0]], np.float32), np.ones(4, np.float32)
    expected = [
        -np.log(np.float64(np.float32(1e-7))),
        -np.log(2.0**-23),
        -np.log1p(-(2.0**-23)),
        -np.log1p(-(2.0**-23)),
    ]
    for op, x in (
        ("sigmoid_cross_entropy", [[-99], [99], [99], [-99]]),
        ("binary_cross_entropy", [[0], [1], [1], [0]]),
    ):
        loss = call(op, np.array(x, np.float32), t, weight, out)[0]
        assert np.all(reference.error_ulps(loss, np.array(expected)) <= 1)
    loss = call("sigmoid_cross_entropy", np.array([[-99], [99], [99], [-99]], np.float32), t, weight, out, floor=0.0)[0]
    assert np.all(reference.error_ulps(loss, np.array([99, 99, np.exp(-99.0), np.exp(-99.0)])) <= 1)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_what_is_not_finite_shows_in_its_row_alone(op: str, isa: str, out: Callable[..., Array], value: float) -> None:
    x, t, weight = inputs(op, 5, 4)
    t[:] = 0.5
    clean = call(op, x, t, weight, out)[0]
    x[2, 1] = value
    loss, dx, *_ = call(op, x, t, weight, out)
    if np.isnan(value) or op in ("categorical_cross_entropy", "squared_error"):
        assert not np.isfinite(loss[2])
    others = np.arange(5) != 2
    assert loss[others].tobytes() == clean[others].tobytes()
    assert np.isfinite(dx[others]).all()


@pytest.mark.parametrize("op", OPS)
def test_the_reference_equals_finite_differences(op: str) -> None:
    x, t, _ = inputs(op, 6, 4, seed=3)
    x = x.astype(np.float64)
    if op in ("categorical_cross_entropy", "binary_cross_entropy"):
        x = 0.05 + 0.9 * np.random.default_rng(4).random(x.shape)  # away from the clip, where the loss has a kink
        x[0, 0] = 0 if op == "binary_cross_entropy" else 1e-9  # and within it
    function = getattr(reference, op)
    options = {} if op == "squared_error" else {"floor": 0.0 if op == "sigmoid_cross_entropy" else 1e-7}

    def loss(x: Array) -> Array:
        result: Array = function(x, t, **options)[0]
        return result

    weight = np.random.default_rng(5).random(6)
    slopes = reference.finite_difference(loss, x, weight, eps=1e-8)
    dx = function(x, t, **options)[1] * weight[:, None]
    assert np.all(np.abs(slopes - dx) <= 1e-5 + 1e-3 * np.abs(dx))
    assert np.any(dx != 0)


def arrays(op: str) -> dict[str, Any]:
    x, t, weight = inputs(op, 3, 2)
    given = {"x": x, "t": t, "weight": weight, "loss": weight.copy(), "dx": x.copy()}
    return given | ({"p": x.copy()} if op == "sigmoid_cross_entropy" else {})


@pytest.mark.parametrize("op", OPS)
def test_wall(op: str, wall: Callable[..., None]) -> None:
    given = arrays(op)
    wall(op, given, {"loss", "dx", "p"} & given.keys(), {("p", "x")})


@pytest.mark.parametrize("op", CLIPPED)
@pytest.mark.parametrize("floor", [-1e-7, 0.5, NAN])
def test_wall_of_floors(op: str, floor: float) -> None:
    with pytest.raises(ValueError, match=f"^{op}: floor must be within 0 to 0.5"):
        getattr(_core, op)(**arrays(op), floor=floor)


@pytest.mark.parametrize("op", OPS)
def test_wall_of_shapes(op: str) -> None:
    given = arrays(op)
    with pytest.raises(ValueError, match=rf"^{op}: x must have rank 2 \[N, C\] but is \[6\]"):
        getattr(_core, op)(**given | {"x": np.zeros(6, np.float32)})
    empty = {name: a[:, :0].copy() if a.ndim == 2 else a for name, a in given.items()}
    with pytest.raises(ValueError, match=f"^{op}: x has no outputs"):
        getattr(_core, op)(**empty)
