"""Corner cases of dense layers and column sums and their verdicts, in float64 and in exact integer arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from conv_cases import OnThreads, Out, integers, normal, row
from verdict import Array, Deck, Expected, Verdict, call, each_isa

from fastcnn import reference


@dataclass(frozen=True)
class DenseCase:
    """y[N,K] = x[N,C] w[C,K]; `seed` makes the data and chooses bias, ReLU and accumulation."""

    N: int
    C: int
    K: int
    seed: int = 0

    def __str__(self) -> str:
        return f"N{self.N}C{self.C}K{self.K}-seed{self.seed}"


def dense_corner_cases(seed: int) -> Iterator[DenseCase]:
    """Yield shapes without end: every vector and panel tail, one row and several."""
    rng = np.random.default_rng(seed)
    rows, channels = Deck(rng, (1, 1, 2, 3, 4, 5, 7, 13, 16, 17)), Deck(rng, [*range(1, 34), 48, 64, 65, 100, 130])
    for index in range(1 << 40):
        yield DenseCase(rows.deal(), channels.deal(), channels.deal(), seed * 1_000_003 + index)


# Several blocks of depth, of columns and of rows; both schedules; enough work for all threads.
LARGE_DENSE_SHAPES = [
    DenseCase(1, 600, 700),
    DenseCase(1, 257, 1000),
    DenseCase(1, 33, 8300),
    DenseCase(2, 600, 258),
    DenseCase(4, 70, 2100),
    DenseCase(5, 520, 300),
    DenseCase(13, 300, 130),
    DenseCase(16, 257, 515),
    DenseCase(17, 300, 130),
    DenseCase(8, 257, 515),
    DenseCase(50, 33, 200),
    DenseCase(600, 30, 70),
]
LARGE_DENSE_CASES = [replace(case, seed=seed) for seed, case in enumerate(LARGE_DENSE_SHAPES)]


class DenseData:
    """The arrays of a case and what they must give."""

    def __init__(self, case: DenseCase) -> None:
        rng = np.random.default_rng(case.seed)
        N, C, K = case.N, case.C, case.K
        self.bits = [bool(bit) for bit in rng.integers(0, 2, 5)]
        self.x, self.w, self.dy, self.bias = normal(rng, N, C), normal(rng, C, K), normal(rng, N, K), normal(rng, K)
        self.before_x, self.before_w, self.before_b = normal(rng, N, C), normal(rng, C, K), normal(rng, K)
        self.y = expected(C, reference.dense_forward, self.x, self.w)
        self.dx = expected(K, reference.dense_backward_data, self.dy, self.w)
        self.dw = expected(N, reference.dense_backward_weights, self.x, self.dy)
        self.db = expected(N, reference.dense_backward_bias, self.dy)


def expected(terms: int, operation: Any, *arrays: Array) -> Expected:
    return Expected(operation(*arrays), reference.magnitude(operation, *arrays), terms)


def judge_dense(case: DenseCase, out: Out, on_threads: OnThreads) -> Iterator[Verdict]:
    """Yield a verdict for every operation and instruction set; the bits of all thread counts are equal."""
    data = DenseData(case)
    for isa in each_isa():
        for judge in (dense_forward, dense_backward_data, dense_backward_weights, bias_backward):
            yield from row(judge.__name__, "gemm", isa, str(case), judge, data, out, on_threads)


def dense_forward(data: DenseData, out: Out, on_threads: OnThreads) -> dict[str, Any]:
    with_bias, with_relu = data.bits[:2]

    def run() -> Array:
        y = out(data.y.r.shape)
        call("dense_forward", data.x, data.w, y, bias=data.bias if with_bias else None, relu=with_relu)
        return y

    result = data.y.plus(data.bias) if with_bias else data.y
    return (result.relu() if with_relu else result).judge(on_threads(run), "gemm")


def gradient(
    op: str,
    arrays: tuple[Array, ...],
    result: Expected,
    before: Array,
    accumulate: bool,
    out: Out,
    on_threads: OnThreads,
) -> dict[str, Any]:
    def run() -> Array:
        gradient = out(before) if accumulate else out(before.shape)
        call(op, *arrays, gradient, accumulate=accumulate)
        return gradient

    return (result.plus(before) if accumulate else result).judge(on_threads(run), "gemm")


def dense_backward_data(d: DenseData, out: Out, on_threads: OnThreads) -> dict[str, Any]:
    return gradient("dense_backward_data", (d.dy, d.w), d.dx, d.before_x, d.bits[2], out, on_threads)


def dense_backward_weights(d: DenseData, out: Out, on_threads: OnThreads) -> dict[str, Any]:
    return gradient("dense_backward_weights", (d.x, d.dy), d.dw, d.before_w, d.bits[3], out, on_threads)


def bias_backward(d: DenseData, out: Out, on_threads: OnThreads) -> dict[str, Any]:
    return gradient("bias_backward", (d.dy,), d.db, d.before_b, d.bits[4], out, on_threads)


def judge_dense_exact(case: DenseCase, out: Out) -> Iterator[Verdict]:
    """Yield verdicts on small integers: exact in every order of summation, and the adjoint identities."""
    rng = np.random.default_rng(case.seed)
    N, C, K = case.N, case.C, case.K
    x, w, g, bias = integers(rng, N, C), integers(rng, C, K), integers(rng, N, K), integers(rng, K)
    before = {"x": integers(rng, N, C), "w": integers(rng, C, K), "b": integers(rng, K)}
    for isa in each_isa():
        y, with_bias = out((N, K)), out((N, K))
        call("dense_forward", x, w, y)
        call("dense_forward", x, w, with_bias, bias=bias)
        found = {"dense_forward": np.array_equal(y, x @ w) and np.array_equal(with_bias, x @ w + bias)}
        gradients = {}
        for op, arrays, name, r in (
            ("dense_backward_data", (g, w), "x", g @ w.T),
            ("dense_backward_weights", (x, g), "w", x.T @ g),
            ("bias_backward", (g,), "b", g.sum(0)),
        ):
            gradients[name], more = out(r.shape), out(before[name])
            call(op, *arrays, gradients[name])
            call(op, *arrays, more, accumulate=True)
            found[op] = np.array_equal(gradients[name], r) and np.array_equal(more, r + before[name])
        for op, exact in found.items():
            yield Verdict(op, "gemm", isa, str(case), problem="" if exact else "integers are not exact")
        pairs = ((y, g), (gradients["x"], x), (gradients["w"], w))
        products = [np.vdot(a.astype(np.float64), b) for a, b in pairs]
        problem = "" if products[0] == products[1] == products[2] else f"<y, g>, <x, dx>, <w, dw> are {products}"
        yield Verdict("dense adjoint", "gemm", isa, str(case), problem=problem)
