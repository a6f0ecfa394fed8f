"""ImageDataset: a list of picture files as batches x[N,H,W,C], y, in an order that follows from (seed, epoch)."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastcnn.data.folder import FORMATS, ImageFileError
from fastcnn.data.order import epoch_order
from fastcnn.data.picture import CHANNELS, ColorMode, load_picture
from fastcnn.data.prefetch import default_threads, prefetch
from fastcnn.data.resize import Fit, resize_into
from fastcnn.digest import digest

Array = NDArray[np.float32]
Labels = NDArray[np.int32] | Array
LabelMode = Literal["int", "categorical", "binary"]
OnError = Literal["raise", "skip"]


def files_digest(paths: Sequence[str], labels: NDArray[Any] | None) -> str:
    """Return a digest of the files' names with those of their folders, and of their labels."""
    names = (os.path.join(os.path.basename(os.path.dirname(path)), os.path.basename(path)) for path in paths)
    found = b"" if labels is None else np.asarray(labels, np.int64).tobytes()
    return digest(found, *(os.fsencode(name) for name in names))


@dataclass(frozen=True)
class PictureOptions:
    """How a file becomes pixels: colours, size (H, W) in pixels, and the policy for odd pictures."""

    color_mode: ColorMode = "rgb"
    image_size: tuple[int, int] = (256, 256)
    interpolation: str = "bilinear"
    fit: Fit = "stretch"
    formats: tuple[str, ...] = FORMATS
    exif_transpose: bool = False
    background: tuple[int, int, int] | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of every picture after reading."""
        return (*self.image_size, CHANNELS[self.color_mode])

    def read_into(self, path: str, y: Array) -> None:
        """Read the picture at `path` into y[H,W,C] (0..255); raises ImageFileError whatever is wrong with the file."""
        try:
            image = load_picture(
                path,
                self.color_mode,
                formats=self.formats,
                exif_transpose=self.exif_transpose,
                background=self.background,
            )
        except OSError as error:
            raise ImageFileError(path, "unknown", f"the file cannot be read: {error.strerror or error}") from error
        x = np.asarray(image)
        resize_into(x.reshape(*x.shape[:2], -1), y, self.interpolation, self.fit)


class ImageDataset:
    """Batches of pictures read by threads; made by `image_dataset_from_directory`.

    Iterating yields the batches of epoch 0, the next time those of epoch 1, and so on; `epoch(e)` yields those of any
    epoch. Each batch is (x[N,H,W,C], y): x is float32 in 0..255; y is int32 [N] (`label_mode` "int"), float32 one-hot
    [N,classes] ("categorical") or float32 [N,1] ("binary"); without labels the batch is x alone. What an epoch yields
    depends on the files, `seed` and the epoch number alone, not on the number of threads or on where reading began.

    With `on_error="skip"` a picture that cannot be read shrinks its own batch and leaves all others as they are; a
    batch without any readable picture is left out. `skipped` maps every file left out so far to the reason.
    """

    def __init__(
        self,
        file_paths: Sequence[str],
        labels: NDArray[np.int32] | None,
        class_names: Sequence[str],
        options: PictureOptions,
        *,
        label_mode: LabelMode | None,
        batch_size: int,
        shuffle: bool,
        seed: int,
        on_error: OnError,
        num_threads: int | None,
        skipped: dict[str, str] | None = None,
    ) -> None:
        self.file_paths = list(file_paths)
        self.labels = labels
        self.class_names = list(class_names)
        self.options = options
        self.label_mode = label_mode
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.on_error = on_error
        self.num_threads = num_threads
        self.skipped = dict(skipped or {})
        self.next_epoch = 0

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 without labels."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one picture."""
        return self.options.image_shape

    def __len__(self) -> int:
        """Return the number of batches of an epoch, the smaller last one included."""
        return -(-len(self.file_paths) // self.batch_size)

    def __repr__(self) -> str:
        return (
            f"<ImageDataset: {len(self.file_paths)} pictures {self.image_shape}, {self.num_classes} classes, "
            f"{len(self)} batches of {self.batch_size}>"
        )

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the positions in `file_paths` in the order epoch `epoch` (from 0) visits them."""
        if not self.shuffle:
            return np.arange(len(self.file_paths))
        return epoch_order(len(self.file_paths), self.seed, epoch)

    def identity(self) -> dict[str, Any]:
        """Return what tells these pictures and their order from others, wherever their folder lies."""
        return {
            "pictures": len(self.file_paths),
            "files": files_digest(self.file_paths, self.labels),
            "options": repr(self.options),
            "label_mode": self.label_mode,
            "batch_size": self.batch_size,
            "seed": self.seed if self.shuffle else None,
        }

    def __iter__(self) -> Iterator[Array | tuple[Array, Labels]]:
        epoch, self.next_epoch = self.next_epoch, self.next_epoch + 1
        return self.epoch(epoch)

    def epoch(self, epoch: int, start_batch: int = 0) -> Generator[Array | tuple[Array, Labels], None, None]:
        """Yield the batches of epoch `epoch` (from 0), beginning with batch `start_batch`.

        Raises ImageFileError for a picture that cannot be read when `on_error` is "raise", and when an epoch read from
        its start has none that can be.
        """
        numbered = self.numbered(epoch, start_batch)
        return (batch for _, batch in numbered)

    def numbered(self, epoch: int, start_batch: int = 0) -> Generator[tuple[list[int], Any], None, None]:
        """Yield (positions in `file_paths`, batch) where `epoch` yields the batch alone; raises as it does."""
        if epoch < 0:
            raise ValueError(f"ImageDataset.epoch: epoch must be at least 0, got {epoch}")
        if not 0 <= start_batch <= len(self):
            raise ValueError(f"ImageDataset.epoch: start_batch must lie in [0, {len(self)}], got {start_batch}")
        return self._batches(self.order(epoch), start_batch)

    def _batches(self, order: NDArray[np.int64], start_batch: int) -> Generator[tuple[list[int], Any], None, None]:
        starts = range(start_batch * self.batch_size, len(order), self.batch_size)
        plan = (order[start : start + self.batch_size].tolist() for start in starts)
        read = prefetch(plan, self._new_batch, self._read, threads=self.num_threads or default_threads())
        try:
            empty = start_batch == 0
            for positions, x, reasons in read:
                kept = [row for row, reason in enumerate(reasons) if reason is None]
                if len(kept) < len(positions):
                    self._note_skipped(positions, reasons)
                    x = x[kept]
                    positions = [positions[row] for row in kept]
                if kept:
                    empty = False
                    yield list(positions), x if self.label_mode is None else (x, self._encoded(positions))
        finally:
            read.close()
        if empty and self.file_paths:
            path, reason = next(iter(self.skipped.items()))
            raise ImageFileError(path, "unknown", f"{reason} (as with this one, no picture of the set can be read)")

    def _new_batch(self, positions: Sequence[int]) -> Array:
        return np.empty((len(positions), *self.image_shape), np.float32)

    def _read(self, x: Array, row: int, position: int) -> str | None:
        """Read one picture into x[row]; return why it was skipped, or None."""
        try:
            self.options.read_into(self.file_paths[position], x[row])
        except ImageFileError as error:
            if self.on_error == "raise":
                raise
            return f"{error.format}: {error.reason}"
        return None

    def _note_skipped(self, positions: Sequence[int], reasons: Sequence[str | None]) -> None:
        for position, reason in zip(positions, reasons, strict=True):
            if reason is not None:
                self.skipped[self.file_paths[position]] = reason

    def _encoded(self, positions: Sequence[int]) -> Labels:
        assert self.labels is not None
        labels: NDArray[np.int32] = self.labels[list(positions)]
        if self.label_mode == "categorical":
            y: Array = (labels[:, None] == np.arange(self.num_classes)).astype(np.float32)
            return y
        if self.label_mode == "binary":
            return labels[:, None].astype(np.float32)
        return labels
