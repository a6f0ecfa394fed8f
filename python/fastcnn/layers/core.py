"""Keras 2's path of Activation, Dense, Dropout and Flatten."""

from __future__ import annotations

from fastcnn.compat import old_name
from fastcnn.layers.dense import Dense
from fastcnn.layers.dropout import Dropout
from fastcnn.layers.pointwise import Activation
from fastcnn.layers.shape import Flatten

__all__ = ["Activation", "Dense", "Dropout", "Flatten"]

old_name("layers.core", "import from fastcnn.layers")
