"""Times of calls, taken in turn so that all of them see the same machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

PAUSE = 0.15  # seconds, in which the waiting threads of the one before fall asleep: OpenBLAS's spin for 2^28 cycles


def seconds_of(call: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def repeated(call: Callable[[], object], seconds: float, least: int = 1, most: int = 1000) -> list[float]:
    """Return the times of calls for about `seconds`, at least `least` of them, after one that is not timed."""
    call()
    times: list[float] = []
    while len(times) < least or (sum(times) < seconds and len(times) < most):
        times.append(seconds_of(call))
    return times


def in_turn(
    calls: Mapping[str, Callable[[], object]], rounds: int = 3, seconds: float = 0.05
) -> dict[str, list[float]]:
    """Return the times of several calls: A B C A B C ..., each for about `seconds` a round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(PAUSE)
            times[name] += repeated(call, seconds)
    return times
