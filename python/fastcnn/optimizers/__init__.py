"""Optimizers with Keras' arguments and formulas, their learning-rate schedules, and how they are named and stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastcnn.optimizers import schedules
from fastcnn.optimizers.adam import Adam, AdamW
from fastcnn.optimizers.base import Optimizer
from fastcnn.optimizers.rmsprop import RMSprop
from fastcnn.optimizers.sgd import SGD

# Keras 2's second names; the modules of these names stay importable
adam = Adam
rmsprop = RMSprop
sgd = SGD

_CLASSES: dict[str, type[Optimizer]] = {cls.__name__.lower(): cls for cls in (Adam, AdamW, RMSprop, SGD)}


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


__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "adam", "get", "rmsprop", "schedules", "serialize", "sgd"]
