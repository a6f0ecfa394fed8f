"""Single layers against NumPy: results first, then times in turn, and what share of the machine's roof they reach."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fastcnn.benchmark.layers import Shape
from fastcnn.benchmark.roof import Roof
from fastcnn.benchmark.timing import in_turn, seconds_of
from fastcnn.benchmark.work import Work, works

ONCE = 0.5  # seconds, from which on the reference is run only once


@dataclass(frozen=True)
class Row:
    """One operation of one layer. Times are medians, fastcnn's is `seconds`; errors are shares of what is allowed."""

    layer: str
    networks: Mapping[str, int]  # how often each has this layer
    operation: str
    algorithm: str
    batch: int
    flops: int
    nbytes: int
    our_error: float
    numpy_error: float
    seconds: float
    numpy_seconds: float
    reference_seconds: float
    roof_share: float  # the roof's time over ours; Winograd, counted as direct convolution, can be above 1

    @property
    def passed(self) -> bool:
        """Whether both float32 results are right."""
        return self.our_error <= 1 and self.numpy_error <= 1

    @property
    def faster(self) -> bool:
        """Whether fastcnn is faster than both forms of NumPy."""
        return self.seconds < min(self.numpy_seconds, self.reference_seconds)

    @property
    def rate(self) -> tuple[float, str]:
        """Arithmetic a second in GFLOP/s, or traffic in GB/s where moving bytes is all the work."""
        return (
            (self.flops / self.seconds / 1e9, "GFLOP/s") if self.flops else (self.nbytes / self.seconds / 1e9, "GB/s")
        )


def compare(
    shape: Shape,
    networks: Mapping[str, int],
    batch: int,
    direction: str,
    roof: Roof,
    *,
    rounds: int = 3,
    seconds: float = 0.05,
) -> Iterator[Row]:
    """Yield a row for each operation of a layer in a direction, "forward" or "backward"."""
    for work in works(shape, batch, direction):
        yield _row(str(shape), networks, work, batch, roof, rounds, seconds)


def _row(
    layer: str, networks: Mapping[str, int], work: Work, batch: int, roof: Roof, rounds: int, seconds: float
) -> Row:
    exact: list[object] = []
    reference = seconds_of(lambda: exact.append(work.exact()))
    errors = work.errors(exact[0])
    exact.clear()  # it may be large
    calls = {"ours": work.ours, "numpy": work.numpy}
    times = in_turn(calls if reference > ONCE else {**calls, "reference": work.exact}, rounds, seconds)
    medians = {"reference": reference} | {name: statistics.median(values) for name, values in times.items()}
    return Row(
        layer,
        networks,
        work.operation,
        work.algorithm,
        batch,
        work.flops,
        work.nbytes,
        *errors,
        medians["ours"],
        medians["numpy"],
        medians["reference"],
        roof.seconds(work.flops, work.nbytes) / medians["ours"],
    )
