"""What fit, evaluate and predict are given, as batches: arrays, datasets, generators."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.digest import digest
from fastcnn.graph import Shape
from fastcnn.layers.base import Array
from fastcnn.losses import Loss

BATCH_SIZE = 32  # Keras' default
Labels = NDArray[Any]
_CLASS_FORMS = ("int", "sparse", "categorical", "binary")  # as Keras' datasets and generators name them


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
    """Batches of any number of epochs; `steps` is their number in one epoch, None if unknown."""

    steps: int | None = None
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
    """The first `steps` batches of every epoch."""

    def __init__(self, where: str, source: Source, steps: int) -> None:
        self.where = where
        self.source = source
        self.steps = steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches; raises ValueError when the data end before that."""
        return _exactly(self.where, self.source.epoch(epoch, start), (self.steps or 0) - start)


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
    return EndlessSource(where, source, steps) if endless else FirstSteps(where, source, steps)


def is_array_like(x: Any) -> bool:
    """Return whether x is samples in one piece rather than something that yields batches."""
    return isinstance(x, np.ndarray | list | tuple) or hasattr(x, "__array__")


def is_indexed(x: Any) -> bool:
    """Return whether x gives batches by number, `len(x)` of them, and has no epochs of its own."""
    indexed = hasattr(x, "__getitem__") and hasattr(x, "__len__")
    return indexed and not (hasattr(x, "epoch") or is_array_like(x) or isinstance(x, str | bytes | Mapping))


def sample_shape(x: Any) -> Shape:
    """Return the shape of one sample of what a method was given, () if it cannot be told."""
    if is_array_like(x):
        if hasattr(x, "shape"):
            return tuple(x.shape[1:])
        return tuple(np.shape(x[0])) if len(x) else ()
    if hasattr(x, "image_shape"):
        return tuple(x.image_shape)
    if is_indexed(x) and len(x):
        return tuple(np.shape(_unpacked("x", x[0])[0])[1:])
    return ()


def label_form(x: Any) -> tuple[int | None, str | None]:
    """Return how many classes the labels of a dataset tell apart and their form, None where it does not say."""
    form = getattr(x, "label_mode", None) or getattr(x, "class_mode", None)
    known = getattr(x, "num_classes", None)
    return (known, form) if form in _CLASS_FORMS and isinstance(known, int) else (None, None)


def checked_x(where: str, x: ArrayLike, shape: Shape) -> NDArray[Any]:
    """Return samples as an array [N, *shape]; raises TypeError for what is not real numbers, ValueError for shapes."""
    try:
        array = np.asarray(x)
    except ValueError as error:  # a list of samples of different shapes
        raise ValueError(f"{where}: x must be one array; its samples differ in shape ({error})") from error
    if isinstance(x, np.ma.MaskedArray) or array.dtype.kind not in "biuf":
        kind = "a masked array" if isinstance(x, np.ma.MaskedArray) else str(array.dtype)
        raise TypeError(f"{where}: x must hold real numbers, got {kind}")
    if array.shape[1:] != shape or array.ndim == 0:
        expected = ", ".join(str(size) for size in shape)
        raise ValueError(f"{where}: x must be [N, {expected}] but is {list(array.shape)}")
    return array


def checked_weights(where: str, sample_weight: ArrayLike, size: int) -> Array:
    """Return one float32 weight per sample; raises ValueError for another shape and for NaN or infinity."""
    weights = np.asarray(sample_weight)
    if weights.shape not in ((size,), (size, 1)) or weights.dtype.kind not in "biuf":
        raise ValueError(
            f"{where}: sample_weight must be {size} numbers, one per sample, got {list(weights.shape)} {weights.dtype}"
        )
    weights = weights.reshape(-1).astype(np.float32)
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        raise ValueError(
            f"{where}: sample_weight must be finite and at least 0, got {weights[wrong[0]]} at [{wrong[0]}]"
        )
    return weights


def checked_class_weight(where: str, class_weight: Mapping[int, float], classes: int | None) -> dict[int, float]:
    """Return the weights by class; raises ValueError for a class that the model does not have and a wrong weight.

    `classes` None means that any number may be a label.
    """
    if not isinstance(class_weight, Mapping):
        raise ValueError(f"{where}: class_weight must map class numbers to weights, got {type(class_weight).__name__}")
    table: dict[int, float] = {}
    for number, weight in class_weight.items():
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise ValueError(f"{where}: class_weight must have whole numbers as keys, got {number!r}")
        if classes is not None and not 0 <= number < classes:
            raise ValueError(f"{where}: class_weight names class {number}, the model has classes 0..{classes - 1}")
        real = isinstance(weight, int | float | np.number) and not isinstance(weight, bool)
        if not real or not 0 <= weight < math.inf:
            raise ValueError(f"{where}: class_weight of class {number} must be finite and at least 0, got {weight!r}")
        table[int(number)] = float(weight)
    return table


def class_weights(table: Mapping[int, float], y: Labels) -> Array:
    """Return the weight of each sample's class, 1 where the table has none; of several labels the largest is it."""
    classes = y.argmax(axis=1) if y.ndim == 2 and y.shape[1] > 1 else np.round(y.reshape(-1))
    weights = np.ones(len(classes), np.float32)
    for number, weight in table.items():
        weights[classes == number] = weight
    return weights


def split(where: str, data: Sequence[Any], fraction: float) -> tuple[list[Any], list[Any]]:
    """Return arrays (None stays None) without and with their last `fraction` of samples, as Keras' validation_split."""
    if not 0 < fraction < 1:
        raise ValueError(f"{where}: validation_split must lie in [0, 1), got {fraction!r}")
    if not is_array_like(data[0]):
        raise ValueError(f"{where}: validation_split needs arrays; give validation_data with a dataset or generator")
    arrays = [None if array is None else np.asarray(array) for array in data]
    size = len(data[0])
    kept = math.floor(size * (1 - fraction))
    if kept in (0, size):
        raise ValueError(f"{where}: validation_split {fraction} of {size} samples leaves {kept} for training")
    return (
        [None if array is None else array[:kept] for array in arrays],
        [None if array is None else array[kept:] for array in arrays],
    )


def targets(where: str, loss: Loss, batch: Batch, classes: int) -> Array:
    """Return a batch's labels as float32 [N,classes]; raises ValueError as the loss does, and without labels."""
    if batch.y is None:
        raise ValueError(f"{where}: y is missing; the data must give labels too")
    t = loss.targets(batch.y, classes, f"{where}: y")
    if len(t) != batch.size:
        raise ValueError(f"{where}: y has {len(t)} labels for {batch.size} samples")
    return t


def check_count(where: str, argument: str, value: int | None) -> None:
    """Raise ValueError unless value is None or a positive integer."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1):
        raise ValueError(f"{where}: {argument} must be a positive integer or None, got {value!r}")


def _batch(
    where: str, item: Any, shape: Shape, epoch: int, numbers: NDArray[np.int64] | None = None
) -> Iterator[Batch]:
    """Yield the batch that a dataset gave, unless it is empty."""
    x, y, sample_weight = _unpacked(where, item)
    x = checked_x(where, x, shape)
    weights = None if sample_weight is None else checked_weights(where, sample_weight, len(x))
    if len(x):
        yield Batch(x, slice(None), len(x), None if y is None else np.asarray(y), weights, epoch, numbers)


def _nothing() -> None:
    """Stand in for a method that data may have."""


def _unpacked(where: str, item: Any) -> tuple[Any, Any, Any]:
    if not isinstance(item, tuple):
        return item, None, None
    if not 1 <= len(item) <= 3:
        raise ValueError(f"{where}: a batch must be x, (x, y) or (x, y, sample_weight), got {len(item)} parts")
    x, y, sample_weight = (*item, None, None)[:3]
    return x, y, sample_weight
