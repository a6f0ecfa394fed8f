"""What fit, evaluate and predict are given, as batches: arrays, datasets, generators."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from itertools import chain, count, islice, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn.digest import digest
from fastcnn.graph import Shape
from fastcnn.layers.base import Array
from fastcnn.losses import Loss
from fastcnn.models.given import Labels, check_count, checked_weights, checked_x, is_array_like, is_indexed, unpacked

BATCH_SIZE = 32  # Keras' default


@dataclass(frozen=True)
class Batch:
    """Some samples: `rows` of `x`, with their labels and weights; nothing is copied before `write`.

    `epoch` and `numbers`, one per sample, are what random changes of a sample depend on; `numbers` None: 0, 1, 2...
    """

    x: NDArray[Any]
    rows: slice | NDArray[np.int64]
    size: int
    y: Labels | None = None
    sample_weight: Array | None = None
    epoch: int = 0
    numbers: NDArray[np.int64] | None = None

    def part(self, begin: int, end: int) -> Batch:
        """Return the samples from number `begin` up to `end`, without copying x."""
        rows: slice | NDArray[np.int64]
        if isinstance(self.rows, slice):
            first = self.rows.start or 0
            rows = slice(first + begin, first + end)
        else:
            rows = self.rows[begin:end]
        return replace(
            self,
            rows=rows,
            size=end - begin,
            y=None if self.y is None else self.y[begin:end],
            sample_weight=None if self.sample_weight is None else self.sample_weight[begin:end],
            numbers=None if self.numbers is None else self.numbers[begin:end],
        )

    def write(self, out: Array) -> None:
        """Copy the samples into a float32 array, converting as they go."""
        if isinstance(self.rows, slice):
            np.copyto(out, self.x[self.rows], casting="unsafe")
        elif self.x.dtype == out.dtype and self.x.flags.c_contiguous:
            np.take(self.x, self.rows, axis=0, out=out, mode="clip")
        else:
            for place, row in zip(out, self.rows, strict=True):
                np.copyto(place, self.x[row], casting="unsafe")


class Source:
    """Batches of any number of epochs; `steps` is their number in one epoch, None if unknown.

    `largest` is the number of samples of its largest batch, if that is known.
    """

    steps: int | None = None
    largest: int | None = None
    regular = True  # whether each epoch has exactly `steps` batches, if that is known

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, counted from 0, without the first `start` of them."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """Return what tells these data from others, in JSON's types: a resumed run must have the same."""
        return {"batches": self.steps}


class ArraySource(Source):
    """Arrays cut into batches, in an order that follows from (seed, epoch) when shuffled."""

    def __init__(
        self, x: NDArray[Any], y: Labels | None, sample_weight: Array | None, batch_size: int, seed: int | None
    ) -> None:
        self.x, self.y, self.sample_weight = x, y, sample_weight
        self.batch_size = batch_size
        self.seed = seed
        self.steps = math.ceil(len(x) / batch_size)
        self.largest = min(len(x), batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield batches of `batch_size` samples and a smaller last one."""
        from fastcnn.data.order import epoch_order  # with it comes all that reads pictures

        order = None if self.seed is None else epoch_order(len(self.x), self.seed, epoch)
        for begin in range(start * self.batch_size, len(self.x), self.batch_size):
            rows = slice(begin, min(begin + self.batch_size, len(self.x)))
            chosen = rows if order is None else order[rows]
            yield Batch(
                self.x,
                chosen,
                rows.stop - rows.start,
                None if self.y is None else self.y[chosen],
                None if self.sample_weight is None else self.sample_weight[chosen],
                epoch,
                np.arange(rows.start, rows.stop) if order is None else order[rows],
            )

    def identity(self) -> dict[str, Any]:
        """Return size, first sample and labels of the arrays, batch size and order."""
        parts = [self.x[0], *(array for array in (self.y, self.sample_weight) if array is not None)]
        content = digest(*(np.asarray(part).tobytes() for part in parts))
        return {"samples": list(self.x.shape), "content": content, "batch_size": self.batch_size, "seed": self.seed}


class IterableSource(Source):
    """A dataset that can be iterated again and again, or a generator, giving x, (x, y) or (x, y, sample_weight)."""

    def __init__(self, where: str, data: Iterable[Any], shape: Shape) -> None:
        self.where = where
        self.data = data
        self.shape = shape
        self.steps = len(data) if isinstance(data, Sized) else None
        self.largest = _batch_size(data)
        self.regular = getattr(data, "on_error", "raise") == "raise"  # a batch of unreadable pictures is left out

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield what the data give for an epoch; samples without numbers of their own are counted.

        Only data that can begin at a batch do so; others are read from the epoch's first.
        """
        numbered: Callable[..., Iterable[tuple[Sequence[int], Any]]] | None = getattr(self.data, "numbered", None)
        if numbered is None:
            yield from islice(self._counted(epoch), start, None)
            return
        items = numbered(epoch, start) if self.regular else numbered(epoch)
        found = (b for numbers, item in items for b in _batch(self.where, item, self.shape, epoch, np.asarray(numbers)))
        yield from islice(found, 0 if self.regular else start, None)

    def _counted(self, epoch: int) -> Iterator[Batch]:
        epochs: Callable[[int], Iterable[Any]] | None = getattr(self.data, "epoch", None)
        seen = 0
        for item in self.data if epochs is None else epochs(epoch):
            for batch in _batch(self.where, item, self.shape, epoch):
                yield replace(batch, numbers=np.arange(seen, seen + batch.size))
                seen += batch.size

    def identity(self) -> dict[str, Any]:
        """Return what the data say of themselves, or else their number of batches."""
        own: Callable[[], dict[str, Any]] | None = getattr(self.data, "identity", None)
        return {"batches": self.steps} if own is None else own()


class IndexedSource(Source):
    """Batches by number, `data[i]`, as of Keras' PyDataset: in an order that follows from (seed, epoch) if shuffled.

    `on_epoch_begin` and `on_epoch_end` of the data are called where they exist; with `workers` above 1 that many
    threads fetch batches ahead. A sample's number is that of its batch times 2**32 plus its row.
    """

    def __init__(self, where: str, data: Any, shape: Shape, seed: int | None) -> None:
        self.where = where
        self.data = data
        self.shape = shape
        self.seed = seed
        self.steps = len(data)
        self.largest = _batch_size(data)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield all batches once, without the first `start`."""
        from fastcnn.data.order import epoch_order

        count = len(self.data)
        order = range(count) if self.seed is None else epoch_order(count, self.seed, epoch).tolist()
        getattr(self.data, "on_epoch_begin", _nothing)()
        for number, item in self._items(order[start:]):
            for batch in _batch(self.where, item, self.shape, epoch):
                yield replace(batch, numbers=(number << 32) + np.arange(batch.size))
        getattr(self.data, "on_epoch_end", _nothing)()

    def _items(self, order: Iterable[int]) -> Iterator[tuple[int, Any]]:
        workers = getattr(self.data, "workers", 1)
        if workers < 2:
            yield from ((number, self.data[number]) for number in order)
            return
        from fastcnn.data.prefetch import prefetch

        fetched = prefetch(
            ([number] for number in order), lambda _: None, lambda _, row, number: self.data[number], threads=workers
        )
        yield from ((numbers[0], items[0]) for numbers, _, items in fetched)


class EndlessSource(Source):
    """Exactly `steps` batches per epoch: each goes on where the last one stopped, and begins again at the end.

    `first_epoch` is that in which the data begin; without it the first one asked for.
    """

    first_epoch: int | None = None

    def __init__(self, where: str, source: Source, steps: int) -> None:
        self.where = where
        self.source = source
        self.steps = steps
        self.largest = source.largest
        self._batches: Iterator[Batch] | None = None

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the next `steps` batches; raises ValueError when the data end before that and cannot begin again."""
        steps = self.steps or 0
        if self._batches is None:
            first = epoch if self.first_epoch is None else self.first_epoch
            self._batches = self._all(first, (epoch - first) * steps + start)
        return _exactly(self.where, self._batches, steps - start)

    def identity(self) -> dict[str, Any]:
        """Return that of the data, and the batches taken as an epoch."""
        return self.source.identity() | {"steps_per_epoch": self.steps}

    def _all(self, first: int, passed: int) -> Iterator[Batch]:
        """Yield the batches of one epoch after the other, without the first `passed` of them."""
        epochs = start = 0
        if self.source.steps and self.source.regular:
            epochs, start = divmod(passed, self.source.steps)
            passed = 0
        for epoch in count(first + epochs):
            empty = True
            for batch in self.source.epoch(epoch, start):
                empty = False
                if passed > 0:
                    passed -= 1
                else:
                    yield batch
            if empty:
                return
            start = 0


class FirstSteps(Source):
    """The first `steps` batches of every epoch; where the data are `endless`, the epoch's again when it has fewer."""

    def __init__(self, where: str, source: Source, steps: int, endless: bool = False) -> None:
        self.where = where
        self.source = source
        self.steps = steps
        self.largest = source.largest
        self.endless = endless

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches; raises ValueError when the data end before that."""
        batches = self.source.epoch(epoch, start)
        if self.endless:
            batches = chain(batches, chain.from_iterable(self.source.epoch(epoch) for _ in repeat(None)))
        return _exactly(self.where, batches, (self.steps or 0) - start)


def _exactly(where: str, batches: Iterator[Batch], steps: int) -> Iterator[Batch]:
    for step in range(steps):
        batch = next(batches, None)
        if batch is None:
            raise ValueError(f"{where}: the data ended after {step} of {steps} batches")
        yield batch


def open_source(
    where: str,
    shape: Shape,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    seed: int | None = None,
    steps: int | None = None,
    steps_name: str = "steps",
    endless: bool = False,
) -> Source:
    """Return the batches of what a method was given; `where` names it in errors.

    With `steps`, an epoch is that many batches: the first ones, or if `endless` the next ones. Raises ValueError and
    TypeError for data that are empty, of another shape than `shape`, or not numbers.
    """
    check_count(where, "batch_size", batch_size)
    check_count(where, steps_name, steps)
    if is_array_like(x):
        array = checked_x(where, x, shape)
        if len(array) == 0:
            raise ValueError(f"{where}: x holds no samples (x is {list(array.shape)})")
        labels = None if y is None else np.asarray(y)
        if labels is not None and (labels.ndim == 0 or len(labels) != len(array)):
            raise ValueError(f"{where}: y must hold {len(array)} labels, one per sample of x, got {list(labels.shape)}")
        weights = None if sample_weight is None else checked_weights(where, sample_weight, len(array))
        source: Source = ArraySource(array, labels, weights, batch_size or BATCH_SIZE, seed)
    else:
        for argument, value in (("y", y), ("sample_weight", sample_weight), ("batch_size", batch_size)):
            if value is not None:
                raise ValueError(f"{where}: {argument} must be None when x is a dataset or generator, which gives it")
        if is_indexed(x):
            source = IndexedSource(where, x, shape, seed)
        elif isinstance(x, Iterable) and not isinstance(x, str | bytes | Mapping):
            source = IterableSource(where, x, shape)
        else:
            raise TypeError(
                f"{where}: x must be an array, a dataset, a PyDataset or a generator, got {type(x).__name__}"
            )
        if source.steps == 0:
            raise ValueError(f"{where}: x holds no batches")
        if source.steps is None and steps is None:
            raise ValueError(f"{where}: {steps_name} must be given for a generator, which has no length")
    if steps is None:
        return source
    if endless:
        return EndlessSource(where, source, steps)
    return FirstSteps(where, source, steps, endless=getattr(x, "endless", False))


def targets(where: str, loss: Loss, batch: Batch, classes: int) -> Array:
    """Return a batch's labels as float32 [N,classes]; raises ValueError as the loss does, and without labels."""
    if batch.y is None:
        raise ValueError(f"{where}: y is missing; the data must give labels too")
    t = loss.targets(batch.y, classes, f"{where}: y")
    if len(t) != batch.size:
        raise ValueError(f"{where}: y has {len(t)} labels for {batch.size} samples")
    return t


def _batch(
    where: str, item: Any, shape: Shape, epoch: int, numbers: NDArray[np.int64] | None = None
) -> Iterator[Batch]:
    """Yield the batch that a dataset gave, unless it is empty."""
    x, y, sample_weight = unpacked(where, item)
    x = checked_x(where, x, shape)
    weights = None if sample_weight is None else checked_weights(where, sample_weight, len(x))
    if len(x):
        yield Batch(x, slice(None), len(x), None if y is None else np.asarray(y), weights, epoch, numbers)


def _batch_size(data: Any) -> int | None:
    """Return the size of a dataset's whole batches, None where it does not say."""
    size = getattr(data, "batch_size", None)
    return int(size) if isinstance(size, int | np.integer) and not isinstance(size, bool) and size > 0 else None


def _nothing() -> None:
    """Stand in for a method that data may have."""
