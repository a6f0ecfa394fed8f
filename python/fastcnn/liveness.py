"""When each array of a program is alive: from the graph and what its steps declare to the values that `plan` places.

Time runs through the program: step i of n runs forward at time i and backward at time 2n-1-i. Gradients are values too:
the gradient of a node lives from the backward step of its last consumer, the first writer, to its own backward step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal, Protocol

from fastcnn.graph import Node, Shape
from fastcnn.plan import Value

Lifetime = Literal["forward", "backward", "both", "whole"]
DType = Literal["float32", "uint8", "int64"]
ITEM_SIZE: dict[DType, int] = {"float32": 4, "uint8": 1, "int64": 8}  # bytes


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


def y_name(node: int) -> str:
    """Name of the output of a node."""
    return f"y{node}"


def dy_name(node: int) -> str:
    """Name of the gradient of a node's output."""
    return f"dy{node}"


def cache_name(node: int, key: str) -> str:
    """Name of an array that a step keeps for itself."""
    return f"{key}{node}"


def lifetimes(
    nodes: Sequence[Node[Declared]],
    outputs: Sequence[Node[Declared]],
    active: Set[int],
    caches: Sequence[Mapping[str, CacheSpec]],
    batch: int,
) -> Lifetimes:
    """Return the values of `nodes` (in topological order) for `batch` samples.

    `active` holds the numbers of the nodes that have a backward step. A view shares its input's memory, and so does a
    step that may overwrite an input which nobody reads later.
    """
    number = {node: i for i, node in enumerate(nodes)}
    sources = [[number[x] for x in node.inputs] for node in nodes]
    sizes = [batch * math.prod(node.sample_shape) * ITEM_SIZE["float32"] for node in nodes]
    writes = _gradient_writes(sources, active)
    last = _last_reads(nodes, sources, [number[node] for node in outputs], active)

    values: list[Value] = []
    memory: list[int] = []  # for each node, the first node in the same memory
    busy: list[int] = []  # until when that memory is read, by its first node
    for i, node in enumerate(nodes):
        source = _overwritten(node, i, sources[i], memory, busy, sizes)
        memory.append(i if source is None else memory[source])
        busy.append(last[i])
        busy[memory[i]] = max(busy[memory[i]], last[i])
        first = i if node.inputs else 0  # an input is filled before the program runs
        values.append(Value(y_name(i), sizes[i], first, last[i], None if source is None else y_name(source)))
        for key, spec in caches[i].items():
            values.append(Value(cache_name(i, key), spec.nbytes, *_span(spec.lifetime, i, len(nodes))))
    values += _gradients(nodes, sizes, writes)
    return Lifetimes(values, writes)


def _span(lifetime: Lifetime, i: int, n: int) -> tuple[int, int]:
    backward = 2 * n - 1 - i
    return {"forward": (i, i), "backward": (backward, backward), "both": (i, backward), "whole": (0, 2 * n)}[lifetime]


def _last_reads(
    nodes: Sequence[Node[Declared]], sources: list[list[int]], outputs: list[int], active: Set[int]
) -> list[int]:
    n = len(nodes)
    last = list(range(n))
    for i, node in enumerate(nodes):
        backward = 2 * n - 1 - i
        for position, source in enumerate(sources[i]):
            kept = i in active and node.layer.keeps_x(position)
            last[source] = max(last[source], backward if kept else i)
        if i in active and node.layer.keeps_y():
            last[i] = max(last[i], backward)
    for output in outputs:
        last[output] = 2 * n
    return last


def _overwritten(
    node: Node[Declared], i: int, sources: list[int], memory: list[int], busy: list[int], sizes: list[int]
) -> int | None:
    """Return the input whose memory the node's output takes, None for memory of its own."""
    if node.layer.view:
        return sources[0]
    free = node.layer.overwrites()
    for position in free:
        source = sources[position]
        same = memory[source]
        others = {p for p, other in enumerate(sources) if memory[other] == same}  # read here from the same memory
        if sizes[source] == sizes[i] and others <= set(free) and busy[same] <= i:
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


def _gradients(nodes: Sequence[Node[Declared]], sizes: list[int], writes: dict[int, tuple[Write, ...]]) -> list[Value]:
    n = len(nodes)
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
            values.append(Value(dy_name(write.node), sizes[write.node], 2 * n - 1 - i, 2 * n - 1 - write.node, alias))
    return values
