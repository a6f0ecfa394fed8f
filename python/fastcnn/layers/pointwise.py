"""Operations on single elements: activations, Add, Rescaling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

import numpy as np

from fastcnn.graph import Shape
from fastcnn.layers.base import Array, Draw, Layer, LayerOptions, Slots, Step, one_input

if TYPE_CHECKING:
    from fastcnn.program import Emitter


class ReLU(Layer):
    """y = max(x, 0), NaN stays NaN."""

    saves = "y"
    inplace = True
    passes_gradient = True
    nonnegative = True
    only_defaults = ("max_value", "negative_slope", "threshold")

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self._refuse(
            max_value=(max_value, None), negative_slope=(float(negative_slope), 0.0), threshold=(float(threshold), 0.0)
        )

    def build(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        return one_input(self, shapes)

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append relu_forward."""
        p.relu_forward(s.xs[0], s.y)

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append relu_backward: dx = dy where y > 0."""
        if s.dxs[0] is not None:
            p.relu_backward(s.y, s.gradient, s.dxs[0], accumulate=s.accumulate[0])


class LeakyReLU(Layer):
    """y = x where x > 0, else x * negative_slope; NaN stays NaN."""

    saves = "y"
    inplace = True
    passes_gradient = True

    def __init__(self, negative_slope: float = 0.3, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        # a slope below 0, which Keras refuses too, would hide in y where x was positive
        if not isinstance(negative_slope, int | float) or not 0 <= negative_slope < math.inf:
            raise ValueError(f"LeakyReLU: negative_slope must be a finite number of at least 0, got {negative_slope!r}")
        self.negative_slope = float(negative_slope)

    def build(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        return one_input(self, shapes)

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append leaky_relu_forward."""
        p.leaky_relu_forward(s.xs[0], s.y, negative_slope=self.negative_slope)

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append leaky_relu_backward: dx = dy where y > 0, else dy * negative_slope."""
        if s.dxs[0] is not None:
            p.leaky_relu_backward(
                s.y, s.gradient, s.dxs[0], negative_slope=self.negative_slope, accumulate=s.accumulate[0]
            )


class Softmax(Layer):
    """y = exp(x) / sum exp(x) over the last axis."""

    saves = "y"
    inplace = True

    def __init__(self, axis: int = -1, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self._refuse(axis=(axis, -1))
        self.axis = axis

    def build(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        return one_input(self, shapes)

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append softmax_forward."""
        p.softmax_forward(s.xs[0], s.y)

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append softmax_backward: dx = y * (dy - sum(y * dy))."""
        if s.dxs[0] is not None:
            p.softmax_backward(s.y, s.gradient, s.dxs[0], accumulate=s.accumulate[0])


@dataclass(eq=False)
class Sigmoid(Step):
    """y = 1 / (1 + exp(-x))."""

    name: str

    saves = "y"
    inplace = True
    passes_gradient = True

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append sigmoid_forward."""
        p.sigmoid_forward(s.xs[0], s.y)

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append sigmoid_backward: dx = dy * y * (1 - y)."""
        if s.dxs[0] is not None:
            p.sigmoid_backward(s.y, s.gradient, s.dxs[0], accumulate=s.accumulate[0])


ACTIVATIONS = ("linear", "relu", "sigmoid", "softmax")


def activation_name(owner: str, activation: str | None) -> str:
    """Return the name of an activation, "linear" for None; raises ValueError for one that fastcnn does not have."""
    name = "linear" if activation is None else activation
    if name not in ACTIVATIONS:
        raise ValueError(f"{owner}: activation must be None or one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    return name


def activation_steps(activation: str, name: str) -> tuple[Step, ...]:
    """Return the step for an activation of that name, none for "linear"."""
    if activation == "linear":
        return ()
    if activation == "sigmoid":
        return (Sigmoid(name),)
    return (ReLU(name=name) if activation == "relu" else Softmax(name=name),)


class Activation(Layer):
    """One of the activations "linear", "relu", "sigmoid" and "softmax"."""

    def __init__(self, activation: str, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.activation = activation_name("Activation", activation)

    def build(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        return one_input(self, shapes)

    def lower(self, trainable: bool, inference: bool) -> tuple[Step, ...]:
        """Return the step of the activation, nothing for "linear"."""
        return activation_steps(self.activation, self.name)


class Add(Layer):
    """y = sum of two or more inputs of one shape."""

    def build(self, *shapes: Shape) -> Shape:
        """Return the inputs' shape; raises ValueError if they differ."""
        if len(shapes) < 2:
            raise ValueError(f"{self.name}: takes two or more inputs, got {len(shapes)}")
        if any(shape != shapes[0] for shape in shapes):
            raise ValueError(f"{self.name}: inputs must have one shape, got {_listed(shapes)}")
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


class Rescaling(Layer):
    """y = x * scale + offset, such as 1/255 for pictures of 0..255."""

    inplace = True
    passes_gradient = True
    prepares = "always"

    def __init__(self, scale: float, offset: float = 0.0, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        for argument, value in (("scale", scale), ("offset", offset)):
            if not isinstance(value, int | float):
                raise ValueError(f"Rescaling: {argument} must be a number, got {value!r}")
        self.scale = float(scale)
        self.offset = float(offset)

    def build(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        return one_input(self, shapes)

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append scale."""
        p.scale(s.xs[0], s.y, self.scale, self.offset)

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append dx = dy * scale."""
        if s.dxs[0] is not None:
            p.scale(s.gradient, s.gradient, self.scale)
            p.pass_on(s.gradient, s.dxs[0], s.accumulate[0])

    def prepare(self, x: Array, draw: Draw | None) -> Array:
        """Return x * scale + offset."""
        return x * np.float32(self.scale) + np.float32(self.offset)


def _listed(shapes: Sequence[Shape]) -> str:
    return ", ".join(str(list(shape)) for shape in shapes)
