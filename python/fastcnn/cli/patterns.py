"""The demo's pictures: six patterns at random place, angle, size and colours, with noise.

What makes the class is how brightness repeats across the picture, never the brightness of one pixel: a linear model on
the pixels stays near guessing, while a convolutional network learns the patterns within minutes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastcnn.random import generator

SIZE = 64  # pixels
_OVERSAMPLING = 2  # drawn twice as large and averaged, so that edges are smooth
_CONTRAST = 80.0  # least distance between the two colours of a picture, of at most 442
_NOISE = 12.0  # standard deviation, of 255

Field = NDArray[np.float32]


def _triangle_wave(x: Field) -> Field:
    wave: Field = 2 * np.abs(2 * (x - np.floor(x + np.float32(0.5)))) - 1
    return wave


# Each takes coordinates u, v in periods, turned and shifted at random, and returns a field that is above or below zero.
PATTERNS: dict[str, Callable[[Field, Field], Field]] = {
    "checks": lambda u, v: np.sin(2 * np.pi * u) * np.sin(2 * np.pi * v),
    "dots": lambda u, v: np.hypot(u - np.round(u), v - np.round(v)) - 0.28,
    "rings": lambda u, v: np.sin(2 * np.pi * np.hypot(u, v)),
    "spokes": lambda u, v: np.sin(8 * np.arctan2(v, u)),
    "stripes": lambda u, v: np.sin(2 * np.pi * u),
    "zigzags": lambda u, v: np.sin(2 * np.pi * (u + 0.5 * _triangle_wave(v / 2))),
}
CLASSES = tuple(PATTERNS)


def draw(name: str, index: int, seed: int) -> NDArray[np.uint8]:
    """Return picture `index` of a class as RGB [64,64,3]; it follows from the arguments alone."""
    random = generator("demo", seed, name, index)
    angle = random.uniform(0, 2 * np.pi)
    period = random.uniform(9, 18)  # pixels
    centre = random.uniform(0.2 * SIZE, 0.8 * SIZE, size=2)
    while True:
        colours = random.uniform(0, 255, size=(2, 3)).astype(np.float32)
        if np.linalg.norm(colours[0] - colours[1]) >= _CONTRAST:
            break
    axis = (np.arange(SIZE * _OVERSAMPLING, dtype=np.float32) + np.float32(0.5)) / _OVERSAMPLING
    y, x = np.meshgrid(axis - centre[0], axis - centre[1], indexing="ij")
    u = (np.cos(angle) * x + np.sin(angle) * y) / period
    v = (np.cos(angle) * y - np.sin(angle) * x) / period
    ink = (PATTERNS[name](u, v) > 0).astype(np.float32)
    ink = ink.reshape(SIZE, _OVERSAMPLING, SIZE, _OVERSAMPLING).mean(axis=(1, 3))[:, :, None]
    picture = colours[0] + ink * (colours[1] - colours[0])
    picture += _NOISE * random.standard_normal(picture.shape, dtype=np.float32)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
