"""Keras 2's path of Conv2D, its second name, ZeroPadding2D and, up to Keras 1, the pooling layers."""

from __future__ import annotations

from fastcnn.compat import old_name
from fastcnn.layers.conv import Conv2D
from fastcnn.layers.pool import AveragePooling2D, MaxPooling2D
from fastcnn.layers.shape import ZeroPadding2D

Convolution2D = Conv2D

__all__ = ["AveragePooling2D", "Conv2D", "Convolution2D", "MaxPooling2D", "ZeroPadding2D"]

old_name("layers.convolutional", "import from fastcnn.layers")
