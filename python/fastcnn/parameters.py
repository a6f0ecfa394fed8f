"""Weights: parameters as views into flat vectors, and the flat gradients and optimizer slots of a training model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.graph import Shape
from fastcnn.initializers import Initializer
from fastcnn.random import next_seed
from fastcnn.regularizers import Regularizer

Array = NDArray[np.float32]

_ALIGNMENT = 16  # floats: 64 bytes


class Parameter:
    """A weight of a layer, initialised when its value is first read.

    `version` counts the changes of the value; what was made from it (packed weights) is stale when the count differs.
    Inside the models that train it, `trainable` holds as long as the layer is trainable too, and the penalty of its
    `regularizer` is part of the loss.
    """

    def __init__(
        self,
        name: str,
        path: str,
        shape: Shape,
        initializer: Initializer,
        trainable: bool,
        regularizer: Regularizer | None = None,
    ) -> None:
        self.name = name
        self.path = path
        self.shape = shape
        self.initializer = initializer
        self.trainable = trainable
        self.regularizer = regularizer
        self._key = (next_seed(),)
        self.gather: Callable[[], None] | None = None  # set by a model: gives all its weights one flat vector
        self._store: ParameterStore | None = None
        self._initialized = False

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def store(self) -> ParameterStore:
        """The flat vector that holds the value: that of a model, or one of its own."""
        if self._store is None and self.gather is not None:
            self.gather()
        if self._store is None:
            ParameterStore([self])
        assert self._store is not None
        return self._store

    @property
    def attached(self) -> bool:
        """True once a flat vector holds the value."""
        return self._store is not None

    @property
    def memory(self) -> Array:
        """The view that holds the value, whether it has been initialised or not."""
        return self.store.view(self)

    @property
    def version(self) -> NDArray[np.int64]:
        """The change counter, an array of shape (1,)."""
        return self.store.version(self)

    @property
    def value(self) -> Array:
        """The value, a view that training updates."""
        memory = self.memory
        if not self._initialized:
            self.initializer.fill(memory, self._key)
            self._initialized = True
        return memory

    def assign(self, value: ArrayLike) -> None:
        """Copy new numbers of the same shape; raises ValueError for another shape and TypeError for complex numbers."""
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"assign: {self.path} must be given real numbers, got {array.dtype}")
        if array.shape != self.shape:
            raise ValueError(f"assign: {self.path} is {list(self.shape)} but was given {list(array.shape)}")
        np.copyto(self.memory, array, casting="unsafe")
        self._initialized = True
        self.changed()

    def changed(self) -> None:
        """Count a change of the value made through its view."""
        self.version[0] += 1

    def numpy(self) -> Array:
        """Return a copy of the value."""
        return self.value.copy()

    def __array__(self, dtype: np.dtype[np.generic] | None = None, copy: bool | None = None) -> NDArray[np.generic]:
        return np.array(self.value, dtype=dtype)

    def __repr__(self) -> str:
        return f"<Parameter {self.path} {list(self.shape)}{'' if self.trainable else ', not trainable'}>"


class ParameterStore:
    """One flat float32 vector `values` for several parameters: those that can be trained first, then the others.

    Each starts at a multiple of 64 bytes; the gaps stay zero. The memory is allocated when it is first used.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        trainable = [parameter for parameter in parameters if parameter.trainable]
        fixed = [parameter for parameter in parameters if not parameter.trainable]
        self.parameters = trainable + fixed
        self.offsets: dict[Parameter, int] = {}
        self.size = 0
        self._positions: dict[Parameter, int] = {}
        self._values: Array | None = None
        for position, parameter in enumerate(self.parameters):
            self.offsets[parameter] = self.size
            self._positions[parameter] = position
            self.size += padded(parameter.size)
            parameter._store = self
            parameter.gather = None
        self.versions = np.zeros(len(self.parameters), np.int64)

    @property
    def values(self) -> Array:
        """The flat vector."""
        if self._values is None:
            self._values = flat_floats(self.size)
        return self._values

    def view(self, parameter: Parameter) -> Array:
        """Return the part of `values` that holds a parameter, in its shape."""
        begin = self.offsets[parameter]
        return self.values[begin : begin + parameter.size].reshape(parameter.shape)

    def version(self, parameter: Parameter) -> NDArray[np.int64]:
        """Return the change counter of a parameter, an array of shape (1,)."""
        position = self._positions[parameter]
        return self.versions[position : position + 1]

    def position(self, parameter: Parameter) -> int:
        """Return the place of a parameter in `parameters`."""
        return self._positions[parameter]


@dataclass(frozen=True)
class Run:
    """Parameters that lie side by side in one store: one range of its values, and the range of FlatVectors for them."""

    store: ParameterStore
    first: int  # place in the store's list of parameters
    last: int
    values: slice  # of the store's values
    flat: slice  # of each flat vector

    def count_change(self) -> None:
        """Count a change of each parameter's value."""
        self.store.versions[self.first : self.last + 1] += 1


class FlatLayout:
    """Where each of some parameters lies in flat vectors made for them, such as gradients and optimizer slots.

    Parameters that are neighbours in their store are neighbours here, so that whole runs are updated at once.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.parameters = list(parameters)
        self.offsets: dict[Parameter, int] = {}
        self.size = 0
        self.runs: list[Run] = []
        for parameter in self.parameters:
            self._append(parameter)

    def _append(self, parameter: Parameter) -> None:
        store = parameter.store
        place, begin = store.position(parameter), store.offsets[parameter]
        end, flat_end = begin + padded(parameter.size), self.size + padded(parameter.size)
        run = Run(store, place, place, slice(begin, end), slice(self.size, flat_end))
        if self.runs and self.runs[-1].store is store and self.runs[-1].last == place - 1:
            before = self.runs.pop()
            run = Run(
                store,
                before.first,
                place,
                slice(before.values.start, end),
                slice(before.flat.start, flat_end),
            )
        self.runs.append(run)
        self.offsets[parameter] = self.size
        self.size = flat_end

    def view(self, flat: Array, parameter: Parameter) -> Array:
        """Return the part of a flat vector that belongs to a parameter, in its shape."""
        begin = self.offsets[parameter]
        return flat[begin : begin + parameter.size].reshape(parameter.shape)

    def views(self, flat: Array) -> Iterator[tuple[Parameter, Array]]:
        """Yield each parameter with its part of a flat vector."""
        for parameter in self.parameters:
            yield parameter, self.view(flat, parameter)


def padded(size: int) -> int:
    """Return a number of floats rounded up to whole cache lines."""
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def flat_floats(size: int) -> Array:
    """Return a zero vector in huge pages where the system has them; untouched parts take no memory."""
    from fastcnn._core import Arena

    return Arena(4 * size).bytes().view(np.float32)
