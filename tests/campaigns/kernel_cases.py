"""Runs corner cases of convolution and dense layers without end and tabulates the worst errors.

    python tests/campaigns/kernel_cases.py --cases 20000 --seed 7

A case is one operation, shape, algorithm and instruction set, run with 1, 2 and 3 threads whose bits must be equal. Its
error is in u*S (Winograd: u*S_w), largest over all elements; the column beside it is the largest share of a gate. The
exit status is 1 when a case fails; each failure is printed with its row, whose seed makes its data.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from conv_cases import LARGE_CASES, corner_cases, judge_conv, judge_conv_exact
from dense_cases import LARGE_DENSE_CASES, dense_corner_cases, judge_dense, judge_dense_exact
from verdict import Array, Verdict

from fastcnn import _core

THREADS = (1, 2, 3)


def out(like: Any, dtype: Any = np.float32) -> Array:
    """Return an output full of NaN (integers: the largest) of a shape, or a copy of an array."""
    if isinstance(like, np.ndarray):
        return like.copy()
    dtype = np.dtype(dtype)
    return np.full(like, np.nan if dtype.kind == "f" else np.iinfo(dtype).max, dtype)


def on_threads(call: Callable[[], Any]) -> Any:
    """Return the result of call, an array or a tuple of arrays; assert that its bits are equal for all THREADS."""
    bits = set()
    for threads in THREADS:
        _core.set_num_threads(threads)
        result = call()
        bits.add(b"".join(array.tobytes() for array in (result if isinstance(result, tuple) else (result,))))
    assert len(bits) == 1, f"bits differ over {THREADS} threads"
    return result


def verdicts(seed: int) -> Iterator[Verdict]:
    """Yield verdicts without end: first the large cases, then generated ones, convolution and dense in turn."""
    for case in LARGE_CASES:
        yield from judge_conv(case, out, on_threads)
        yield from judge_conv_exact(case, out)
    for dense_case in LARGE_DENSE_CASES:
        yield from judge_dense(dense_case, out, on_threads)
        yield from judge_dense_exact(dense_case, out)
    for case, dense_case in zip(corner_cases(seed), dense_corner_cases(seed), strict=True):
        yield from judge_conv(case, out, on_threads)
        yield from judge_conv_exact(case, out)
        yield from judge_dense(dense_case, out, on_threads)
        yield from judge_dense_exact(dense_case, out)


@dataclass
class Row:
    """What is known of one operation, algorithm and instruction set."""

    cases: int = 0
    units: float = 0.0
    ratio: float = 0.0  # of the error to its gate
    exact: int = 0
    failures: int = 0

    def add(self, verdict: Verdict) -> None:
        if verdict.gate > 0:
            self.cases += 1
            self.units = max(self.units, verdict.units)
            self.ratio = max(self.ratio, verdict.units / verdict.gate)
        else:
            self.exact += 1
        self.failures += not verdict.ok


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000, help="cases to run (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of shapes and data (%(default)s)")
    arguments = parser.parse_args()
    rows: dict[tuple[str, str, str], Row] = {}
    start = time.monotonic()
    for verdict in islice(verdicts(arguments.seed), arguments.cases):
        rows.setdefault((verdict.op, verdict.algorithm, verdict.isa), Row()).add(verdict)
        if not verdict.ok:
            print(verdict, flush=True)
    print(
        f"{'operation':<24}{'algorithm':<18}{'isa':<9}{'cases':>7}{'worst':>9}{'of gate':>9}{'exact':>7}{'failed':>8}"
    )
    for (op, algorithm, isa), row in sorted(rows.items()):
        error = f"{row.units:>9.3f}{row.ratio:>9.3f}" if row.cases else f"{'-':>9}{'-':>9}"
        print(f"{op:<24}{algorithm:<18}{isa:<9}{row.cases:>7}{error}{row.exact:>7}{row.failures:>8}")
    judged, exact, failures = (sum(getattr(row, f) for row in rows.values()) for f in ("cases", "exact", "failures"))
    print(
        f"{judged} cases against float64, {exact} exact in integers, {failures} failed; seed {arguments.seed}, "
        f"threads {', '.join(map(str, THREADS))}, {time.monotonic() - start:.0f} s, {platform.machine()}"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
