"""The iterators behind ImageDataGenerator: batches without end, prepared by the data-loading threads."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.data.dataset import files_digest
from fastcnn.data.folder import FORMATS, ImageFileError, check_directory, scan_classes
from fastcnn.data.order import epoch_order
from fastcnn.data.picture import CHANNELS, ColorMode
from fastcnn.data.prefetch import default_threads, prefetch
from fastcnn.preprocessing.generator import checked_pictures
from fastcnn.preprocessing.transform import Array, Ranges
from fastcnn.random import next_seed, uniforms
from fastcnn.utils.image import INTERPOLATIONS, array_to_img, img_to_array, load_img

if TYPE_CHECKING:
    from fastcnn.preprocessing.generator import ImageDataGenerator

CLASS_MODES = ("categorical", "binary", "sparse", "input", None)
SUBSETS = ("training", "validation", None)
_PLAIN = (bool, float, int, str, Ranges, type(None))
_FILE_NUMBERS = 10**7  # of the random number in the name of a saved picture


class Iterator:
    """Batches of `n` pictures, epoch after epoch without end; `len` is the number of batches of one epoch.

    `epoch(e)` yields the batches of any epoch; `next` goes through epochs 0, 1, 2... one after the other; `it[i]` is
    batch i of the epoch that `next` is in.
    """

    endless = True  # `steps` of fit and evaluate may be more than one epoch

    def __init__(
        self,
        generator: ImageDataGenerator,
        n: int,
        image_shape: tuple[int, int, int],
        batch_size: int,
        shuffle: bool,
        seed: int | None,
        save_to_dir: str | os.PathLike[str] | None,
        save_prefix: str,
        save_format: str,
    ) -> None:
        where = type(self).__name__
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise ValueError(f"{where}: batch_size must be a positive integer, got {batch_size!r}")
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int | np.integer)):
            raise ValueError(f"{where}: seed must be an integer or None, got {seed!r}")
        generator.check_fitted(where)
        self.image_data_generator = generator
        self.n = n
        self.image_shape = image_shape
        self.batch_size = int(batch_size)
        self.shuffle = bool(shuffle)
        self.seed = next_seed() if seed is None else int(seed)
        self.save_to_dir = None if save_to_dir is None else check_directory(where, save_to_dir)
        self.save_prefix, self.save_format = save_prefix, save_format
        self.num_threads = default_threads()
        self.batch_index = 0  # of the next batch within its epoch
        self._epoch = 0
        self._batches: Generator[Any, None, None] | None = None
        self._lock = threading.Lock()

    # -- what a subclass writes ----------------------------------------------------------------------------------------

    def _read(self, index: int) -> Array:
        """Return the unchanged picture [H,W,C] of that number."""
        raise NotImplementedError

    def _with_labels(self, x: Array, indices: list[int]) -> Any:
        """Return the batch as it is given out."""
        raise NotImplementedError

    # -- epochs --------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of batches of an epoch, the smaller last one included."""
        return -(-self.n // self.batch_size)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the numbers of the pictures in the order epoch `epoch` (from 0) visits them."""
        return epoch_order(self.n, self.seed, epoch) if self.shuffle else np.arange(self.n)

    def epoch(self, epoch: int) -> Generator[Any, None, None]:
        """Yield the batches of epoch `epoch`, counted from 0."""
        return (item for _, item in self.numbered(epoch))

    def numbered(
        self, epoch: int, start_batch: int = 0, stop_batch: int | None = None
    ) -> Generator[tuple[list[int], Any], None, None]:
        """Yield (numbers of the pictures, batch) for the batches of an epoch, from one to before another."""
        order = self.order(epoch)
        starts = [i * self.batch_size for i in range(start_batch, len(self) if stop_batch is None else stop_batch)]
        plan = [order[start : start + self.batch_size].tolist() for start in starts]

        def fill(x: Array, row: int, index: int) -> None:
            changed = self.image_data_generator.changed(self._read(index), self.seed, epoch, index)
            x[row] = changed
            if self.save_to_dir is not None:
                self._save(changed, epoch, index)

        def allocate(indices: Sequence[int]) -> Array:
            return np.empty((len(indices), *self.image_shape), np.float32)

        ready = prefetch(plan, allocate, fill, threads=self.num_threads)
        try:
            for indices, x, _ in ready:
                yield list(indices), self._with_labels(x, list(indices))
        finally:
            ready.close()

    def identity(self) -> dict[str, Any]:
        """Return what tells these pictures, their order and their changes from others."""
        changes = vars(self.image_data_generator)
        return {
            "pictures": self.n,
            "batch_size": self.batch_size,
            "seed": [self.seed, self.shuffle],
            "changes": {name: repr(value) for name, value in changes.items() if isinstance(value, _PLAIN)},
        }

    def _save(self, x: Array, epoch: int, index: int) -> None:
        assert self.save_to_dir is not None
        number = int(uniforms(1, "save", self.seed, epoch, index)[0] * _FILE_NUMBERS)
        name = f"{self.save_prefix}_{index}_{number}.{self.save_format}"
        array_to_img(x, scale=True).save(os.path.join(self.save_to_dir, name))

    # -- Keras' face ---------------------------------------------------------------------------------------------------

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        with self._lock:
            while True:
                if self._batches is None:
                    # A copy runs the epoch: were it this object, a cycle would keep its threads until some garbage
                    # collection, perhaps one inside such a thread.
                    self._batches, self.batch_index = copy.copy(self).epoch(self._epoch), 0
                for batch in self._batches:
                    self.batch_index += 1
                    return batch
                self._next_epoch()

    def next(self) -> Any:
        """Return the next batch."""
        return next(self)

    def __getitem__(self, index: int) -> Any:
        """Return batch `index` of the epoch that `next` is in; raises IndexError for one that does not exist."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"{type(self).__name__}: has {len(self)} batches, got index {index}")
        index %= len(self)
        return next(self.numbered(self._epoch, index, index + 1))[1]

    def reset(self) -> None:
        """Let the next batch be the first of an epoch: of the next one if some of this one has been given out."""
        with self._lock:
            if self.batch_index:
                self._next_epoch()

    on_epoch_end = reset

    def _next_epoch(self) -> None:
        if self._batches is not None:
            self._batches.close()
        self._batches, self.batch_index = None, 0
        self._epoch += 1


class NumpyArrayIterator(Iterator):
    """Batches x, (x, y) or (x, y, sample_weight) of arrays; made by `ImageDataGenerator.flow`."""

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike | None,
        image_data_generator: ImageDataGenerator,
        batch_size: int = 32,
        shuffle: bool = False,
        sample_weight: ArrayLike | None = None,
        seed: int | None = None,
        save_to_dir: str | os.PathLike[str] | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        subset: str | None = None,
        ignore_class_split: bool = False,
    ) -> None:
        self.x = checked_pictures("flow", x)
        self.y = _per_sample("y", y, len(self.x))
        self.sample_weight = _per_sample("sample_weight", sample_weight, len(self.x))
        if self.sample_weight is not None and self.y is None:
            raise ValueError("flow: sample_weight needs y")
        if subset is not None:
            self._take(subset, image_data_generator.validation_split, ignore_class_split)
        super().__init__(
            image_data_generator,
            len(self.x),
            self.x.shape[1:],
            batch_size,
            shuffle,
            seed,
            save_to_dir,
            save_prefix,
            save_format,
        )

    def _take(self, subset: str, fraction: float, ignore_class_split: bool) -> None:
        rows = _subset_rows("flow", subset, fraction, len(self.x))
        parts = (rows, _subset_rows("flow", _other(subset), fraction, len(self.x)))
        if self.y is not None and not ignore_class_split:
            first, second = (np.unique(self.y[part], axis=0) for part in parts)
            if not np.array_equal(first, second):
                raise ValueError(
                    "flow: y has different classes in training and validation; shuffle sorted samples first, or set "
                    "ignore_class_split"
                )
        self.x = self.x[rows]
        self.y = None if self.y is None else self.y[rows]
        self.sample_weight = None if self.sample_weight is None else self.sample_weight[rows]
        if len(self.x) == 0:
            raise ValueError(f"flow: subset {subset!r} of validation_split={fraction} holds no samples")

    def _read(self, index: int) -> Array:
        picture: Array = self.x[index].astype(np.float32)
        return picture

    def _with_labels(self, x: Array, indices: list[int]) -> Any:
        if self.y is None:
            return x
        if self.sample_weight is None:
            return x, self.y[indices]
        return x, self.y[indices], self.sample_weight[indices]


class DirectoryIterator(Iterator):
    """Batches of pictures in class folders; made by `ImageDataGenerator.flow_from_directory`.

    `filenames` are relative to the folder, `classes` holds the class number of each, `class_indices` maps names to
    numbers, `class_names` lists them, `samples` and `num_classes` count.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        image_data_generator: ImageDataGenerator,
        target_size: tuple[int, int] = (256, 256),
        color_mode: str = "rgb",
        classes: Sequence[str] | None = None,
        class_mode: str | None = "categorical",
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        save_to_dir: str | os.PathLike[str] | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        follow_links: bool = False,
        subset: str | None = None,
        interpolation: str = "nearest",
        keep_aspect_ratio: bool = False,
    ) -> None:
        _choice("color_mode", color_mode, tuple(CHANNELS))
        _choice("class_mode", class_mode, CLASS_MODES)
        _choice("interpolation", interpolation, INTERPOLATIONS)
        self.target_size = _size(target_size)
        self.color_mode = cast(ColorMode, color_mode)
        self.class_mode = class_mode
        self.interpolation = interpolation
        self.keep_aspect_ratio = bool(keep_aspect_ratio)
        self.directory = check_directory("flow_from_directory", directory)
        self._scan(classes, follow_links, subset, image_data_generator.validation_split)
        super().__init__(
            image_data_generator,
            self.samples,
            (*self.target_size, CHANNELS[self.color_mode]),
            batch_size,
            shuffle,
            seed,
            save_to_dir,
            save_prefix,
            save_format,
        )
        print(f"Found {self.samples} images belonging to {self.num_classes} classes.")

    def _scan(self, classes: Sequence[str] | None, follow_links: bool, subset: str | None, fraction: float) -> None:
        index = scan_classes(
            self.directory, class_names=list(classes) if classes else None, follow_links=follow_links, formats=FORMATS
        )
        where = f"flow_from_directory: directory {self.directory!r}"
        if index.refused:
            path = min(index.refused)
            raise ImageFileError(path, "unknown", index.refused[path])
        if not index.class_names:
            raise ValueError(f"{where} must hold one folder per class, but it has none")
        empty = [name for name, count in index.class_counts().items() if count == 0]
        if empty:
            raise ValueError(f"{where} has no picture of the classes {empty}")
        if self.class_mode == "binary" and len(index.class_names) != 2:
            raise ValueError(f"{where} has {len(index.class_names)} classes, class_mode 'binary' needs 2")
        assert index.labels is not None
        kept = np.arange(len(index.labels))
        if subset is not None:
            _choice("subset", subset, SUBSETS)
            counts = np.bincount(index.labels)
            starts = np.cumsum(counts) - counts
            kept = np.concatenate(
                [
                    start + np.arange(count)[_subset_rows("flow_from_directory", subset, fraction, count)]
                    for start, count in zip(starts, counts, strict=True)
                ]
            )
            if len(kept) == 0:
                raise ValueError(f"{where}: subset {subset!r} of validation_split={fraction} holds no pictures")
        self.class_names = index.class_names
        self.class_indices = {name: number for number, name in enumerate(index.class_names)}
        self.num_classes = len(index.class_names)
        self.filepaths = [index.file_paths[i] for i in kept]
        self.filenames = [os.path.relpath(path, self.directory) for path in self.filepaths]
        self.classes: NDArray[np.int32] = index.labels[kept]
        self.samples = len(self.filepaths)

    def identity(self) -> dict[str, Any]:
        """Return what tells these pictures, their order and their changes from others."""
        return super().identity() | {"files": files_digest(self.filepaths, self.classes), "class_mode": self.class_mode}

    @property
    def labels(self) -> NDArray[np.int32]:
        """The class number of every picture."""
        return self.classes

    def _read(self, index: int) -> Array:
        image = load_img(
            self.filepaths[index], self.color_mode, self.target_size, self.interpolation, self.keep_aspect_ratio
        )
        picture: Array = img_to_array(image)
        return picture

    def _with_labels(self, x: Array, indices: list[int]) -> Any:
        if self.class_mode is None:
            return x
        if self.class_mode == "input":
            return x, x.copy()
        numbers = self.classes[indices]
        if self.class_mode == "categorical":
            return x, (numbers[:, None] == np.arange(self.num_classes)).astype(np.float32)
        return x, numbers.astype(np.float32)


def _other(subset: str) -> str:
    return "training" if subset == "validation" else "validation"


def _subset_rows(where: str, subset: str, fraction: float, count: int) -> slice:
    """Return the rows of a subset: as in Keras' generators, validation is the first part."""
    if subset not in SUBSETS:
        raise ValueError(f"{where}: subset must be 'training', 'validation' or None, got {subset!r}")
    held_out = int(fraction * count)
    return slice(0, held_out) if subset == "validation" else slice(held_out, None)


def _per_sample(argument: str, values: ArrayLike | None, count: int) -> NDArray[Any] | None:
    if values is None:
        return None
    array = np.asarray(values)
    if array.ndim == 0 or len(array) != count:
        raise ValueError(f"flow: {argument} must have {count} entries, one per picture, got {list(array.shape)}")
    return array


def _choice(argument: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ValueError(
            f"flow_from_directory: {argument} must be one of {', '.join(map(repr, allowed))}, got {value!r}"
        )


def _size(target_size: object) -> tuple[int, int]:
    sizes = target_size if isinstance(target_size, list | tuple) else ()
    if len(sizes) != 2 or not all(isinstance(s, int | np.integer) and not isinstance(s, bool) and s > 0 for s in sizes):
        raise ValueError(
            f"flow_from_directory: target_size must be (height, width) in pixels, at least 1, got {target_size!r}"
        )
    return int(sizes[0]), int(sizes[1])
