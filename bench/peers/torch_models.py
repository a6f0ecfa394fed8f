"""VGG16, ResNet18 and ResNet50 in plain torch.nn: torchvision's graphs and state_dict names, weights from `seeded`.

A seed of None leaves PyTorch's own initial values, for a caller that loads others.
ResNets are the v1.5 graph: the stride of a bottleneck sits in its 3x3 convolution; no convolution has a bias; BatchNorm
epsilon is 1e-5.
"""

from __future__ import annotations

from typing import cast

import torch
from seeded import seeded_weights
from torch import Tensor, nn

NAMES = ("resnet50", "resnet18", "vgg16")

_VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels and convolutions of each block


def _conv(in_channels: int, channels: int, window: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, window, stride, padding=window // 2, bias=False)


class _Block(nn.Module):
    """A residual block: its convolutions in a row, plus the input or its projection, then ReLU."""

    def __init__(self, in_channels: int, convs: tuple[nn.Conv2d, ...], stride: int) -> None:
        super().__init__()
        self.depth = len(convs)
        for k, conv in enumerate(convs, 1):
            self.add_module(f"conv{k}", conv)
            self.add_module(f"bn{k}", nn.BatchNorm2d(conv.out_channels))
        self.relu = nn.ReLU(inplace=True)
        channels = convs[-1].out_channels
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(_conv(in_channels, channels, 1, stride), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for k in range(1, self.depth + 1):
            y = getattr(self, f"bn{k}")(getattr(self, f"conv{k}")(y))
            if k < self.depth:
                y = self.relu(y)
        return cast(Tensor, self.relu(y + (x if self.downsample is None else self.downsample(x))))


class ResNet(nn.Module):
    """Maps images [N,3,H,W] to logits [N,num_classes] through four stages of `blocks` residual blocks."""

    def __init__(self, blocks: tuple[int, int, int, int], bottleneck: bool, num_classes: int) -> None:
        super().__init__()
        self.conv1 = _conv(3, 64, 7, 2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        channels = 64
        for stage, count in enumerate(blocks):
            width = 64 << stage
            layer = nn.Sequential()
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                convs: tuple[nn.Conv2d, ...]
                if bottleneck:
                    convs = (_conv(channels, width, 1), _conv(width, width, 3, stride), _conv(width, 4 * width, 1))
                else:
                    convs = (_conv(channels, width, 3, stride), _conv(width, width, 3))
                layer.append(_Block(channels, convs, stride))
                channels = convs[-1].out_channels
            self.add_module(f"layer{stage + 1}", layer)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(1, 5):
            y = getattr(self, f"layer{stage}")(y)
        return cast(Tensor, self.fc(torch.flatten(self.avgpool(y), 1)))


class VGG(nn.Module):
    """Maps images [N,3,size,size] to logits [N,num_classes].

    The classifier reads the last feature map as it is: torchvision's AdaptiveAvgPool2d(7) before it does nothing at
    size 224.
    """

    def __init__(self, blocks: tuple[tuple[int, int], ...], num_classes: int, size: int, dropout: float) -> None:
        super().__init__()
        self.features = nn.Sequential()
        in_channels = 3
        for channels, count in blocks:
            for _ in range(count):
                self.features.append(nn.Conv2d(in_channels, channels, 3, padding=1)).append(nn.ReLU(inplace=True))
                in_channels = channels
            self.features.append(nn.MaxPool2d(2))
        features = in_channels * (size >> len(blocks)) ** 2
        self.classifier = nn.Sequential(
            nn.Linear(features, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(torch.flatten(self.features(x), 1)))


def _seed(model: nn.Module, seed: int | None) -> None:
    if seed is None:
        return
    for name, tensor in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            tensor.copy_(torch.from_numpy(seeded_weights(name, tuple(tensor.shape), seed)))


def resnet18(num_classes: int = 1000, *, seed: int | None = 0) -> ResNet:
    """Returns torchvision's ResNet18 graph with seeded weights, in training mode."""
    model = ResNet((2, 2, 2, 2), False, num_classes)
    _seed(model, seed)
    return model


def resnet50(num_classes: int = 1000, *, seed: int | None = 0) -> ResNet:
    """Returns torchvision's ResNet50 (v1.5) graph with seeded weights, in training mode."""
    model = ResNet((3, 4, 6, 3), True, num_classes)
    _seed(model, seed)
    return model


def vgg16(num_classes: int = 1000, *, size: int = 224, dropout: float = 0.5, seed: int | None = 0) -> VGG:
    """Returns torchvision's VGG16 graph for images of `size` pixels with seeded weights, in training mode."""
    model = VGG(_VGG16, num_classes, size, dropout)
    _seed(model, seed)
    return model


def build(name: str, size: int, num_classes: int = 1000, *, dropout: float = 0.0, seed: int | None = 0) -> ResNet | VGG:
    """Returns the model of that name for images of `size` pixels; raises ValueError for a name not in NAMES."""
    if name == "resnet50":
        return resnet50(num_classes, seed=seed)
    if name == "resnet18":
        return resnet18(num_classes, seed=seed)
    if name == "vgg16":
        return vgg16(num_classes, size=size, dropout=dropout, seed=seed)
    raise ValueError(f"build: name must be one of {NAMES}, got {name!r}")
