"""Callbacks that change the learning rate."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from fastcnn.callbacks.base import Callback, Logs
from fastcnn.callbacks.monitor import MonitorCallback, check_patience
from fastcnn.compat import renamed

_STATE = ("best", "wait", "cooldown_counter")


def _rate(callback: Callback) -> float:
    optimizer = callback.model.optimizer
    assert optimizer is not None
    return float(optimizer.learning_rate)


def _set_rate(callback: Callback, rate: float) -> None:
    """Set the rate; raise TypeError if a schedule decides it, ValueError for a number that is none."""
    optimizer = callback.model.optimizer
    assert optimizer is not None
    optimizer.learning_rate = rate


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch to `schedule(epoch, rate)`, or `schedule(epoch)`; epochs from 0.

    The rate is logged as "learning_rate". Source: Keras. Raises TypeError if the optimizer follows a schedule.
    """

    adds = ("learning_rate",)

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        if not callable(schedule):
            raise ValueError(f"LearningRateScheduler: schedule must be a function, got {schedule!r}")
        self.schedule = schedule
        self.verbose = verbose
        self._arguments = _positional(schedule)
        self._epoch = -1  # the last one whose rate was set

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Check that the rate can be set."""
        self._epoch = -1
        _set_rate(self, _rate(self))

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Set the rate, unless the epoch was begun before a backup and has it already."""
        if epoch == self._epoch:
            return
        rate = self.schedule(*(epoch, _rate(self))[: self._arguments])
        if isinstance(rate, bool) or not hasattr(rate, "__float__"):
            raise ValueError(f"LearningRateScheduler: schedule must return a number, got {rate!r} for epoch {epoch}")
        _set_rate(self, float(rate))
        self._epoch = epoch
        if self.verbose > 0:
            print(f"Epoch {epoch + 1}: learning rate {float(rate):g}", flush=True)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Log the rate."""
        if logs is not None:
            logs["learning_rate"] = _rate(self)

    def get_state(self) -> dict[str, Any]:
        """Return the epoch whose rate is set."""
        return {"epoch": self._epoch}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` returned."""
        self._epoch = state["epoch"]


class ReduceLROnPlateau(MonitorCallback):
    """Multiplies the learning rate with `factor` after `patience` epochs in which `monitor` did not improve.

    It never falls below `min_lr`; for `cooldown` epochs after that nothing is counted. The rate is logged as
    "learning_rate". Source: Keras 3. Raises TypeError if the optimizer follows a schedule.
    """

    adds = ("learning_rate",)

    @renamed(epsilon="min_delta")
    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if not 0 < factor < 1:
            raise ValueError(f"ReduceLROnPlateau: factor must lie in (0, 1), got {factor!r}")
        if not min_lr >= 0:
            raise ValueError(f"ReduceLROnPlateau: min_lr must be at least 0, got {min_lr!r}")
        self.factor = factor
        self.patience = check_patience("ReduceLROnPlateau", "patience", patience)
        self.verbose = verbose
        self.cooldown = check_patience("ReduceLROnPlateau", "cooldown", cooldown)
        self.min_lr = min_lr
        self._reset()

    def _reset(self) -> None:
        self.best = None
        self.wait = 0
        self.cooldown_counter = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forget earlier runs; raises ValueError for a log that nobody writes."""
        self.check_monitor()
        _set_rate(self, _rate(self))
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Log the rate, compare, and reduce the rate after the last epoch of patience."""
        if logs is not None:
            logs["learning_rate"] = _rate(self)
        current = self.monitored(logs)
        if current is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self.is_improvement(current, self.best):
            self.best = current
            self.wait = 0
            return
        if self.cooldown_counter > 0:
            return
        self.wait += 1
        rate = _rate(self)
        if self.wait >= self.patience and rate > self.min_lr:
            reduced = max(rate * self.factor, self.min_lr)
            _set_rate(self, reduced)
            self.cooldown_counter = self.cooldown
            self.wait = 0
            if self.verbose > 0:
                print(f"Epoch {epoch + 1}: learning rate reduced to {reduced:g}", flush=True)

    def get_state(self) -> dict[str, Any]:
        """Return the best value and the counters."""
        return {name: getattr(self, name) for name in _STATE}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` returned."""
        for name in _STATE:
            setattr(self, name, state[name])


def _positional(function: Callable[..., float]) -> int:
    """Return how many of (epoch, rate) a function takes; 1 where its signature cannot be read."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    kinds = [parameter.kind for parameter in parameters]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return 2
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return min(2, sum(kind in named for kind in kinds))
