"""The residual networks for CIFAR-10 of He et al. 2015, section 4.2, and their plain twins without shortcuts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from fastcnn.applications.application import Tensor, batch_normalization, source
from fastcnn.layers import (
    Activation,
    Add,
    AveragePooling2D,
    ChannelPadding,
    Conv2D,
    Dense,
    GlobalAveragePooling2D,
    Input,
    ZeroPadding2D,
)
from fastcnn.models import Model

Shortcut = Literal["A", "B"]

_FILTERS = (16, 32, 64)  # of the three stages
_MIN_SIZE = 4  # pixels: two halvings leave one


def cifar_resnet(
    depth: int,
    residual: bool = True,
    shortcut: Shortcut = "A",
    input_shape: Sequence[int] | None = None,
    classes: int = 10,
    *,
    input_tensor: Tensor | None = None,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
) -> Model:
    """Return a network of 6n+2 weight layers, from pictures [N,H,W,C], 32 x 32 x 3 by default, to [N,classes].

    A 3x3 convolution, then three stages of n blocks of two 3x3 convolutions with 16, 32 and 64 channels, the last two
    at half the size of the stage before, global average pooling and a dense layer. Convolutions have no bias, each is
    followed by batch normalisation (momentum 0.9, epsilon 1e-5), weights begin as He et al. 2015 draw them. `residual`
    adds each block's input to its output; where the size changes, `shortcut="A"` takes every second pixel and adds
    channels of zeros, "B" is a 1x1 convolution. `input_tensor` replaces the input, for example by that of a Rescaling
    layer. Raises ValueError for another depth than 20, 32, 44, 56, 110, 1202 and all other 6n+2, and for pictures
    smaller than 4 x 4.
    """
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 8 or depth % 6 != 2:
        raise ValueError(f"cifar_resnet: depth must be 6n+2 for an n of at least 1 (8, 14, 20...), got {depth!r}")
    if shortcut not in get_args(Shortcut):
        raise ValueError(f"cifar_resnet: shortcut must be 'A' or 'B', got {shortcut!r}")
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise ValueError(f"cifar_resnet: classes must be an integer of at least 1, got {classes!r}")
    if input_shape is not None and input_tensor is not None and tuple(input_shape) != input_tensor.sample_shape:
        raise ValueError(
            f"cifar_resnet: input_shape is {list(input_shape)} but input_tensor has {list(input_tensor.sample_shape)}"
        )
    start = Input(input_shape or (32, 32, 3)) if input_tensor is None else input_tensor
    if len(start.sample_shape) != 3 or min(start.sample_shape[:2]) < _MIN_SIZE:
        raise ValueError(
            f"cifar_resnet: input_shape must be (H, W, C) of at least {_MIN_SIZE} x {_MIN_SIZE} pixels, "
            f"got {start.sample_shape}"
        )
    x = _convolution(start, "conv1", _FILTERS[0], 1)
    x = Activation("relu", name="conv1_relu")(x)
    for stage, filters in enumerate(_FILTERS):
        for i in range((depth - 2) // 6):
            stride = 2 if stage > 0 and i == 0 else 1
            x = _block(x, f"conv{stage + 2}_block{i + 1}", filters, stride, shortcut if residual else None)
    x = GlobalAveragePooling2D(name="avg_pool")(x)
    x = Dense(classes, activation=classifier_activation, kernel_initializer="he_normal", name="predictions")(x)
    return Model(source(start), x, name=name or f"cifar_{'resnet' if residual else 'plain'}{depth}")


def _block(x: Tensor, name: str, filters: int, stride: int, shortcut: Shortcut | None) -> Tensor:
    y = _convolution(x, f"{name}_1", filters, stride)
    y = Activation("relu", name=f"{name}_1_relu")(y)
    y = _convolution(y, f"{name}_2", filters, 1)
    if shortcut is not None:
        if stride > 1:
            x = _narrowed(x, f"{name}_0", filters, stride, shortcut)
        y = Add(name=f"{name}_add")([x, y])
    return Activation("relu", name=f"{name}_out")(y)


def _narrowed(x: Tensor, name: str, filters: int, stride: int, shortcut: Shortcut) -> Tensor:
    """Append what brings a block's input to the size of its output."""
    if shortcut == "B":
        return _convolution(x, name, filters, stride, size=1)
    x = AveragePooling2D(1, strides=stride, name=f"{name}_pool")(x)  # the mean of one pixel
    return ChannelPadding(filters - x.sample_shape[-1], name=f"{name}_pad")(x)


def _convolution(x: Tensor, name: str, filters: int, stride: int, size: int = 3) -> Tensor:
    if size > 1 and stride > 1:  # the same on each side; "same" would put less before an even number of rows
        x = ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    x = Conv2D(
        filters,
        size,
        strides=stride,
        padding="same" if stride == 1 else "valid",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return batch_normalization("torchvision", f"{name}_bn")(x)
