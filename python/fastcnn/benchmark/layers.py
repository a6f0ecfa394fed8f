"""The distinct layers of networks: shapes, windows and paddings, read off the models' graphs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fastcnn.graph import topological
from fastcnn.layers import (
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    GlobalAveragePooling2D,
    Layer,
    MaxPooling2D,
    ZeroPadding2D,
)
from fastcnn.layers.base import Padding, Pair
from fastcnn.models import Model


@dataclass(frozen=True)
class Convolution:
    """x [N,H,W,C], w [R,S,C,K]; padding in pixels, that of a ZeroPadding2D before it included."""

    H: int
    W: int
    C: int
    K: int
    R: int
    S: int
    strides: Pair
    padding: Padding

    def __str__(self) -> str:
        return f"{self.H}x{self.W}x{self.C} -> {self.K}, {self.R}x{self.S}{_stride(self.strides)}"

    @property
    def output(self) -> tuple[int, int]:
        """P and Q."""
        return _positions(self.H, self.W, (self.R, self.S), self.strides, self.padding)

    @property
    def macs(self) -> int:
        """Multiply-adds of one image by direct convolution."""
        return math.prod(self.output) * self.R * self.S * self.C * self.K


@dataclass(frozen=True)
class Pooling:
    """The largest values ("max") or means ("average") of windows of x [N,H,W,C]."""

    kind: str
    H: int
    W: int
    C: int
    pool: Pair
    strides: Pair
    padding: Padding

    def __str__(self) -> str:
        R, S = self.pool
        return f"{self.H}x{self.W}x{self.C}, {R}x{S}{_stride(self.strides)}"

    @property
    def output(self) -> tuple[int, int]:
        """P and Q."""
        return _positions(self.H, self.W, self.pool, self.strides, self.padding)


@dataclass(frozen=True)
class GlobalPooling:
    """The mean of each channel of x [N,H,W,C]."""

    H: int
    W: int
    C: int

    def __str__(self) -> str:
        return f"{self.H}x{self.W}x{self.C}"


@dataclass(frozen=True)
class Normalization:
    """Batch normalisation of x [N,H,W,C]."""

    H: int
    W: int
    C: int
    epsilon: float

    def __str__(self) -> str:
        return f"{self.H}x{self.W}x{self.C}"


@dataclass(frozen=True)
class Product:
    """A dense layer: x [N,C], w [C,K]."""

    C: int
    K: int

    def __str__(self) -> str:
        return f"{self.C} -> {self.K}"


Shape = Convolution | Pooling | GlobalPooling | Normalization | Product


def distinct_layers(models: Mapping[str, Model]) -> dict[Shape, dict[str, int]]:
    """Return the layers of all models, each shape once, with how often each model has it.

    Behind each max pooling stands an average pooling of the same windows: these networks have none of their own.
    Raises ValueError for a dilated convolution.
    """
    found: dict[Shape, dict[str, int]] = {}
    for name, model in models.items():
        for shape in _shapes(model):
            counts = found.setdefault(shape, {})
            counts[name] = counts.get(name, 0) + 1
    return found


def _shapes(model: Model) -> Iterable[Shape]:
    for node in topological(model.outputs):
        layer: Layer = node.layer
        if not node.inputs:
            continue
        source = node.inputs[0]
        x = padded = source.sample_shape
        extra: Padding = ((0, 0), (0, 0))
        if isinstance(source.layer, ZeroPadding2D) and isinstance(layer, Conv2D | MaxPooling2D):
            extra, x = source.layer.padding, source.inputs[0].sample_shape
        if isinstance(layer, Dense):
            yield Product(x[0], layer.units)
        if len(x) != 3:
            continue
        H, W, C = x
        if isinstance(layer, Conv2D):
            if layer.dilation_rate != (1, 1):
                raise ValueError(f"{layer.name}: dilated convolutions are not among what is timed")
            (R, S), padding = layer.kernel_size, _sum(layer.sides(padded), extra)
            yield Convolution(H, W, C, layer.filters, R, S, layer.strides, padding)
        elif isinstance(layer, MaxPooling2D | AveragePooling2D):
            padding = _sum(layer.sides(padded), extra)
            if isinstance(layer, MaxPooling2D):
                yield Pooling("max", H, W, C, layer.pool_size, layer.strides, padding)
            yield Pooling("average", H, W, C, layer.pool_size, layer.strides, padding)
        elif isinstance(layer, GlobalAveragePooling2D):
            yield GlobalPooling(H, W, C)
        elif isinstance(layer, BatchNormalization):
            yield Normalization(H, W, C, layer.epsilon)


def _sum(a: Padding, b: Padding) -> Padding:
    (top, bottom), (left, right) = a
    return (top + b[0][0], bottom + b[0][1]), (left + b[1][0], right + b[1][1])


def _positions(H: int, W: int, window: Pair, strides: Pair, padding: Padding) -> tuple[int, int]:
    P, Q = (
        (size + sum(sides) - extent) // stride + 1
        for size, sides, extent, stride in zip((H, W), padding, window, strides, strict=True)
    )
    return P, Q


def _stride(strides: Pair) -> str:
    return "" if strides == (1, 1) else f" s{strides[0]}"
