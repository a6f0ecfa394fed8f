"""From a graph of steps to a program of the engine: plan its memory, bind its arrays, append its operations."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastcnn import _core
from fastcnn.fuse import active_nodes, fuse, lower, with_loss
from fastcnn.graph import Node, topological
from fastcnn.layers.base import Array, Bounds, Layer, Padding, Pair, Slots, Step
from fastcnn.layers.conv import FusedConv2D, algorithm_changes
from fastcnn.layers.norm import BatchNormalization, FusedBatchNormalization, Merged
from fastcnn.liveness import CacheSpec, Lifetimes, cache_name, dy_name, lifetimes, recomputing, y_name
from fastcnn.losses import Loss
from fastcnn.parameters import Parameter
from fastcnn.plan import Plan, plan
from fastcnn.prepare import split
from fastcnn.schedule import Schedule

if TYPE_CHECKING:
    from fastcnn.layers.conv import Conv2D
    from fastcnn.layers.dropout import Dropout, DropoutStep
    from fastcnn.optimizers.base import Gradient

_FLOAT32 = np.dtype(np.float32)
_DIVIDED_AT = 8  # samples: the batch whose sizes decide where a recipe is divided to be recomputed


class Packer:
    """Packed convolution weights, made once and shared by programs of all batch sizes.

    Without `kept` each run of a convolution packs them anew into its scratch, and algorithms are chosen for many images
    that share them: right for weights that change at every step.
    """

    def __init__(self, kept: bool) -> None:
        self._kept = kept
        self._packed: dict[tuple[object, ...], _core.PackedConv2D] = {}
        self._lock = threading.Lock()

    def packed(
        self,
        layer: Conv2D,
        input_size: Pair,
        padding: Padding,
        norm: BatchNormalization | None,
        backward_data: bool,
    ) -> _core.PackedConv2D:
        """Return the weights of a convolution, those of a normalisation folded in, for one pass."""
        key = (layer, input_size, padding, norm, backward_data)
        with self._lock:
            if key not in self._packed:
                self._packed[key] = self._pack(layer, input_size, padding, norm, backward_data)
            return self._packed[key]

    def _pack(
        self, layer: Conv2D, input_size: Pair, padding: Padding, norm: BatchNormalization | None, backward_data: bool
    ) -> _core.PackedConv2D:
        bias = None if backward_data else layer.bias
        read = [layer.kernel, bias]
        batch_norm = None
        if norm is not None:
            parts = [norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance]
            read += parts
            gamma, beta = (None if w is None else w.memory for w in parts[:2])
            batch_norm = (gamma, beta, norm.moving_mean.memory, norm.moving_variance.memory, norm.epsilon)
        return _core.PackedConv2D(
            layer.kernel.memory,
            input_size,
            strides=layer.strides,
            padding=padding,
            dilation=layer.dilation_rate,
            backward_data=backward_data,
            batched=not self._kept,
            algorithm=layer.engine_algorithm(backward_data),
            bias=None if bias is None else bias.memory,
            batch_norm=batch_norm,
            versions=[w.version for w in read if w is not None],
            kept=self._kept,
        )

    @property
    def nbytes(self) -> int:
        """Bytes of memory for all packed weights that are kept."""
        return sum(packed.nbytes for packed in self._packed.values()) if self._kept else 0


@dataclass(frozen=True)
class UpdateSteps:
    """Where the parts of an update end in a program, in the order they stand there.

    accumulated: the gradients of several batches are summed; normed: their norms taken; counted: moving statistics
    changed; stepped: weights changed; end: weights averaged.
    """

    begin: int
    accumulated: int
    normed: int
    counted: int
    stepped: int
    end: int


@dataclass(frozen=True)
class Share:
    """Which part of a batch a program computes: number `index`, from 0, of `count`."""

    index: int = 0
    count: int = 1

    @property
    def last(self) -> bool:
        """Whether the batch is whole with this part."""
        return self.index == self.count - 1


WHOLE = Share()


class Training(Protocol):
    """The part of a model's training state that a program needs.

    The kernels `at_once` can change as soon as their gradients are known, which then are not kept.
    """

    @property
    def at_once(self) -> Set[Parameter]: ...
    def gradient(self, parameter: Parameter, at_once: bool = False) -> Array: ...
    def statistics(self, norm: BatchNormalization) -> tuple[Array, Array]: ...
    def random_state(self, layer: Dropout, call: int) -> NDArray[np.int64]: ...
    def emit_begin(self, program: _core.Program) -> None: ...
    def emit_penalties(self, program: _core.Program, at_once: bool = False) -> None: ...
    def emit_kernel(self, program: _core.Program, kernel: Parameter, gradient: Gradient) -> None: ...
    def emit_update(
        self, program: _core.Program, begin: int | None = None, in_parts: bool = False, at_once: bool = False
    ) -> UpdateSteps: ...
    def apply(self, where: str, program: _core.Program, steps: UpdateSteps, share: Share = WHOLE) -> None: ...


class Emitter(_core.Program):
    """A program being written, with what steps need besides the operations."""

    def __init__(
        self,
        scratch: _core.Arena,
        trained: Set[Layer],
        constants: Packer,
        variables: Packer,
        training: Training | None,
        repeated: Set[BatchNormalization],
        at_once: bool = False,
    ) -> None:
        super().__init__(scratch)
        self.at_once: Set[Parameter] = training.at_once if training is not None and at_once else frozenset()
        self._known: list[tuple[Parameter, Gradient]] = []  # gradients of kernels not changed yet
        self._trained = trained
        self._constants = constants
        self._variables = variables
        self._training = training
        self._repeated = repeated
        self._written: set[Parameter] = set()
        self._random_states: dict[DropoutStep, NDArray[np.int64]] = {}
        self._random_calls: Counter[Dropout] = Counter()
        self._merged: dict[FusedBatchNormalization, Merged] = {}
        self._again = False

    def emit_again(self, step: Step, s: Slots) -> None:
        """Append the forward run of a step a second time, which changes nothing but its output and arrays."""
        self._again = True
        step.emit_forward(s, self)
        self._again = False

    def packed_conv2d(
        self,
        layer: Conv2D,
        input_size: Pair,
        padding: Padding,
        *,
        norm: BatchNormalization | None = None,
        backward_data: bool = False,
    ) -> _core.PackedConv2D:
        """Return a convolution's packed weights for one pass and input size."""
        packer = self._variables if layer in self._trained else self._constants
        return packer.packed(layer, input_size, padding, norm, backward_data)

    def batchnorm_blocks(self, rows: int, channels: int) -> int:
        """Return how many blocks batchnorm_statistics makes of `rows` values per channel."""
        return _core.batchnorm_blocks(rows, channels)

    def gradient(self, parameter: Parameter) -> tuple[Array, bool]:
        """Return the gradient of a parameter and whether another call of its layer has already written it."""
        assert self._training is not None
        added = parameter in self._written
        self._written.add(parameter)
        gradient = self._training.gradient(parameter, bool(self.at_once))
        if parameter in self.at_once:
            self._known.append((parameter, gradient))
        return gradient, added

    def product_gradient(self, parameter: Parameter, x: Array, dy: Array) -> None:
        """Append the gradient x^T dy of a parameter, or let its update make it."""
        if parameter in self.at_once:
            self._known.append((parameter, _core.DenseGradient(x, dy)))
            return
        dw, added = self.gradient(parameter)
        self.dense_backward_weights(x, dy, dw, accumulate=added)

    def emit_kernels(self) -> None:
        """Append the updates of the kernels whose gradients are known and that nobody reads any more."""
        for kernel, gradient in self._known:
            assert self._training is not None
            self._training.emit_kernel(self, kernel, gradient)
        self._known.clear()

    @contextmanager
    def fresh_gradients(self, *parameters: Parameter | None) -> Iterator[list[Array | None]]:
        """Give arrays for an operation that cannot add to gradients; None for what is not being trained."""
        fresh: list[Array | None] = []
        sums: list[tuple[Array, Array]] = []
        for parameter in parameters:
            if parameter is None:
                fresh.append(None)
                continue
            gradient, added = self.gradient(parameter)
            part = np.empty_like(gradient) if added else gradient
            fresh.append(part)
            if added:
                sums.append((part, gradient))
        yield fresh
        for part, gradient in sums:
            self.copy(part, gradient, accumulate=True)

    def moving_statistics(self, norm: BatchNormalization) -> tuple[float, Array | None, Array | None]:
        """Return (momentum, mean, variance) for batchnorm_merge to write, None where they are written already.

        They take the batch's own statistics, which the update moves the layer's towards; a layer called several times
        moves its own at each call, as in Keras.
        """
        if self._again:
            return 1.0, None, None
        assert self._training is not None
        if norm in self._repeated:
            return norm.momentum, norm.moving_mean.memory, norm.moving_variance.memory
        return 0.0, *self._training.statistics(norm)

    def merged(self, norm: FusedBatchNormalization) -> Merged:
        """Return the statistics of a normalisation that is left to another step: few bytes, alive with the program."""
        if norm not in self._merged:
            channels = norm.layer.moving_mean.shape
            self._merged[norm] = Merged(*(np.empty(channels, np.float32) for _ in range(3)))
        return self._merged[norm]

    def random_state(self, step: DropoutStep) -> NDArray[np.int64]:
        """Return the key and counter of a step's random numbers, which each training step sets anew."""
        assert self._training is not None
        if step not in self._random_states:
            self._random_states[step] = self._training.random_state(step.layer, self._random_calls[step.layer])
            self._random_calls[step.layer] += 1
        return self._random_states[step]

    def pass_on(self, dy: Array, dx: Array | None, accumulate: bool) -> None:
        """Make dx (+)= dy, unless nobody wants it or they are the same memory."""
        if dx is not None and dx.ctypes.data != dy.ctypes.data:
            self.copy(dy, dx, accumulate=accumulate)


class Recipe:
    """A graph ready to become programs of any batch size: fused steps, and which of them have a backward run.

    The layers in `trained` are being trained, the others are constants. With `loss` the program ends with that of
    its output. `preparation` is what samples need before they are written to `x`. `norms` are the layers whose moving
    statistics change, `repeated_norms` those called several times. With `recompute` the backward run makes most of what
    it reads again instead of keeping it. `fused` is switched off by tests alone.
    """

    def __init__(
        self,
        outputs: Sequence[Node[Layer]],
        *,
        trained: Set[Layer] = frozenset(),
        loss: Loss | None = None,
        recompute: bool = False,
        fused: bool = True,
    ) -> None:
        self.trained = trained
        self.preparation, ends = split(lower(outputs, trained))
        if loss is not None:
            ends = [with_loss(ends[0], loss)]
        if fused:
            ends = fuse(ends)
        self.nodes = topological(ends)
        self.outputs = ends
        active = active_nodes(self.nodes)
        self.active = {i for i, node in enumerate(self.nodes) if node in active}
        self.source = next(i for i, node in enumerate(self.nodes) if not node.inputs)
        self.recompute = recompute
        self._schedule: Schedule | None = None
        self.slice_size = sys.maxsize  # samples computed at a time; inference may set fewer
        calls = Counter(norm for norm in (_norm_of(node.layer) for node in self.nodes) if norm)
        self.norms = [norm for norm, count in calls.items() if count == 1]
        self.repeated_norms = {norm for norm, count in calls.items() if count > 1}
        uses = Counter(parameter for node in self.nodes for parameter in node.layer.trained())
        self.trained_parameters = set(uses)
        fails = any(self.nodes[i].layer.may_fail for i in self.active)  # then no weight may have changed
        kernels = [] if fails else [self.nodes[i].layer.own_kernel() for i in self.active]
        self.kernels = {kernel for kernel in kernels if kernel is not None and uses[kernel] == 1}

    def layout(self, batch: int, emitter: Emitter) -> Layout:
        """Return the sizes and lifetimes of all arrays for a batch size."""
        if self._schedule is None:
            self._schedule = Schedule(len(self.nodes))
            if self.recompute:  # the same for all batch sizes, so that they can share their offsets
                caches = self._caches(_DIVIDED_AT, emitter)
                self._schedule = recomputing(self.nodes, self.outputs, self.active, caches, _DIVIDED_AT)
        caches, schedule = self._caches(batch, emitter), self._schedule
        found = lifetimes(self.nodes, self.outputs, self.active, caches, batch, schedule)
        return Layout(batch, caches, found, schedule)

    def _caches(self, batch: int, emitter: Emitter) -> list[dict[str, CacheSpec]]:
        caches = []
        for i, node in enumerate(self.nodes):
            shapes = tuple(x.sample_shape for x in node.inputs)
            caches.append(node.layer.cache(Bounds(batch, shapes, node.sample_shape, i in self.active), emitter))
        return caches


@dataclass(frozen=True)
class Layout:
    """The arrays of a recipe at one batch size, not placed yet."""

    batch: int
    caches: list[dict[str, CacheSpec]]
    lifetimes: Lifetimes
    schedule: Schedule

    def fits(self, sizes: Mapping[str, int]) -> bool:
        """Return whether every array fits into the bytes that a larger batch size has for it."""
        return all(value.nbytes <= sizes.get(value.name, -1) for value in self.lifetimes.values)


class Placement:
    """Where the arrays of a recipe lie, for all batch sizes up to the one it was made for."""

    def __init__(self, layout: Layout) -> None:
        self.batch = layout.batch
        self.plan: Plan = plan(layout.lifetimes.values)
        self._sizes = {value.name: value.nbytes for value in layout.lifetimes.values}

    def serves(self, layout: Layout) -> bool:
        """Return whether a layout can use these offsets."""
        return layout.batch <= self.batch and layout.fits(self._sizes)


class BoundProgram:
    """A program with its arrays: fill `x` (and `t`, `weight`), `compute`, read `outputs` (and `loss`), `update`.

    `compute` runs backward too, unless kernels are changed on the way, which makes that a part of the update; then it
    ends with the loss. One for batches `in_parts` adds up the gradients of the parts before the update.
    """

    def __init__(
        self,
        recipe: Recipe,
        layout: Layout,
        placement: Plan,
        memory: NDArray[np.uint8],
        emitter: Emitter,
        training: Training | None,
        in_parts: bool = False,
    ) -> None:
        self.batch = layout.batch
        self.emitter = emitter
        slots, later = _bind(recipe, layout, placement, memory)
        steps = [node.layer for node in recipe.nodes]
        if training is not None:
            training.emit_begin(emitter)
        for step, s in zip(steps, slots, strict=True):
            step.emit_forward(s, emitter)
        loss_end = len(emitter)
        for i, again in layout.schedule.backward:
            if again:
                emitter.emit_again(steps[i], later[i])
            elif i in recipe.active:
                steps[i].emit_backward(later[i], emitter)
                emitter.emit_kernels()
            if steps[i] is recipe.outputs[0].layer:
                loss_end = len(emitter)  # a loss and its gradient are one step
        at_once = bool(emitter.at_once)
        if training is not None:
            training.emit_penalties(emitter, at_once)
        self.backward_end = len(emitter)
        self._computed = loss_end if at_once else self.backward_end
        self._training = training
        self._update = None if training is None else training.emit_update(emitter, self._computed, in_parts, at_once)

        number = {node: i for i, node in enumerate(recipe.nodes)}
        self.x = slots[recipe.source].y
        self.outputs = [slots[number[node]].y for node in recipe.outputs]
        self.cache = slots[number[recipe.outputs[0]]].cache
        emitter.bind_prediction(self.x, self.outputs, self._computed)

    def compute(self) -> None:
        """Run forward up to the loss, and backward in training unless that is a part of the update."""
        self.emitter.run(0, self._computed)

    def predict(self, x: NDArray[Any]) -> list[Array]:
        """Return the outputs for samples x of any real type, copied once on the way in and once on the way out."""
        flags = x.flags
        if x.dtype == _FLOAT32 and flags.c_contiguous and flags.aligned:
            return self.emitter.predict(x)
        np.copyto(self.x, x, casting="unsafe")
        return self.emitter.predict()

    def update(self, where: str = "update", share: Share = WHOLE) -> None:
        """Apply the gradients and the new moving statistics to the weights; `where` names the caller in errors.

        Of a batch in parts only the last one changes weights.
        """
        assert self._training is not None
        assert self._update is not None
        self._training.apply(where, self.emitter, self._update, share)


def _bind(
    recipe: Recipe, layout: Layout, placement: Plan, memory: NDArray[np.uint8]
) -> tuple[list[Slots], list[Slots]]:
    """Make the arrays of every step, views of the arena: those of the forward run, and those of what comes later."""
    batch, offsets, schedule = layout.batch, placement.offsets, layout.schedule

    def view(name: str, shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
        return np.ndarray(shape, dtype, memory, offsets[name])

    number = {node: i for i, node in enumerate(recipe.nodes)}
    shapes = [(batch, *node.sample_shape) for node in recipe.nodes]
    ys = [view(y_name(i), shape) for i, shape in enumerate(shapes)]
    made_again = {i: view(y_name(i, True), shapes[i]) for i in schedule.again}
    slots, later = [], []
    for i, node in enumerate(recipe.nodes):
        inputs = [number[x] for x in node.inputs]
        writes = layout.lifetimes.writes.get(i, ())
        name = dy_name(i)
        arrays = {
            again: {
                key: view(cache_name(i, key, again), spec.shape, spec.dtype)
                for key, spec in layout.caches[i].items()
                if cache_name(i, key, again) in offsets
            }
            for again in (False, True)
        }
        first = Slots(
            xs=tuple(ys[x] for x in inputs),
            y=ys[i],
            dy=view(name, shapes[i]) if i in recipe.active and name in offsets else None,
            dxs=tuple(None if w.node is None else view(dy_name(w.node), shapes[w.node]) for w in writes)
            or (None,) * len(inputs),
            accumulate=tuple(w.accumulate for w in writes) or (False,) * len(inputs),
            cache=arrays[False],
        )
        slots.append(first)
        xs = tuple(made_again[x] if schedule.reads_again(x, i) else ys[x] for x in inputs)
        cache = arrays[i in schedule.again]
        later.append(replace(first, xs=xs, y=made_again.get(i, ys[i]), cache=cache))
    return slots, later


def _norm_of(step: Step) -> BatchNormalization | None:
    """Return the layer whose moving statistics a step changes."""
    norm = step.norm if isinstance(step, FusedConv2D) else step
    changes = isinstance(norm, FusedBatchNormalization) and norm.batch_statistics
    return norm.layer if changes and isinstance(norm, FusedBatchNormalization) else None


def runtime() -> tuple[str, bool, int]:
    """Return what programs and packed weights depend on: instruction set, Winograd allowed, algorithms forced."""
    return _core.isa(), _core.winograd(), algorithm_changes()
