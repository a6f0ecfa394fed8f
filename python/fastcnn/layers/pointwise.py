"""Operations on single elements: activations, Rescaling."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Unpack

from fastcnn.graph import Shape
from fastcnn.layers.base import Layer, LayerOptions, Slots, Step, one_input

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


ACTIVATIONS = ("linear", "relu", "softmax")


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
    return (ReLU(name=name) if activation == "relu" else Softmax(name=name),)


class Activation(Layer):
    """One of the activations "linear", "relu" and "softmax"."""

    def __init__(self, activation: str, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.activation = activation_name("Activation", activation)

    def build(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        return one_input(self, shapes)

    def lower(self, trainable: bool, inference: bool) -> tuple[Step, ...]:
        """Return ReLU, Softmax or nothing."""
        return activation_steps(self.activation, self.name)


class Rescaling(Layer):
    """y = x * scale + offset, such as 1/255 for pictures of 0..255."""

    inplace = True
    passes_gradient = True

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
