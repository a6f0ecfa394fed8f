"""Keras' layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastcnn.compat import old_name
from fastcnn.layers.augment import RandomCrop, RandomFlip, RandomRotation, RandomTranslation, RandomZoom
from fastcnn.layers.base import Layer
from fastcnn.layers.combine import Add, ChannelPadding, Concatenate, add, concatenate
from fastcnn.layers.conv import Conv2D
from fastcnn.layers.dense import Dense
from fastcnn.layers.dropout import Dropout
from fastcnn.layers.norm import BatchNormalization
from fastcnn.layers.normalization import Normalization
from fastcnn.layers.pointwise import Activation, LeakyReLU, ReLU, Rescaling, Softmax
from fastcnn.layers.pool import AveragePooling2D, GlobalAveragePooling2D, GlobalMaxPooling2D, MaxPooling2D
from fastcnn.layers.python import PythonLayer
from fastcnn.layers.shape import Flatten, Input, InputLayer, ZeroPadding2D

# Keras' second names
GlobalAvgPool2D = GlobalAveragePooling2D
GlobalMaxPool2D = GlobalMaxPooling2D

if TYPE_CHECKING:
    AvgPool2D = AveragePooling2D
    Convolution2D = Conv2D
    MaxPool2D = MaxPooling2D

_OLD = {"AvgPool2D": AveragePooling2D, "Convolution2D": Conv2D, "MaxPool2D": MaxPooling2D}

# what a model file can name without the caller's help
CLASSES: dict[str, type[Layer]] = {
    cls.__name__: cls
    for cls in (
        Activation,
        Add,
        AveragePooling2D,
        BatchNormalization,
        ChannelPadding,
        Concatenate,
        Conv2D,
        Dense,
        Dropout,
        Flatten,
        GlobalAveragePooling2D,
        GlobalMaxPooling2D,
        InputLayer,
        LeakyReLU,
        MaxPooling2D,
        Normalization,
        RandomCrop,
        RandomFlip,
        RandomRotation,
        RandomTranslation,
        RandomZoom,
        ReLU,
        Rescaling,
        Softmax,
        ZeroPadding2D,
    )
}

__all__ = [
    "Activation",
    "Add",
    "AveragePooling2D",
    "AvgPool2D",
    "BatchNormalization",
    "ChannelPadding",
    "Concatenate",
    "Conv2D",
    "Convolution2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "GlobalAvgPool2D",
    "GlobalMaxPool2D",
    "GlobalMaxPooling2D",
    "Input",
    "InputLayer",
    "Layer",
    "LeakyReLU",
    "MaxPool2D",
    "MaxPooling2D",
    "Normalization",
    "PythonLayer",
    "RandomCrop",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "ReLU",
    "Rescaling",
    "Softmax",
    "ZeroPadding2D",
    "add",
    "concatenate",
]


def __getattr__(name: str) -> Any:
    if name in _OLD:
        old_name(f"layers.{name}", f"write {_OLD[name].__name__}")
        return _OLD[name]
    if name == "merge":
        raise ImportError("layers.merge is gone, as from Keras 2: write Add or Concatenate")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
