"""Sequential: a chain of layers, built when the shape of its input is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from fastcnn.graph import Node, Shape
from fastcnn.layers.base import Layer
from fastcnn.layers.shape import InputLayer
from fastcnn.models import given
from fastcnn.models.model import Model
from fastcnn.models.network import Tensor, layer_from_config
from fastcnn.parameters import Parameter


class Sequential(Model):
    """A model that is a list of layers.

    The input shape comes from a first `Input(shape)`, from `input_shape=` of the first layer, from `build` or from the
    first data; until then there are no weights.
    """

    def __init__(
        self, layers: Sequence[Layer | Tensor] | None = None, trainable: bool = True, name: str | None = None
    ) -> None:
        self._chain: list[Layer] = []
        self._source_layer: InputLayer | None = None
        self._output: Tensor | None = None
        self._defer(name)
        for layer in layers or ():
            self.add(layer)
        if not trainable:
            self.trainable = False

    def _defer(self, name: str | None) -> None:
        """Set up everything but the graph."""
        placeholder = InputLayer((1,), name="placeholder").output
        super().__init__(placeholder, placeholder, name)
        self._source, self._sinks, self._layers = placeholder, [], []

    @property
    def built(self) -> bool:
        """Whether the input shape is known and the weights exist."""
        return self._output is not None

    @property
    def layers(self) -> list[Layer]:
        """The layers in order, without the input layer (as in Keras)."""
        return list(self._chain)

    @property
    def inner_layers(self) -> Sequence[Layer]:
        """The layers, which follow when `trainable` is set."""
        return self._chain

    def add(self, layer: Layer | Tensor) -> None:
        """Append a layer; the first may be Input(shape) or have `input_shape=`.

        Raises TypeError for what is no layer, ValueError for a name already used and for an input that does not fit.
        """
        if isinstance(layer, Node):
            layer = layer.layer
        if not isinstance(layer, Layer):
            raise TypeError(f"{self.name}: add takes a layer, got {type(layer).__name__}")
        if isinstance(layer, InputLayer):
            if self._chain or self._source_layer is not None:
                raise ValueError(f"{self.name}: an input layer must be the first")
            self._source_layer = layer
            self._output = layer.output
            return
        if any(layer.name == other.name for other in self._chain):
            raise ValueError(f"{self.name}: the name {layer.name!r} is used by two layers")
        if not self._chain and self._source_layer is None:
            shape = _first_shape(layer)
            if shape is not None:
                self._source_layer = InputLayer(shape)
                self._output = self._source_layer.output
        if self._output is None:
            self._chain.append(layer)
            return
        output = Layer.__call__(layer, self._output)
        self._chain.append(layer)
        self._take(output)

    def pop(self) -> Layer:
        """Remove and return the last layer; raises IndexError if there is none."""
        if not self._chain:
            raise IndexError(f"{self.name}: pop from a model without layers")
        layer = self._chain.pop()
        if self._output is not None:
            self._take(self._output.inputs[0])
        return layer

    def _take(self, output: Tensor) -> None:
        assert self._source_layer is not None
        self._output = output
        self._connect([self._source_layer.output], [output])

    def build(self, *shapes: Shape) -> Shape:
        """Make the weights for an input of that shape, (None, H, W, C) or (H, W, C); return the output's shape."""
        (shape,) = shapes
        sizes = tuple(size for size in shape[1:]) if shape and shape[0] is None else shape
        if self._output is None:
            self._source_layer = InputLayer(sizes)
            self._output = self._source_layer.output
            chain, self._chain = self._chain, []
            for layer in chain:
                self.add(layer)
        return super().build(sizes)

    @property
    def weights(self) -> list[Parameter]:
        """All parameters, layer by layer; raises ValueError before the input shape is known."""
        if not self.built and self._chain:
            raise ValueError(
                f"{self.name}: the weights do not exist before the input shape is known; call build(shape)"
            )
        return super().weights

    def _ready(self, where: str, x: Any) -> Shape:
        if not self._chain:
            raise ValueError(f"{where}: {self.name} has no layers")
        if self._output is None:
            shape = given.sample_shape(x)
            if not shape:
                raise ValueError(f"{where}: {self.name} does not know its input shape; call build(shape) first")
            self.build(shape)
        return super()._ready(where, x)

    def get_config(self) -> dict[str, Any]:
        """Return the layers' configurations and the input shape in JSON's types."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "layers": [{"class_name": type(layer).__name__, "config": layer.get_config()} for layer in self._chain],
            "input": None if self._source_layer is None else self._source_layer.get_config(),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Mapping[str, type[Layer]] | None = None) -> Self:
        """Build from what `get_config` returned; raises ValueError for an unknown class."""
        model = cls(name=config["name"])
        if config["input"] is not None:
            model.add(InputLayer.from_config(config["input"]))
        for entry in config["layers"]:
            model.add(layer_from_config(entry, custom_objects))
        model._trainable = config["trainable"]
        return model


def _first_shape(layer: Layer) -> Shape | None:
    """Return the input shape that a first layer brings: its `input_shape=`, or a model's own."""
    if isinstance(layer, Model):
        return layer.input.sample_shape if layer.built else None
    return layer.given_input_shape
