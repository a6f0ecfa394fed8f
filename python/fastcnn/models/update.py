"""From gradients to new weights, as the arguments of an optimizer say: accumulate, clip, step, average."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastcnn.errors import NonFiniteError
from fastcnn.layers.base import Array
from fastcnn.optimizers import Optimizer
from fastcnn.parameters import FlatLayout, Parameter, Run, padded

if TYPE_CHECKING:
    from fastcnn._core import Program


@dataclass(frozen=True)
class _Part:
    """A range of weights that one step updates with one set of numbers."""

    values: Array
    flat: slice
    decays: bool
    path: str  # of its first weight


class WeightUpdate:
    """The steps that update the weights of a layout, and the numbers they read.

    `due` says whether the batch at hand completes an update: of the accumulated ones only the last does.
    """

    def __init__(self, optimizer: Optimizer, layout: FlatLayout, gradients: Array, slots: Mapping[str, Array]) -> None:
        self.optimizer = optimizer
        optimizer.built = True
        self._layout = layout
        self._gradients = gradients
        self._slots = slots
        self._accumulator = slots.get("gradient_accumulator")
        self._average = slots.get("average")
        if self._average is not None and optimizer.iterations:
            for parameter, view in layout.views(self._average):  # as weights that were not trained before
                view[...] = parameter.value
        self._parts = list(_parts(optimizer, layout))
        self._settings = np.zeros((len(self._parts), len(optimizer.settings()) + 3))
        self._averaging: NDArray[np.float64] = np.zeros(2)
        ends = [part.flat.stop for part in self._parts] if optimizer.clipnorm else [layout.size]
        self._offsets: NDArray[np.int64] = np.array([0, *ends], np.int64)
        self._squares: NDArray[np.float64] = np.zeros(len(ends))

    @property
    def due(self) -> bool:
        """Whether the next batch completes an update."""
        return (self.optimizer.batches + 1) % (self.optimizer.gradient_accumulation_steps or 1) == 0

    # -- for programs --------------------------------------------------------------------------------------------------

    def emit_accumulate(self, program: Program) -> None:
        """Append the sum of the batches' gradients, if there is one."""
        if self._accumulator is not None:
            program.copy(self._gradients, self._accumulator, accumulate=True)

    def emit_norms(self, program: Program) -> None:
        """Append the norms that clipping needs, if it needs any."""
        if self._parts and (self.optimizer.clipnorm or self.optimizer.global_clipnorm):
            program.squared_norms(self._source, self._offsets, self._squares)

    def emit_step(self, program: Program) -> None:
        """Append the optimizer's step for each part."""
        for part, settings in zip(self._parts, self._settings, strict=True):
            slots = {name: flat[part.flat] for name, flat in self._slots.items()}
            self.optimizer.emit_update(program, part.values, self._source[part.flat], slots, settings)
        if self._accumulator is not None:
            program.fill(self._accumulator, 0.0)

    def emit_average(self, program: Program) -> None:
        """Append the moving average of the weights, if there is one."""
        if self._average is not None:
            for run in self._layout.runs:
                program.ema_step(run.store.values[run.values], self._average[run.flat], self._averaging)

    @property
    def _source(self) -> Array:
        return self._gradients if self._accumulator is None else self._accumulator

    # -- between batches -----------------------------------------------------------------------------------------------

    def begin(self, where: str) -> None:
        """Set the numbers of the next update and count the batch; the program's steps must follow.

        Raises NonFiniteError for a norm that is not finite, and then forgets the gradients accumulated so far.
        """
        optimizer = self.optimizer
        if self.due:
            self._settings[:, :-3] = optimizer.settings()
            self._settings[:, -3] = self._scales(where)
            self._settings[:, -2] = optimizer.clipvalue or math.inf
            decay = optimizer.step_size * (optimizer.weight_decay or 0)
            self._settings[:, -1] = [decay if part.decays else 0 for part in self._parts]
        frequency = optimizer.ema_overwrite_frequency
        first = optimizer.iterations == 0  # the average starts as the weights
        self._averaging[0] = 0 if first else optimizer.ema_momentum
        self._averaging[1] = frequency is not None and (optimizer.iterations + 1) % frequency == 0
        optimizer.batches += 1

    def _scales(self, where: str) -> NDArray[np.float64]:
        """Return what each part's gradients are multiplied with: the mean of the batches, clipped by norm."""
        optimizer = self.optimizer
        scales = np.full(len(self._parts), 1 / (optimizer.gradient_accumulation_steps or 1))
        limit = optimizer.clipnorm or optimizer.global_clipnorm
        if limit is None or not self._parts:
            return scales
        norms = np.sqrt(self._squares) * scales[: len(self._squares)]
        if not np.isfinite(norms).all():
            if self._accumulator is not None:
                self._accumulator.fill(0)
            place = self._parts[int(np.flatnonzero(~np.isfinite(norms))[0])].path
            name = f"gradient of {place}" if optimizer.clipnorm else "gradient"
            raise NonFiniteError(
                f"{where}: the norm of the {name} is not finite; the weights are those before this batch"
            )
        clipped: NDArray[np.float64] = scales * (limit / np.maximum(norms, limit))
        return clipped

    def finish(self) -> None:
        """Make the moving average the weights, if there is one and it has begun."""
        if self._average is not None and self.optimizer.batches:
            for parameter, view in self._layout.views(self._average):
                parameter.assign(view)


def _parts(optimizer: Optimizer, layout: FlatLayout) -> Iterator[_Part]:
    """Yield the weights in as few parts as possible: one per variable where each is clipped alone."""
    for run in layout.runs:
        begin, flat, decays, path = run.values.start, run.flat.start, False, ""
        position, offset = begin, flat
        for parameter in _parameters(run):
            splits = path and (optimizer.clipnorm or optimizer.decays(parameter) != decays)
            if splits:
                yield _Part(run.store.values[begin:position], slice(flat, offset), decays, path)
                begin, flat = position, offset
            if splits or not path:
                decays, path = optimizer.decays(parameter), parameter.path
            position += padded(parameter.size)
            offset += padded(parameter.size)
        yield _Part(run.store.values[begin:position], slice(flat, offset), decays, path)


def _parameters(run: Run) -> list[Parameter]:
    return run.store.parameters[run.first : run.last + 1]
