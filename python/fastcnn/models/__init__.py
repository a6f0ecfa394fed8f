"""Models, and how they are saved and loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastcnn.models.model import Model
from fastcnn.models.sequential import Sequential

if TYPE_CHECKING:
    from fastcnn.models.saving import load_model

__all__ = ["Model", "Sequential", "load_model"]


def __getattr__(name: str) -> Any:
    if name == "load_model":  # file formats are read when a file is
        from fastcnn.models.saving import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
