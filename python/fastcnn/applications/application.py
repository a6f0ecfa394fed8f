"""What all architectures share: Keras' arguments, the input, the classifier's place, the weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np

from fastcnn.graph import Node
from fastcnn.layers import BatchNormalization, Dense, GlobalAveragePooling2D, GlobalMaxPooling2D, Input, Layer
from fastcnn.models import Model

Tensor = Node[Layer]
Variant = Literal["keras", "torchvision"]

DEFAULT_SIZE = 224  # pixels: what the ImageNet weights were trained at
MIN_SIZE = 32  # pixels: five halvings leave one


class Application:
    """An architecture; calling it builds a Model.

    `body(x, variant)` appends the convolutions, `head(x, variant)` what lies between them and the last dense layer. A
    graph whose torchvision form pools every map to one size before the head gives `torchvision_size`, the size in
    pixels at which that changes nothing; `variant="torchvision"` with a classifier is then refused at other sizes.
    """

    def __init__(
        self,
        name: str,
        doc: str,
        body: Callable[[Tensor, Variant], Tensor],
        head: Callable[[Tensor, Variant], Tensor],
        torchvision_size: int | None = None,
    ) -> None:
        self.__name__ = name
        self.__doc__ = doc
        self._body = body
        self._head = head
        self._torchvision_size = torchvision_size

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
    ) -> Model:
        """Return a model from pictures [N,H,W,C] to [N,classes], or without `include_top` to features.

        `weights` is None (random) or the path of a file. `pooling="avg"` or "max" turns the feature map
        [N,P,Q,K] into [N,K]. With `input_tensor` the model begins where that tensor's own input does, for example
        before a Rescaling layer. Raises ValueError for arguments that do not go together and for
        `weights="imagenet"`, as fastcnn downloads nothing.
        """
        if variant not in get_args(Variant):
            raise ValueError(f"{self.__name__}: variant must be one of {get_args(Variant)}, got {variant!r}")
        if weights == "imagenet":
            raise ValueError(
                f'{self.__name__}: weights="imagenet" would be a download, which fastcnn never makes; pass '
                "weights=None for random weights, or the path of a weights file (.safetensors or .h5)"
            )
        if pooling not in (None, "avg", "max"):
            raise ValueError(f"{self.__name__}: pooling must be None, 'avg' or 'max', got {pooling!r}")
        if isinstance(classes, bool) or not isinstance(classes, int | np.integer) or classes < 1:
            raise ValueError(f"{self.__name__}: classes must be an integer of at least 1, got {classes!r}")
        start = self._start(input_tensor, input_shape)
        size = start.sample_shape[:2]
        if include_top and variant == "torchvision" and self._torchvision_size not in (None, *size):
            raise ValueError(
                f"{self.__name__}: variant='torchvision' with include_top takes pictures of {self._torchvision_size} x "
                f"{self._torchvision_size} pixels, got {size[0]} x {size[1]} (torchvision would pool the map to 7 x 7 "
                "first, which is not supported yet)"
            )
        x = self._body(start, variant)
        if include_top:
            x = Dense(int(classes), activation=classifier_activation, name="predictions")(self._head(x, variant))
        elif pooling == "avg":
            x = GlobalAveragePooling2D(name="avg_pool")(x)
        elif pooling == "max":
            x = GlobalMaxPooling2D(name="max_pool")(x)
        model = Model(source(start), x, name=name or self.__name__.lower())
        if weights is not None:
            model.load_weights(weights)
        return model

    def _start(self, input_tensor: Tensor | None, input_shape: Sequence[int] | None) -> Tensor:
        """Return the tensor [H,W,C] that the first layer takes."""
        shape = None if input_shape is None else tuple(input_shape)
        if input_tensor is None:
            start = Input(shape or (DEFAULT_SIZE, DEFAULT_SIZE, 3))
        else:
            start = input_tensor
            if shape is not None and shape != start.sample_shape:
                raise ValueError(
                    f"{self.__name__}: input_shape is {list(shape)} but input_tensor has {list(start.sample_shape)}"
                )
        found = start.sample_shape
        if len(found) != 3 or min(found[:2]) < MIN_SIZE:
            raise ValueError(
                f"{self.__name__}: input_shape must be (H, W, C) of at least {MIN_SIZE} x {MIN_SIZE} pixels, "
                f"got {found}"
            )
        return start

    def __repr__(self) -> str:
        return f"<application {self.__name__}>"


def batch_normalization(variant: Variant, name: str) -> BatchNormalization:
    """Return the layer with the numbers of keras.applications or torchvision (whose momentum is written as 0.1)."""
    if variant == "keras":
        return BatchNormalization(momentum=0.99, epsilon=1.001e-5, name=name)
    return BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)


def source(tensor: Tensor) -> Tensor:
    """Return the Input that a chain of layers begins with; raises ValueError if a layer in it takes several inputs."""
    while tensor.inputs:
        if len(tensor.inputs) != 1:
            raise ValueError(f"input_tensor must come from one Input, but {tensor.name} takes {len(tensor.inputs)}")
        tensor = tensor.inputs[0]
    return tensor
