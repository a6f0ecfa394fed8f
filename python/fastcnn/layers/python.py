"""A layer of the user's own, computed by NumPy between the engine's operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.graph import Shape
from fastcnn.layers.base import Array, Layer, LayerOptions, Slots, Step
from fastcnn.parameters import Parameter

if TYPE_CHECKING:
    from fastcnn.program import Emitter

KerasShape = tuple[int | None, ...]  # (None, H, W, C)


class PythonLayer(Layer):
    """y = forward(x) for a function of float32 arrays, and its gradient.

    Either pass functions, or write a subclass with methods of these names; only a subclass can be saved, and loading
    takes it in `custom_objects`, since a model file holds no code.

    - `forward(*xs)` returns y [N,...] for one array [N,...] per input.
    - `backward(dy, y, *xs)` returns the gradient of each input, then that of each trainable weight, one array alone or
      several in a tuple; None stands for zeros. Without it nothing below the layer can be trained.
    - `compute_output_shape(shape)` returns y's shape (None, ...) for that of x, for several inputs a list of them; by
      default the same.

    Arguments are views of the engine's memory, read-only and good until the function returns. A subclass makes weights
    with `add_weight` in its `build`, before `return super().build(*shapes)`, and reads them by `.value`. Functions are
    called with the interpreter lock, one after the other in one program; programs in several threads may call them at
    the same time.
    """

    only_defaults = ("forward", "backward", "compute_output_shape")

    def __init__(
        self,
        forward: Callable[..., ArrayLike] | None = None,
        backward: Callable[..., Any] | None = None,
        compute_output_shape: Callable[[Any], Sequence[int | None]] | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        given: dict[str, Callable[..., Any] | None] = {
            "forward": forward,
            "backward": backward,
            "compute_output_shape": compute_output_shape,
        }
        self._functions = {name: function for name, function in given.items() if function is not None}
        for name, function in self._functions.items():
            if not callable(function):
                raise TypeError(f"{type(self).__name__}: {name} must be a function, got {type(function).__name__}")
        if not self._has("forward"):
            raise TypeError(f"{type(self).__name__}: forward must be given, or written in a subclass")

    def _has(self, name: str) -> bool:
        return name in self._functions or getattr(type(self), name) is not getattr(PythonLayer, name)

    # -- what a subclass or a function says ----------------------------------------------------------------------------

    def forward(self, *xs: Array) -> ArrayLike:
        """Return y [N,...] for the inputs."""
        y: ArrayLike = self._functions["forward"](*xs)
        return y

    def backward(self, dy: Array, y: Array, *xs: Array) -> Any:
        """Return the gradients of the inputs, then of the trainable weights."""
        return self._functions["backward"](dy, y, *xs)

    def compute_output_shape(self, input_shape: Any) -> Sequence[int | None]:
        """Return (None, ...) for the shape of the input, for several inputs a list of them."""
        shape: KerasShape
        if "compute_output_shape" in self._functions:
            shape = self._functions["compute_output_shape"](input_shape)
        else:
            shape = input_shape[0] if isinstance(input_shape, list) else input_shape
        return shape

    # -- the layer -----------------------------------------------------------------------------------------------------

    def build(self, *shapes: Shape) -> Shape:
        """Return the output's shape; raises ValueError for one that is none."""
        given: list[KerasShape] = [(None, *shape) for shape in shapes]
        found = self.compute_output_shape(given[0] if len(given) == 1 else given)
        sizes = tuple(found) if isinstance(found, Sequence) else ()
        if len(sizes) < 2 or sizes[0] is not None or not all(_is_size(size) for size in sizes[1:]):
            raise ValueError(f"{self.name}: compute_output_shape must return (None, sizes...), got {found!r}")
        return tuple(int(size) for size in sizes[1:] if size is not None)

    def lower(self, trainable: bool, inference: bool) -> tuple[Step, ...]:
        """Return the calls of forward and backward."""
        return (PythonStep(self, trainable),)

    def get_config(self) -> dict[str, Any]:
        """Return a subclass's own arguments; raises ValueError for a layer made of functions."""
        if self._functions:
            raise ValueError(
                f"{self.name}: a PythonLayer made of functions has no configuration and cannot be saved, since a model "
                "file holds no code; write a subclass and pass it to load_model in custom_objects"
            )
        return super().get_config()


@dataclass(eq=False)
class PythonStep(Step):
    """Calls the layer's functions; holds no reference to the program, which would keep itself alive through it."""

    layer: PythonLayer
    trainable: bool

    saves = "xy"
    may_fail = True
    repeatable = False  # a function may count its calls

    def __post_init__(self) -> None:
        self.name = self.layer.name

    def trained(self) -> tuple[Parameter, ...]:
        """Return the weights while they are trained."""
        return tuple(w for w in self.layer.weights if w.trainable and self.trainable)

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append the call of forward."""
        p.call(partial(_forward, self.layer, _read_only(s.xs), s.y))

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append the call of backward; raises ValueError if the layer has none."""
        layer = self.layer
        if not layer._has("backward"):
            raise ValueError(f"{layer.name}: has no backward, so the layers below it cannot be trained; freeze them")
        targets: list[tuple[Array | None, bool]] = list(zip(s.dxs, s.accumulate, strict=True))
        trained = self.trained()
        targets += [p.gradient(w) if w in trained else (None, False) for w in layer.weights if w.trainable]
        shapes = [x.shape for x in s.xs] + [w.shape for w in layer.weights if w.trainable]
        p.call(partial(_backward, layer, _read_only((s.gradient, s.y, *s.xs)), targets, shapes))


def _forward(layer: PythonLayer, xs: Sequence[Array], y: Array) -> None:
    np.copyto(y, _numbers(layer, "forward", "y", layer.forward(*xs), y.shape), casting="unsafe")


def _backward(
    layer: PythonLayer, given: Sequence[Array], targets: Sequence[tuple[Array | None, bool]], shapes: Sequence[Shape]
) -> None:
    results = layer.backward(*given)
    parts = tuple(results) if isinstance(results, tuple | list) else (results,)
    if len(parts) != len(targets):
        raise ValueError(
            f"{layer.name}: backward must return {len(targets)} gradients, of the inputs and then of the trainable "
            f"weights, got {len(parts)}"
        )
    for i, ((target, accumulate), shape, part) in enumerate(zip(targets, shapes, parts, strict=True)):
        gradient = np.zeros(shape) if part is None else _numbers(layer, "backward", f"gradient {i}", part, shape)
        if target is None:
            continue
        if accumulate:
            np.add(target, gradient, out=target, casting="unsafe")
        else:
            np.copyto(target, gradient, casting="unsafe")


def _numbers(layer: PythonLayer, function: str, what: str, value: ArrayLike, shape: Shape) -> NDArray[Any]:
    """Return a function's result as an array; raises TypeError for no real numbers, ValueError for another shape."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{layer.name}: {function} must return real numbers, got {array.dtype} for {what}")
    if array.shape != shape:
        raise ValueError(f"{layer.name}: {function} must return {what} as {list(shape)}, got {list(array.shape)}")
    return array


def _read_only(arrays: Sequence[Array]) -> tuple[Array, ...]:
    views = tuple(array.view() for array in arrays)
    for view in views:
        view.flags.writeable = False
    return views


def _is_size(size: object) -> bool:
    return isinstance(size, int | np.integer) and not isinstance(size, bool) and int(size) > 0
