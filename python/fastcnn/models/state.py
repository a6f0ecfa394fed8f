"""What a model needs only while it trains: gradients, optimizer slots, the batch's statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastcnn.layers.base import Array
from fastcnn.layers.dropout import Dropout
from fastcnn.layers.norm import BatchNormalization
from fastcnn.models.update import WeightUpdate
from fastcnn.optimizers import Optimizer
from fastcnn.parameters import FlatLayout, Parameter, flat_floats, padded
from fastcnn.program import WHOLE, Share, UpdateSteps

if TYPE_CHECKING:
    from fastcnn._core import Program
    from fastcnn.optimizers.base import Gradient


class TrainingState:
    """Flat gradients and slots for `parameters`, and flat statistics for the layers in `norms`.

    `repeated_norms` are those that a program calls several times: it changes their moving statistics itself. `kernels`
    can be changed as soon as their gradients are known; those that are (`at_once`) share one place for these, beside
    the gradients of the other parameters, unless gradients are added up or asked for.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        parameters: Sequence[Parameter],
        norms: Sequence[BatchNormalization],
        repeated_norms: Iterable[BatchNormalization] = (),
        kernels: Iterable[Parameter] = (),
    ) -> None:
        self.optimizer = optimizer
        self.layout = FlatLayout(parameters)
        self.slots = {name: flat_floats(self.layout.size) for name in optimizer.slots}
        self.weights = WeightUpdate(optimizer, self.layout, self.slots, kernels)
        self._gradients = None if self.at_once else flat_floats(self.layout.size)
        self._others = FlatLayout([parameter for parameter in parameters if parameter not in self.at_once])
        largest = max((padded(kernel.size) for kernel in self.at_once), default=0)
        self._few = flat_floats(self._others.size + largest if self.at_once else 0)
        self._statistics = [_Statistics(momentum, same) for momentum, same in _by_momentum(norms).items()]
        self._of_norm = {norm: part for part in self._statistics for norm in part.norms}
        self._random_states: dict[tuple[Dropout, int], NDArray[np.int64]] = {}
        self.most_parts = 1  # of any batch: each has that many numbers, from which dropout draws
        self._repeated = _moving(repeated_norms)
        self._moving = _moving(norms) + self._repeated

    # -- for programs --------------------------------------------------------------------------------------------------

    @property
    def at_once(self) -> Set[Parameter]:
        """The kernels that change as soon as their gradients are known, in programs that keep no gradients of them."""
        return self.weights.at_once

    @property
    def gradients(self) -> Array:
        """All gradients, in the order of the layout; memory for them is taken now unless they are in use."""
        if self._gradients is None:
            self._gradients = flat_floats(self.layout.size)
        return self._gradients

    def gradient(self, parameter: Parameter, at_once: bool = False) -> Array:
        """Return the gradient of a parameter, a view; with `at_once` of those that are not all kept."""
        if not at_once:
            return self.layout.view(self.gradients, parameter)
        if parameter in self.at_once:
            begin = self._others.size
            return self._few[begin : begin + parameter.size].reshape(parameter.shape)
        return self._others.view(self._few, parameter)

    @contextmanager
    def all_gradients(self) -> Iterator[None]:
        """Give memory back behind the block that it took for `gradients`; programs that use it must be gone."""
        before = self._gradients
        try:
            yield
        finally:
            self._gradients = before

    def emit_kernel(self, program: Program, kernel: Parameter, gradient: Gradient) -> None:
        """Append the optimizer's step for a kernel whose gradient is known."""
        self.weights.emit_kernel(program, kernel, gradient)

    def statistics(self, norm: BatchNormalization) -> tuple[Array, Array]:
        """Return where the batch's mean and variance of a layer go."""
        part = self._of_norm[norm]
        return part.layout.view(part.batch, norm.moving_mean), part.layout.view(part.batch, norm.moving_variance)

    def random_state(self, layer: Dropout, call: int) -> NDArray[np.int64]:
        """Return where the key and the counter of a dropout layer's random numbers are kept."""
        if (layer, call) not in self._random_states:
            self._random_states[layer, call] = np.zeros(2, np.int64)
            self.begin_batch()
        return self._random_states[layer, call]

    def emit_penalties(self, program: Program, at_once: bool = False) -> None:
        """Append what regularizers add to the gradients."""
        for parameter in self.layout.parameters:
            penalty = parameter.regularizer
            if penalty is not None:
                gradient = self.gradient(parameter, at_once)
                program.penalty_backward(parameter.memory, gradient, l1=penalty.l1, l2=penalty.l2)

    def emit_begin(self, program: Program) -> None:
        """Append what comes before the forward run: statistics of an earlier batch that were NaN must not stay so."""
        for part in self._statistics:
            program.fill(part.batch, 0.0)

    def emit_update(
        self, program: Program, begin: int | None = None, in_parts: bool = False, at_once: bool = False
    ) -> UpdateSteps:
        """Append the update and return where its parts are; moving statistics come first, since they take no time.

        It begins with the steps from `begin` on, where kernels are changed `at_once`.
        """
        begin = len(program) if begin is None else begin
        if at_once:
            accumulated = normed = begin
        else:
            self.weights.emit_accumulate(program, self.gradients, in_parts)
            accumulated = len(program)
            self.weights.emit_norms(program, self.gradients, in_parts)
            normed = len(program)
        for part in self._statistics:
            for run in part.layout.runs:
                batch, moving = part.batch[run.flat], run.store.values[run.values]
                program.scale(batch, batch, 1 - part.momentum)
                program.scale(moving, moving, part.momentum)
                program.copy(batch, moving, accumulate=True)
        counted = len(program)
        if at_once:
            self.weights.emit_others(program, self._few, self._others)
        else:
            self.weights.emit_step(program, self.gradients, in_parts)
        stepped = len(program)
        self.weights.emit_average(program)
        return UpdateSteps(begin, accumulated, normed, counted, stepped, len(program))

    def begin_batch(self, share: Share = WHOLE) -> None:
        """Set the random numbers of the next training step: they follow from seeds, number of batches and part."""
        number = self.optimizer.batches * self.most_parts + share.index
        for (layer, call), state in self._random_states.items():
            state[:] = np.array([layer.random_key(call), number], np.uint64).view(np.int64)

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Undo what computing a batch changes before its update: moving statistics of layers called several times."""
        before = [(parameter, parameter.numpy()) for parameter in self._repeated]
        try:
            yield
        finally:
            for parameter, value in before:
                parameter.assign(value)

    def undo_parts(self) -> Callable[[], None]:
        """Return what makes a batch in parts undone, as long as its last part has not changed weights."""
        before = [(parameter, parameter.numpy()) for parameter in self._moving]

        def undo() -> None:
            self.weights.forget_parts()
            for parameter, value in before:
                parameter.assign(value)

        return undo

    def apply(self, where: str, program: Program, steps: UpdateSteps, share: Share = WHOLE) -> None:
        """Run the update of a program for the batch at hand, whole: Ctrl-C waits until it is done.

        Norms are looked at before anything changes: raises NonFiniteError for one that is not finite. A batch that only
        adds its gradients to those of others changes the moving statistics and averages alone, a part of a batch that
        is not its last the moving statistics alone.
        """
        due = self.weights.due(share)
        first = steps.begin
        if due and steps.normed > steps.accumulated:
            program.run(first, steps.normed, interruptible=False)
            first = steps.normed
        self.weights.begin(where, share)
        for run in self.layout.runs:
            run.count_change()
        for part in self._statistics:
            for run in part.layout.runs:
                run.count_change()
        for parameter in self._repeated:
            parameter.changed()
        if due:
            program.run(first, steps.end, interruptible=False)
            return
        for begin, end in (
            (steps.begin, steps.accumulated),
            (steps.normed, steps.counted),
            (steps.stepped, steps.end if share.last else steps.stepped),
        ):
            program.run(begin, end, interruptible=False)

    # -- for files -----------------------------------------------------------------------------------------------------

    def nbytes(self, in_parts: bool) -> tuple[int, int]:
        """Return the bytes of the gradients, of whole batches or batches in parts, and of the optimizer's slots."""
        few = self.at_once and not in_parts
        gradients = self._few.nbytes if few else self.layout.size * self._few.itemsize
        return gradients, sum(flat.nbytes for flat in self.slots.values())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the slots as "<slot>/<parameter>", views, and the number of batches as "iterations"."""
        arrays: dict[str, NDArray[Any]] = {"iterations": np.array(self.optimizer.batches, np.int64)}
        for name, flat in self.slots.items():
            for parameter, view in self.layout.views(flat):
                arrays[f"{name}/{parameter.path}"] = view
        return arrays

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore what `arrays` returned; raises ValueError naming what is missing, unexpected or of another shape."""
        expected = {name: array.shape for name, array in self.arrays().items()}
        for problem, names in (
            ("lacks", expected.keys() - arrays.keys()),
            ("has the unexpected", arrays.keys() - expected.keys()),
        ):
            if names:
                raise ValueError(f"load_optimizer_state: the state {problem} {', '.join(sorted(names))}")
        for name, shape in expected.items():
            if arrays[name].shape != shape:
                raise ValueError(f"load_optimizer_state: {name} is {list(shape)}, got {list(arrays[name].shape)}")
        self.optimizer.batches = int(arrays["iterations"])
        for name, flat in self.slots.items():
            for parameter, view in self.layout.views(flat):
                view[...] = arrays[f"{name}/{parameter.path}"]

    def carry_over(self, before: TrainingState) -> None:
        """Take the slots of the parameters that were trained before, with the same optimizer."""
        for name, flat in self.slots.items():
            for parameter, view in self.layout.views(flat):
                if parameter in before.layout.offsets:
                    view[...] = before.layout.view(before.slots[name], parameter)


def _moving(norms: Iterable[BatchNormalization]) -> list[Parameter]:
    return [w for norm in norms for w in (norm.moving_mean, norm.moving_variance)]


class _Statistics:
    """Layers with the same momentum: the batch's means and variances beside their moving ones."""

    def __init__(self, momentum: float, norms: Sequence[BatchNormalization]) -> None:
        self.momentum = momentum
        self.norms = norms
        self.layout = FlatLayout([w for norm in norms for w in (norm.moving_mean, norm.moving_variance)])
        self.batch = flat_floats(self.layout.size)


def _by_momentum(norms: Sequence[BatchNormalization]) -> dict[float, list[BatchNormalization]]:
    groups: dict[float, list[BatchNormalization]] = {}
    for norm in norms:
        groups.setdefault(norm.momentum, []).append(norm)
    return groups
