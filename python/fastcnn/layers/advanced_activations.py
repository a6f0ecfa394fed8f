"""Keras 2's path of LeakyReLU, ReLU and Softmax."""

from __future__ import annotations

from fastcnn.compat import old_name
from fastcnn.layers.pointwise import LeakyReLU, ReLU, Softmax

__all__ = ["LeakyReLU", "ReLU", "Softmax"]

old_name("layers.advanced_activations", "import from fastcnn.layers")
