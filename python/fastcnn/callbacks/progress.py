"""How far fit, evaluate and predict are, on the standard output."""

from __future__ import annotations

import sys
import time
from typing import Any

from fastcnn.callbacks.base import Callback, Logs
from fastcnn.callbacks.names import sorted_names


class ProgressBar(Callback):
    """Shows how far `fit`, `evaluate` or `predict` is, as params["verbose"] asks.

    0: nothing. 1 or "auto": a bar on a terminal, and elsewhere, where a bar would fill log files, a line per epoch of
    `fit`. 2: a line per epoch, and one for `evaluate`. Validation inside `fit` has no display of its own.
    """

    adds = ()

    def __init__(self) -> None:
        self._bar: Any = None
        self._fitting = False
        self._begin = 0.0
        self._title, self._batches = "the beginning", 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Note that what follows belongs to `fit`."""
        self._fitting = True

    def on_train_interrupt(self, logs: Logs | None = None) -> None:
        """Say where training stopped."""
        self._close()
        if self.params.get("verbose", "auto") != 0:
            print(f"Interrupted in {self._title}, after {self._batches} batches", flush=True)

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
        self._title = title
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


def _format(logs: Logs) -> str:
    """Return "accuracy: 0.9531 - loss: 0.1234", small numbers in exponent form."""
    shown = (
        f"{name}: {logs[name]:.4f}" if abs(logs[name]) > 1e-3 or logs[name] == 0 else f"{name}: {logs[name]:.4e}"
        for name in sorted_names(logs)
    )
    return " - ".join(shown)
