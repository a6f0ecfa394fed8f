"""The networks of the bench by name: torchvision's variants, with random weights."""

from __future__ import annotations

from collections.abc import Callable

from fastcnn import applications
from fastcnn.models import Model


def _maker(architecture: Callable[..., Model]) -> Callable[[int], Model]:
    return lambda size: architecture(weights=None, input_shape=(size, size, 3), variant="torchvision")


NETWORKS: dict[str, Callable[[int], Model]] = {
    "resnet50": _maker(applications.ResNet50),
    "vgg16": _maker(applications.VGG16),
    "resnet18": _maker(applications.ResNet18),
}
