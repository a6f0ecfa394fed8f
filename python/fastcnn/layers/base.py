"""Step, what a program runs; Layer, the Keras face of steps that have names, weights and a place in a model."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn import initializers, regularizers
from fastcnn.compat import old_name
from fastcnn.graph import Node, Shape
from fastcnn.initializers import Initializer
from fastcnn.liveness import CacheSpec
from fastcnn.parameters import Parameter
from fastcnn.regularizers import Regularizer

if TYPE_CHECKING:
    from fastcnn.program import Emitter

Array = NDArray[np.float32]
Pair = tuple[int, int]
Padding = tuple[Pair, Pair]  # ((top, bottom), (left, right)) in pixels
Draw = tuple[int, int]  # (epoch, number of the sample): what random changes of a sample may depend on besides a seed
InitializerLike = str | Mapping[str, Any] | Initializer
RegularizerLike = str | Mapping[str, Any] | Regularizer | None


@dataclass(frozen=True)
class Slots:
    """One step's arrays, bound once per batch size, all with a leading batch axis.

    `dy` is None for a step without backward run and may be overwritten by it; `dxs[i]` is None where nobody needs the
    gradient, and may be `dy` itself for one of the inputs named by `passes_gradient_to`. `accumulate[i]` says that
    `dxs[i]` is added to; gradients are written in the order of `xs`.
    """

    xs: tuple[Array, ...]
    y: Array
    dy: Array | None
    dxs: tuple[Array | None, ...]
    accumulate: tuple[bool, ...]
    cache: dict[str, NDArray[Any]]

    @property
    def gradient(self) -> Array:
        """`dy` of a step that has one."""
        assert self.dy is not None
        return self.dy


@dataclass(frozen=True)
class Bounds:
    """What a step knows before its arrays exist: batch size, sample shapes, and whether it has a backward run."""

    batch: int
    xs: tuple[Shape, ...]
    y: Shape
    backward: bool


class Step:
    """One or more operations with one output; appends them to a program once per batch size."""

    name: str = ""
    saves: ClassVar[str] = ""  # which of "x" and "y" the backward run reads
    inplace: ClassVar[bool] = False  # y may take the memory of the first input
    view: bool = False  # y is the first input in another shape
    passes_gradient: ClassVar[bool] = False  # dx of the first input may be the same memory as dy
    nonnegative: bool = False  # y is the output of a ReLU
    # "always" or "training": `prepare` can do it to single samples before the program runs, in training or whenever
    prepares: ClassVar[str] = ""
    random: ClassVar[bool] = False  # only `prepare` can do it
    may_fail: ClassVar[bool] = False  # the backward run can raise an error
    repeatable: ClassVar[bool] = True  # the forward run may be done twice, rather than keep what it made

    def keeps_x(self, index: int) -> bool:
        """Return whether the backward run reads input `index`."""
        return "x" in self.saves

    def keeps_y(self) -> bool:
        """Return whether the backward run reads the output."""
        return "y" in self.saves

    def overwrites(self) -> tuple[int, ...]:
        """Return the numbers of the inputs whose memory y may take when nobody reads them later."""
        return (0,) if self.inplace else ()

    def passes_gradient_to(self) -> tuple[int, ...]:
        """Return the numbers of the inputs whose dx may be the same memory as dy."""
        return (0,) if self.passes_gradient else ()

    def trained(self) -> tuple[Parameter, ...]:
        """Return the parameters whose gradients the backward run makes."""
        return ()

    def own_kernel(self) -> Parameter | None:
        """Return the trained parameter, if there is one, that only this step reads and its backward run does not need.

        It may change as soon as that is done. The backward run gives its gradient to `Emitter.gradient` or
        `Emitter.product_gradient`.
        """
        return None

    def cache(self, bounds: Bounds, p: Emitter) -> dict[str, CacheSpec]:
        """Return the arrays that the step needs besides its inputs, output and gradients."""
        return {}

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append the operations that make y."""
        raise NotImplementedError(f"{type(self).__name__} has no forward step")

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append the operations that make dxs and the gradients of the parameters."""
        raise NotImplementedError(f"{type(self).__name__} has no backward step")

    def prepare(self, x: Array, draw: Draw | None) -> Array:
        """Return what the step makes of one sample; `draw` is None in inference. Only for steps with `prepares`."""
        raise NotImplementedError(f"{type(self).__name__} cannot prepare samples")


class LayerOptions(TypedDict, total=False):
    """Arguments of every layer; `input_shape` is that of one sample, for the first layer of a Sequential.

    `batch_input_shape` (None, ...) and `input_dim` n say the same in Keras 2's words; `dtype` can only be "float32".
    """

    name: str | None
    trainable: bool
    input_shape: Sequence[int] | None
    batch_input_shape: Sequence[int | None] | None
    input_dim: int | None
    dtype: str | None


class Layer(Step):
    """A part of a model, called with symbolic tensors: `y = layer(x)`.

    A subclass keeps each constructor argument under its own name, or lists it in `only_defaults`.
    """

    only_defaults: ClassVar[tuple[str, ...]] = ()  # Keras' arguments that fastcnn has no code for

    def __init__(self, **options: Unpack[LayerOptions]) -> None:
        unknown = set(options) - set(LayerOptions.__annotations__)
        if unknown:
            raise TypeError(f"{type(self).__name__}: unknown argument {sorted(unknown)[0]!r}")
        self.name = options.get("name") or automatic_name(type(self).__name__)
        if "/" in self.name:
            raise ValueError(f"{type(self).__name__}: name must not contain '/', got {self.name!r}")
        self._trainable = bool(options.get("trainable", True))
        self.given_input_shape = _given_shape(type(self).__name__, options)
        if options.get("dtype") not in (None, "float32", np.float32):
            raise ValueError(f"{type(self).__name__}: dtype must be None or 'float32', got {options['dtype']!r}")
        self._parameters: dict[str, Parameter] = {}
        self._nodes: list[Node[Layer]] = []

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "call" in vars(cls):
            raise TypeError(
                f"{cls.__name__}: fastcnn does not run a call() written in Python, it has no automatic gradient; make "
                "a model of layers by Model(inputs, outputs), or a layer of your own as a PythonLayer with forward() "
                "and backward() on arrays"
            )

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights; takes effect at the next `compile`.

        Batch normalisation that is not trainable also keeps its moving statistics and uses them.
        """
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for layer in self.inner_layers:
            layer.trainable = self._trainable

    @property
    def inner_layers(self) -> Sequence[Layer]:
        """The layers of a model used as a layer; none for every other layer."""
        return ()

    # -- what a subclass writes ----------------------------------------------------------------------------------------

    def build(self, *shapes: Shape) -> Shape:
        """Make the weights for inputs of these sample shapes, return the output's; raises ValueError if none fits."""
        raise NotImplementedError

    def lower(self, trainable: bool, inference: bool) -> tuple[Step, ...]:
        """Return the chain of steps that a program runs for the layer; empty for one that changes nothing.

        `trainable` says whether the weights are being trained, `inference` that statistics must not change.
        """
        return (self,)

    @property
    def subgraph(self) -> tuple[Node[Layer], Node[Layer]] | None:
        """Input and output of a model used as a layer; None for every other layer."""
        return None

    # -- weights -------------------------------------------------------------------------------------------------------

    def add_weight(
        self,
        name: str,
        shape: Shape,
        initializer: InitializerLike,
        trainable: bool = True,
        regularizer: RegularizerLike = None,
    ) -> Parameter:
        """Return the parameter of that name, made at the first call; raises ValueError if its shape is another now."""
        parameter = self._parameters.get(name)
        if parameter is None:
            path = f"{self.name}/{name}"
            penalty = regularizers.get(regularizer)
            parameter = Parameter(name, path, shape, initializers.get(initializer), trainable, penalty)
            self._parameters[name] = parameter
        elif parameter.shape != shape:
            raise ValueError(
                f"{self.name}: {name} is {list(parameter.shape)} from the first call, this input needs {list(shape)}"
            )
        return parameter

    @property
    def weights(self) -> list[Parameter]:
        """All parameters, in the order of `get_weights`."""
        return list(self._parameters.values())

    @property
    def trainable_weights(self) -> list[Parameter]:
        """The parameters that training changes; none for a layer with `trainable=False`."""
        return [parameter for parameter in self.weights if self.trainable and parameter.trainable]

    @property
    def non_trainable_weights(self) -> list[Parameter]:
        """The other parameters: frozen weights and moving statistics."""
        return [parameter for parameter in self.weights if not (self.trainable and parameter.trainable)]

    def get_weights(self) -> list[Array]:
        """Return copies of all weights."""
        return [parameter.numpy() for parameter in self.weights]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Overwrite all weights with arrays of the same shapes, or none of them if one does not fit (ValueError)."""
        parameters = self.weights
        arrays = [np.asarray(weight) for weight in weights]
        if len(arrays) != len(parameters):
            raise ValueError(
                f"set_weights: {self.name} has {len(parameters)} weights but {len(arrays)} arrays were given"
            )
        for parameter, array in zip(parameters, arrays, strict=True):
            if array.shape != parameter.shape:
                raise ValueError(
                    f"set_weights: {parameter.path} is {list(parameter.shape)} but was given {list(array.shape)}"
                )
        for parameter, array in zip(parameters, arrays, strict=True):
            parameter.assign(array)

    def count_params(self) -> int:
        """Return the number of elements of all weights."""
        return sum(parameter.size for parameter in self.weights)

    # -- place in a graph ----------------------------------------------------------------------------------------------

    def __call__(self, x: Node[Layer] | Sequence[Node[Layer]], training: bool | None = None) -> Node[Layer]:
        """Return the output for symbolic inputs; with `training=False` batch normalisation stays in inference mode."""
        if training:
            raise ValueError(f"{self.name}: training=True cannot be fixed in a graph; fit trains, predict does not")
        nodes = (x,) if isinstance(x, Node) else tuple(x)
        for node in nodes:
            if not isinstance(node, Node):
                raise TypeError(
                    f"{self.name}: called with {type(node).__name__}, expected the output of another layer or of "
                    "Input(shape); arrays go to predict"
                )
        shape = self.build(*(node.sample_shape for node in nodes))
        node = Node(self, nodes, shape, inference=training is False)
        self._nodes.append(node)
        return node

    @property
    def output(self) -> Node[Layer]:
        """Output of the only call; raises AttributeError for a layer called never or several times."""
        if len(self._nodes) != 1:
            raise AttributeError(f"{self.name} has been called {len(self._nodes)} times, so it has no single output")
        return self._nodes[0]

    @property
    def input(self) -> Node[Layer] | list[Node[Layer]]:
        """Input of the only call, a list if there are several; raises AttributeError as `output` does."""
        inputs = self.output.inputs or (self.output,)
        return inputs[0] if len(inputs) == 1 else list(inputs)

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """(None, ...) with the sample shape of `output`."""
        return self.output.shape

    @property
    def input_shape(self) -> tuple[int | None, ...] | list[tuple[int | None, ...]]:
        """(None, ...) with the sample shape of `input`, a list if there are several."""
        given = self.input
        return given.shape if isinstance(given, Node) else [node.shape for node in given]

    # -- configuration -------------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in JSON's types, enough for `from_config`."""
        config: dict[str, Any] = {"name": self.name, "trainable": self.trainable}
        for argument in self._arguments():
            value = getattr(self, argument)
            config[argument] = _plain(value)
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build from what `get_config` returned."""
        return cls(**config)

    @classmethod
    def _arguments(cls) -> Iterator[str]:
        for name, parameter in inspect.signature(cls.__init__).parameters.items():
            keyword = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if keyword and name != "self" and name not in cls.only_defaults:
                yield name

    def _refuse(self, **arguments: tuple[Any, Any]) -> None:
        """Raise ValueError for the first argument, given as (value, only supported value), that differs."""
        for argument, (value, only) in arguments.items():
            if value != only:
                raise ValueError(
                    f"{type(self).__name__}: {argument} is not supported yet and must be {only!r}, got {value!r}"
                )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


def _given_shape(owner: str, options: LayerOptions) -> Shape | None:
    """Return the shape of a sample that a first layer was given in one of three ways, None without."""
    batch, size = options.get("batch_input_shape"), options.get("input_dim")
    given: Sequence[int | None] | None = options.get("input_shape")
    if batch is not None:
        old_name(f"{owner}(batch_input_shape=)", "write input_shape=, or Input(shape) in front")
        given = tuple(batch)[1:]
    if size is not None:
        old_name(f"{owner}(input_dim=)", "write input_shape=(n,), or Input((n,)) in front")
        given = (size,)
    if given is None:
        return None
    if any(size is None for size in given):
        raise ValueError(f"{owner}: input_shape must hold sizes (they are fixed in fastcnn), got {tuple(given)}")
    return tuple(int(size) for size in given if size is not None)


def _plain(value: Any) -> Any:
    """Return a constructor's argument in JSON's types."""
    if isinstance(value, Initializer):
        return initializers.serialize(value)
    return regularizers.serialize(value) if isinstance(value, Regularizer) else value


_names: dict[str, int] = {}
_names_lock = threading.Lock()


def automatic_name(class_name: str) -> str:
    """Return Keras' name for the next layer of a class: conv2d, conv2d_1, conv2d_2..."""
    stem = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])", "_", class_name).lower()
    with _names_lock:
        number = _names[stem] = _names.get(stem, -1) + 1
    return f"{stem}_{number}" if number else stem


def forget_names() -> None:
    """Let automatic names start again, without a number."""
    with _names_lock:
        _names.clear()


def one_input(layer: Layer, shapes: Sequence[Shape], rank: int | None = None, letters: str = "") -> Shape:
    """Return the only input's shape; raise ValueError for several inputs or another rank."""
    if len(shapes) != 1:
        raise ValueError(f"{layer.name}: takes one input, got {len(shapes)}")
    if rank is not None and len(shapes[0]) != rank:
        raise ValueError(f"{layer.name}: takes samples of shape {letters}, got {list(shapes[0])}")
    return shapes[0]


def listed(shapes: Sequence[Shape]) -> str:
    """Return shapes as text, "[4, 4, 3], [4, 4, 2]"."""
    return ", ".join(str(list(shape)) for shape in shapes)


def pair(owner: str, argument: str, value: int | Sequence[int], least: int = 1) -> Pair:
    """Return (rows, columns) for an integer or two; raises ValueError for anything else and below `least`."""
    values = (value, value) if isinstance(value, int | np.integer) else tuple(value)
    if len(values) != 2 or any(isinstance(v, bool) or not isinstance(v, int | np.integer) or v < least for v in values):
        raise ValueError(f"{owner}: {argument} must be one or two integers of at least {least}, got {value!r}")
    return int(values[0]), int(values[1])


def padding_mode(owner: str, padding: str) -> str:
    """Return "same" or "valid", in small letters as Keras has it."""
    if not isinstance(padding, str) or padding.lower() not in ("same", "valid"):
        raise ValueError(f"{owner}: padding must be 'same' or 'valid', got {padding!r}")
    return padding.lower()


def channels_last(owner: str, data_format: str | None) -> str:
    """Return "channels_last"; raises ValueError for another order of axes."""
    if data_format not in (None, "channels_last"):
        raise ValueError(f"{owner}: data_format must be None or 'channels_last', got {data_format!r}")
    return "channels_last"


def window_padding(size: Pair, window: Pair, strides: Pair, padding: str) -> Padding:
    """Return the rows and columns of padding: none for "valid"; for "same" half of it before and the rest after.

    An odd total has the smaller half before, as in Keras. `window` is the extent in pixels, dilation included.
    """
    if padding == "valid":
        return (0, 0), (0, 0)
    sides = []
    for length, extent, stride in zip(size, window, strides, strict=True):
        total = max(0, (-(-length // stride) - 1) * stride + extent - length)
        sides.append((total // 2, total - total // 2))
    return sides[0], sides[1]


def window_positions(layer: Layer, shape: Shape, window: Pair, strides: Pair, padding: Padding) -> Pair:
    """Return how often the window fits along rows and columns; raises ValueError if it does not fit at all."""
    positions = []
    for length, extent, stride, (before, after) in zip(shape, window, strides, padding, strict=False):
        if length + before + after < extent:
            raise ValueError(
                f"{layer.name}: the window covers {list(window)} pixels but the padded input has only "
                f"{[shape[0] + sum(padding[0]), shape[1] + sum(padding[1])]} (input {list(shape)})"
            )
        positions.append((length + before + after - extent) // stride + 1)
    return positions[0], positions[1]
