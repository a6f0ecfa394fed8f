"""ResNet18 to ResNet152 (He et al. 2016), version 1, with the layer names of keras.applications."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fastcnn.applications.application import Application, Tensor, Variant, batch_normalization
from fastcnn.applications.imagenet_utils import decode_predictions, preprocess_input
from fastcnn.layers import (
    Activation,
    Add,
    Conv2D,
    GlobalAveragePooling2D,
    MaxPooling2D,
    ZeroPadding2D,
)

__all__ = ["ResNet18", "ResNet34", "ResNet50", "ResNet101", "ResNet152", "decode_predictions", "preprocess_input"]

_STEM_FILTERS = 64
_DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

_DOC = """ResNet{depth}: a 7x7 stem and four stages of {block} blocks.

variant="keras" is the graph of keras.applications: biases in the convolutions, epsilon 1.001e-5, momentum 0.99, and
{keras_stride}. variant="torchvision" has no biases, epsilon 1e-5, momentum 0.9 (torch's 0.1), and {torch_stride}.
"""


@dataclass(frozen=True)
class _Style:
    """Where Keras' and torchvision's graphs differ."""

    variant: Variant
    bias: bool
    stride_in_3x3: bool  # of the bottleneck block; else in its first 1x1


_STYLES: dict[Variant, _Style] = {
    "keras": _Style("keras", bias=True, stride_in_3x3=False),
    "torchvision": _Style("torchvision", bias=False, stride_in_3x3=True),
}


def _convolution(x: Tensor, name: str, filters: int, size: int, stride: int, style: _Style, relu: bool) -> Tensor:
    """Append convolution, batch normalisation and, if wanted, ReLU: `<name>_conv`, `<name>_bn`, `<name>_relu`."""
    if size > 1 and stride > 1:
        # The same on each side, as torchvision pads; "same" would put less before an even number of rows than after.
        x = ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    padding = "same" if size > 1 and stride == 1 else "valid"
    x = Conv2D(filters, size, strides=stride, padding=padding, use_bias=style.bias, name=f"{name}_conv")(x)
    x = batch_normalization(style.variant, f"{name}_bn")(x)
    return Activation("relu", name=f"{name}_relu")(x) if relu else x


def _residual(x: Tensor, shortcut: Tensor, name: str) -> Tensor:
    x = Add(name=f"{name}_add")([shortcut, x])
    return Activation("relu", name=f"{name}_out")(x)


def _basic(x: Tensor, name: str, filters: int, stride: int, style: _Style) -> Tensor:
    """3x3, 3x3; the shortcut is projected where the number of channels changes."""
    shortcut = x
    if x.sample_shape[-1] != filters:
        shortcut = _convolution(x, f"{name}_0", filters, 1, stride, style, relu=False)
    x = _convolution(x, f"{name}_1", filters, 3, stride, style, relu=True)
    x = _convolution(x, f"{name}_2", filters, 3, 1, style, relu=False)
    return _residual(x, shortcut, name)


def _bottleneck(x: Tensor, name: str, filters: int, stride: int, style: _Style) -> Tensor:
    """1x1, 3x3, 1x1 to four times the channels; the shortcut is projected where the number of channels changes."""
    shortcut = x
    if x.sample_shape[-1] != 4 * filters:
        shortcut = _convolution(x, f"{name}_0", 4 * filters, 1, stride, style, relu=False)
    strides = (1, stride) if style.stride_in_3x3 else (stride, 1)
    x = _convolution(x, f"{name}_1", filters, 1, strides[0], style, relu=True)
    x = _convolution(x, f"{name}_2", filters, 3, strides[1], style, relu=True)
    x = _convolution(x, f"{name}_3", 4 * filters, 1, 1, style, relu=False)
    return _residual(x, shortcut, name)


def _body(x: Tensor, variant: Variant, block: Callable[..., Tensor], depths: tuple[int, ...]) -> Tensor:
    style = _STYLES[variant]
    x = _convolution(x, "conv1", _STEM_FILTERS, 7, 2, style, relu=True)
    # After a ReLU, padding with 0 (Keras) and with -infinity (torchvision) give the same maximum.
    x = ZeroPadding2D(1, name="pool1_pad")(x)
    x = MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for stage, depth in enumerate(depths):
        for i in range(depth):
            stride = 2 if stage > 0 and i == 0 else 1
            x = block(x, f"conv{stage + 2}_block{i + 1}", _STEM_FILTERS << stage, stride, style)
    return x


def _head(x: Tensor, variant: Variant) -> Tensor:
    return GlobalAveragePooling2D(name="avg_pool")(x)


def _resnet(depth: int) -> Application:
    basic = depth < 50
    doc = _DOC.format(
        depth=depth,
        block="basic (two 3x3)" if basic else "bottleneck (1x1, 3x3, 1x1)",
        keras_stride="the stride in a block's first 3x3" if basic else "the stride in a block's first 1x1",
        torch_stride="the same stride" if basic else "the stride in the 3x3 (version 1.5)",
    )
    body = partial(_body, block=_basic if basic else _bottleneck, depths=_DEPTHS[depth])
    return Application(f"ResNet{depth}", doc, body, _head)


ResNet18 = _resnet(18)
ResNet34 = _resnet(34)
ResNet50 = _resnet(50)
ResNet101 = _resnet(101)
ResNet152 = _resnet(152)
