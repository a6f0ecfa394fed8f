"""Keras 2's path of the layers that take several inputs."""

from __future__ import annotations

from fastcnn.compat import old_name
from fastcnn.layers.combine import Add, Concatenate, add, concatenate

__all__ = ["Add", "Concatenate", "add", "concatenate"]

old_name("layers.merge", "import from fastcnn.layers")
