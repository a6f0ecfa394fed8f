"""When each array of a program is alive: from the graph and what its steps declare to the values that `plan` places.

Time runs through the program as its schedule says. Gradients are values too: the gradient of a node lives from the
backward step of its last consumer, the first writer, to its own backward step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from fastcnn.graph import Node, Shape
from fastcnn.plan import Value, plan
from fastcnn.schedule import Schedule, divisions

Lifetime = Literal["forward", "backward", "both", "whole"]
DType = Literal["float32", "uint8", "int64"]
ITEM_SIZE: dict[DType, int] = {"float32": 4, "uint8": 1, "int64": 8}  # bytes
_TRIED = 9  # ways to cut a graph into segments, whose plans are compared
_AGAIN = "r"  # behind the names of what a second forward run makes
_Output = tuple[int, bool]  # of a node, and whether of its second forward run


@dataclass(frozen=True)
class CacheSpec:
    """An array that a step keeps for itself: during its forward or backward run, from one to the other, or always."""

    shape: Shape
    dtype: DType = "float32"
    lifetime: Lifetime = "both"

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * ITEM_SIZE[self.dtype]


class Declared(Protocol):
    """What a step says about its use of memory; the meaning of each is told in layers/base.py."""

    view: bool
    repeatable: ClassVar[bool]

    def overwrites(self) -> tuple[int, ...]: ...
    def keeps_x(self, index: int) -> bool: ...
    def keeps_y(self) -> bool: ...
    def passes_gradient_to(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class Write:
    """A gradient that a backward step writes: to which node it belongs, and whether it is added to what is there."""

    node: int | None
    accumulate: bool


@dataclass(frozen=True)
class Lifetimes:
    """The values of a program, and for each node with a backward step its gradient writes, one per input."""

    values: list[Value]
    writes: dict[int, tuple[Write, ...]]


def y_name(node: int, again: bool = False) -> str:
    """Name of the output of a node, of its second forward run if `again`."""
    return f"y{node}{_AGAIN if again else ''}"


def dy_name(node: int) -> str:
    """Name of the gradient of a node's output."""
    return f"dy{node}"


def cache_name(node: int, key: str, again: bool = False) -> str:
    """Name of an array that a step keeps for itself, from its second forward run on if `again`."""
    return f"{key}{node}{_AGAIN if again else ''}"


def lifetimes(
    nodes: Sequence[Node[Declared]],
    outputs: Sequence[Node[Declared]],
    active: Set[int],
    caches: Sequence[Mapping[str, CacheSpec]],
    batch: int,
    schedule: Schedule | None = None,
) -> Lifetimes:
    """Return the values of `nodes` (in topological order) for `batch` samples.

    `active` holds the numbers of the nodes that have a backward step. A view shares its input's memory, and so does a
    step that may overwrite an input which nobody reads later. What a node gives in its first forward run, if there is a
    second one, lives only as long as the forward run and the second run of later segments read it.
    """
    times = Schedule(len(nodes)) if schedule is None else schedule
    number = {node: i for i, node in enumerate(nodes)}
    sources = [[number[x] for x in node.inputs] for node in nodes]
    sizes = [batch * math.prod(node.sample_shape) * ITEM_SIZE["float32"] for node in nodes]
    writes = _gradient_writes(sources, active)
    last = _last_reads(nodes, sources, [number[node] for node in outputs], active, times)

    values: list[Value] = []
    memory: dict[_Output, _Output] = {}  # the first output in the same memory
    busy: dict[_Output, int] = {}  # until when that memory is read, by its first output
    for i, again in [*((i, False) for i in range(len(nodes))), *(run for run in times.backward if run[1])]:
        node, output = nodes[i], (i, again)
        time = times.time_again(i) if again else i
        inputs = [(source, again and times.reads_again(source, i)) for source in sources[i]]
        taken = _overwritten(node, time, inputs, memory, busy, sizes, sizes[i])
        memory[output] = output if taken is None else memory[taken]
        first_output = memory[output]
        busy[first_output] = max(busy.get(first_output, 0), last[output])
        first = time if node.inputs else 0  # an input is filled before the program runs
        alias = None if taken is None else y_name(*taken)
        values.append(Value(y_name(i, again), sizes[i], first, last[output], alias))
        for key, spec in caches[i].items():
            span = _span(spec.lifetime, i, again, times)
            if span is not None:
                values.append(Value(cache_name(i, key, again), spec.nbytes, *span))
    values += _gradients(nodes, sizes, writes, times)
    return Lifetimes(values, writes)


def recomputing(
    nodes: Sequence[Node[Declared]],
    outputs: Sequence[Node[Declared]],
    active: Set[int],
    caches: Sequence[Mapping[str, CacheSpec]],
    batch: int,
) -> Schedule:
    """Return a schedule that keeps little from the forward to the backward run and makes the rest again.

    Only steps whose outputs or arrays a backward step of their segment needs run again, and never those of the last
    segment, whose backward run follows at once. Of a few ways to cut segments it is the one whose values take the least
    memory, and of equal ones that with the fewest steps run again.
    """
    number = {node: i for i, node in enumerate(nodes)}
    n, sizes = len(nodes), [batch * math.prod(node.sample_shape) * ITEM_SIZE["float32"] for node in nodes]
    readers: list[list[tuple[int, bool]]] = [[] for _ in nodes]  # and whether their backward run reads too
    for i, node in enumerate(nodes):
        for position, x in enumerate(node.inputs):
            readers[number[x]].append((i, i in active and node.layer.keeps_x(position)))
    keeps = [
        sum(spec.nbytes for spec in cache.values() if spec.lifetime == "both") if i in active else 0
        for i, cache in enumerate(caches)
    ]
    kept_y = [
        (i in active and node.layer.keeps_y()) or any(backward for _, backward in readers[i])
        for i, node in enumerate(nodes)
    ]
    inside = [kept + size * kept_too for kept, size, kept_too in zip(keeps, sizes, kept_y, strict=True)]
    crossing = [0] * n
    for i, size in enumerate(sizes):
        for border in range(i + 1, max((reader for reader, _ in readers[i]), default=i) + 1):
            crossing[border] += size

    def schedule(segments: tuple[range, ...]) -> Schedule:
        again: set[int] = set()
        for segment in segments[:-1]:
            for i in reversed(segment):
                node = nodes[i]
                wanted = keeps[i] > 0 or node.layer.keeps_y()
                wanted = wanted or any(r in segment and (backward or r in again) for r, backward in readers[i])
                if wanted and i in active and node.layer.repeatable:
                    again.add(i)
        return Schedule(n, segments, again)

    def costs(times: Schedule) -> tuple[int, int]:
        return plan(lifetimes(nodes, outputs, active, caches, batch, times).values).nbytes, len(times.again)

    return min(map(schedule, divisions(crossing, inside)[:_TRIED]), key=costs)


def _span(lifetime: Lifetime, i: int, again: bool, times: Schedule) -> tuple[int, int] | None:
    """Return when an array of a step is alive, that of its first or second run; None where this run has none."""
    begin = times.time_again(i) if again else i
    runs_again = i in times.again and not again  # its backward run reads what the second run keeps
    if lifetime == "forward" or (lifetime == "both" and runs_again):
        return begin, begin
    if lifetime == "whole":
        return None if again else (0, times.end)
    if runs_again:
        return None
    backward = times.time_backward(i)
    return (backward if lifetime == "backward" else begin), backward


def _last_reads(
    nodes: Sequence[Node[Declared]], sources: list[list[int]], outputs: list[int], active: Set[int], times: Schedule
) -> dict[_Output, int]:
    last: dict[_Output, int] = {(i, False): i for i in range(len(nodes))}
    last |= {(i, True): times.time_again(i) for i in times.again}

    def read(source: int, again: bool, time: int) -> None:
        last[source, again] = max(last[source, again], time)

    for i, node in enumerate(nodes):
        for position, source in enumerate(sources[i]):
            seen = times.reads_again(source, i)
            read(source, False, i)
            if i in times.again:
                read(source, seen, times.time_again(i))
            if i in active and node.layer.keeps_x(position):
                read(source, seen, times.time_backward(i))
        if i in active and node.layer.keeps_y():
            read(i, i in times.again, times.time_backward(i))
    for output in outputs:
        read(output, False, times.end)
    return last


def _overwritten(
    node: Node[Declared],
    time: int,
    sources: list[_Output],
    memory: Mapping[_Output, _Output],
    busy: Mapping[_Output, int],
    sizes: list[int],
    size: int,
) -> _Output | None:
    """Return the input whose memory the node's output takes, None for memory of its own."""
    if node.layer.view:
        return sources[0]
    free = node.layer.overwrites()
    for position in free:
        source = sources[position]
        same = memory[source]
        others = {p for p, other in enumerate(sources) if memory[other] == same}  # read here from the same memory
        if sizes[source[0]] == size and others <= set(free) and busy[same] <= time:
            return source
    return None


def _gradient_writes(sources: list[list[int]], active: Set[int]) -> dict[int, tuple[Write, ...]]:
    written: set[int] = set()
    writes: dict[int, tuple[Write, ...]] = {}
    for i in sorted(active, reverse=True):
        row = []
        for source in sources[i]:
            row.append(Write(source if source in active else None, source in written))
            written.add(source)
        writes[i] = tuple(row)
    return writes


def _gradients(
    nodes: Sequence[Node[Declared]], sizes: list[int], writes: dict[int, tuple[Write, ...]], times: Schedule
) -> list[Value]:
    values = []
    for i, row in writes.items():
        targets = [write.node for write in row]
        shared = False  # dx takes the memory of dy for one input at most
        for position, write in enumerate(row):
            if write.node is None or write.accumulate:
                continue
            # not where the same step adds a second gradient to dx: it reads dy while it does
            shares = not shared and position in nodes[i].layer.passes_gradient_to() and targets.count(write.node) == 1
            shared = shared or shares
            alias = dy_name(i) if shares else None
            first, last = times.time_backward(i), times.time_backward(write.node)
            values.append(Value(dy_name(write.node), sizes[write.node], first, last, alias))
    return values
