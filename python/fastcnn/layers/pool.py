"""Pooling over windows and over whole pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

from fastcnn.graph import Shape
from fastcnn.layers.base import (
    Bounds,
    Layer,
    LayerOptions,
    Padding,
    Slots,
    Step,
    channels_last,
    one_input,
    padding_mode,
    pair,
    window_padding,
    window_positions,
)
from fastcnn.liveness import CacheSpec

if TYPE_CHECKING:
    from fastcnn.program import Emitter

LARGEST_WINDOW = 256  # pixels: the place of a maximum is kept in one byte


class _Pooling2D(Layer):
    only_defaults = ("data_format",)

    def __init__(
        self,
        pool_size: int | Sequence[int],
        strides: int | Sequence[int] | None,
        padding: str,
        data_format: str | None,
        options: LayerOptions,
    ) -> None:
        super().__init__(**options)
        owner = type(self).__name__
        channels_last(owner, data_format)
        self.pool_size = pair(owner, "pool_size", pool_size)
        self.strides = self.pool_size if strides is None else pair(owner, "strides", strides)
        self.padding = padding_mode(owner, padding)

    def build(self, *shapes: Shape) -> Shape:
        """Return (P, Q, C); raises ValueError if the window does not fit into the picture."""
        shape = one_input(self, shapes, 3, "[H, W, C]")
        P, Q = window_positions(self, shape, self.pool_size, self.strides, self.sides(shape))
        return P, Q, shape[2]

    def sides(self, shape: Shape) -> Padding:
        """Return the padding of an input of that shape, in pixels."""
        return window_padding((shape[0], shape[1]), self.pool_size, self.strides, self.padding)


class MaxPooling2D(_Pooling2D):
    """Largest value of each window of x[N,H,W,C]; padding never wins, NaN always does."""

    def __init__(
        self,
        pool_size: int | Sequence[int] = (2, 2),
        strides: int | Sequence[int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, options)
        if self.pool_size[0] * self.pool_size[1] > LARGEST_WINDOW:
            raise ValueError(f"MaxPooling2D: pool_size must cover at most {LARGEST_WINDOW} pixels, got {pool_size!r}")

    def lower(self, trainable: bool, inference: bool) -> tuple[Step, ...]:
        """Return the pooling step without extra padding."""
        return (FusedMaxPooling2D(self),)


@dataclass(eq=False)
class FusedMaxPooling2D(Step):
    """MaxPooling2D with the zero padding in front of it absorbed: exact where the input is never negative.

    Backward too: where padding ties with zeros, the gradient goes to a zero pixel, and the ReLU before it stops it.
    """

    layer: MaxPooling2D
    extra: Padding = ((0, 0), (0, 0))

    def __post_init__(self) -> None:
        self.name = self.layer.name

    def _padding(self, s: Slots) -> Padding:
        (top, bottom), (left, right) = self.extra
        _, H, W, _ = s.xs[0].shape
        rows, columns = self.layer.sides((H + top + bottom, W + left + right))
        return (rows[0] + top, rows[1] + bottom), (columns[0] + left, columns[1] + right)

    def cache(self, bounds: Bounds, p: Emitter) -> dict[str, CacheSpec]:
        """Keep the place of each maximum, one byte per output, if there is a backward run."""
        return {"argmax": CacheSpec((bounds.batch, *bounds.y), "uint8")} if bounds.backward else {}

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append max_pool2d_forward."""
        p.max_pool2d_forward(
            s.xs[0],
            s.y,
            pool_size=self.layer.pool_size,
            strides=self.layer.strides,
            padding=self._padding(s),
            argmax=s.cache.get("argmax"),
        )

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append max_pool2d_backward."""
        if s.dxs[0] is not None:
            p.max_pool2d_backward(
                s.gradient,
                s.cache["argmax"],
                s.dxs[0],
                pool_size=self.layer.pool_size,
                strides=self.layer.strides,
                padding=self._padding(s),
                accumulate=s.accumulate[0],
            )


class AveragePooling2D(_Pooling2D):
    """Mean of each window of x[N,H,W,C]; padding does not count. Keras 3 has no default `pool_size`, Keras 2 this."""

    def __init__(
        self,
        pool_size: int | Sequence[int] = (2, 2),
        strides: int | Sequence[int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, options)

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append average_pool2d_forward."""
        padding = self.sides(s.xs[0].shape[1:])
        p.average_pool2d_forward(s.xs[0], s.y, pool_size=self.pool_size, strides=self.strides, padding=padding)

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append average_pool2d_backward."""
        if s.dxs[0] is not None:
            p.average_pool2d_backward(
                s.gradient,
                s.dxs[0],
                pool_size=self.pool_size,
                strides=self.strides,
                padding=self.sides(s.xs[0].shape[1:]),
                accumulate=s.accumulate[0],
            )


class _GlobalPooling2D(Layer):
    only_defaults = ("data_format",)

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        channels_last(type(self).__name__, data_format)
        self.keepdims = bool(keepdims)

    def build(self, *shapes: Shape) -> Shape:
        """Return (C,) or (1, 1, C)."""
        C = one_input(self, shapes, 3, "[H, W, C]")[2]
        return (1, 1, C) if self.keepdims else (C,)


class GlobalAveragePooling2D(_GlobalPooling2D):
    """Mean of x[N,H,W,C] over its pixels: [N,C], or [N,1,1,C] with `keepdims`."""

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append global_average_pool2d_forward."""
        p.global_average_pool2d_forward(s.xs[0], s.y.reshape(len(s.y), -1))

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append global_average_pool2d_backward."""
        if s.dxs[0] is not None:
            dy = s.gradient.reshape(len(s.gradient), -1)
            p.global_average_pool2d_backward(dy, s.dxs[0], accumulate=s.accumulate[0])


class GlobalMaxPooling2D(_GlobalPooling2D):
    """Largest value of x[N,H,W,C] over its pixels, NaN if there is one: [N,C], or [N,1,1,C] with `keepdims`."""

    def cache(self, bounds: Bounds, p: Emitter) -> dict[str, CacheSpec]:
        """Keep the pixel of each maximum if there is a backward run."""
        return {"argmax": CacheSpec((bounds.batch, bounds.y[-1]), "int64")} if bounds.backward else {}

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append global_max_pool2d_forward."""
        p.global_max_pool2d_forward(s.xs[0], s.y.reshape(len(s.y), -1), argmax=s.cache.get("argmax"))

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append global_max_pool2d_backward: dx = dy at the first of the largest values, else 0."""
        if s.dxs[0] is not None:
            dy = s.gradient.reshape(len(s.gradient), -1)
            p.global_max_pool2d_backward(dy, s.cache["argmax"], s.dxs[0], accumulate=s.accumulate[0])
