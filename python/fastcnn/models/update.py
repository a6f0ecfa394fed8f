"""From gradients to new weights, as the arguments of an optimizer say: accumulate, clip, step, average."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastcnn.errors import NonFiniteError
from fastcnn.layers.base import Array
from fastcnn.optimizers import Optimizer
from fastcnn.parameters import FlatLayout, Parameter, flat_floats, padded
from fastcnn.program import WHOLE, Share

if TYPE_CHECKING:
    from fastcnn._core import Program
    from fastcnn.optimizers.base import Gradient

LARGE = 1 << 14  # floats: a step of its own for a smaller kernel would take longer than it saves


@dataclass(frozen=True)
class _Part:
    """A range of weights that one step updates with one set of numbers."""

    values: Array
    flat: slice
    decays: bool
    first: Parameter  # the only one if it is changed at once


class WeightUpdate:
    """The steps that update the weights of a layout, and the numbers they read.

    `due` says whether the batch at hand completes an update: of the accumulated ones only the last does. A batch
    that is computed in parts is accumulated too, in an array of its own (`with_parts`), and completes an update with
    its last part; the optimizer itself must not accumulate then.

    `at_once` are those of the `kernels` that change as soon as their gradients are known: large ones, if nothing is
    asked of all gradients before.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        layout: FlatLayout,
        slots: Mapping[str, Array],
        kernels: Iterable[Parameter] = (),
    ) -> None:
        self.optimizer = optimizer
        optimizer.built = True
        self._layout = layout
        self._slots = slots
        self._accumulator = slots.get("gradient_accumulator")
        self._sum_of_parts: Array | None = None
        self._average = slots.get("average")
        if self._average is not None and optimizer.iterations:
            for parameter, view in layout.views(self._average):  # as weights that were not trained before
                view[...] = parameter.value
        known_before = optimizer.clipnorm or optimizer.global_clipnorm or optimizer.gradient_accumulation_steps
        able = [kernel for kernel in kernels if kernel.size >= LARGE and kernel.regularizer is None]
        self.at_once: Set[Parameter] = frozenset(() if known_before else able)
        self._parts = list(_parts(optimizer, layout, self.at_once))
        self._settings = np.zeros((len(self._parts), len(optimizer.settings()) + 3))
        self._averaging: NDArray[np.float64] = np.zeros(2)
        ends = [part.flat.stop for part in self._parts] if optimizer.clipnorm else [layout.size]
        self._offsets: NDArray[np.int64] = np.array([0, *ends], np.int64)
        self._squares: NDArray[np.float64] = np.zeros(len(ends))

    def due(self, share: Share = WHOLE) -> bool:
        """Return whether a part of the next batch completes an update."""
        return share.last and (self.optimizer.batches + 1) % (self.optimizer.gradient_accumulation_steps or 1) == 0

    # -- batches in parts ----------------------------------------------------------------------------------------------

    @contextmanager
    def with_parts(self) -> Iterator[None]:
        """Keep an array, within the block, that batches in parts add their gradients to; their programs end with it."""
        if self._sum_of_parts is not None:
            yield
            return
        self._sum_of_parts = flat_floats(self._layout.size)
        try:
            yield
        finally:
            self._sum_of_parts = None

    def forget_parts(self) -> None:
        """Make the sum zero again where a batch cannot be finished."""
        if self._sum_of_parts is not None:
            self._sum_of_parts.fill(0)

    def _added_up(self, in_parts: bool) -> Array | None:
        """Return the array that gradients are added to, None where they are used as they are."""
        return self._sum_of_parts if in_parts else self._accumulator

    # -- for programs --------------------------------------------------------------------------------------------------

    def emit_accumulate(self, program: Program, gradients: Array, in_parts: bool) -> None:
        """Append the sum of the gradients of batches or of a batch's parts, if there is one."""
        added_up = self._added_up(in_parts)
        if added_up is not None:
            program.copy(gradients, added_up, accumulate=True)

    def emit_norms(self, program: Program, gradients: Array, in_parts: bool) -> None:
        """Append the norms that clipping needs, if it needs any."""
        if self._parts and (self.optimizer.clipnorm or self.optimizer.global_clipnorm):
            added_up = self._added_up(in_parts)
            program.squared_norms(gradients if added_up is None else added_up, self._offsets, self._squares)

    def emit_step(self, program: Program, gradients: Array, in_parts: bool) -> None:
        """Append the optimizer's step for each range of weights."""
        added_up = self._added_up(in_parts)
        source = gradients if added_up is None else added_up
        for number, part in enumerate(self._parts):
            self._emit_part(program, number, source[part.flat])
        if added_up is not None:
            program.fill(added_up, 0.0)

    def emit_kernel(self, program: Program, kernel: Parameter, gradient: Gradient) -> None:
        """Append the optimizer's step for a kernel that is changed at once."""
        number = next(i for i, part in enumerate(self._parts) if part.first is kernel)
        self._emit_part(program, number, gradient.reshape(-1) if isinstance(gradient, np.ndarray) else gradient)

    def emit_others(self, program: Program, gradients: Array, layout: FlatLayout) -> None:
        """Append the steps for what is not changed at once, whose gradients have a layout of their own."""
        for number, part in enumerate(self._parts):
            if part.first not in self.at_once:
                begin = layout.offsets[part.first]
                self._emit_part(program, number, gradients[begin : begin + len(part.values)])

    def _emit_part(self, program: Program, number: int, gradient: Gradient) -> None:
        part = self._parts[number]
        slots = {name: flat[part.flat] for name, flat in self._slots.items()}
        self.optimizer.emit_update(program, part.values, gradient, slots, self._settings[number])

    def emit_average(self, program: Program) -> None:
        """Append the moving average of the weights, if there is one."""
        if self._average is not None:
            for run in self._layout.runs:
                program.ema_step(run.store.values[run.values], self._average[run.flat], self._averaging)

    # -- between batches -----------------------------------------------------------------------------------------------

    def begin(self, where: str, share: Share = WHOLE) -> None:
        """Set the numbers of the next update and count the batch with its last part; the program's steps must follow.

        Raises NonFiniteError for a norm that is not finite, and then forgets the gradients accumulated so far.
        """
        optimizer = self.optimizer
        if not share.last:
            return
        if self.due(share):
            self._settings[:, :-3] = optimizer.settings()
            self._settings[:, -3] = self._scales(where, share.count)
            self._settings[:, -2] = optimizer.clipvalue or math.inf
            decay = optimizer.step_size * (optimizer.weight_decay or 0)
            self._settings[:, -1] = [decay if part.decays else 0 for part in self._parts]
        frequency = optimizer.ema_overwrite_frequency
        first = optimizer.iterations == 0  # the average starts as the weights
        self._averaging[0] = 0 if first else optimizer.ema_momentum
        self._averaging[1] = frequency is not None and (optimizer.iterations + 1) % frequency == 0
        optimizer.batches += 1

    def _scales(self, where: str, parts: int) -> NDArray[np.float64]:
        """Return what each range's gradients are multiplied with: the mean of batches or parts, clipped by norm."""
        optimizer = self.optimizer
        scales = np.full(len(self._parts), 1 / ((optimizer.gradient_accumulation_steps or 1) * parts))
        limit = optimizer.clipnorm or optimizer.global_clipnorm
        if limit is None or not self._parts:
            return scales
        norms = np.sqrt(self._squares) * scales[: len(self._squares)]
        if not np.isfinite(norms).all():
            if self._accumulator is not None:
                self._accumulator.fill(0)
            self.forget_parts()
            place = self._parts[int(np.flatnonzero(~np.isfinite(norms))[0])].first.path
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


def _parts(optimizer: Optimizer, layout: FlatLayout, at_once: Set[Parameter]) -> Iterator[_Part]:
    """Yield the weights in as few parts as possible: one per variable where each is clipped alone."""

    def kind(parameter: Parameter) -> tuple[bool, Parameter | None]:
        alone = optimizer.clipnorm or parameter in at_once
        return optimizer.decays(parameter), parameter if alone else None

    for run in layout.runs:
        for (decays, _), group in groupby(run.store.parameters[run.first : run.last + 1], kind):
            first, *others = group
            size = first.size if first in at_once else sum(padded(w.size) for w in (first, *others))
            begin, flat = run.store.offsets[first], layout.offsets[first]
            yield _Part(run.store.values[begin : begin + size], slice(flat, flat + size), decays, first)
