"""Losses with Keras' arguments and numbers, and how they are named and stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastcnn.losses.base import PROBABILITY_FLOOR, Loss
from fastcnn.losses.categorical import (
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
    categorical_crossentropy,
    sparse_categorical_crossentropy,
)
from fastcnn.losses.elementwise import BinaryCrossentropy, MeanSquaredError, binary_crossentropy, mean_squared_error

_CLASSES: dict[str, type[Loss]] = {
    cls.default_name: cls
    for cls in (CategoricalCrossentropy, SparseCategoricalCrossentropy, BinaryCrossentropy, MeanSquaredError)
}
_SHORT = {"bce": BinaryCrossentropy, "BCE": BinaryCrossentropy, "mse": MeanSquaredError, "MSE": MeanSquaredError}
_NAMES: dict[str, type[Loss]] = _CLASSES | _SHORT | {cls.__name__: cls for cls in _CLASSES.values()}
_FUNCTIONS: tuple[tuple[object, type[Loss]], ...] = (
    (categorical_crossentropy, CategoricalCrossentropy),
    (sparse_categorical_crossentropy, SparseCategoricalCrossentropy),
    (binary_crossentropy, BinaryCrossentropy),
    (mean_squared_error, MeanSquaredError),
)


def get(identifier: object) -> Loss:
    """Return the loss for a name, this module's function, an instance or what `serialize` returned; else ValueError."""
    if isinstance(identifier, Loss):
        return identifier
    for function, cls in _FUNCTIONS:
        if identifier is function:
            return cls.from_config({})
    name = identifier
    config: Mapping[str, Any] = {}
    if isinstance(identifier, Mapping):
        name, config = identifier.get("class_name"), identifier.get("config") or {}
    if not isinstance(name, str) or name not in _NAMES:
        raise ValueError(f"loss must be one of {', '.join(_CLASSES)} or a Loss, got {identifier!r}")
    return _NAMES[name].from_config(config)


def serialize(loss: Loss) -> dict[str, Any]:
    """Return {"class_name": ..., "config": ...}, which `get` takes back."""
    return {"class_name": type(loss).__name__, "config": loss.get_config()}


__all__ = [
    "PROBABILITY_FLOOR",
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "Loss",
    "MeanSquaredError",
    "SparseCategoricalCrossentropy",
    "binary_crossentropy",
    "categorical_crossentropy",
    "get",
    "mean_squared_error",
    "serialize",
    "sparse_categorical_crossentropy",
]
