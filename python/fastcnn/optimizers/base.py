"""What all optimizers have: the learning rate, Keras' common arguments, and the count of updates.

An optimizer object holds numbers only. Its arrays, the slots, lie beside the weights in the model that trains with it,
which also clips, accumulates and averages as the arguments here say (models/update.py).
"""

from __future__ import annotations

import functools
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastcnn.compat import old_name, translate
from fastcnn.optimizers import schedules
from fastcnn.optimizers.schedules import LearningRateSchedule

Array = NDArray[np.float32]

if TYPE_CHECKING:
    from fastcnn._core import DenseGradient, Program
    from fastcnn.parameters import Parameter

    Gradient = Array | DenseGradient  # what `emit_update` takes
Rate = float | LearningRateSchedule

_COMMON = (
    "weight_decay",
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "use_ema",
    "ema_momentum",
    "ema_overwrite_frequency",
    "loss_scale_factor",
    "gradient_accumulation_steps",
)
_EXCLUDED = "exclude_from_weight_decay"
_DECAY = "decay"
_EPSILON = 1e-7  # Keras' own, which its version 2 wrote as None

P = ParamSpec("P")
O = TypeVar("O", bound="Optimizer")  # noqa: E741


def takes_old_arguments(init: Callable[Concatenate[O, P], None]) -> Callable[Concatenate[O, P], None]:
    """Decorate an optimizer's `__init__`: it also takes Keras 2's `lr`, `decay` and `epsilon=None`."""

    @functools.wraps(init)
    def accepting(self: O, /, *args: P.args, **given: P.kwargs) -> None:
        owner = type(self).__name__
        translate(owner, {"lr": "learning_rate"}, given)
        decay: Any = 0.0
        if _DECAY in given:
            decay = given.pop(_DECAY)
            old_name(f"{owner}(decay=)", "give an InverseTimeDecay of optimizers.schedules as learning_rate")
        if "epsilon" in given and given["epsilon"] is None:
            given["epsilon"] = _EPSILON
        init(self, *args, **given)
        self._set_decay(decay)

    return accepting


class SettableRate(float):
    """A learning rate that knows its optimizer, so that Keras 2's `backend.set_value` can set it."""

    optimizer: Optimizer


class Optimizer:
    """What compile() wants: the numbers of an update rule and the step that applies them.

    Each update takes the gradients, averaged over `gradient_accumulation_steps` batches; clips each variable's to
    `clipnorm`, all together to `global_clipnorm`, or each element to `clipvalue`; takes learning_rate * weight_decay of
    every weight that is not excluded; and applies the rule. With `use_ema` a moving average of the weights is kept
    after every batch, which becomes the weights every `ema_overwrite_frequency` updates and when fit ends.

    Keras 2's `decay` d divides the rate by 1 + d*iterations.

    `rule_slots` names the arrays the rule keeps per weight, `slots` all of them, zero before the first step. `batches`
    counts the batches seen, `iterations` the updates made.
    """

    rule_slots: tuple[str, ...] = ()
    arguments: ClassVar[tuple[str, ...]] = ("learning_rate",)

    def __init__(self, learning_rate: Rate, name: str | None, given: Mapping[str, Any]) -> None:
        """Store what all optimizers have; raise ValueError for a value that a `given` argument cannot have."""
        owner = type(self).__name__
        self.name = name or owner.lower()
        self.batches = 0
        self.built = False  # whether a model has made the slots
        self._rate: Rate = 0.0
        self.decay = 0.0
        self.learning_rate = learning_rate
        self.weight_decay = _optional(owner, "weight_decay", given["weight_decay"])
        self.clipnorm = _limit(owner, "clipnorm", given["clipnorm"])
        self.clipvalue = _limit(owner, "clipvalue", given["clipvalue"])
        self.global_clipnorm = _limit(owner, "global_clipnorm", given["global_clipnorm"])
        clipping = [name for name in ("clipnorm", "clipvalue", "global_clipnorm") if given[name] is not None]
        if len(clipping) > 1:
            raise ValueError(f"{owner}: only one of clipnorm, clipvalue and global_clipnorm can be set, got {clipping}")
        self.use_ema = bool(given["use_ema"])
        self.ema_momentum = number(owner, "ema_momentum", given["ema_momentum"], 0, math.nextafter(1, 2))
        self.ema_overwrite_frequency = _count(owner, "ema_overwrite_frequency", given["ema_overwrite_frequency"], 1)
        self.gradient_accumulation_steps = _count(
            owner, "gradient_accumulation_steps", given["gradient_accumulation_steps"], 2
        )
        self.loss_scale_factor = _optional(owner, "loss_scale_factor", given["loss_scale_factor"])
        if self.loss_scale_factor is not None:
            warnings.warn(f"{owner}: loss_scale_factor has no effect in fastcnn's float32", stacklevel=3)
        self._excluded_paths: tuple[str, ...] = ()
        self._excluded_names: tuple[str, ...] = ()

    # -- counts and rate -----------------------------------------------------------------------------------------------

    @property
    def iterations(self) -> int:
        """Number of updates made: one per batch, or per `gradient_accumulation_steps` of them."""
        return self.batches // (self.gradient_accumulation_steps or 1)

    @iterations.setter
    def iterations(self, value: int) -> None:
        self.batches = value * (self.gradient_accumulation_steps or 1)

    @property
    def learning_rate(self) -> float:
        """Step size of the next update; set it between updates, as callbacks do.

        Of a schedule it is the value after the batches so far; a number cannot take a schedule's place (TypeError).
        """
        rate = self._rate
        if isinstance(rate, LearningRateSchedule):
            where = f"{type(self).__name__}: {type(rate).__name__}"
            rate = number(where, f"the rate after {self.batches} batches", rate(self.batches), 0, math.inf)
        settable = SettableRate(rate)
        settable.optimizer = self
        return settable

    @learning_rate.setter
    def learning_rate(self, value: Rate) -> None:
        owner = type(self).__name__
        if isinstance(value, LearningRateSchedule):
            self._rate = value
            return
        if isinstance(self._rate, LearningRateSchedule):
            raise TypeError(
                f"{owner}: learning_rate follows a {type(self._rate).__name__} and cannot be set to {value!r}; make "
                "the optimizer with a number instead"
            )
        if callable(value):
            raise ValueError(
                f"{owner}: learning_rate must be a number or a LearningRateSchedule of fastcnn.optimizers.schedules, "
                f"got {value!r}"
            )
        self._rate = number(owner, "learning_rate", value, 0, math.inf)

    @property
    def lr(self) -> float:
        """Old name of `learning_rate`."""
        old_name("optimizer.lr", "write optimizer.learning_rate")
        return self.learning_rate

    @lr.setter
    def lr(self, value: float) -> None:
        old_name("optimizer.lr", "write optimizer.learning_rate")
        self.learning_rate = value

    def _set_decay(self, value: float) -> None:
        """Take Keras 2's `decay`; raise ValueError below 0 and beside a schedule."""
        owner = type(self).__name__
        self.decay = number(owner, _DECAY, value, 0, math.inf)
        if self.decay and isinstance(self._rate, LearningRateSchedule):
            raise ValueError(f"{owner}: decay={value!r} and a learning-rate schedule exclude each other")

    @property
    def step_size(self) -> float:
        """The rate of the next update: learning_rate / (1 + decay * iterations), as in Keras 2."""
        return self.learning_rate / (1 + self.decay * self.iterations)

    # -- the update ----------------------------------------------------------------------------------------------------

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the arrays kept per weight."""
        average = ("average",) if self.use_ema else ()
        accumulator = ("gradient_accumulator",) if self.gradient_accumulation_steps else ()
        return self.rule_slots + average + accumulator

    def settings(self) -> list[float]:
        """Return the numbers of the rule's next update, in the order `emit_update`'s step reads them."""
        raise NotImplementedError

    def emit_update(
        self,
        program: Program,
        values: Array,
        grads: Gradient,
        slots: Mapping[str, Array],
        settings: NDArray[np.float64],
    ) -> None:
        """Append the update of one flat range; `settings` is read each time the program runs.

        It holds the numbers of `settings()`, then [scale, limit, decay]: the gradients are scaled and clipped to
        -limit..limit, and the weights lose weight*decay.
        """
        raise NotImplementedError

    def exclude_from_weight_decay(
        self, var_list: Iterable[Parameter] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Leave weights out of `weight_decay`: those listed, and those with one of the words in their name.

        The names are "kernel", "bias", "gamma" and "beta". Each call replaces the last; raises ValueError once training
        has begun and for names that are not words.
        """
        owner = type(self).__name__
        if self.built:
            raise ValueError(f"{owner}: exclude_from_weight_decay must be called before training begins")
        names = tuple(var_names or ())
        for word in names:
            if not isinstance(word, str) or not re.fullmatch(r"\w+", word):
                raise ValueError(
                    f"{owner}: exclude_from_weight_decay: var_names must be words such as 'bias', got {word!r}"
                )
        self._excluded_paths = tuple(parameter.path for parameter in var_list or ())
        self._excluded_names = names

    def decays(self, parameter: Parameter) -> bool:
        """Return whether `weight_decay` applies to a weight."""
        excluded = parameter.path in self._excluded_paths or any(
            name in parameter.name for name in self._excluded_names
        )
        return bool(self.weight_decay) and not excluded

    # -- configuration -------------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return name and arguments in JSON's types, enough for `from_config`; the exclusions among them, if any."""
        config: dict[str, Any] = {"name": self.name}
        config |= {argument: getattr(self, argument) for argument in (*self.arguments, *_COMMON)}
        config["learning_rate"] = self._rate
        if isinstance(self._rate, LearningRateSchedule):
            config["learning_rate"] = schedules.serialize(self._rate)
        if self.decay:
            config[_DECAY] = self.decay
        if self._excluded_paths or self._excluded_names:
            config[_EXCLUDED] = {"paths": list(self._excluded_paths), "names": list(self._excluded_names)}
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build from what `get_config` returned."""
        given = dict(config)
        excluded, decay = given.pop(_EXCLUDED, None), given.pop(_DECAY, 0.0)
        if isinstance(given.get("learning_rate"), Mapping):
            given["learning_rate"] = schedules.deserialize(given["learning_rate"])
        optimizer = cls(**given)
        optimizer._set_decay(decay)
        if excluded is not None:
            optimizer.exclude_from_weight_decay(var_names=excluded["names"])
            optimizer._excluded_paths = tuple(str(path) for path in excluded["paths"])
        return optimizer

    def __repr__(self) -> str:
        shown = {argument: getattr(self, argument) for argument in self.arguments}
        if isinstance(self._rate, LearningRateSchedule):
            shown["learning_rate"] = self._rate
        return f"{type(self).__name__}({', '.join(f'{argument}={value!r}' for argument, value in shown.items())})"


def number(owner: str, argument: str, value: float, low: float, high: float) -> float:
    """Return the number; raise ValueError unless it lies in [low, high), or is finite and at least low."""
    valid = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not valid or not low <= value < high:
        expected = f"at least {low:g} and below {high:g}" if math.isfinite(high) else f"finite and at least {low:g}"
        raise ValueError(f"{owner}: {argument} must be a number {expected}, got {value!r}")
    return float(value)


def _optional(owner: str, argument: str, value: float | None) -> float | None:
    return None if value is None else number(owner, argument, value, 0, math.inf)


def _limit(owner: str, argument: str, value: float | None) -> float | None:
    """Return a limit of gradients; raise ValueError unless it is None or above 0."""
    limit = _optional(owner, argument, value)
    if limit == 0:
        raise ValueError(f"{owner}: {argument} must be None or above 0, got {value!r}")
    return limit


def _count(owner: str, argument: str, value: int | None, least: int) -> int | None:
    """Return a number of steps; raise ValueError unless it is None or an integer of at least `least`."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{owner}: {argument} must be None or an integer of at least {least}, got {value!r}")
    return int(value)
