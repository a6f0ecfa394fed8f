"""Models, and how they are saved and loaded."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastcnn.models.model import Model
from fastcnn.models.sequential import Sequential

if TYPE_CHECKING:
    from fastcnn.layers.shape import Input
    from fastcnn.models.functions import clone_model, model_from_config, model_from_json, save_model
    from fastcnn.models.saving import load_model

__all__ = [
    "Input",
    "Model",
    "Sequential",
    "clone_model",
    "load_model",
    "model_from_config",
    "model_from_json",
    "save_model",
]

# file formats are read when a file is
_HOMES = {
    "Input": "fastcnn.layers.shape",
    "clone_model": "fastcnn.models.functions",
    "load_model": "fastcnn.models.saving",
    "model_from_config": "fastcnn.models.functions",
    "model_from_json": "fastcnn.models.functions",
    "save_model": "fastcnn.models.functions",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
