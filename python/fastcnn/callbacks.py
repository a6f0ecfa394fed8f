"""Hooks that training calls: Keras' Callback protocol, the list that serves it, History and the progress display."""

from __future__ import annotations

import csv
import io
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from fastcnn.formats.atomic import atomic_open

if TYPE_CHECKING:
    from fastcnn.models.model import Model

Logs = dict[str, float]


class Callback:
    """Base of all callbacks: override any hook; `self.model` and `self.params` are set before the first one.

    `logs` maps names such as "loss" and "val_accuracy" to numbers; what a callback adds to it the later ones see.
    `self.model.stop_training = True` ends `fit` after the batch or epoch.
    """

    model: Model
    params: dict[str, Any]

    def set_params(self, params: dict[str, Any]) -> None:
        """Receive {"verbose", "epochs", "steps"}; steps is None when the number of batches is unknown."""
        self.params = params

    def set_model(self, model: Model) -> None:
        """Receive the model."""
        self.model = model

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Run before epoch `epoch`, counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Run after epoch `epoch` and its validation."""

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Run when `fit` begins."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Run when `fit` ends."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before training batch `batch`, counted from 0 in each epoch."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after training batch `batch`; logs are the epoch's running means."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Run when `evaluate`, or the validation of an epoch, begins."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Run when `evaluate`, or the validation of an epoch, ends."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before evaluation batch `batch`."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after evaluation batch `batch`."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Run when `predict` begins."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Run when `predict` ends."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before prediction batch `batch`."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after prediction batch `batch`."""


class CallbackList(Callback):
    """Several callbacks behind the hooks of one, called in order, always with a dict of logs.

    With `add_history` a History is appended unless the callbacks hold one, and is `self.history`; with `add_progress` a
    ProgressBar. Raises TypeError for what is not a Callback.
    """

    def __init__(
        self,
        callbacks: Callback | Iterable[Callback] | None = None,
        *,
        add_history: bool = False,
        add_progress: bool = False,
        model: Model | None = None,
        **params: Any,
    ) -> None:
        if callbacks is None:
            callbacks = ()
        self.callbacks = [callbacks] if isinstance(callbacks, Callback) else list(callbacks)
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks must be Callback instances, got {callback!r}")
        if add_progress and not any(isinstance(callback, ProgressBar) for callback in self.callbacks):
            self.callbacks.append(ProgressBar())
        self.history: History | None = next((c for c in self.callbacks if isinstance(c, History)), None)
        if add_history and self.history is None:
            self.history = History()
            self.callbacks.append(self.history)
        if model is not None:
            self.set_model(model)
        self.set_params(params)

    def set_params(self, params: dict[str, Any]) -> None:
        """Hand the parameters to every callback."""
        self.params = params
        for callback in self.callbacks:
            callback.set_params(params)

    def set_model(self, model: Model) -> None:
        """Hand the model to every callback."""
        self.model = model
        for callback in self.callbacks:
            callback.set_model(model)


def _forward(hook: str) -> Callable[..., None]:
    def forward(self: CallbackList, logs: Logs | None = None) -> None:
        logs = {} if logs is None else logs
        for callback in self.callbacks:
            getattr(callback, hook)(logs)

    def forward_numbered(self: CallbackList, number: int, logs: Logs | None = None) -> None:
        logs = {} if logs is None else logs
        for callback in self.callbacks:
            getattr(callback, hook)(number, logs)

    return forward_numbered if "batch" in hook or "epoch" in hook else forward


for _hook in [name for name in vars(Callback) if name.startswith("on_")]:
    setattr(CallbackList, _hook, _forward(_hook))


class History(Callback):
    """What `fit` returns: `history` maps each log name to one float per epoch, `epoch` lists the epochs' numbers."""

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start a new record."""
        self.history = {}
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Add an epoch; names are sorted, those of training before those of validation."""
        self.epoch.append(epoch)
        for name in sorted_names(logs or {}):
            self.history.setdefault(name, []).append(float((logs or {})[name]))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a table with one row per epoch, the column "epoch" counted from 0."""
        table = io.StringIO(newline="")
        writer = csv.writer(table)
        writer.writerow(["epoch", *self.history])
        writer.writerows(zip(self.epoch, *self.history.values(), strict=True))
        with atomic_open(path) as file:
            file.write(table.getvalue().encode())


class LambdaCallback(Callback):
    """A callback made of functions, each with its hook's arguments."""

    def __init__(
        self,
        on_epoch_begin: Callable[[int, Logs | None], Any] | None = None,
        on_epoch_end: Callable[[int, Logs | None], Any] | None = None,
        on_train_begin: Callable[[Logs | None], Any] | None = None,
        on_train_end: Callable[[Logs | None], Any] | None = None,
        on_train_batch_begin: Callable[[int, Logs | None], Any] | None = None,
        on_train_batch_end: Callable[[int, Logs | None], Any] | None = None,
    ) -> None:
        hooks = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
        }
        for name, function in hooks.items():
            if function is not None:
                setattr(self, name, function)


class ProgressBar(Callback):
    """Shows how far `fit`, `evaluate` or `predict` is, as params["verbose"] asks.

    0: nothing. 1 or "auto": a bar on a terminal, and elsewhere, where a bar would fill log files, a line per epoch of
    `fit`. 2: a line per epoch, and one for `evaluate`. Validation inside `fit` has no display of its own.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._fitting = False
        self._begin = 0.0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Note that what follows belongs to `fit`."""
        self._fitting = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Note the end of `fit`."""
        self._close()
        self._fitting = False

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Start an epoch's bar and clock."""
        self._open(f"Epoch {epoch + 1}/{self.params.get('epochs', '?')}")

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Advance the bar."""
        self._advance(logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Finish the bar, or print the epoch's line."""
        if not self._finish(logs) and self.params.get("verbose", "auto") != 0:
            self._print(f"Epoch {epoch + 1}/{self.params.get('epochs', '?')}", logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Start the bar of `evaluate`."""
        if not self._fitting:
            self._open("Evaluate")

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Advance the bar of `evaluate`."""
        if not self._fitting:
            self._advance(logs)

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Finish the bar of `evaluate`, or print its line."""
        if not self._fitting and not self._finish(logs) and self.params.get("verbose", "auto") == 2:
            self._print("Evaluate", logs)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Start the bar of `predict`."""
        self._open("Predict")

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Advance the bar of `predict`."""
        self._advance(None)

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Finish the bar of `predict`."""
        self._finish(None)

    def _open(self, title: str) -> None:
        self._close()
        self._begin = time.perf_counter()
        self._batches = 0
        if self.params.get("verbose", "auto") in (1, "auto") and sys.stdout.isatty():
            from tqdm import tqdm

            self._bar = tqdm(desc=title, total=self.params.get("steps"), unit="batch", file=sys.stdout)

    def _advance(self, logs: Logs | None) -> None:
        self._batches += 1
        if self._bar is not None:
            if logs:
                self._bar.set_postfix_str(_format(logs), refresh=False)
            self._bar.update()

    def _finish(self, logs: Logs | None) -> bool:
        """Close the bar with the last numbers; tell whether there was one."""
        if self._bar is None:
            return False
        if logs:
            self._bar.set_postfix_str(_format(logs), refresh=True)
        self._close()
        return True

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _print(self, title: str, logs: Logs | None) -> None:
        seconds = time.perf_counter() - self._begin
        pace = f"{seconds:.1f}s {1000 * seconds / max(1, self._batches):.0f}ms/step"
        print(f"{title} - {self._batches} steps {pace} - {_format(logs or {})}", flush=True)


def sorted_names(logs: Logs) -> list[str]:
    """Return the names in the order Keras' History has them: sorted, training before `val_`."""
    return sorted(logs, key=lambda name: (name.startswith("val_"), name))


def _format(logs: Logs) -> str:
    """Return "accuracy: 0.9531 - loss: 0.1234", small numbers in exponent form."""
    shown = (
        f"{name}: {logs[name]:.4f}" if abs(logs[name]) > 1e-3 or logs[name] == 0 else f"{name}: {logs[name]:.4e}"
        for name in sorted_names(logs)
    )
    return " - ".join(shown)
