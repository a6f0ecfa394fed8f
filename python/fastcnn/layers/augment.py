"""Layers that change pictures at random in training: flips, crops, turns, shifts and zooms.

They stand between the input and the rest of a model, are done to one picture at a time by the loader threads before
the program runs (`fastcnn.prepare`), and have no gradient. What happens to a picture follows from (seed of the layer,
epoch, number of the picture) alone; unlike in Keras, where a batch may share one crop, each picture has its own.
In inference they change nothing, but for RandomCrop, whose output has its size there too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Unpack

import numpy as np

from fastcnn import geometry
from fastcnn.graph import Shape
from fastcnn.layers.base import Array, Draw, Layer, LayerOptions, Step, channels_last, one_input
from fastcnn.random import next_seed, uniforms

Factor = float | Sequence[float]
FLIPS = ("horizontal", "vertical", "horizontal_and_vertical")
INTERPOLATIONS = ("bilinear", "nearest")


class RandomLayer(Layer):
    """What the layers share: a seed, and numbers drawn from it."""

    prepares = "training"
    random = True
    only_defaults: ClassVar[tuple[str, ...]] = ("data_format",)

    def __init__(self, seed: int | None, data_format: str | None, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        owner = type(self).__name__
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int | np.integer)):
            raise ValueError(f"{owner}: seed must be an integer or None, got {seed!r}")
        channels_last(owner, data_format)
        self.seed = next_seed() if seed is None else int(seed)

    def build(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        return one_input(self, shapes, 3, "[H, W, C]")

    def lower(self, trainable: bool, inference: bool) -> tuple[Step, ...]:
        """Return the layer itself, nothing for a call with `training=False`."""
        return () if inference else (self,)

    def prepare(self, x: Array, draw: Draw | None) -> Array:
        """Return the picture x[H,W,C] changed at random, in inference as it is."""
        return x if draw is None else self.change(x, *uniforms(4, type(self).__name__, self.seed, *draw))

    def change(self, x: Array, *u: float) -> Array:
        """Return the picture changed by four numbers in [0, 1)."""
        raise NotImplementedError


class RandomFlip(RandomLayer):
    """Mirrors a picture left to right, top to bottom or both, each in one of two cases."""

    def __init__(
        self,
        mode: str = "horizontal_and_vertical",
        seed: int | None = None,
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(seed, data_format, **options)
        if mode not in FLIPS:
            raise ValueError(f"RandomFlip: mode must be one of {', '.join(FLIPS)}, got {mode!r}")
        self.mode = mode

    def change(self, x: Array, *u: float) -> Array:
        """Return the picture, perhaps mirrored."""
        if "horizontal" in self.mode and u[0] < 0.5:
            x = x[:, ::-1]
        if "vertical" in self.mode and u[1] < 0.5:
            x = x[::-1]
        return x


class RandomCrop(RandomLayer):
    """Cuts a window of `height` x `width` pixels at a random place.

    In inference, and where a picture is smaller than the window, it is the largest centred window with the same ratio,
    resized bilinearly, as Keras documents it: a picture of the window's ratio is kept whole. What is in it is then
    smaller than in training; where only its place should vary, RandomTranslation keeps the size.
    """

    prepares = "always"

    def __init__(
        self,
        height: int,
        width: int,
        seed: int | None = None,
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(seed, data_format, **options)
        for argument, value in (("height", height), ("width", width)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"RandomCrop: {argument} must be a positive integer, got {value!r}")
        self.height = int(height)
        self.width = int(width)

    def build(self, *shapes: Shape) -> Shape:
        """Return (height, width, C)."""
        return self.height, self.width, super().build(*shapes)[2]

    def lower(self, trainable: bool, inference: bool) -> tuple[Step, ...]:
        """Return the layer, or for a call with `training=False` its form for inference."""
        return (CentredCrop(self) if inference else self,)

    def prepare(self, x: Array, draw: Draw | None) -> Array:
        """Return a window of the picture: random in training, centred in inference."""
        if draw is None or x.shape[0] < self.height or x.shape[1] < self.width:
            return self.centred(x)
        return super().prepare(x, draw)

    def change(self, x: Array, *u: float) -> Array:
        """Return the window, each place as likely as the others."""
        top = int(u[0] * (x.shape[0] - self.height + 1))
        left = int(u[1] * (x.shape[1] - self.width + 1))
        return x[top : top + self.height, left : left + self.width]

    def centred(self, x: Array) -> Array:
        """Return the largest centred window with the ratio of the output, resized to it."""
        H, W = x.shape[:2]
        height = max(min(H, W * self.height // self.width), 1)
        width = max(min(W, H * self.width // self.height), 1)
        return geometry.resized(x, (H - height) // 2, (W - width) // 2, height, width, (self.height, self.width))


class CentredCrop(Step):
    """RandomCrop in a call with `training=False`."""

    prepares = "always"
    random = True

    def __init__(self, layer: RandomCrop) -> None:
        self.layer = layer
        self.name = layer.name

    def prepare(self, x: Array, draw: Draw | None) -> Array:
        """Return the centred window."""
        return self.layer.centred(x)


class RandomWarp(RandomLayer):
    """What turns, shifts and zooms share: what lies outside the picture and between its pixels."""

    def __init__(
        self,
        fill_mode: str,
        interpolation: str,
        seed: int | None,
        fill_value: float,
        data_format: str | None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(seed, data_format, **options)
        owner = type(self).__name__
        self.fill_mode = geometry.check_fill_mode(owner, fill_mode)
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f"{owner}: interpolation must be 'bilinear' or 'nearest', got {interpolation!r}")
        if not isinstance(fill_value, int | float):
            raise ValueError(f"{owner}: fill_value must be a number, got {fill_value!r}")
        self.interpolation = interpolation
        self.fill_value = float(fill_value)

    def change(self, x: Array, *u: float) -> Array:
        """Return the picture seen through a random map."""
        return geometry.warp(
            x,
            self.map(x.shape[0], x.shape[1], *u),
            fill_mode=self.fill_mode,
            value=self.fill_value,
            bilinear=self.interpolation == "bilinear",
        )

    def map(self, H: int, W: int, *u: float) -> geometry.Map:
        """Return the map for a picture of H x W pixels and four numbers in [0, 1)."""
        raise NotImplementedError


class RandomRotation(RandomWarp):
    """Turns a picture; `factor` is a share of a full turn, f for -f..f or a pair, above 0 counter-clockwise."""

    def __init__(
        self,
        factor: Factor,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **options)
        self.factor = _factor("RandomRotation", "factor", factor)

    def map(self, H: int, W: int, *u: float) -> geometry.Map:
        """Return a turn."""
        return geometry.rotation(360 * _between(self.factor, u[0]))


class RandomTranslation(RandomWarp):
    """Shifts a picture; factors are shares of its height and width, f for -f..f or a pair, above 0 down and right."""

    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **options)
        self.height_factor = _factor("RandomTranslation", "height_factor", height_factor)
        self.width_factor = _factor("RandomTranslation", "width_factor", width_factor)

    def map(self, H: int, W: int, *u: float) -> geometry.Map:
        """Return a shift."""
        return geometry.look_at(-H * _between(self.height_factor, u[0]), -W * _between(self.width_factor, u[1]))


class RandomZoom(RandomWarp):
    """Zooms; factors f for -f..f or a pair, above 0 out: 0.25 shows a quarter more of the height.

    Without `width_factor` both axes have one factor, which keeps the aspect ratio.
    """

    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor | None = None,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **options)
        self.height_factor = _factor("RandomZoom", "height_factor", height_factor)
        self.width_factor = None if width_factor is None else _factor("RandomZoom", "width_factor", width_factor)

    def map(self, H: int, W: int, *u: float) -> geometry.Map:
        """Return a zoom."""
        rows = 1 + _between(self.height_factor, u[0])
        return geometry.zoom(rows, rows if self.width_factor is None else 1 + _between(self.width_factor, u[1]))


def _factor(owner: str, argument: str, value: Factor) -> tuple[float, float]:
    """Return (low, high); raises ValueError for anything outside [-1, 1]."""
    pair = tuple(value) if isinstance(value, list | tuple) else (value,)
    numbers = [float(v) for v in pair if isinstance(v, int | float) and not isinstance(v, bool) and -1 <= v <= 1]
    if len(numbers) != len(pair) or len(pair) not in (1, 2):
        raise ValueError(f"{owner}: {argument} must be a number in [-1, 1] or two of them, got {value!r}")
    return (-abs(numbers[0]), abs(numbers[0])) if len(pair) == 1 else (min(numbers), max(numbers))


def _between(factor: tuple[float, float], u: float) -> float:
    return factor[0] + u * (factor[1] - factor[0])
