"""The record of a run: in memory, and as a table on disk."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from typing import Any

from fastcnn.callbacks.base import Callback, Logs
from fastcnn.callbacks.names import Named, sorted_names
from fastcnn.formats.atomic import atomic_open, check_writable


class History(Callback):
    """What `fit` returns: `history` maps each log name to one float per epoch, `epoch` lists the epochs' numbers.

    `interrupted` says whether Ctrl-C ended the run; the epoch that it cut short is not in the record. `micro_batches`
    is the largest number of parts in which a batch was trained, above 1 only under a `memory_limit`. A name is found
    under its older or newer form too, "acc" as "accuracy" and "lr" as "learning_rate".
    """

    adds = ()

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = Named()
        self.epoch: list[int] = []
        self.interrupted = False
        self.micro_batches = 1

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start a new record."""
        self.history = Named()
        self.epoch = []
        self.interrupted = False

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Add an epoch; names are sorted, those of training before those of validation."""
        self.epoch.append(epoch)
        for name in sorted_names(logs or {}):
            self.history.setdefault(name, []).append(float((logs or {})[name]))

    def on_train_interrupt(self, logs: Logs | None = None) -> None:
        """Note the interruption."""
        self.interrupted = True

    def get_state(self) -> dict[str, Any]:
        """Return the record."""
        return {"history": dict(self.history), "epoch": self.epoch}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on with a record."""
        self.history = Named({name: list(values) for name, values in state["history"].items()})
        self.epoch = list(state["epoch"])

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a table with one row per epoch, the column "epoch" counted from 0."""
        table = io.StringIO(newline="")
        writer = csv.writer(table)
        writer.writerow(["epoch", *self.history])
        writer.writerows(zip(self.epoch, *self.history.values(), strict=True))
        with atomic_open(path) as file:
            file.write(table.getvalue().encode())


class CSVLogger(Callback):
    """Writes a row per epoch to a file as it ends: the epoch from 0, then the logs in sorted order.

    The file is begun anew, or with `append` continued, at the first row; a run resumed from a backup continues it where
    the backup was made. Logs of the first epoch give the columns; a later epoch without one of them has "NA". Source:
    Keras.
    """

    adds = ()

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        self.filename = os.fspath(filename)
        if not isinstance(separator, str) or len(separator) != 1:
            raise ValueError(f"CSVLogger: separator must be one character, got {separator!r}")
        self.separator = separator
        self.append = append
        self._reset()

    def _reset(self) -> None:
        self._columns: list[str] | None = None
        self._size: int | None = None  # of the file up to the last row

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Check that the file can be written; raises OSError."""
        check_writable(self.filename)
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write the row, and before the first one the header if the file has none."""
        logs = logs or {}
        first = self._columns is None
        if self._columns is None:
            self._columns = self._named(logs)
        row = [epoch, *(logs.get(name, "NA") for name in self._columns)]
        mode = "a" if self.append or not first else "w"
        with open(self.filename, mode, newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=self.separator)
            if first and file.tell() == 0:
                writer.writerow(["epoch", *self._columns])
            writer.writerow(row)
            self._size = file.tell()

    def _named(self, logs: Logs) -> list[str]:
        """Return the columns: validation has its own even when the first epoch is not validated."""
        validated = [name for name in self.params.get("metrics") or () if name.startswith("val_")]
        return sorted({*logs, *validated})

    def get_state(self) -> dict[str, Any]:
        """Return the columns and how long the file is."""
        return {"columns": self._columns, "size": self._size}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Cut off the rows of epochs that will come again; raises OSError for a file that is gone or too short."""
        self._columns, self._size = state["columns"], state["size"]
        if self._size is None:
            return
        found = os.path.getsize(self.filename)
        if found < self._size:
            raise OSError(f"CSVLogger: {self.filename} has {found} bytes, the backup was made with {self._size}")
        os.truncate(self.filename, self._size)
