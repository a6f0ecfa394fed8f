"""Learning rates that follow from the number of batches seen, with Keras' arguments and formulas, in float64."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np


class LearningRateSchedule:
    """A function of the step, 0 at the first update; given to an optimizer as its learning rate."""

    arguments: ClassVar[tuple[str, ...]] = ()
    name: str

    def __call__(self, step: int) -> float:
        """Return the rate at a step."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the arguments in JSON's types, enough for `from_config`."""
        return {argument: getattr(self, argument) for argument in (*self.arguments, "name")}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build from what `get_config` returned."""
        return cls(**config)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{argument}={getattr(self, argument)!r}" for argument in self.arguments)
        return f"{type(self).__name__}({arguments})"


class _Decay(LearningRateSchedule):
    """What ExponentialDecay and InverseTimeDecay share: a rate that falls with p = step / decay_steps.

    `staircase` rounds p down.
    """

    arguments = ("initial_learning_rate", "decay_steps", "decay_rate", "staircase")

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str | None = None,
    ) -> None:
        owner = type(self).__name__
        self.initial_learning_rate = _rate(owner, "initial_learning_rate", initial_learning_rate)
        self.decay_steps = _steps(owner, "decay_steps", decay_steps)
        self.decay_rate = _rate(owner, "decay_rate", decay_rate)
        self.staircase = bool(staircase)
        self.name = name or owner

    def _progress(self, step: int) -> float:
        p = step / self.decay_steps
        return math.floor(p) if self.staircase else p


class ExponentialDecay(_Decay):
    """initial_learning_rate * decay_rate^p with p = step / decay_steps, rounded down if `staircase`."""

    def __call__(self, step: int) -> float:
        """Return the rate at a step."""
        return float(self.initial_learning_rate * self.decay_rate ** self._progress(step))


class InverseTimeDecay(_Decay):
    """initial_learning_rate / (1 + decay_rate*p) with p = step / decay_steps, rounded down if `staircase`."""

    def __call__(self, step: int) -> float:
        """Return the rate at a step."""
        return self.initial_learning_rate / (1 + self.decay_rate * self._progress(step))


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[i] for the steps after boundaries[i-1] up to and with boundaries[i]."""

    arguments = ("boundaries", "values")

    def __init__(self, boundaries: Sequence[float], values: Sequence[float], name: str = "PiecewiseConstant") -> None:
        owner = "PiecewiseConstantDecay"
        self.boundaries = [_number(owner, "boundaries", boundary) for boundary in boundaries]
        self.values = [_rate(owner, "values", value) for value in values]
        if len(self.values) != len(self.boundaries) + 1 or not self.boundaries:
            raise ValueError(
                f"{owner}: values must be one more than boundaries, which may not be empty, got {len(self.values)} "
                f"values and {len(self.boundaries)} boundaries"
            )
        if any(b <= a for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise ValueError(f"{owner}: boundaries must ascend, got {self.boundaries}")
        self.name = name

    def __call__(self, step: int) -> float:
        """Return the rate at a step."""
        return self.values[bisect_left(self.boundaries, step)]


class PolynomialDecay(LearningRateSchedule):
    """From the initial to the end rate as (1 - p)^power with p = step / decay_steps, at most 1.

    With `cycle` the decay begins to stretch once it has ended: decay_steps becomes its next multiple.
    """

    arguments = ("initial_learning_rate", "decay_steps", "end_learning_rate", "power", "cycle")

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        end_learning_rate: float = 1e-4,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        self.initial_learning_rate = _rate("PolynomialDecay", "initial_learning_rate", initial_learning_rate)
        self.decay_steps = _steps("PolynomialDecay", "decay_steps", decay_steps)
        self.end_learning_rate = _rate("PolynomialDecay", "end_learning_rate", end_learning_rate)
        self.power = _rate("PolynomialDecay", "power", power)
        self.cycle = bool(cycle)
        self.name = name

    def __call__(self, step: int) -> float:
        """Return the rate at a step."""
        length = self.decay_steps * (max(1, math.ceil(step / self.decay_steps)) if self.cycle else 1)
        left = 1 - min(step, length) / length
        return float((self.initial_learning_rate - self.end_learning_rate) * left**self.power + self.end_learning_rate)


class CosineDecay(LearningRateSchedule):
    """Half a cosine over `decay_steps`, down to `alpha` times the rate it began with; Loshchilov and Hutter 2016.

    With `warmup_target` the rate first rises to it in a straight line during `warmup_steps`, and decays from there.
    """

    arguments = ("initial_learning_rate", "decay_steps", "alpha", "warmup_target", "warmup_steps")

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: float = 0,
    ) -> None:
        self.initial_learning_rate = _rate("CosineDecay", "initial_learning_rate", initial_learning_rate)
        self.decay_steps = _steps("CosineDecay", "decay_steps", decay_steps)
        self.alpha = _rate("CosineDecay", "alpha", alpha)
        self.warmup_target = None if warmup_target is None else _rate("CosineDecay", "warmup_target", warmup_target)
        self.warmup_steps = _rate("CosineDecay", "warmup_steps", warmup_steps)
        self.name = name

    def __call__(self, step: int) -> float:
        """Return the rate at a step."""
        top, begun = self.initial_learning_rate, float(step)
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                return top + (self.warmup_target - top) * step / self.warmup_steps
            top, begun = self.warmup_target, step - self.warmup_steps
        cosine = 0.5 * (1 + math.cos(math.pi * min(begun, self.decay_steps) / self.decay_steps))
        return top * ((1 - self.alpha) * cosine + self.alpha)


_CLASSES: dict[str, type[LearningRateSchedule]] = {
    cls.__name__: cls
    for cls in (CosineDecay, ExponentialDecay, InverseTimeDecay, PiecewiseConstantDecay, PolynomialDecay)
}


def serialize(schedule: LearningRateSchedule) -> dict[str, Any]:
    """Return {"class_name": ..., "config": ...}, which `deserialize` takes back."""
    return {"class_name": type(schedule).__name__, "config": schedule.get_config()}


def deserialize(config: Mapping[str, Any]) -> LearningRateSchedule:
    """Return the schedule for what `serialize` returned; raises ValueError for a class that is not of this module."""
    cls = _CLASSES.get(str(config.get("class_name")))
    if cls is None:
        raise ValueError(f"learning-rate schedule must be one of {', '.join(_CLASSES)}, got {config!r}")
    return cls.from_config(config.get("config") or {})


def _number(owner: str, argument: str, value: float) -> float:
    valid = isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)
    if not valid:
        raise ValueError(f"{owner}: {argument} must be finite numbers, got {value!r}")
    return value if isinstance(value, int) else float(value)


def _rate(owner: str, argument: str, value: float) -> float:
    if _number(owner, argument, value) < 0:
        raise ValueError(f"{owner}: {argument} must be at least 0, got {value!r}")
    return _number(owner, argument, value)


def _steps(owner: str, argument: str, value: float) -> float:
    if _number(owner, argument, value) <= 0:
        raise ValueError(f"{owner}: {argument} must be above 0, got {value!r}")
    return _number(owner, argument, value)
