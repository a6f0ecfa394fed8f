"""Window arithmetic shared by convolution and pooling: output size, padding, and the input slice under each tap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastcnn.reference.arrays import Array

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

VALID: Padding = ((0, 0), (0, 0))


def same_padding(size: int, window: int, stride: int, dilation: int = 1) -> Pair:
    """Return (before, after), in pixels, that give ceil(size / stride) outputs, the odd pixel after (Keras' `same`)."""
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + (window - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


@dataclass(frozen=True)
class Window:
    """A window R x S slid over an image H x W, giving P x Q outputs."""

    H: int
    W: int
    R: int
    S: int
    P: int
    Q: int
    strides: Pair
    padding: Padding
    dilation: Pair

    @classmethod
    def over(
        cls, operation: str, image: Pair, window: Pair, strides: Pair, padding: Padding, dilation: Pair = (1, 1)
    ) -> Window:
        """Return the window over image (H, W); raise ValueError for a bad option or a window that does not fit."""
        for argument, values, least in (
            ("window", window, 1),
            ("strides", strides, 1),
            ("dilation", dilation, 1),
            ("padding", (*padding[0], *padding[1]), 0),
        ):
            if min(values) < least:
                raise ValueError(f"{operation}: {argument} must be at least {least}, got {values}")
        high, wide = ((window[axis] - 1) * dilation[axis] + 1 for axis in (0, 1))
        rows, columns = (image[axis] + sum(padding[axis]) for axis in (0, 1))
        if high > rows or wide > columns:
            raise ValueError(
                f"{operation}: the window covers {high} x {wide} pixels but the padded input has {rows} x {columns} "
                f"(input {image}, window {window}, padding {padding}, dilation {dilation})"
            )
        P, Q = (rows - high) // strides[0] + 1, (columns - wide) // strides[1] + 1
        return cls(*image, *window, P, Q, strides, padding, dilation)

    def pad(self, x: Array, value: float = 0.0) -> Array:
        """Return x [N,H,W,C] with the padding filled with value."""
        return np.pad(x, ((0, 0), *self.padding, (0, 0)), constant_values=value)

    def zeros(self, N: int, C: int) -> Array:
        """Return a zero image batch of the padded size, to be filled tap by tap and then cropped."""
        return np.zeros((N, self.H + sum(self.padding[0]), self.W + sum(self.padding[1]), C))

    def crop(self, padded: Array) -> Array:
        """Return padded without its padding: [N,H,W,C]."""
        top, left = self.padding[0][0], self.padding[1][0]
        return padded[:, top : top + self.H, left : left + self.W]

    def taps(self) -> Iterator[tuple[int, int, tuple[slice, slice, slice]]]:
        """Yield r, s and the index that takes from a padded batch the [N,P,Q,C] pixels lying under tap (r, s)."""
        for r in range(self.R):
            for s in range(self.S):
                yield r, s, (slice(None), self._under(0, r, self.P), self._under(1, s, self.Q))

    def _under(self, axis: int, tap: int, outputs: int) -> slice:
        first = tap * self.dilation[axis]
        stride = self.strides[axis]
        return slice(first, first + (outputs - 1) * stride + 1, stride)
