"""VGGs, ResNets, CIFAR ResNets and LeNet in plain torch.nn; weights from `seeded`.

VGGs and ResNets have torchvision's graphs and state_dict names. A seed of None leaves PyTorch's own initial values, for
a caller that loads others. ResNets are the v1.5 graph: the stride of a bottleneck sits in its 3x3 convolution; no
convolution has a bias; BatchNorm epsilon is 1e-5.
"""

from __future__ import annotations

from typing import cast

import torch
from seeded import seeded_weights
from torch import Tensor, nn

_RESNETS = {  # residual blocks of each stage, and whether they are bottlenecks
    "resnet50": ((3, 4, 6, 3), True),
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}
_VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels and convolutions of each block
_VGG19 = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
_VGGS = {"vgg16": (_VGG16, False), "vgg19": (_VGG19, False), "vgg16_bn": (_VGG16, True), "vgg19_bn": (_VGG19, True)}
_CIFAR = {"cifar_resnet20": "A", "cifar_resnet20b": "B", "cifar_plain20": None}  # shortcuts; all of 20 layers
NAMES = (*_RESNETS, *_VGGS, *_CIFAR, "lenet")


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

    def __init__(self, blocks: tuple[int, ...], bottleneck: bool, num_classes: int) -> None:
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
    """Maps images [N,3,size,size] to logits [N,num_classes], with BatchNorm before each convolution's ReLU if wanted.

    The classifier reads the last feature map as it is: torchvision's AdaptiveAvgPool2d(7) before it does nothing at
    size 224.
    """

    def __init__(
        self, blocks: tuple[tuple[int, int], ...], batch_norm: bool, num_classes: int, size: int, dropout: float
    ) -> None:
        super().__init__()
        self.features = nn.Sequential()
        in_channels = 3
        for channels, count in blocks:
            for _ in range(count):
                self.features.append(nn.Conv2d(in_channels, channels, 3, padding=1))
                if batch_norm:
                    self.features.append(nn.BatchNorm2d(channels))
                self.features.append(nn.ReLU(inplace=True))
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


class _CifarBlock(nn.Module):
    """Two 3x3 convolutions plus, unless `shortcut` is None, the input: as it is, thinned out (A) or projected (B)."""

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: str | None) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(in_channels, channels, 3, stride), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = _conv(channels, channels, 3), nn.BatchNorm2d(channels)
        self.stride, self.added, self.shortcut = stride, channels - in_channels, shortcut
        if shortcut == "B" and stride != 1:
            self.downsample = nn.Sequential(_conv(in_channels, channels, 1, stride), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(nn.functional.relu(self.bn1(self.conv1(x)))))
        if self.shortcut is None:
            return nn.functional.relu(y)
        if self.stride == 1:
            return nn.functional.relu(y + x)
        if self.shortcut == "B":
            return nn.functional.relu(y + self.downsample(x))
        thin = x[:, :, :: self.stride, :: self.stride]
        return nn.functional.relu(y + nn.functional.pad(thin, (0, 0, 0, 0, 0, self.added)))


class CifarResNet(nn.Module):
    """Maps images [N,3,H,W] to logits [N,num_classes]: 6n+2 layers (He et al. 2015, section 4.2)."""

    def __init__(self, depth: int, shortcut: str | None, num_classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(3, 16, 3), nn.BatchNorm2d(16)
        channels = 16
        for stage, width in enumerate((16, 32, 64)):
            layer = nn.Sequential()
            for i in range((depth - 2) // 6):
                layer.append(_CifarBlock(channels, width, 2 if stage > 0 and i == 0 else 1, shortcut))
                channels = width
            self.add_module(f"layer{stage + 1}", layer)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.relu(self.bn1(self.conv1(x)))
        for stage in range(1, 4):
            y = getattr(self, f"layer{stage}")(y)
        return cast(Tensor, self.fc(y.mean(dim=(2, 3))))


class LeNet(nn.Module):
    """Maps images [N,1,28,28] to logits [N,num_classes]: LeNet-5 with max-pooling, ReLU and a plain last layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(400, 120),
            nn.ReLU(inplace=True),
            nn.Linear(120, 84),
            nn.ReLU(inplace=True),
            nn.Linear(84, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(torch.flatten(self.features(x), 1)))


def build(name: str, size: int, num_classes: int = 1000, *, dropout: float = 0.0, seed: int | None = 0) -> nn.Module:
    """Returns the model of that name for images of `size` pixels, in training mode.

    Raises ValueError for a name not in NAMES.
    """
    model: nn.Module
    if name in _RESNETS:
        blocks, bottleneck = _RESNETS[name]
        model = ResNet(blocks, bottleneck, num_classes)
    elif name in _VGGS:
        widths, batch_norm = _VGGS[name]
        model = VGG(widths, batch_norm, num_classes, size, dropout)
    elif name == "lenet":
        model = LeNet(num_classes)
    elif name in _CIFAR:
        model = CifarResNet(20, _CIFAR[name], num_classes)
    else:
        raise ValueError(f"build: name must be one of {NAMES}, got {name!r}")
    for entry, tensor in model.state_dict().items():
        if seed is not None and not entry.endswith("num_batches_tracked"):
            tensor.copy_(torch.from_numpy(seeded_weights(entry, tuple(tensor.shape), seed)))
    return model
