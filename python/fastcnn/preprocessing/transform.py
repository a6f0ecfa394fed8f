"""The random change of one picture, as ImageDataGenerator makes it: its parameters, drawn and applied.

Conventions are Keras': x is the row axis, `theta` and `shear` are degrees, `zx` and `zy` above 1 shrink the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fastcnn import geometry
from fastcnn.random import uniforms

Array = NDArray[np.float32]
Shift = float | int | Sequence[float]
Parameters = dict[str, Any]

_NO_CHANGE: Parameters = {
    "theta": 0,
    "tx": 0,
    "ty": 0,
    "shear": 0,
    "zx": 1,
    "zy": 1,
    "flip_horizontal": False,
    "flip_vertical": False,
    "channel_shift_intensity": None,
    "brightness": None,
}
# Each parameter has its own places in the stream, so that asking for one more changes no other.
_DRAWS = 12


@dataclass(frozen=True)
class Ranges:
    """What parameters are drawn from, checked by ImageDataGenerator."""

    rotation: float
    width_shift: Shift
    height_shift: Shift
    shear: float
    zoom: tuple[float, float]
    channel_shift: float
    brightness: tuple[float, float] | None
    horizontal_flip: bool
    vertical_flip: bool

    def draw(self, size: Sequence[int], *key: int | str) -> Parameters:
        """Return the parameters for a picture of `size` (H, W, ...) pixels; they follow from the key alone."""
        u = uniforms(_DRAWS, *key)
        drawn = dict(_NO_CHANGE)
        if self.rotation:
            drawn["theta"] = between(-self.rotation, self.rotation, u[0])
        drawn["tx"] = _shift(self.height_shift, size[0], u[1], u[2])
        drawn["ty"] = _shift(self.width_shift, size[1], u[3], u[4])
        if self.shear:
            drawn["shear"] = between(-self.shear, self.shear, u[5])
        if self.zoom != (1, 1):
            drawn["zx"], drawn["zy"] = between(*self.zoom, u[6]), between(*self.zoom, u[7])
        drawn["flip_horizontal"] = bool(self.horizontal_flip and u[8] < 0.5)
        drawn["flip_vertical"] = bool(self.vertical_flip and u[9] < 0.5)
        if self.channel_shift:
            drawn["channel_shift_intensity"] = between(-self.channel_shift, self.channel_shift, u[10])
        if self.brightness is not None:
            drawn["brightness"] = between(*self.brightness, u[11])
        return drawn


def between(low: float, high: float, u: float) -> float:
    """Return the number at the share u of the way from low to high."""
    return float(low + u * (high - low))


def _shift(given: Shift, size: int, u: float, sign: float) -> float:
    """Return a shift in pixels.

    A fraction below 1 is a share of the size, a larger one pixels, drawn evenly between -given and +given; an integer
    allows the whole numbers below it; of a list one entry is taken. Both have a random sign.
    """
    if isinstance(given, float):
        pixels = between(-given, given, u)
        return pixels * size if given < 1 else pixels
    choices = range(given) if isinstance(given, int) else given
    if len(choices) == 0:
        return 0
    pixels = choices[int(u * len(choices))] * (1 if sign < 0.5 else -1)
    return pixels * size if not isinstance(given, int) and max(given) < 1 else pixels


def check_parameters(owner: str, parameters: Mapping[str, Any]) -> None:
    """Raise ValueError for a name that is no parameter of a transformation."""
    unknown = sorted(set(parameters) - set(_NO_CHANGE))
    if unknown:
        raise ValueError(f"{owner}: transform_parameters has no {unknown[0]!r}; it knows {', '.join(_NO_CHANGE)}")


def apply(x: Array, parameters: Mapping[str, Any], *, fill_mode: str, cval: float, bilinear: bool) -> Array:
    """Return x[H,W,C] changed: first the geometry, then channel shift, flips and brightness; may be x or a view."""
    p = _NO_CHANGE | dict(parameters)
    y = x
    if any(p[name] != _NO_CHANGE[name] for name in ("theta", "tx", "ty", "shear", "zx", "zy")):
        centred = (
            geometry.rotation(-p["theta"])
            @ geometry.look_at(p["tx"], p["ty"])
            @ geometry.shear(p["shear"])
            @ geometry.zoom(p["zx"], p["zy"])
        )
        y = geometry.warp(x, centred, fill_mode=fill_mode, value=cval, bilinear=bilinear)
    if p["channel_shift_intensity"] is not None and y.size:
        y = np.clip(y + np.float32(p["channel_shift_intensity"]), y.min(), y.max())
    if p["flip_horizontal"]:
        y = y[:, ::-1]
    if p["flip_vertical"]:
        y = y[::-1]
    if p["brightness"] is not None and y.size:
        y = _brightened(y, p["brightness"])
    return y


def _brightened(x: Array, factor: float) -> Array:
    """Return colours times `factor`, cut off at 255; an alpha channel, the fourth, stays.

    Values outside 0..255 are first stretched to that range, and back afterwards, as Keras does; unlike there nothing is
    rounded to whole gray levels.
    """
    low, high = float(x.min()), float(x.max())
    outside = low < 0 or high > 255
    span = high - low
    scaled = (x - np.float32(low)) * np.float32(255 / span) if outside and span else x
    y = np.clip(scaled * np.float32(factor), 0, 255)
    if x.shape[2] == 4:
        y[..., 3] = scaled[..., 3]
    return cast(Array, y * np.float32(span / 255) + np.float32(low) if outside else y)
