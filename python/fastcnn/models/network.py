"""The graph of a model: layers, weights, configuration, and the workspaces its programs run in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from fastcnn.graph import Node, Shape, layers_by_depth, topological
from fastcnn.layers.base import Layer
from fastcnn.layers.shape import InputLayer
from fastcnn.models.workspace import WorkspacePool
from fastcnn.parameters import Parameter, ParameterStore
from fastcnn.program import Recipe

Tensor = Node[Layer]


class Network(Layer):
    """Layers between one input and one or more outputs; a layer itself, so that models can be parts of models."""

    def __init__(
        self,
        inputs: Tensor | Sequence[Tensor],
        outputs: Tensor | Sequence[Tensor],
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name=name)
        self.class_names: list[str] | None = None
        self._pool = WorkspacePool()
        self._recipes: dict[object, Recipe] = {}
        self._connect(self._listed("inputs", inputs), self._listed("outputs", outputs))
        if not trainable:
            self.trainable = False

    def _listed(self, argument: str, given: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Return one or more tensors as a list; raises TypeError for what is none."""
        nodes: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
        for node in nodes:
            if not isinstance(node, Node):
                raise TypeError(f"{self.name}: {argument} must be outputs of layers or of Input, got {node!r}")
        return nodes

    def _connect(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Take over a graph; raises ValueError for a graph that is none."""
        if len(inputs) != 1:
            raise ValueError(f"{self.name}: inputs must be one tensor, got {len(inputs)}")
        if not outputs:
            raise ValueError(f"{self.name}: outputs must not be empty")
        source, sinks = _cut(inputs[0], outputs)
        for node in topological(sinks):
            if not node.inputs and node is not source:
                raise ValueError(f"{self.name}: the outputs depend on {node.name!r}, which is not among the inputs")
        if source not in topological(sinks):
            raise ValueError(f"{self.name}: the outputs do not depend on the input {source.name!r}")
        self._source, self._sinks = source, list(sinks)
        self._layers = layers_by_depth(sinks)
        for layer_name, count in Counter(layer.name for layer in self._layers).items():
            if count > 1:
                raise ValueError(f"{self.name}: the name {layer_name!r} is used by {count} layers")
        for parameter in self.weights:
            if not parameter.attached:
                parameter.gather = self._gather
        self._recipes.clear()
        self._pool.clear()

    # -- the graph -----------------------------------------------------------------------------------------------------

    @property
    def layers(self) -> list[Layer]:
        """The layers in Keras' order, the input layer first."""
        return list(self._layers)

    @property
    def inner_layers(self) -> Sequence[Layer]:
        """The layers, which follow when `trainable` is set."""
        return self._layers

    @property
    def inputs(self) -> list[Tensor]:
        """The symbolic input in a list."""
        return [self._source]

    @property
    def outputs(self) -> list[Tensor]:
        """The symbolic outputs."""
        return list(self._sinks)

    @property
    def input(self) -> Tensor:
        """The symbolic input, to build other models on."""
        return self._source

    @property
    def output(self) -> Any:
        """The symbolic output, a list if there are several."""
        return self._sinks[0] if len(self._sinks) == 1 else list(self._sinks)

    @property
    def output_shape(self) -> Any:
        """(None, ...) with the sample shape of the output, a list if there are several."""
        shapes = [node.shape for node in self._sinks]
        return shapes[0] if len(shapes) == 1 else shapes

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Return the layer of that name or number; raises ValueError if there is none."""
        if (name is None) == (index is None):
            raise ValueError(f"get_layer: give either name or index, got name={name!r} and index={index!r}")
        if index is not None:
            if not -len(self._layers) <= index < len(self._layers):
                raise ValueError(f"get_layer: {self.name} has {len(self._layers)} layers, got index {index}")
            return self._layers[index]
        for layer in self._layers:
            if layer.name == name:
                return layer
        raise ValueError(
            f"get_layer: {self.name} has no layer {name!r}; it has {', '.join(layer.name for layer in self._layers)}"
        )

    def flat_layers(self) -> list[Layer]:
        """Return the layers, models among them replaced by their own; each once."""
        flat: dict[Layer, None] = {}
        for layer in self._layers:
            flat.update(dict.fromkeys(layer.flat_layers() if isinstance(layer, Network) else [layer]))
        return list(flat)

    # -- as a layer of another model -----------------------------------------------------------------------------------

    @property
    def subgraph(self) -> tuple[Tensor, Tensor] | None:
        """Input and output, which take the place of a call in the caller's graph."""
        if len(self._sinks) != 1:
            raise ValueError(f"{self.name}: only a model with one output can be a layer, it has {len(self._sinks)}")
        return self._source, self._sinks[0]

    def build(self, *shapes: Shape) -> Shape:
        """Return the output's shape; raises ValueError for another input shape than the model's."""
        expected = self._source.sample_shape
        if shapes != (expected,):
            raise ValueError(f"{self.name}: takes samples {list(expected)}, got {[list(shape) for shape in shapes]}")
        return self._sinks[0].sample_shape

    # -- weights -------------------------------------------------------------------------------------------------------

    @property
    def weights(self) -> list[Parameter]:
        """All parameters, layer by layer."""
        return [parameter for layer in self.flat_layers() for parameter in layer.weights]

    @property
    def trainable_weights(self) -> list[Parameter]:
        """The parameters of all trainable layers that training changes."""
        return [parameter for layer in self.flat_layers() for parameter in layer.trainable_weights]

    @property
    def non_trainable_weights(self) -> list[Parameter]:
        """The other parameters: frozen weights and moving statistics."""
        return [parameter for layer in self.flat_layers() for parameter in layer.non_trainable_weights]

    def _gather(self) -> None:
        """Give the weights that have no memory yet one flat vector."""
        loose = [parameter for parameter in self.weights if not parameter.attached]
        if loose:
            ParameterStore(loose)

    def _initialize(self) -> None:
        """Make sure that every weight has its first value."""
        for parameter in self.weights:
            parameter.value  # noqa: B018 (reading it fills it)

    # -- configuration -------------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return the graph in JSON's types: layers with their configurations and calls, inputs, outputs.

        A call lists its inputs as [layer name, number of the call].
        """
        nodes = topological(self._sinks)
        calls: dict[Layer, list[Tensor]] = {layer: [] for layer in self._layers}
        for node in nodes:
            calls[node.layer].append(node)

        def place(node: Tensor) -> list[Any]:
            return [node.layer.name, calls[node.layer].index(node)]

        layers = [
            {
                "class_name": type(layer).__name__,
                "name": layer.name,
                "config": layer.get_config(),
                "calls": [
                    {"inputs": [place(x) for x in node.inputs], "inference": node.inference} for node in calls[layer]
                ],
            }
            for layer in dict.fromkeys(node.layer for node in nodes)
        ]
        return {
            "name": self.name,
            "trainable": self.trainable,
            "layers": layers,
            "inputs": [place(self._source)],
            "outputs": [place(node) for node in self._sinks],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Mapping[str, type[Layer]] | None = None) -> Self:
        """Build from what `get_config` returned; raises ValueError for an unknown class or a call that leads nowhere.

        `custom_objects` maps class names to the caller's own layers.
        """
        layers = {entry["name"]: layer_from_config(entry, custom_objects) for entry in config["layers"]}
        made: dict[tuple[str, int], Tensor] = {}
        waiting = list(_calls(config))
        while waiting:
            later = []
            for key, sources, inference in waiting:
                layer = layers[key[0]]
                ready = all(source in made for source in sources) and (key[1] == 0 or (key[0], key[1] - 1) in made)
                if not ready:
                    later.append((key, sources, inference))
                elif isinstance(layer, InputLayer):
                    made[key] = layer.output
                else:
                    nodes = [made[source] for source in sources]
                    x = nodes[0] if len(nodes) == 1 else nodes
                    made[key] = Layer.__call__(layer, x, training=False if inference else None)
            if len(later) == len(waiting):
                raise ValueError(f"from_config: the inputs of {later[0][0][0]!r} are not calls of other layers")
            waiting = later
        inputs, outputs = ([made[name, number] for name, number in config[key]] for key in ("inputs", "outputs"))
        model = cls(inputs, outputs, name=config["name"])
        model._trainable = config["trainable"]
        return model


def layer_from_config(entry: Mapping[str, Any], custom_objects: Mapping[str, type[Layer]] | None) -> Layer:
    """Return the layer of one entry of a configuration; raises ValueError for an unknown class."""
    from fastcnn import layers, models

    name = entry["class_name"]
    nested: dict[str, type[Network]] = {"Model": models.Model, "Sequential": models.Sequential}
    if custom_objects and name in custom_objects:
        return custom_objects[name].from_config(entry["config"])
    if name in nested:
        return nested[name].from_config(entry["config"], custom_objects)
    if name not in layers.CLASSES:
        raise ValueError(f"from_config: {name!r} is no layer of fastcnn nor among custom_objects")
    return layers.CLASSES[name].from_config(entry["config"])


def _calls(config: Mapping[str, Any]) -> Iterator[tuple[tuple[str, int], list[tuple[str, int]], bool]]:
    for entry in config["layers"]:
        for number, call in enumerate(entry["calls"]):
            yield (entry["name"], number), [(name, index) for name, index in call["inputs"]], call["inference"]


def _cut(source: Tensor, outputs: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
    """Return input and outputs of a graph that begins at `source`, which may be the output of a layer."""
    if not source.inputs:
        return source, outputs
    fresh = InputLayer(source.sample_shape).output
    made = {source: fresh}
    for node in topological(outputs):
        if node not in made and node.inputs:
            inputs = [made.get(x, x) for x in node.inputs]
            changed = tuple(inputs) != node.inputs
            made[node] = Node(node.layer, inputs, node.sample_shape, node.inference) if changed else node
    return fresh, [made.get(node, node) for node in outputs]
