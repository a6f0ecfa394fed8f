"""Lifetimes to offsets: where each value of a program lies in one arena; pure, no arrays."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

ALIGNMENT = 64  # bytes: a cache line
PAGE = 4096  # bytes
PAGE_ALIGNED = 65536  # bytes; values from this size on start on a page of their own


@dataclass(frozen=True)
class Value:
    """A buffer that must keep its content from time `first` to time `last`, both included.

    `alias_of` names an earlier value whose memory this one uses.
    """

    name: str
    nbytes: int
    first: int
    last: int
    alias_of: str | None = None


@dataclass(frozen=True)
class Plan:
    """Offset of each value in bytes, and the size of the arena that holds them all."""

    offsets: dict[str, int]
    nbytes: int


def plan(values: Iterable[Value]) -> Plan:
    """Place values so that no two alive at the same time overlap: largest first, each in the lowest gap that fits.

    Raises ValueError for a repeated name, an alias of an unknown value and a value that ends before it begins.
    """
    roots: dict[str, str] = {}
    merged: dict[str, Value] = {}
    for value in values:
        if value.name in roots:
            raise ValueError(f"plan: the value {value.name!r} is listed twice")
        if value.last < value.first:
            raise ValueError(f"plan: {value.name!r} lives from {value.first} to {value.last}")
        if value.alias_of is None:
            roots[value.name] = value.name
            merged[value.name] = value
            continue
        if value.alias_of not in roots:
            raise ValueError(f"plan: {value.name!r} is an alias of {value.alias_of!r}, which is not listed before it")
        root = roots[value.name] = roots[value.alias_of]
        whole = merged[root]
        merged[root] = Value(
            root, max(whole.nbytes, value.nbytes), min(whole.first, value.first), max(whole.last, value.last)
        )
    offsets = _place(sorted(merged.values(), key=lambda value: -value.nbytes))
    size = max((offsets[value.name] + value.nbytes for value in merged.values()), default=0)
    return Plan({name: offsets[root] for name, root in roots.items()}, _aligned(size, ALIGNMENT))


def _place(values: list[Value]) -> dict[str, int]:
    offsets: dict[str, int] = {}
    taken = _Taken(max((value.last for value in values), default=0))
    for value in values:
        nodes = taken.nodes(value.first, value.last)
        offset = offsets[value.name] = taken.lowest_gap(value.nbytes, nodes)
        if value.nbytes:
            taken.add(offset, offset + value.nbytes, nodes)
    return offsets


class _Ranges:
    """Disjoint ranges of bytes in ascending order; ranges that touch are one."""

    __slots__ = ("begins", "ends")

    def __init__(self) -> None:
        self.begins: list[int] = []
        self.ends: list[int] = []

    def add(self, begin: int, end: int) -> None:
        i, j = bisect_left(self.ends, begin), bisect_right(self.begins, end)
        if i < j:
            begin, end = min(begin, self.begins[i]), max(end, self.ends[j - 1])
        self.begins[i:j] = [begin]
        self.ends[i:j] = [end]

    def free_from(self, offset: int, nbytes: int, alignment: int) -> int:
        """Return the lowest aligned offset from `offset` on where that many bytes are free."""
        i = bisect_right(self.ends, offset)
        while i < len(self.ends) and self.begins[i] < offset + nbytes:
            offset = _aligned(self.ends[i], alignment)
            i = bisect_right(self.ends, offset, i)
        return offset


class _Taken:
    """The bytes in use at each time: a segment tree over time, so that a deep network's plan costs n log n.

    A lifetime is cut into the fewest nodes of the tree. `here` has the bytes of values of which that node is a part,
    `inside` those of values with a part in its subtree. Two lifetimes meet where a part of one is a part of the other
    or lies above or below it.
    """

    def __init__(self, last: int) -> None:
        self._leaves = 1 << last.bit_length()
        self._here: dict[int, _Ranges] = {}
        self._inside: dict[int, _Ranges] = {}

    def nodes(self, first: int, last: int) -> list[int]:
        """Return the parts of a lifetime; node 1 is the root, 2i and 2i+1 are below i."""
        nodes = []
        low, high = first + self._leaves, last + self._leaves + 1
        while low < high:
            if low & 1:
                nodes.append(low)
                low += 1
            if high & 1:
                high -= 1
                nodes.append(high)
            low, high = low >> 1, high >> 1
        return nodes

    def add(self, begin: int, end: int, nodes: list[int]) -> None:
        for node in nodes:
            self._here.setdefault(node, _Ranges()).add(begin, end)
        for node in {*nodes, *_above(nodes)}:
            self._inside.setdefault(node, _Ranges()).add(begin, end)

    def lowest_gap(self, nbytes: int, nodes: list[int]) -> int:
        alignment = PAGE if nbytes >= PAGE_ALIGNED else ALIGNMENT
        met = [self._inside[node] for node in nodes if node in self._inside]
        met += [self._here[node] for node in _above(nodes) if node in self._here]
        offset, before = 0, -1
        while offset != before:
            before = offset
            for ranges in met:
                offset = ranges.free_from(offset, nbytes, alignment)
        return offset


def _above(nodes: list[int]) -> set[int]:
    """Return the nodes on the ways from some nodes to the root, not those themselves."""
    above: set[int] = set()
    for node in nodes:
        node >>= 1
        while node and node not in above:
            above.add(node)
            node >>= 1
    return above


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment
