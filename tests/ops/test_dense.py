"""Dense layers and column sums, forward and backward, on every instruction set against the float64 reference.

A failure names its row: dense_backward_data[avx2-gemm-N7C33K16].
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest
from conv_cases import OnThreads, Out, integers, normal
from dense_cases import (
    LARGE_DENSE_CASES,
    DenseCase,
    dense_corner_cases,
    expected,
    judge_dense,
    judge_dense_exact,
)
from verdict import Array, Expected, each_isa, same_bits

from fastcnn import _core, reference

CASES = [*LARGE_DENSE_CASES, *islice(dense_corner_cases(seed=1), 80)]
SPECIAL = np.array([np.nan, np.inf, -np.inf], np.float32)
WIDTHS = range(1, 34)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_corner_cases(case: DenseCase, out: Out, on_threads: OnThreads) -> None:
    wrong = [str(verdict) for verdict in judge_dense(case, out, on_threads) if not verdict.ok]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_integers_and_adjoint_identities(case: DenseCase, out: Out) -> None:
    wrong = [str(verdict) for verdict in judge_dense_exact(case, out) if not verdict.ok]
    assert not wrong, "\n".join(wrong)


BATCHES = [DenseCase(20, 300, 130), DenseCase(20, 33, 17), DenseCase(20, 64, 64), DenseCase(20, 257, 5)]


@pytest.mark.parametrize("case", BATCHES, ids=str)
def test_a_row_does_not_depend_on_its_batch(isa: str, case: DenseCase) -> None:
    rng = np.random.default_rng(0)
    x, w, bias = normal(rng, case.N, case.C), normal(rng, case.C, case.K), normal(rng, case.K)

    def run(first: int, last: int) -> Array:
        y = np.full((last - first, case.K), np.nan, np.float32)
        _core.dense_forward(x[first:last], w, y, bias=bias, relu=True)
        return y

    pieces = [run(first, last) for first, last in ((0, 1), (1, 3), (3, 13), (13, 20))]
    assert same_bits(run(0, case.N), np.concatenate(pieces))


@pytest.mark.parametrize("shape", [(700, 70), (3, 20, 25, 33), (1025, 5), (5, 1), (9,)])
def test_bias_backward_of_any_rank(out: Out, on_threads: OnThreads, isa: str, shape: tuple[int, ...]) -> None:
    dy = normal(np.random.default_rng(0), *shape)
    before = normal(np.random.default_rng(1), shape[-1])
    rows = dy.reshape(-1, shape[-1])
    sums = expected(len(rows), reference.dense_backward_bias, rows)
    for accumulate in (False, True):

        def run(accumulate: bool = accumulate) -> Array:
            db = out(before) if accumulate else out(before.shape)
            _core.bias_backward(dy, db, accumulate=accumulate)
            return db

        verdict = (sums.plus(before) if accumulate else sums).judge(on_threads(run), "gemm")
        assert verdict["units"] <= verdict["gate"]


def check(row: str, y: Array, expected: Expected) -> None:
    verdict = expected.judge(y, "gemm")
    assert verdict["units"] <= verdict["gate"], row


@pytest.mark.parametrize("width", WIDTHS)
def test_special_values_at_every_place_of_every_width(width: int, out: Out) -> None:
    """Row i has special value i // width at place i % width: what comes out is the reference's, NaN for NaN."""
    rng = np.random.default_rng(width)
    at = np.arange(3 * width)
    x, w, bias = normal(rng, len(at), width), normal(rng, width, width), normal(rng, width)
    special, special_bias, every_other = x.copy(), bias.copy(), np.arange(0, width, 2)
    special[at, at % width] = SPECIAL[at // width]
    special_bias[every_other] = SPECIAL[every_other % 3]
    special_w = w.copy()
    special_w[every_other, every_other] = SPECIAL[every_other % 3]
    y = expected(width, reference.dense_forward, special, w)
    y_of_bias = expected(width, reference.dense_forward, x, w).plus(special_bias)
    y_of_w = expected(width, reference.dense_forward, x, special_w)
    dx = expected(width, reference.dense_backward_data, special, w)
    dx_of_w = expected(width, reference.dense_backward_data, x, special_w)
    forward = [(special, w, None, y), (x, w, special_bias, y_of_bias), (x, special_w, None, y_of_w)]
    pairs = [(special[[row]], x[[row + 1]]) for row in range(0, len(at) - 1, 2)] + [(x[:3], special[:3])]
    for isa in each_isa():
        row = f"{{}}[{isa}-width {width}]"
        for a, b, c, result in forward:
            check(row.format("dense_forward"), run_forward(a, b, c), result.relu())
            alone = np.concatenate([run_forward(one, b, c) for one in a[:, None]])
            check(row.format("dense_forward"), alone, result.relu())
        for a, b, result in ((special, w, dx), (x, special_w, dx_of_w)):
            found = out(x.shape)
            _core.dense_backward_data(a, b, found)
            check(row.format("dense_backward_data"), found, result)
        for a, b in pairs:
            found = out((width, width))
            _core.dense_backward_weights(a, b, found)
            sums = expected(len(a), reference.dense_backward_weights, a, b)
            check(row.format("dense_backward_weights"), found, sums)
        for one in special:
            found, both = out((width,)), np.stack([one, bias])
            _core.bias_backward(both, found)
            check(row.format("bias_backward"), found, expected(2, reference.dense_backward_bias, both))


def run_forward(x: Array, w: Array, bias: Array | None) -> Array:
    y = np.zeros((len(x), w.shape[1]), np.float32)
    _core.dense_forward(x, w, y, bias=bias, relu=True)
    return y


@pytest.mark.parametrize("rows", [1, 5])
def test_denormals_are_kept(isa: str, rows: int) -> None:
    """Multiples of 2^-149 have exact sums; flushing them would give zeros."""
    rng = np.random.default_rng(1)
    x, w, dy = integers(rng, rows, 19), integers(rng, 19, 33), integers(rng, rows, 33)
    tiny = np.float32(reference.SMALLEST_FLOAT32)
    y, dx, dw, db = (np.zeros(shape, np.float32) for shape in ((rows, 33), (rows, 19), (19, 33), (33,)))
    _core.dense_forward(x * tiny, w, y)
    _core.dense_backward_data(dy * tiny, w, dx)
    _core.dense_backward_weights(x, dy * tiny, dw)
    _core.bias_backward(dy * tiny, db)
    for found, r in ((y, x @ w), (dx, dy @ w.T), (dw, x.T @ dy), (db, dy.sum(0))):
        assert np.array_equal(found, r * tiny)
        assert np.any(found)


def test_empty_batch(isa: str) -> None:
    none, w, bias = np.zeros((0, 3), np.float32), np.ones((3, 3), np.float32), np.ones(3, np.float32)
    _core.dense_forward(none, w, none.copy(), bias=bias)
    _core.dense_backward_data(none, w, none.copy())
    with pytest.raises(ValueError, match=r"^dense_backward_weights: x holds no row"):
        _core.dense_backward_weights(none, none, w)
    with pytest.raises(ValueError, match=r"^bias_backward: dy must be .* not empty"):
        _core.bias_backward(none, bias)
    assert np.all(w == 1)
    assert np.all(bias == 1)


def arrays(**shapes: tuple[int, ...]) -> dict[str, Array]:
    return {name: normal(np.random.default_rng(seed), *shape) for seed, (name, shape) in enumerate(shapes.items())}


WALL: dict[str, tuple[dict[str, Array], str]] = {
    "dense_forward": (arrays(x=(4, 5), w=(5, 6), y=(4, 6), bias=(6,)), "y"),
    "dense_backward_data": (arrays(dy=(4, 6), w=(5, 6), dx=(4, 5)), "dx"),
    "dense_backward_weights": (arrays(x=(4, 5), dy=(4, 6), dw=(5, 6)), "dw"),
}


@pytest.mark.parametrize("op", WALL)
def test_wall(isa: str, op: str, wall: Callable[..., None]) -> None:
    arguments, output = WALL[op]
    wall(op, arguments, {output})


def test_wall_of_square_arrays(isa: str, wall: Callable[..., None]) -> None:
    """Arrays of one shape, so that an output could be an input."""
    for op, (arguments, output) in WALL.items():
        square = {name: np.ones((4,) * array.ndim, np.float32) for name, array in arguments.items()}
        wall(op, square, {output})


def test_wall_of_messages() -> None:
    def refused(op: str, sentence: str, *arguments: Any, **options: Any) -> None:
        with pytest.raises(ValueError, match=f"^{op}: {sentence}"):
            getattr(_core, op)(*arguments, **options)

    x, w, y = (np.zeros(shape, np.float32) for shape in ((4, 5), (6, 3), (4, 3)))
    refused("dense_forward", r"w has 6 input channels but x has 5 \(x is \[4, 5\], w is \[6, 3\]\)", x, w, y)
    refused("dense_forward", r"x must have rank 2 \[N,channels\]", x[0], w, y)
    refused("dense_forward", r"w must not be empty but is \[5, 0\]", x, np.zeros((5, 0), np.float32), y)
    refused("dense_forward", r"y must be \[4, 3\] but is \[3, 4\]", x, w[:5], y.reshape(3, 4))
    refused("dense_forward", r"x must be C-contiguous", x[:, ::-1], w[:5], y)
    refused("dense_backward_data", r"dy must be \[4, 3\] but is \[4, 5\]", x, w, np.zeros((4, 6), np.float32))
    refused("dense_backward_weights", r"dy must be \[4, 3\]", x, np.zeros((5, 3), np.float32), w[:5])


def test_wall_of_bias_backward(isa: str) -> None:
    def refused(error: type[Exception], sentence: str, dy: Array, db: Array) -> None:
        with pytest.raises(error, match=f"^bias_backward: {sentence}"):
            _core.bias_backward(dy, db)

    dy, db = np.ones((4, 6), np.float32), np.ones(6, np.float32)
    refused(ValueError, r"db must be \[6\] but is \[5\]", dy, np.ones(5, np.float32))
    refused(ValueError, "dy must be .*not empty", np.ones((), np.float32), db)
    refused(ValueError, "dy must be C-contiguous", dy[:, ::-1], db)
    refused(ValueError, "db shares memory with dy", dy, dy[0])
    refused(TypeError, "dy must be float32 but is float64", dy.astype(np.float64), db)
    refused(TypeError, "db must be float32 but is >f4", dy, db.astype(">f4"))
    frozen = db.copy()
    frozen.flags.writeable = False
    refused(ValueError, "db is read-only", dy, frozen)
    refused(ValueError, "db must be C-contiguous", dy, np.ones(12, np.float32)[::2])
