"""The networks of the bench by name: torchvision's variants, with random weights."""

from __future__ import annotations

from collections.abc import Callable

from fastcnn import applications
from fastcnn.models import Model

APPLICATIONS: dict[str, Callable[..., Model]] = {
    "resnet50": applications.ResNet50,
    "vgg16": applications.VGG16,
    "resnet18": applications.ResNet18,
}


def _maker(architecture: Callable[..., Model]) -> Callable[[int], Model]:
    return lambda size: architecture(weights=None, input_shape=(size, size, 3), variant="torchvision")


NETWORKS: dict[str, Callable[[int], Model]] = {
    name: _maker(architecture) for name, architecture in APPLICATIONS.items()
}
