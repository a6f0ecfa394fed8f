"""The architectures of keras.applications that fastcnn has, ResNet18 and 34, those for CIFAR, and preprocessing."""

from __future__ import annotations

from fastcnn.applications import cifar, imagenet_utils, resnet, resnet50, vgg16, vgg19
from fastcnn.applications.cifar import cifar_resnet
from fastcnn.applications.resnet import ResNet18, ResNet34, ResNet50, ResNet101, ResNet152
from fastcnn.applications.resnet_seed import ResNet50Seed
from fastcnn.applications.vgg import VGG16, VGG19

__all__ = [
    "VGG16",
    "VGG19",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet50Seed",
    "ResNet101",
    "ResNet152",
    "cifar",
    "cifar_resnet",
    "imagenet_utils",
    "resnet",
    "resnet50",
    "vgg16",
    "vgg19",
]
