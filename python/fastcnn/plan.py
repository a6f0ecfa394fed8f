"""Lifetimes to offsets: where each value of a program lies in one arena; pure, no arrays."""

from __future__ import annotations

from bisect import insort
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
    placed: list[tuple[int, int, int, int]] = []  # (begin, end, first, last), by begin
    for value in values:
        alignment = PAGE if value.nbytes >= PAGE_ALIGNED else ALIGNMENT
        offset = 0
        for begin, end, first, last in placed:
            if first > value.last or last < value.first:
                continue
            if begin >= offset + value.nbytes:
                break
            if end > offset:
                offset = _aligned(end, alignment)
        offsets[value.name] = offset
        insort(placed, (offset, offset + value.nbytes, value.first, value.last))
    return offsets


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment
