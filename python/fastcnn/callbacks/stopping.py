"""Callbacks that end training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastcnn.callbacks.base import Callback, Logs
from fastcnn.callbacks.monitor import MonitorCallback, check_patience
from fastcnn.errors import NonFiniteError


class EarlyStopping(MonitorCallback):
    """Ends training after `patience` epochs in a row in which `monitor` did not improve by more than `min_delta`.

    With `baseline` only values better than it end the waiting. `restore_best_weights` gives the model back the weights
    of its best epoch when training ends, by whatever cause. Epochs before `start_from_epoch` are not looked at. Source:
    Keras 3.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = check_patience("EarlyStopping", "patience", patience)
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._reset()

    def _reset(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best = None
        self.best_epoch = 0
        self.best_weights: list[Any] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forget earlier runs; raises ValueError for a log that nobody writes."""
        self.check_monitor()
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare, and stop training after the last epoch of patience, but never after the first epoch of all."""
        current = self.monitored(logs)
        if current is None or epoch < self.start_from_epoch:
            return
        self.wait += 1
        if self.is_improvement(current, self.best):
            self.best = current
            self.best_epoch = epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self.is_improvement(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Restore the best weights if that is asked for."""
        if self.stopped_epoch > 0 and self.verbose > 0:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping", flush=True)
        if self.best_weights is not None:
            if self.verbose > 0:
                print(f"Restoring the weights of the best epoch, {self.best_epoch + 1}", flush=True)
            self.model.set_weights(self.best_weights)

    def get_state(self) -> dict[str, Any]:
        """Return the numbers, and the best weights one by one."""
        numbers = {name: getattr(self, name) for name in ("wait", "stopped_epoch", "best", "best_epoch")}
        kept = {f"weight{i}": array for i, array in enumerate(self.best_weights or ())}
        return numbers | {"weights": len(kept)} | kept

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` returned."""
        for name in ("wait", "stopped_epoch", "best", "best_epoch"):
            setattr(self, name, state[name])
        self.best_weights = [state[f"weight{i}"] for i in range(state["weights"])] or None


class TerminateOnNaN(Callback):
    """Ends training at a loss that is not finite, without the error that `fit` raises otherwise.

    The weights are those before that batch. With `raise_error` the error is raised. Source: Keras.
    """

    adds = ()

    def __init__(self, raise_error: bool = False) -> None:
        self.raise_error = raise_error

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Look at the loss."""
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        if self.raise_error:
            raise NonFiniteError(f"TerminateOnNaN: the loss of batch {batch + 1} is {loss}", loss)
        print(f"Batch {batch + 1}: the loss is {loss}, training ends", flush=True)
        self.model.stop_training = True
