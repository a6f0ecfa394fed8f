"""Layers that put several tensors, or a tensor and zeros, into one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from fastcnn.graph import Node, Shape
from fastcnn.layers.base import Array, Layer, LayerOptions, Pair, Slots, listed, one_input, pair

if TYPE_CHECKING:
    from fastcnn.program import Emitter


class Add(Layer):
    """y = sum of two or more inputs of one shape."""

    def build(self, *shapes: Shape) -> Shape:
        """Return the inputs' shape; raises ValueError if they differ."""
        if len(shapes) < 2:
            raise ValueError(f"{self.name}: takes two or more inputs, got {len(shapes)}")
        if any(shape != shapes[0] for shape in shapes):
            raise ValueError(f"{self.name}: inputs must have one shape, got {listed(shapes)}")
        return shapes[0]

    def overwrites(self) -> tuple[int, ...]:
        """Return the first two inputs: the third is read after y has been written."""
        return (0, 1)

    def passes_gradient_to(self) -> tuple[int, ...]:
        """Return the first two inputs, one of which gets dy as its gradient."""
        return (0, 1)

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append one add_forward for each input after the first."""
        p.add_forward(s.xs[0], s.xs[1], s.y)
        for x in s.xs[2:]:
            p.add_forward(s.y, x, s.y)

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append copies of dy to every dx, except to the one that is dy itself."""
        for dx, accumulate in zip(s.dxs, s.accumulate, strict=True):
            p.pass_on(s.gradient, dx, accumulate)


class Concatenate(Layer):
    """y = two or more inputs behind one another along an axis, that of the samples in a batch excepted."""

    def __init__(self, axis: int = -1, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise ValueError(f"Concatenate: axis must be an integer, got {axis!r}")
        self.axis = axis

    def build(self, *shapes: Shape) -> Shape:
        """Return the inputs' shape, its axis the sum of theirs; raises ValueError if other axes differ."""
        if len(shapes) < 2:
            raise ValueError(f"{self.name}: takes two or more inputs, got {len(shapes)}")
        rank = len(shapes[0])
        self._axis = self.axis - 1 if self.axis > 0 else self.axis + rank  # among the axes of a sample
        if self.axis == 0 or not 0 <= self._axis < rank:
            raise ValueError(f"{self.name}: axis must lie in 1..{rank} or -{rank}..-1, got {self.axis}")
        others = {shape[: self._axis] + shape[self._axis + 1 :] for shape in shapes}
        if len(others) > 1 or any(len(shape) != rank for shape in shapes):
            raise ValueError(f"{self.name}: inputs may differ along axis {self.axis} only, got {listed(shapes)}")
        size = sum(shape[self._axis] for shape in shapes)
        return (*shapes[0][: self._axis], size, *shapes[0][self._axis + 1 :])

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append one concatenate_forward for each input."""
        y, offset = self._columns(s.y), 0
        for x in s.xs:
            columns = self._columns(x)
            p.concatenate_forward(columns, y, offset=offset)
            offset += columns.shape[1]

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append one concatenate_backward for each input."""
        dy, offset = self._columns(s.gradient), 0
        for x, dx, accumulate in zip(s.xs, s.dxs, s.accumulate, strict=True):
            if dx is not None:
                p.concatenate_backward(dy, self._columns(dx), offset=offset, accumulate=accumulate)
            offset += self._columns(x).shape[1]

    def _columns(self, array: Array) -> Array:
        """Return [what lies before the axis, the axis and what lies behind], a view."""
        return array.reshape(-1, math.prod(array.shape[1 + self._axis :]))


def add(inputs: Sequence[Node[Layer]], **options: Unpack[LayerOptions]) -> Node[Layer]:
    """Return the sum of two or more symbolic tensors of one shape: `Add(**options)(inputs)`; raises as that does."""
    return Add(**options)(inputs)


def concatenate(inputs: Sequence[Node[Layer]], axis: int = -1, **options: Unpack[LayerOptions]) -> Node[Layer]:
    """Return symbolic tensors behind one another: `Concatenate(axis, **options)(inputs)`; raises as that does."""
    return Concatenate(axis, **options)(inputs)


class ChannelPadding(Layer):
    """Zero channels before and behind those of x[...,C]; `padding` is the number behind, or (before, behind).

    He et al. 2015 (section 4.2, option A) widen the identity with it; Keras has no such layer.
    """

    def __init__(self, padding: int | Sequence[int], **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        given = (0, padding) if isinstance(padding, int) else padding
        self.padding: Pair = pair("ChannelPadding", "padding", given, least=0)

    def build(self, *shapes: Shape) -> Shape:
        """Return the input's shape with more channels."""
        shape = one_input(self, shapes)
        return (*shape[:-1], shape[-1] + sum(self.padding))

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append fill and concatenate_forward."""
        p.fill(s.y, 0.0)
        p.concatenate_forward(_rows(s.xs[0]), _rows(s.y), offset=self.padding[0])

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append concatenate_backward."""
        if s.dxs[0] is not None:
            p.concatenate_backward(
                _rows(s.gradient), _rows(s.dxs[0]), offset=self.padding[0], accumulate=s.accumulate[0]
            )


def _rows(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1])
