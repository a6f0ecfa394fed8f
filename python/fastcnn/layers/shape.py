"""Layers that move nothing or only borders: Input, Flatten, ZeroPadding2D."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from fastcnn.graph import Node, Shape
from fastcnn.layers.base import Layer, LayerOptions, Padding, Slots, channels_last, one_input, pair

if TYPE_CHECKING:
    from fastcnn.program import Emitter


class InputLayer(Layer):
    """Where a model's data enter; `shape` is that of one sample."""

    only_defaults = ("batch_size",)

    def __init__(
        self, shape: Sequence[int] | None = None, batch_size: int | None = None, **options: Unpack[LayerOptions]
    ) -> None:
        super().__init__(**options)
        if shape is None:
            raise ValueError("Input: shape must be given, the shape of one sample such as (224, 224, 3)")
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        if any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
            raise ValueError(f"Input: shape must hold positive integers (sizes are fixed), got {shape!r}")
        self.shape = sizes
        self._nodes.append(Node(self, (), sizes))

    def build(self, *shapes: Shape) -> Shape:
        """Raise TypeError: an input has no input."""
        raise TypeError(f"{self.name}: an input layer cannot be called")

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append nothing: the data are copied in before the program runs."""


def Input(  # noqa: N802 (Keras' name)
    shape: Sequence[int] | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    name: str | None = None,
) -> Node[Layer]:
    """Return the symbolic input for samples of `shape`, such as (224, 224, 3).

    Any batch size is accepted later, and data of any real type; `batch_size` and `dtype` exist for Keras' sake.
    """
    return InputLayer(shape, batch_size, name=name).output


class Flatten(Layer):
    """y[N, H*W*C] = x[N,H,W,C] in the order of its elements: the same memory."""

    view = True
    passes_gradient = True
    only_defaults = ("data_format",)

    def __init__(self, data_format: str | None = None, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        channels_last("Flatten", data_format)

    def build(self, *shapes: Shape) -> Shape:
        """Return (number of elements,)."""
        return (math.prod(one_input(self, shapes)),)

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append nothing: y is x."""

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append dx = dy unless they are the same memory."""
        p.pass_on(s.gradient, s.dxs[0], s.accumulate[0])


class ZeroPadding2D(Layer):
    """Zero rows and columns around x[N,H,W,C]; `padding` is n, (rows, columns) or ((top, bottom), (left, right))."""

    only_defaults = ("data_format",)

    def __init__(
        self,
        padding: int | Sequence[int | Sequence[int]] = (1, 1),
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        channels_last("ZeroPadding2D", data_format)
        self.padding = self._sides(padding)

    @staticmethod
    def _sides(padding: int | Sequence[int | Sequence[int]]) -> Padding:
        axes = (padding, padding) if isinstance(padding, int) else tuple(padding)
        if len(axes) != 2:
            raise ValueError(f"ZeroPadding2D: padding must be one or two integers or two pairs, got {padding!r}")
        rows, columns = (pair("ZeroPadding2D", "padding", axis, least=0) for axis in axes)
        return rows, columns

    def build(self, *shapes: Shape) -> Shape:
        """Return (H + top + bottom, W + left + right, C)."""
        H, W, C = one_input(self, shapes, 3, "[H, W, C]")
        rows, columns = self.padding
        return H + sum(rows), W + sum(columns), C

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append zero_pad2d_forward."""
        p.zero_pad2d_forward(s.xs[0], s.y, padding=self.padding)

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append zero_pad2d_backward."""
        if s.dxs[0] is not None:
            p.zero_pad2d_backward(s.gradient, s.dxs[0], padding=self.padding, accumulate=s.accumulate[0])
