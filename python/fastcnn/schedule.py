"""In which order the steps of a program run, forward, backward, and again where activations are not kept; pure.

Step i of n runs forward at time i. Behind that come the backward steps in reverse order; where a segment of steps is
run forward again, that happens just before the segment's backward steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Schedule:
    """The order of `n` steps, cut into `segments` of which the steps in `again` run forward a second time.

    `backward` lists what comes behind the forward run: (step, whether it is the second forward run).
    """

    n: int
    segments: tuple[range, ...] = ()
    again: Set[int] = frozenset()
    backward: list[tuple[int, bool]] = field(init=False)

    def __post_init__(self) -> None:
        segments = self.segments or (range(self.n),)
        number = {i: place for place, segment in enumerate(segments) for i in segment}
        order = []
        for segment in reversed(segments):
            order += [(i, True) for i in segment if i in self.again]
            order += [(i, False) for i in reversed(segment)]
        object.__setattr__(self, "backward", order)
        object.__setattr__(self, "_segment", number)
        object.__setattr__(self, "_times", {run: self.n + place for place, run in enumerate(order)})

    _segment: dict[int, int] = field(init=False, repr=False, compare=False)
    _times: dict[tuple[int, bool], int] = field(init=False, repr=False, compare=False)

    @property
    def end(self) -> int:
        """The time behind all steps."""
        return self.n + len(self.backward)

    def time_again(self, i: int) -> int:
        """Return when a step runs forward again."""
        return self._times[i, True]

    def time_backward(self, i: int) -> int:
        """Return when a step runs backward."""
        return self._times[i, False]

    def reads_again(self, i: int, reader: int) -> bool:
        """Return whether the backward or second forward run of `reader` sees what the second run of step i gave."""
        return i in self.again and self._segment[i] == self._segment[reader]


def divisions(crossing: Sequence[int], inside: Sequence[int]) -> list[tuple[range, ...]]:
    """Return ways to cut steps into segments: the whole, then the others with the lowest estimated peak first.

    The estimate counts what crosses borders, which is kept, and the largest segment beside it. `inside` holds the bytes
    that each step makes for the backward run, `crossing[i]` the bytes that steps from i on read of what those before i
    have made. Segments of about 1/2, 1/2.5, 1/3 ... of all bytes are tried.
    """
    n, total = len(inside), sum(inside)
    most = min(n, 4 * math.isqrt(n) + 2)
    found = {_greedy(crossing, inside, 2 * total / halves) for halves in range(4, 2 * most + 1)} - {(range(n),)}
    return [(range(n),), *sorted(found, key=lambda segments: (_peak(segments, crossing, inside), len(segments)))]


def _greedy(crossing: Sequence[int], inside: Sequence[int], limit: float) -> tuple[range, ...]:
    """Return segments of at most `limit` bytes or one step, cut in their second halves where the least crosses."""
    segments: list[range] = []
    begin = 0
    while begin < len(inside):
        size, end = inside[begin], begin + 1
        cut, halved = end, False
        while end < len(inside) and size + inside[end] <= limit:
            size, end = size + inside[end], end + 1
            if size >= limit / 2 and (not halved or end == len(inside) or crossing[end] <= crossing[cut]):
                cut, halved = end, True
        segments.append(range(begin, cut if halved else end))
        begin = segments[-1].stop
    return tuple(segments)


def _peak(segments: Sequence[range], crossing: Sequence[int], inside: Sequence[int]) -> int:
    kept = peak = 0
    for segment in segments:
        kept += crossing[segment.start] if segment.start else 0
        peak = max(peak, kept + sum(inside[i] for i in segment))
    return peak
