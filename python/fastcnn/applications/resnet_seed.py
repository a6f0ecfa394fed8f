"""The ResNet50 of 2016, as Keras scripts of the time write it block by block, at any picture size and class count.

Zero padding, 7x7 stem, max-pooling without padding, biases, the stride in the first 1x1, epsilon 1e-3; layers are named
`res2a_branch2a`, `bn2a_branch2a` and so on, after the graph the paper's authors published.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

from fastcnn.applications.application import Tensor, source
from fastcnn.initializers import glorot_uniform
from fastcnn.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    Flatten,
    Input,
    MaxPooling2D,
    ZeroPadding2D,
)
from fastcnn.models import Model

_STAGES = ((2, 3, 64), (3, 4, 128), (4, 6, 256), (5, 3, 512))  # number, blocks, filters


def ResNet50Seed(  # noqa: N802, named as the models of keras.applications are
    input_shape: Sequence[int] = (64, 64, 3),
    classes: int = 6,
    *,
    momentum: float = 0.99,
    input_tensor: Tensor | None = None,
) -> Model:
    """Return the model, 23,600,006 weights with the defaults.

    `momentum` is that of every BatchNormalization. At Keras' 0.99 the moving statistics need several hundred steps to
    follow the batches', and validation says nothing before; short runs want 0.9. `input_tensor` replaces the input, for
    example by that of a Rescaling layer. Raises ValueError, naming the layer, for pictures that are too small (avg_pool
    needs a 2 x 2 map, so 64 x 64 pixels are enough and 32 x 32 are not).
    """
    start = Input(input_shape) if input_tensor is None else input_tensor
    x = ZeroPadding2D(3)(start)
    x = Conv2D(64, 7, strides=2, name="conv1", kernel_initializer=glorot_uniform(seed=0))(x)
    x = BatchNormalization(axis=3, momentum=momentum, name="bn_conv1")(x)
    x = Activation("relu")(x)
    x = MaxPooling2D(3, strides=2)(x)
    for stage, blocks, width in _STAGES:
        filters = (width, width, 4 * width)
        x = convolutional_block(x, 3, filters, stage, "a", s=1 if stage == 2 else 2, momentum=momentum)
        for block in string.ascii_lowercase[1:blocks]:
            x = identity_block(x, 3, filters, stage, block, momentum=momentum)
    x = AveragePooling2D(2, name="avg_pool")(x)
    x = Flatten()(x)
    x = Dense(classes, activation="softmax", name=f"fc{classes}", kernel_initializer=glorot_uniform(seed=0))(x)
    return Model(source(start), x, name="ResNet50")


def convolutional_block(
    x: Tensor, f: int, filters: Sequence[int], stage: int, block: str, s: int = 2, *, momentum: float = 0.99
) -> Tensor:
    """Append 1x1 with stride s, fxf, 1x1, added to a 1x1 projection of x with stride s."""
    name = f"{stage}{block}_branch"
    shortcut = _convolution(x, f"{name}1", filters[2], 1, s, momentum)
    return _join(_main_path(x, f, filters, name, s, momentum), shortcut)


def identity_block(
    x: Tensor, f: int, filters: Sequence[int], stage: int, block: str, *, momentum: float = 0.99
) -> Tensor:
    """Append 1x1, fxf, 1x1, added to x."""
    return _join(_main_path(x, f, filters, f"{stage}{block}_branch", 1, momentum), x)


def _main_path(x: Tensor, f: int, filters: Sequence[int], name: str, s: int, momentum: float) -> Tensor:
    x = Activation("relu")(_convolution(x, f"{name}2a", filters[0], 1, s, momentum))
    x = Activation("relu")(_convolution(x, f"{name}2b", filters[1], f, 1, momentum))
    return _convolution(x, f"{name}2c", filters[2], 1, 1, momentum)


def _convolution(x: Tensor, name: str, filters: int, size: int, stride: int, momentum: float) -> Tensor:
    x = Conv2D(
        filters,
        size,
        strides=stride,
        padding="same" if size > 1 else "valid",
        name=f"res{name}",
        kernel_initializer=glorot_uniform(seed=0),
    )(x)
    return BatchNormalization(axis=3, momentum=momentum, name=f"bn{name}")(x)


def _join(x: Tensor, shortcut: Tensor) -> Tensor:
    return Activation("relu")(Add()([x, shortcut]))
