"""Batches whose samples the loader threads have prepared for the program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fastcnn.layers.base import Array
from fastcnn.models.batches import Batch
from fastcnn.prepare import Preparation

Item = tuple[Batch, int]  # a sample: its batch and its place there


def prepared(batches: Iterator[Batch], preparation: Preparation | None, training: bool) -> Iterator[Batch]:
    """Yield the batches with their samples prepared, a few ahead, by the threads that decode pictures."""
    if preparation is None or not (training or preparation.in_inference):
        return batches
    return _ahead(batches, preparation, training)


def _ahead(batches: Iterator[Batch], preparation: Preparation, training: bool) -> Iterator[Batch]:
    from fastcnn.data.prefetch import default_threads, prefetch  # only those who need threads load their module

    plan = ([(batch, place) for place in range(batch.size)] for batch in batches)

    def allocate(items: Sequence[Item]) -> Array:
        return np.empty((len(items), *preparation.shape), np.float32)

    def fill(x: Array, row: int, item: Item) -> None:
        _prepare(*item, preparation, training, x[row])

    ready = prefetch(plan, allocate, fill, threads=default_threads())
    try:
        for items, x, _ in ready:
            yield replace(items[0][0], x=x, rows=slice(None))
    finally:
        ready.close()


def prepare_now(batch: Batch, preparation: Preparation | None, training: bool) -> Batch:
    """Return a batch with its samples prepared, in the calling thread."""
    if preparation is None or not (training or preparation.in_inference):
        return batch
    x = np.empty((batch.size, *preparation.shape), np.float32)
    for place in range(batch.size):
        _prepare(batch, place, preparation, training, x[place])
    return replace(batch, x=x, rows=slice(None))


def _prepare(batch: Batch, place: int, preparation: Preparation, training: bool, y: Array) -> None:
    """Write one sample of a batch, prepared, to y."""
    number = place if batch.numbers is None else int(batch.numbers[place])
    y[...] = preparation.sample(_sample(batch, place), (batch.epoch, number) if training else None)


def _sample(batch: Batch, place: int) -> NDArray[np.float32]:
    row = place + (batch.rows.start or 0) if isinstance(batch.rows, slice) else int(batch.rows[place])
    sample: Array = np.asarray(batch.x[row], np.float32)
    return sample
