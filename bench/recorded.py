"""A training program that tells what each of its steps is given and how long it takes, inside real training steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from fastcnn import _core
from fastcnn.layers.base import Padding, Pair
from fastcnn.layers.conv import Conv2D
from fastcnn.models import workspace
from fastcnn.program import BoundProgram, Emitter

FLOPS_PER_MAC = 2
FLOAT = 4  # bytes
OPERATIONS = [name for name in dir(_core.Program) if not name.startswith("_") and callable(getattr(_core, name, None))]


@dataclass(frozen=True)
class Work:
    """One step: operation, what it is done to, arithmetic by the direct formula, and bytes.

    Those are of all arrays, each once, or twice where an array is read and written.
    """

    operation: str
    layer: str
    algorithm: str
    flops: int
    nbytes: int


class RecordedEmitter(Emitter):
    """An emitter that notes the work of each step; while `seconds` is an array it times steps one by one into it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.works: list[Work] = []
        self.seconds: NDArray[np.float64] | None = None
        self.kernels: dict[_core.PackedConv2D, Conv2D] = {}

    def packed_conv2d(self, layer: Conv2D, input_size: Pair, padding: Padding, **options: Any) -> _core.PackedConv2D:
        """Note whose weights they are."""
        packed = super().packed_conv2d(layer, input_size, padding, **options)
        self.kernels[packed] = layer
        return packed

    def run(self, first: int = 0, last: int | None = None, **options: Any) -> None:
        """Run steps, timed one by one if that is wanted."""
        if self.seconds is None:
            super().run(first, last, **options)
        else:
            self.seconds[first:last] += self.profile(first, last)


def _noting(operation: str) -> Callable[..., None]:
    """Return the method of an operation that also notes the work."""
    append = getattr(_core.Program, operation)

    def method(self: RecordedEmitter, *arguments: Any, **options: Any) -> None:
        before = len(self)
        append(self, *arguments, **options)
        work = _work(self, operation, arguments, options)
        self.works += [work] * (len(self) - before)

    return method


for _operation in OPERATIONS:
    setattr(RecordedEmitter, _operation, _noting(_operation))


def _work(emitter: RecordedEmitter, operation: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Work:
    nbytes = _traffic(operation, arguments, options)
    if operation in ("conv2d_forward", "conv2d_backward_data"):
        first, packed, second = arguments
        layer = emitter.kernels[packed]
        x = first if operation == "conv2d_forward" else second
        macs = len(x) * math.prod(packed.output_size) * layer.kernel.size
        name = _convolution(x.shape, layer.kernel.shape, layer.strides)
        flops = FLOPS_PER_MAC * macs
        return Work(operation, name, packed.algorithm, flops, nbytes + FLOAT * layer.kernel.size)
    if operation == "conv2d_backward_weights":
        x, dy, dw = arguments
        flops = FLOPS_PER_MAC * math.prod(dy.shape[:3]) * dw.size
        return Work(operation, _convolution(x.shape, dw.shape, options["strides"]), "", flops, nbytes)
    if operation.endswith("_step") and isinstance(arguments[1], _core.DenseGradient):
        x, dy = arguments[1].x, arguments[1].dy
        flops = FLOPS_PER_MAC * len(x) * arguments[0].size
        return Work(f"dense_{operation}", f"{x.shape[1]} -> {dy.shape[1]}", "", flops, nbytes)
    if operation.startswith("dense_"):
        a, b, c = arguments
        w = c if operation == "dense_backward_weights" else b
        flops = FLOPS_PER_MAC * len(a) * w.size
        return Work(operation, f"{w.shape[0]} -> {w.shape[1]}", "", flops, nbytes)
    shape = arguments[0].shape
    name = "x".join(map(str, shape[1:])) if len(shape) > 1 else f"{shape[0]} values"
    return Work(operation, name, "", 0, nbytes)


def _traffic(operation: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> int:
    given = [*arguments, *options.values()]
    given = [part for argument in given for part in (argument if isinstance(argument, tuple) else (argument,))]
    total = sum(array.nbytes for array in given if isinstance(array, np.ndarray))
    if operation.endswith("_step"):  # (values, gradients or average, slots...): all but gradients change
        gradient = arguments[1]
        if isinstance(gradient, _core.DenseGradient):
            return 2 * total + gradient.x.nbytes + gradient.dy.nbytes
        total += total - (0 if operation == "ema_step" else gradient.nbytes)
    if options.get("accumulate"):
        output = options["dx"] if operation == "batchnorm_backward" else arguments[-1]
        total += output.nbytes
    if options.get("accumulate_residual"):
        total += options["dresidual"].nbytes
    return total


def _convolution(x: tuple[int, ...], w: tuple[int, ...], strides: Pair) -> str:
    R, S, C, K = w
    return f"{x[1]}x{x[2]}x{C} -> {K}, {R}x{S}" + ("" if strides == (1, 1) else f" s{strides[0]}")


@contextmanager
def recording() -> Iterator[None]:
    """Make the programs that are written within the block recorded ones; they stay so."""
    with mock.patch.object(workspace, "Emitter", RecordedEmitter):
        yield


def training_program(model: Any, batch: int) -> BoundProgram:
    """Return the recorded program that `train_on_batch` runs for a batch size.

    Raises RuntimeError if what was noted is not what the program consists of.
    """
    with recording(), model._lease() as leased:
        program: BoundProgram = leased.program("training", batch, *model._training())
    emitter = program.emitter
    if not isinstance(emitter, RecordedEmitter):
        raise RuntimeError("training_program: the model had a program for this batch before it could be recorded")
    if [work.operation for work in emitter.works] != emitter.steps:
        raise RuntimeError("training_program: the steps noted are not those of the program")
    return program
