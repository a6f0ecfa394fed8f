"""PyDataset: Keras' base class of data that give batches by number."""

from __future__ import annotations

from typing import Any


class PyDataset:
    """Batches by number: a subclass has `__len__` and `__getitem__`, which returns x, (x, y) or (x, y, sample_weight).

    `fit`, `evaluate` and `predict` take any object with these two methods. With `workers` above 1 that many threads
    fetch batches ahead, in order (`use_multiprocessing` also means threads; a few batches wait, whatever
    `max_queue_size`). `on_epoch_begin` and `on_epoch_end` are called around every epoch.
    """

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10) -> None:
        for argument, value in (("workers", workers), ("max_queue_size", max_queue_size)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"PyDataset: {argument} must be a positive integer, got {value!r}")
        self.workers = workers
        self.use_multiprocessing = bool(use_multiprocessing)
        self.max_queue_size = max_queue_size

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        raise NotImplementedError(f"{type(self).__name__} must define __len__, the number of its batches")

    def __getitem__(self, index: int) -> Any:
        """Return batch `index`, counted from 0."""
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__, which returns a batch")

    @property
    def num_batches(self) -> int:
        """The number of batches of an epoch."""
        return len(self)

    def on_epoch_begin(self) -> None:
        """Is called before every epoch."""

    def on_epoch_end(self) -> None:
        """Is called after every epoch."""


Sequence = PyDataset  # the name up to Keras 2
