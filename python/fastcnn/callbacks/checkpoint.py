"""Callbacks that write models to disk: checkpoints for use, and backups from which a run goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from fastcnn.callbacks.base import Callback, Logs
from fastcnn.callbacks.monitor import MonitorCallback
from fastcnn.callbacks.names import Named
from fastcnn.compat import old_name
from fastcnn.formats import ModelFileError
from fastcnn.formats.atomic import check_writable

_FLOAT_BYTES = 4


class ModelCheckpoint(MonitorCallback):
    """Saves the model after every epoch, or every `save_freq` batches.

    `filepath` may hold {epoch}, counted from 1, {batch} and names of logs, each with a format such as {epoch:02d} or
    {val_loss:.2f}; directories are made. With `save_best_only` only a model is saved whose `monitor` is better than all
    before and than `initial_value_threshold`. `period` is the older name for a number of epochs between saves. Source:
    Keras. A file replaces an older one whole or not at all.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
        period: int | None = None,
    ) -> None:
        from fastcnn.models.saving import check_suffix

        super().__init__(monitor, mode, 0)
        self.filepath = os.fspath(filepath)
        check_suffix(self.filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = check_frequency("ModelCheckpoint", save_freq)
        self.initial_value_threshold = initial_value_threshold
        self.best = initial_value_threshold
        self.period = 1
        if period is not None:
            self.period = int(check_frequency("ModelCheckpoint", period, "period"))
            old_name("ModelCheckpoint(period=)", "Keras 3 saves after every epoch, or every save_freq batches")
        self._reset()

    def _reset(self) -> None:
        self._epoch = 0
        self._batches = 0  # since the last save
        self._epochs = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Raise before the first step what would go wrong at the first save: an unknown log, no permission, no room.

        As in Keras the best value stays from one `fit` to the next.
        """
        if self.save_best_only:
            self.check_monitor()
        known = self.params.get("metrics")
        self._reset()
        if known is None:
            return
        try:
            path = self._path(0, None if self.save_freq == "epoch" else 0, dict.fromkeys(known, 0.0))
        except ValueError:
            if self.params.get("others"):
                return  # the name may hold a log that another callback adds
            raise
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        check_writable(path, _FLOAT_BYTES * self.model.count_params())

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Note the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Save if `save_freq` is a number of batches and they are done."""
        if self.save_freq == "epoch":
            return
        self._batches += 1
        if self._batches >= int(self.save_freq):
            self._batches = 0
            self._save(self._epoch, batch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save if `save_freq` is "epoch" and `period` of them are done."""
        if self.save_freq != "epoch":
            return
        self._epochs += 1
        if self._epochs >= self.period:
            self._epochs = 0
            self._save(epoch, None, logs)

    def _save(self, epoch: int, batch: int | None, logs: Logs | None) -> None:
        path = self._path(epoch, batch, logs or {})
        if self.save_best_only:
            current = self.monitored(logs)
            if current is None or not self.is_improvement(current, self.best):
                self._tell(epoch, f"{self.monitor} did not improve from {self.best}")
                return
            self._tell(epoch, f"{self.monitor} improved from {self.best} to {current}")
            self.best = current
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path)
        else:
            self.model.save(path)
        self._tell(epoch, f"saved {path}")

    def _path(self, epoch: int, batch: int | None, logs: Logs) -> str:
        """Return the file's name; raise ValueError for a name in braces that is no log."""
        values: Named[Any] = Named({"epoch": epoch + 1, **logs})
        if batch is not None:
            values.setdefault("batch", batch + 1)
        try:
            return self.filepath.format_map(values)
        except (IndexError, KeyError) as error:
            known = ", ".join(sorted(values))
            raise ValueError(
                f"ModelCheckpoint: {self.filepath!r} asks for {{{error.args[0]}}}; there are {known}"
            ) from error

    def _tell(self, epoch: int, text: str) -> None:
        if self.verbose > 0:
            print(f"Epoch {epoch + 1}: {text}", flush=True)

    def get_state(self) -> dict[str, Any]:
        """Return the best value and the counters."""
        return {"best": self.best, "batches": self._batches, "epochs": self._epochs}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` returned."""
        self.best, self._batches, self._epochs = state["best"], state["batches"], state["epochs"]


class BackupAndRestore(Callback):
    """Backs training up after every epoch, or every `save_freq` batches, and after Ctrl-C; `fit` goes on from there.

    A later `fit` with the same model, data and callbacks, in the same or another process, continues bit for bit as if
    nothing had happened; epochs may be added. What differs is named in a ValueError before the first step. A generator
    is advanced from where it stands by what was consumed, so give a fresh one. `double_checkpoint` keeps the backup
    before the last one as well; `delete_checkpoint` removes all when training ends, other than by Ctrl-C.

    Source: Keras, whose backups are at whole epochs or restart the interrupted one.
    """

    adds = ()
    last = True  # the state of all others is that after the batch or epoch

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ) -> None:
        if not os.fspath(backup_dir):
            raise ValueError("BackupAndRestore: backup_dir must be a directory, got ''")
        self.backup_dir = os.fspath(backup_dir)
        self.save_freq = check_frequency("BackupAndRestore", save_freq)
        self.double_checkpoint = double_checkpoint
        self.delete_checkpoint = delete_checkpoint
        self.path = os.path.join(self.backup_dir, "training.safetensors")
        self.previous_path = os.path.join(self.backup_dir, "previous.safetensors")
        self._begun = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Restore a backup, if there is one; raises OSError for a directory that cannot be written."""
        self._begun = self._interrupted = False
        run = self.model.running_fit()
        missing = 1 if os.path.exists(self.path) else 2  # each is written beside the one before
        os.makedirs(self.backup_dir, exist_ok=True)
        try:
            check_writable(self.path, missing * run.backup_size())
        finally:
            self._remove_empty_directory()  # what fails before the first backup leaves nothing
        found = [path for path in (self.path, self.previous_path) if os.path.exists(path)]
        if found:
            try:
                run.restore(found[0])
            except ModelFileError:
                if len(found) == 1:
                    raise
                run.restore(found[1])
        self._begun = True

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Back up if `save_freq` batches are done."""
        optimizer = self.model.optimizer
        assert optimizer is not None
        if self.save_freq != "epoch" and optimizer.batches % int(self.save_freq) == 0:
            self._save()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Back up if `save_freq` is "epoch"."""
        if self.save_freq == "epoch":
            self._save()

    def on_train_interrupt(self, logs: Logs | None = None) -> None:
        """Back up and keep it."""
        self._interrupted = True
        if self._begun:
            self._save()

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Remove the backups of a run that is complete."""
        if self.delete_checkpoint and not self._interrupted:
            self.delete()

    def delete(self) -> None:
        """Remove the backups, and the directory if nothing else is in it."""
        for path in (self.path, self.previous_path):
            if os.path.exists(path):
                os.unlink(path)
        self._remove_empty_directory()

    def _remove_empty_directory(self) -> None:
        if os.path.isdir(self.backup_dir) and not os.listdir(self.backup_dir):
            os.rmdir(self.backup_dir)

    def _save(self) -> None:
        os.makedirs(self.backup_dir, exist_ok=True)
        if self.double_checkpoint and os.path.exists(self.path):
            os.replace(self.path, self.previous_path)
        self.model.running_fit().save(self.path)


def check_frequency(owner: str, value: str | int, argument: str = "save_freq") -> str | int:
    """Return "epoch" or a number of batches; raise ValueError for anything else."""
    if value == "epoch" and argument == "save_freq":
        return "epoch"
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        expected = "'epoch' or a number of batches" if argument == "save_freq" else "a number of epochs"
        raise ValueError(f"{owner}: {argument} must be {expected}, got {value!r}")
    return value
