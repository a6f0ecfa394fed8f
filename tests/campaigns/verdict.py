"""What a case must equal, and how near a kernel came: the verdicts that tests assert and campaigns tabulate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn import _core, reference

Array = NDArray[Any]


@dataclass(frozen=True)
class Verdict:
    """One case of one operation, algorithm and instruction set: its worst error against its gate, or a problem."""

    op: str
    algorithm: str
    isa: str
    case: str
    units: float = 0.0
    gate: float = 0.0  # 0: exact
    problem: str = ""

    @property
    def ok(self) -> bool:
        return not self.problem and self.units <= self.gate

    def __str__(self) -> str:
        found = self.problem or f"error {self.units:.4g}, gate {self.gate:.4g}"
        return f"{self.op}[{self.isa}-{self.algorithm}-{self.case}]: {found}"


@dataclass(frozen=True)
class Expected:
    """A float64 result r and its magnitudes: S of a direct sum of `terms` products, S_w of Winograd over `channels`.

    Where Winograd computes the gradient of weights, `channels` are the tiles that it sums.
    """

    r: Array
    S: Array
    terms: int
    S_w: Array | None = None
    channels: int = 0
    roundings: int = 0  # of each product beyond the product itself, as when weights are scaled in float32

    def plus(self, addend: Array) -> Expected:
        a = addend.astype(np.float64)
        S_w = None if self.S_w is None else self.S_w + np.abs(a)
        return replace(self, r=self.r + a, S=self.S + np.abs(a), S_w=S_w, terms=self.terms + 1)

    def scaled(self, scale: Array) -> Expected:
        S_w = None if self.S_w is None else self.S_w * np.abs(scale)
        return replace(self, r=self.r * scale, S=self.S * np.abs(scale), S_w=S_w, roundings=2)

    def relu(self) -> Expected:
        return replace(self, r=reference.relu_forward(self.r))

    def pooled(self) -> Expected:
        """The maxima of 2x2 windows: the error of a maximum is at most the largest of its candidates'."""
        S_w = None if self.S_w is None else windows_2x2(self.S_w).max(axis=3)
        return replace(self, r=windows_2x2(self.r).max(axis=3), S=windows_2x2(self.S).max(axis=3), S_w=S_w)

    def judge(self, y: Array, algorithm: str) -> dict[str, float]:
        """Return the worst error of y and its gate, as Verdict takes them."""
        if algorithm.startswith("winograd"):
            assert self.S_w is not None
            S, gate = self.S_w, reference.winograd_gate(self.channels)
        else:
            S, gate = self.S, reference.gate(self.terms)
        units = reference.error_units(y, self.r, S, self.terms)
        return {"units": float(units.max(initial=0.0)), "gate": gate + self.roundings}


def windows_2x2(y: Array) -> Array:
    """Return the 2x2 windows of y [N,P,Q,K] as [N,P/2,Q/2,4,K]; an odd last row or column is left out."""
    N, P, Q, K = y.shape
    even = y[:, : P // 2 * 2, : Q // 2 * 2].reshape(N, P // 2, 2, Q // 2, 2, K)
    return even.transpose(0, 1, 3, 2, 4, 5).reshape(N, P // 2, Q // 2, 4, K)


def same_bits(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def call(op: str, *arguments: Any, **options: Any) -> None:
    """Run one operation in scratch memory full of NaN: what it reads there, it must have written."""
    scratch = _core.Arena()
    program = _core.Program(scratch)
    getattr(program, op)(*arguments, **options)
    scratch.bytes()[:] = 0xFF
    program.run()


def each_isa() -> Iterator[str]:
    """Switch to one instruction set of this build and CPU after the other, and back at the end."""
    before = _core.isa()
    try:
        for isa in _core.isas():
            _core.set_isa(isa)
            assert _core.isa() == isa
            yield isa
    finally:
        _core.set_isa(before)


class Deck:
    """Levels dealt in random order, each once before any comes again."""

    def __init__(self, rng: np.random.Generator, levels: Sequence[Any]) -> None:
        self.rng, self.levels, self.left = rng, levels, []  # type: ignore[var-annotated]

    def deal(self) -> Any:
        if not self.left:
            self.left = [self.levels[i] for i in self.rng.permutation(len(self.levels))]
        return self.left.pop()
