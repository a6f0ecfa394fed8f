"""The demo's pictures: six patterns at random place, angle, size and colours, with noise, dark on light or the reverse.

What makes the class is how brightness repeats across the picture, never the brightness of one pixel: a linear model on
the pixels stays near guessing, while a convolutional network learns the patterns within minutes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn.random import generator

SIZE = 64  # pixels
_OVERSAMPLING = 2  # drawn twice as large and averaged, so that edges are smooth
_DARK, _LIGHT = (20, 90), (160, 235)  # ranges of the two tones of a picture, of 0..255
_TINT = 40  # how far red, green and blue may be from their tone
_NOISE = 8  # standard deviation

Field = NDArray[Any]  # float32


def _triangle_wave(x: Field) -> Field:
    wave: Field = 2 * np.abs(2 * (x - np.floor(x + np.float32(0.5)))) - 1
    return wave


# Each takes coordinates u, v in periods, turned and shifted at random, and returns a field that is above or below zero.
PATTERNS: dict[str, Callable[[Field, Field], Field]] = {
    "checks": lambda u, v: np.sin(2 * math.pi * u) * np.sin(2 * math.pi * v),
    "dots": lambda u, v: np.hypot(u - np.round(u), v - np.round(v)) - 0.25,
    "rings": lambda u, v: np.sin(2 * math.pi * np.hypot(u, v)),
    "spokes": lambda u, v: np.sin(8 * np.arctan2(v, u)),
    "stripes": lambda u, v: np.sin(2 * math.pi * u),
    "zigzags": lambda u, v: np.sin(2 * math.pi * (u + 0.75 * _triangle_wave(v / 3))),
}
CLASSES = tuple(PATTERNS)


def draw(name: str, index: int, seed: int) -> NDArray[np.uint8]:
    """Return picture `index` of a class as RGB [64,64,3]; it follows from the arguments alone."""
    random = generator("demo", seed, name, index)
    angle = random.uniform(0, 2 * math.pi)
    period = random.uniform(10, 15)  # pixels
    row, column = random.uniform(0.3 * SIZE, 0.7 * SIZE), random.uniform(0.3 * SIZE, 0.7 * SIZE)
    tones = np.array([random.uniform(*_DARK), random.uniform(*_LIGHT)])
    colours = (tones[:, None] + random.uniform(-_TINT, _TINT, size=(2, 3))).astype(np.float32)
    if random.uniform() < 0.5:
        colours = colours[::-1]
    axis = (np.arange(SIZE * _OVERSAMPLING, dtype=np.float32) + np.float32(0.5)) / _OVERSAMPLING
    y, x = np.meshgrid(axis - row, axis - column, indexing="ij")
    u = (math.cos(angle) * x + math.sin(angle) * y) / period
    v = (math.cos(angle) * y - math.sin(angle) * x) / period
    ink = (PATTERNS[name](u, v) > 0).astype(np.float32)
    ink = ink.reshape(SIZE, _OVERSAMPLING, SIZE, _OVERSAMPLING).mean(axis=(1, 3))[:, :, None]
    picture = colours[0] + ink * (colours[1] - colours[0])
    picture += _NOISE * random.standard_normal(picture.shape, dtype=np.float32)
    pixels: NDArray[np.uint8] = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    return pixels
