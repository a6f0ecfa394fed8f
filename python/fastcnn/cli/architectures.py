"""The architectures of the command line, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fastcnn import applications
from fastcnn.applications.application import Variant
from fastcnn.layers import BatchNormalization, Input, Layer, Rescaling
from fastcnn.models import Model

SEED = "resnet50-seed"
_APPLICATIONS: dict[str, Callable[..., Model]] = {
    "vgg16": applications.VGG16,
    "vgg19": applications.VGG19,
    "vgg16_bn": partial(applications.VGG16, batch_norm=True),
    "vgg19_bn": partial(applications.VGG19, batch_norm=True),
    "resnet18": applications.ResNet18,
    "resnet34": applications.ResNet34,
    "resnet50": applications.ResNet50,
    "resnet101": applications.ResNet101,
    "resnet152": applications.ResNet152,
}
_CIFAR: dict[str, Callable[..., Model]] = {
    f"cifar-{kind}{depth}": partial(applications.cifar_resnet, depth, residual=kind == "resnet")
    for kind in ("resnet", "plain")
    for depth in (20, 32, 44, 56, 110)
}
NAMES = (*_APPLICATIONS, *_CIFAR, SEED)

_MOMENTUM = 0.9  # of batch normalisation in training


def build(name: str, size: int, classes: int, variant: Variant = "keras") -> Model:
    """Return a model for pictures [size, size, 3], with random weights."""
    if name == SEED:
        return applications.ResNet50Seed((size, size, 3), classes)
    if name in _CIFAR:
        return _CIFAR[name](input_shape=(size, size, 3), classes=classes)
    return _APPLICATIONS[name](weights=None, input_shape=(size, size, 3), classes=classes, variant=variant)


def build_for_training(name: str, size: int, classes: int, augmentation: Sequence[Layer] = ()) -> Model:
    """Return a model that takes pictures [size, size, 3] of 0..255 as they come from files, scaled to -1..1 inside.

    Layers of `augmentation` come first.

    Batch normalisation has momentum 0.9 everywhere, so that moving statistics, and with them validation, follow within
    some fifty steps: ResNets are torchvision's variant.
    """
    x: Any = Input((size, size, 3))
    for layer in augmentation:
        x = layer(x)
    x = Rescaling(1 / 127.5, offset=-1)(x)
    if name == SEED:
        return applications.ResNet50Seed(classes=classes, momentum=_MOMENTUM, input_tensor=x)
    if name in _CIFAR:
        return _CIFAR[name](input_tensor=x, classes=classes)
    variant: Variant = "torchvision" if name.startswith("resnet") else "keras"
    model = _APPLICATIONS[name](weights=None, input_tensor=x, classes=classes, variant=variant)
    for layer in model.layers:
        if isinstance(layer, BatchNormalization):
            layer.momentum = _MOMENTUM
    return model
