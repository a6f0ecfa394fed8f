"""Weight penalties l1*|w| + l2*w*w that are added to the loss, with Keras' names.

A regularizer holds two numbers; the engine adds the penalty's gradient l1*sign(w) + 2*l2*w to that of the weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike


class Regularizer:
    """A penalty with the factors `l1` and `l2`."""

    arguments: ClassVar[tuple[str, ...]] = ()

    def __init__(self, l1: float, l2: float) -> None:
        self.l1 = self._factor("l1", l1)
        self.l2 = self._factor("l2", l2)

    def _factor(self, argument: str, value: float) -> float:
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not number or not 0 <= value < math.inf:
            name = type(self).__name__
            raise ValueError(f"{name}: {argument} must be a finite number of at least 0, got {value!r}")
        return float(value)

    def __call__(self, x: ArrayLike) -> float:
        """Return the penalty of weights x, computed in float64."""
        w = np.asarray(x, np.float64)
        return float(self.l1 * np.abs(w).sum() + self.l2 * np.square(w).sum())

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, enough for `from_config`."""
        return {argument: getattr(self, argument) for argument in self.arguments}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build from what `get_config` returned."""
        return cls(**config)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


class L1(Regularizer):
    """l1 * sum |w|."""

    arguments = ("l1",)

    def __init__(self, l1: float = 0.01) -> None:
        super().__init__(l1, 0.0)


class L2(Regularizer):
    """l2 * sum w*w."""

    arguments = ("l2",)

    def __init__(self, l2: float = 0.01) -> None:
        super().__init__(0.0, l2)


class L1L2(Regularizer):
    """l1 * sum |w| + l2 * sum w*w."""

    arguments = ("l1", "l2")

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        super().__init__(l1, l2)


# Keras' second names
l1 = L1
l2 = L2
l1_l2 = L1L2

_CLASSES: dict[str, type[Regularizer]] = {"l1": L1, "l2": L2, "l1_l2": L1L2}
_NAMES = _CLASSES | {cls.__name__: cls for cls in _CLASSES.values()} | {"l1l2": L1L2}


def get(identifier: object) -> Regularizer | None:
    """Return the regularizer for a name, a class, an instance or what `serialize` returned, None for None."""
    if identifier is None or isinstance(identifier, Regularizer):
        return identifier
    if isinstance(identifier, type) and identifier in _CLASSES.values():
        return _NAMES[identifier.__name__].from_config({})
    name = identifier
    config: Mapping[str, Any] = {}
    if isinstance(identifier, Mapping):
        name, config = identifier.get("class_name"), identifier.get("config") or {}
    if not isinstance(name, str) or name not in _NAMES:
        raise ValueError(f"regularizer must be one of {', '.join(_CLASSES)}, a Regularizer or None, got {identifier!r}")
    return _NAMES[name].from_config(config)


def serialize(regularizer: Regularizer) -> dict[str, Any]:
    """Return {"class_name": ..., "config": ...}, which `get` takes back."""
    return {"class_name": type(regularizer).__name__, "config": regularizer.get_config()}
