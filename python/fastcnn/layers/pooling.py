"""Keras 2's path of the pooling layers."""

from __future__ import annotations

from fastcnn.compat import old_name
from fastcnn.layers.pool import AveragePooling2D, GlobalAveragePooling2D, GlobalMaxPooling2D, MaxPooling2D

__all__ = ["AveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "MaxPooling2D"]

old_name("layers.pooling", "import from fastcnn.layers")
