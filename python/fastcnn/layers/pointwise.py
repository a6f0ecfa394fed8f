"""Operations on single elements: activations, Rescaling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

import numpy as np

from fastcnn.compat import renamed
from fastcnn.graph import Shape
from fastcnn.layers.base import Array, Draw, Layer, LayerOptions, Slots, Step, one_input

if TYPE_CHECKING:
    from fastcnn.program import Emitter


class ReLU(Layer):
    """y = max(x, 0), NaN stays NaN; in general x > threshold ? min(x, max_value) : (x - threshold)*negative_slope.

    The gradient is 1, from max_value on 0, and up to the threshold negative_slope.
    """

    saves = "y"
    inplace = True
    passes_gradient = True
    nonnegative = True

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.max_value = None if max_value is None else _at_least_0("ReLU", "max_value", max_value)
        self.negative_slope = _at_least_0("ReLU", "negative_slope", negative_slope)
        self.threshold = _at_least_0("ReLU", "threshold", threshold)

    def build(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        return one_input(self, shapes)

    def lower(self, trainable: bool, inference: bool) -> tuple[Step, ...]:
        """Return the plain ReLU, the leaky one, or that with bounds."""
        if self.max_value is not None or self.threshold > 0:
            return (BoundedReLU(self),)
        return (self,) if self.negative_slope == 0 else (LeakyReLU(self.negative_slope, name=self.name),)

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append relu_forward."""
        p.relu_forward(s.xs[0], s.y)

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append relu_backward: dx = dy where y > 0."""
        if s.dxs[0] is not None:
            p.relu_backward(s.y, s.gradient, s.dxs[0], accumulate=s.accumulate[0])


@dataclass(eq=False)
class BoundedReLU(Step):
    """y = x > threshold ? min(x, max_value) : (x - threshold)*negative_slope."""

    layer: ReLU

    saves = "x"
    passes_gradient = True

    def __post_init__(self) -> None:
        layer = self.layer
        self.name = layer.name
        self.nonnegative = layer.negative_slope == 0
        self._bounds = {
            "max_value": math.inf if layer.max_value is None else layer.max_value,
            "negative_slope": layer.negative_slope,
            "threshold": layer.threshold,
        }

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append bounded_relu_forward."""
        p.bounded_relu_forward(s.xs[0], s.y, **self._bounds)

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append bounded_relu_backward."""
        if s.dxs[0] is not None:
            p.bounded_relu_backward(s.xs[0], s.gradient, s.dxs[0], **self._bounds, accumulate=s.accumulate[0])


class LeakyReLU(Layer):
    """y = x where x > 0, else x * negative_slope; NaN stays NaN."""

    saves = "y"
    inplace = True
    passes_gradient = True

    @renamed(alpha="negative_slope")
    def __init__(self, negative_slope: float = 0.3, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        # a slope below 0, which Keras refuses too, would hide in y where x was positive
        self.negative_slope = _at_least_0("LeakyReLU", "negative_slope", negative_slope)

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
        self.axis = axis

    def build(self, *shapes: Shape) -> Shape:
        """Return the input's shape; raises ValueError for another axis than the last."""
        shape = one_input(self, shapes)
        if self.axis not in (-1, len(shape)):
            raise ValueError(f"{self.name}: axis must be the last, -1 or {len(shape)}, got {self.axis!r}")
        return shape

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


# what an activation of that name becomes, with Keras' slope and bound
_ACTIVATIONS: dict[str, Callable[[str], tuple[Step, ...]]] = {
    "linear": lambda name: (),
    "relu": lambda name: ReLU(name=name).lower(True, False),
    "relu6": lambda name: ReLU(6.0, name=name).lower(True, False),
    "leaky_relu": lambda name: LeakyReLU(0.2, name=name).lower(True, False),
    "sigmoid": lambda name: (Sigmoid(name),),
    "softmax": lambda name: Softmax(name=name).lower(True, False),
}


def activation_name(owner: str, activation: str | None) -> str:
    """Return the name of an activation, "linear" for None; raises ValueError for one that fastcnn does not have."""
    name = "linear" if activation is None else activation
    if name not in _ACTIVATIONS:
        raise ValueError(f"{owner}: activation must be None or one of {', '.join(_ACTIVATIONS)}, got {activation!r}")
    return name


def activation_steps(activation: str, name: str) -> tuple[Step, ...]:
    """Return the steps for an activation of that name, none for "linear"."""
    return _ACTIVATIONS[activation](name)


class Activation(Layer):
    """One of the activations "linear", "relu", "relu6", "leaky_relu" (slope 0.2), "sigmoid" and "softmax"."""

    def __init__(self, activation: str, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.activation = activation_name("Activation", activation)

    def build(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        return one_input(self, shapes)

    def lower(self, trainable: bool, inference: bool) -> tuple[Step, ...]:
        """Return the step of that activation, nothing for "linear"."""
        return activation_steps(self.activation, self.name)


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


def _at_least_0(owner: str, argument: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{owner}: {argument} must be a finite number of at least 0, got {value!r}")
    return float(value)
