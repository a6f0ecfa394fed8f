"""What the callbacks share that watch one log: finding it, which way is better, what counts as improvement."""

from __future__ import annotations

from typing import Any, ClassVar

from fastcnn.callbacks.base import Callback, Logs
from fastcnn.callbacks.names import find_name

_MODES = ("auto", "min", "max")


class MonitorCallback(Callback):
    """Base of the callbacks that watch `monitor`; better is lower for `mode` "min" and higher for "max".

    "auto" takes "min" for a loss and otherwise what the metric of that name says. `best` is the best value so far, None
    before the first.
    """

    adds: ClassVar[tuple[str, ...] | None] = ()

    def __init__(self, monitor: str, mode: str, min_delta: float) -> None:
        if mode not in _MODES:
            raise ValueError(f"{type(self).__name__}: mode must be one of {', '.join(_MODES)}, got {mode!r}")
        self.monitor = monitor
        self.mode = mode
        self.min_delta = abs(float(min_delta))
        self.best: float | None = None
        self._rises: bool | None = None  # whether higher is better, as far as known

    def check_monitor(self) -> None:
        """Raise ValueError before the first step for a log that nobody will write."""
        known = self.params.get("metrics")
        self._rises = None
        if known is None:
            return
        if find_name(self.monitor, known) is not None:
            self._rises = self._direction()
        elif not self.params.get("others"):
            raise ValueError(self._unknown(known))

    def monitored(self, logs: Logs | None) -> float | None:
        """Return the log's value, None in an epoch without validation; raises ValueError for a log nobody writes."""
        logs = logs or {}
        name = find_name(self.monitor, logs)
        if name is not None:
            return float(logs[name])
        if find_name(self.monitor, self.params.get("metrics") or ()) is None:
            raise ValueError(self._unknown(logs))
        return None

    def is_improvement(self, value: float, reference: float | None) -> bool:
        """Return whether a value is better than the reference by more than `min_delta`; any is better than None."""
        if reference is None:
            return True
        if self._rises is None:
            self._rises = self._direction()
        return value - self.min_delta > reference if self._rises else value + self.min_delta < reference

    def _direction(self) -> bool:
        if self.mode != "auto":
            return self.mode == "max"
        name = self.monitor.removeprefix("val_")
        if name == "loss":
            return False
        rises = self.model.metric_rises(name) if hasattr(self, "model") else None
        if rises is None:
            raise ValueError(
                f"{type(self).__name__}: whether a higher or a lower {self.monitor!r} is better is not known; give "
                "mode='max' or mode='min'"
            )
        return rises

    def _unknown(self, names: Any) -> str:
        found = sorted(names)
        metric = self.monitor.removeprefix("val_")
        advice = ""
        if metric != self.monitor and not any(name.startswith("val_") for name in found):
            advice = "; fit writes val_ logs when it is given validation_data or validation_split"
        elif metric != "loss" and find_name(metric, found, tell=False) is None:
            advice = f"; compile writes a log for each of its metrics, such as metrics=[{metric!r}]"
        return (
            f"{type(self).__name__}: no log is named {self.monitor!r}; there are {', '.join(found) or 'none'}{advice}"
        )


def check_patience(owner: str, argument: str, value: int) -> int:
    """Return a number of epochs; raise ValueError unless it is a whole number of at least 0."""
    if isinstance(value, bool) or value != int(value) or value < 0:
        raise ValueError(f"{owner}: {argument} must be a whole number of at least 0, got {value!r}")
    return int(value)
