"""VGG16 and VGG19 (Simonyan and Zisserman 2015), with the layer names of keras.applications."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

from fastcnn.applications.application import Application, Tensor, Variant, batch_normalization
from fastcnn.layers import Activation, Conv2D, Dense, Dropout, Flatten, MaxPooling2D
from fastcnn.models import Model

_FILTERS = (64, 128, 256, 512, 512)  # of the five blocks
_CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # of each block, by depth
_UNITS = 4096
_DROPOUT = 0.5

_DOC = """VGG{depth}: 3x3 convolutions of width 64 to 512 in five blocks, then three dense layers.

The variants differ in how pictures are prepared ("keras": BGR minus a mean, "torchvision": RGB in 0..1, normalised), in
the order of rows in files of fc1, and in the dropout that torchvision has behind fc1 and fc2. `batch_norm=True` puts
batch normalisation between each convolution and its ReLU, as torchvision's vgg{depth}_bn does.
"""


def _body(x: Tensor, variant: Variant, convolutions: tuple[int, ...], batch_norm: bool) -> Tensor:
    for block, (filters, count) in enumerate(zip(_FILTERS, convolutions, strict=True), 1):
        for i in range(1, count + 1):
            x = _convolution(x, variant, f"block{block}_", i, filters, batch_norm)
        x = MaxPooling2D(2, strides=2, name=f"block{block}_pool")(x)
    return x


def _convolution(x: Tensor, variant: Variant, block: str, i: int, filters: int, batch_norm: bool) -> Tensor:
    if not batch_norm:
        return Conv2D(filters, 3, padding="same", activation="relu", name=f"{block}conv{i}")(x)
    x = Conv2D(filters, 3, padding="same", name=f"{block}conv{i}")(x)
    x = batch_normalization(variant, f"{block}bn{i}")(x)
    return Activation("relu", name=f"{block}relu{i}")(x)


def _head(x: Tensor, variant: Variant) -> Tensor:
    x = Flatten(name="flatten")(x)
    for i in (1, 2):
        x = Dense(_UNITS, activation="relu", name=f"fc{i}")(x)
        if variant == "torchvision":
            x = Dropout(_DROPOUT, name=f"drop{i}")(x)
    return x


class _VGG(Application):
    """One depth, with and without batch normalisation."""

    def __init__(self, depth: int) -> None:
        name, doc = f"VGG{depth}", _DOC.format(depth=depth)
        body = partial(_body, convolutions=_CONVOLUTIONS[depth])
        super().__init__(name, doc, partial(body, batch_norm=False), _head, torchvision_size=224)
        self._with_norm = Application(f"{name}_BN", doc, partial(body, batch_norm=True), _head, torchvision_size=224)

    def __call__(
        self,
        include_top: bool = True,
        weights: str | os.PathLike[str] | None = "imagenet",
        input_tensor: Tensor | None = None,
        input_shape: Sequence[int] | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: str | None = "softmax",
        name: str | None = None,
        *,
        variant: Variant = "keras",
        batch_norm: bool = False,
    ) -> Model:
        """Return a model, see Application.__call__; `batch_norm` chooses the form with batch normalisation."""
        build = self._with_norm if batch_norm else super().__call__
        return build(
            include_top,
            weights,
            input_tensor,
            input_shape,
            pooling,
            classes,
            classifier_activation,
            name,
            variant=variant,
        )


VGG16 = _VGG(16)
VGG19 = _VGG(19)
