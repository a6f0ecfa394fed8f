"""SGD and Adam with Keras' arguments and formulas: one flat range of weights, one engine step per update.

An optimizer object holds numbers only. Its arrays, the slots, lie beside the weights in the model that trains with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fastcnn._core import Program

Array = NDArray[np.float32]

# Keras' arguments that fastcnn has no code for, with the one value each may have.
_UNSUPPORTED = {
    "amsgrad": False,
    "weight_decay": None,
    "clipnorm": None,
    "clipvalue": None,
    "global_clipnorm": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
}


class Optimizer:
    """What compile() wants: the numbers of an update rule and the step that applies them.

    `slots` names the arrays kept per weight, all zero before the first step; `iterations` counts the updates made.
    """

    slots: tuple[str, ...] = ()
    arguments: ClassVar[tuple[str, ...]] = ("learning_rate",)

    def __init__(self, learning_rate: float, name: str | None, given: Mapping[str, Any]) -> None:
        """Store what all optimizers have; raise ValueError for one of the `given` arguments that has no code yet."""
        self.name = name or type(self).__name__.lower()
        for argument, only in _UNSUPPORTED.items():
            if given.get(argument, only) != only:
                raise ValueError(
                    f"{type(self).__name__}: {argument} is not supported yet and must be {only!r}, "
                    f"got {given[argument]!r}"
                )
        self.iterations = 0
        self.learning_rate = learning_rate

    @property
    def learning_rate(self) -> float:
        """Step size; set it between updates, as callbacks do."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        if callable(value):
            raise ValueError(
                f"{type(self).__name__}: learning_rate must be a number, schedules are not supported yet; set "
                f"optimizer.learning_rate in a callback instead (got {type(value).__name__})"
            )
        self._learning_rate = _number(type(self).__name__, "learning_rate", value, 0, math.inf)

    def settings(self) -> list[float]:
        """Return the numbers of the next update, in the order `emit_update`'s step reads them."""
        raise NotImplementedError

    def emit_update(
        self,
        program: Program,
        values: Array,
        grads: Array,
        slots: Mapping[str, Array],
        settings: NDArray[np.float64],
    ) -> None:
        """Append the update of one flat range; `settings` is read each time the program runs."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return name and arguments, enough for `from_config`."""
        return {"name": self.name} | {argument: getattr(self, argument) for argument in self.arguments}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build from what `get_config` returned."""
        return cls(**config)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{argument}={getattr(self, argument)!r}" for argument in self.arguments)
        return f"{type(self).__name__}({arguments})"


class SGD(Optimizer):
    """m = momentum*m - learning_rate*g, w += m; with Nesterov w += momentum*m - learning_rate*g (Keras' formulas)."""

    arguments = ("learning_rate", "momentum", "nesterov")

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate, name, locals())
        self.momentum = _number("SGD", "momentum", momentum, 0, 1)
        self.nesterov = bool(nesterov)
        self.slots = ("momentum",) if self.momentum else ()

    def settings(self) -> list[float]:
        """Return [learning_rate, momentum, nesterov]."""
        return [self.learning_rate, self.momentum, float(self.nesterov)]

    def emit_update(
        self,
        program: Program,
        values: Array,
        grads: Array,
        slots: Mapping[str, Array],
        settings: NDArray[np.float64],
    ) -> None:
        """Append one sgd_step."""
        program.sgd_step(values, grads, settings, slots.get("momentum"))


class Adam(Optimizer):
    """w -= learning_rate * sqrt(1-beta_2^t)/(1-beta_1^t) * m / (sqrt(v) + epsilon) at step t = 1, 2, ...

    m = beta_1*m + (1-beta_1)*g and v = beta_2*v + (1-beta_2)*g^2 (Kingma and Ba 2015, in Keras' arrangement: epsilon is
    added before the bias correction, which makes it larger than the paper's by 1/sqrt(1-beta_2^t)).
    """

    slots = ("momentum", "velocity")
    arguments = ("learning_rate", "beta_1", "beta_2", "epsilon")

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate, name, locals())
        self.beta_1 = _number("Adam", "beta_1", beta_1, 0, 1)
        self.beta_2 = _number("Adam", "beta_2", beta_2, 0, 1)
        self.epsilon = _number("Adam", "epsilon", epsilon, 0, math.inf)

    def settings(self) -> list[float]:
        """Return [learning_rate, beta_1, beta_2, epsilon, t] with t = iterations + 1."""
        return [self.learning_rate, self.beta_1, self.beta_2, self.epsilon, float(self.iterations + 1)]

    def emit_update(
        self,
        program: Program,
        values: Array,
        grads: Array,
        slots: Mapping[str, Array],
        settings: NDArray[np.float64],
    ) -> None:
        """Append one adam_step."""
        program.adam_step(values, grads, slots["momentum"], slots["velocity"], settings)


_CLASSES: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam}


def get(identifier: str | Mapping[str, Any] | Optimizer) -> Optimizer:
    """Return the optimizer for a name, an instance or what `serialize` returned; raises ValueError."""
    if isinstance(identifier, Optimizer):
        return identifier
    name: object = identifier
    config: Mapping[str, Any] = {}
    if isinstance(identifier, Mapping):
        name, config = identifier.get("class_name"), identifier.get("config") or {}
    if not isinstance(name, str) or name.lower() not in _CLASSES:
        raise ValueError(f"optimizer must be one of {', '.join(_CLASSES)} or an Optimizer, got {identifier!r}")
    return _CLASSES[name.lower()].from_config(config)


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """Return {"class_name": ..., "config": ...}, which `get` takes back; the iteration count is not part of it."""
    return {"class_name": type(optimizer).__name__, "config": optimizer.get_config()}


def _number(name: str, argument: str, value: float, low: float, high: float) -> float:
    """Return the number; raise ValueError unless it lies in [low, high), or is finite and at least low."""
    valid = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not valid or not low <= value < high:
        expected = f"at least {low:g} and below {high:g}" if math.isfinite(high) else f"finite and at least {low:g}"
        raise ValueError(f"{name}: {argument} must be a number {expected}, got {value!r}")
    return float(value)
