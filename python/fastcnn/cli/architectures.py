"""The architectures of the command line, by name."""

from __future__ import annotations

from fastcnn import applications
from fastcnn.applications.application import Variant
from fastcnn.layers import Input, Rescaling
from fastcnn.models import Model

SEED = "resnet50-seed"
_APPLICATIONS = {
    "vgg16": applications.VGG16,
    "vgg19": applications.VGG19,
    "resnet18": applications.ResNet18,
    "resnet34": applications.ResNet34,
    "resnet50": applications.ResNet50,
    "resnet101": applications.ResNet101,
    "resnet152": applications.ResNet152,
}
NAMES = (*_APPLICATIONS, SEED)


def build(name: str, size: int, classes: int, variant: Variant = "keras") -> Model:
    """Return a model for pictures [size, size, 3], with random weights."""
    if name == SEED:
        return applications.ResNet50Seed((size, size, 3), classes)
    return _APPLICATIONS[name](weights=None, input_shape=(size, size, 3), classes=classes, variant=variant)


def build_for_training(name: str, size: int, classes: int) -> Model:
    """Return a model that takes pictures [size, size, 3] of 0..255 as they come from files, scaled to -1..1 inside.

    Batch normalisation has momentum 0.9 everywhere, so that moving statistics, and with them validation, follow within
    some fifty steps: ResNets are torchvision's variant.
    """
    x = Rescaling(1 / 127.5, offset=-1)(Input((size, size, 3)))
    if name == SEED:
        return applications.ResNet50Seed(classes=classes, momentum=0.9, input_tensor=x)
    variant: Variant = "torchvision" if name.startswith("resnet") else "keras"
    return _APPLICATIONS[name](weights=None, input_tensor=x, classes=classes, variant=variant)
