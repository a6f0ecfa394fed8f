"""VGG16 and VGG19 (Simonyan and Zisserman 2015), with the layer names of keras.applications."""

from __future__ import annotations

from functools import partial

from fastcnn.applications.application import Application, Tensor, Variant
from fastcnn.layers import Conv2D, Dense, Flatten, MaxPooling2D

_FILTERS = (64, 128, 256, 512, 512)  # of the five blocks
_CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # of each block, by depth
_UNITS = 4096

_DOC = """VGG{depth}: 3x3 convolutions of width 64 to 512 in five blocks, then three dense layers.

Both variants are the same graph; they differ in how pictures are prepared ("keras": BGR minus a mean, "torchvision":
RGB in 0..1, normalised) and in the order of rows in files of fc1. torchvision's dropout between the dense layers is
left out: it does nothing but in training.
"""


def _body(x: Tensor, variant: Variant, convolutions: tuple[int, ...]) -> Tensor:
    for block, (filters, count) in enumerate(zip(_FILTERS, convolutions, strict=True), 1):
        for i in range(1, count + 1):
            x = Conv2D(filters, 3, padding="same", activation="relu", name=f"block{block}_conv{i}")(x)
        x = MaxPooling2D(2, strides=2, name=f"block{block}_pool")(x)
    return x


def _head(x: Tensor) -> Tensor:
    x = Flatten(name="flatten")(x)
    x = Dense(_UNITS, activation="relu", name="fc1")(x)
    return Dense(_UNITS, activation="relu", name="fc2")(x)


def _vgg(depth: int) -> Application:
    body = partial(_body, convolutions=_CONVOLUTIONS[depth])
    return Application(f"VGG{depth}", _DOC.format(depth=depth), body, _head, torchvision_size=224)


VGG16 = _vgg(16)
VGG19 = _vgg(19)
