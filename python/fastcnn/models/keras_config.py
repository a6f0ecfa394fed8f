"""Architectures in Keras' words: the JSON of `to_json` and of .h5 files, from Keras 2 and 3, and back.

Read is what Keras 2, tf.keras and Keras 3 write; written is Keras 2's form, which all of them read. A configuration is
data: its classes come from fastcnn's layers or from the caller's `custom_objects`, a Lambda is refused, and an argument
that fastcnn does not have must hold the value that changes nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fastcnn.graph import topological
from fastcnn.layers import CLASSES
from fastcnn.layers.base import Layer
from fastcnn.layers.shape import InputLayer
from fastcnn.models.model import Model
from fastcnn.models.network import Network, Tensor
from fastcnn.models.sequential import Sequential

Config = dict[str, Any]
CustomObjects = Mapping[str, type[Layer]]

_MODELS = {"Functional": "Model", "Model": "Model", "Sequential": "Sequential"}
_BATCH_SHAPES = ("batch_input_shape", "batch_shape")
_ONLY_FASTCNN = ("algorithm",)  # how to compute, not what
_L1L2 = ("l1", "l2")

# -- writing -----------------------------------------------------------------------------------------------------------


def to_keras(model: Model) -> Config:
    """Return {"class_name", "config"} of a model in Keras 2's form; raises ValueError as a layer's get_config does."""
    if isinstance(model, Sequential):
        return {"class_name": "Sequential", "config": _sequential(model)}
    return {"class_name": "Model", "config": _functional(model)}


def _nested(model: Model) -> Config:
    """Return the same of a model in a model; there Keras 3 takes a list of one input or output for a list."""
    written = to_keras(model)
    for ends in ("input_layers", "output_layers"):
        if len(written["config"].get(ends, ())) == 1:
            (written["config"][ends],) = written["config"][ends]
    return written


def _sequential(model: Sequential) -> Config:
    layers = [_layer(layer) for layer in model.layers]
    config: Config = {"name": model.name, "trainable": model.trainable, "layers": layers}
    if model.built:
        # Keras 3 misunderstands the shape in a first layer's configuration
        layers.insert(0, _layer(model.input.layer))
        config["build_input_shape"] = [None, *model.input.sample_shape]
    return config


def _functional(model: Network) -> Config:
    calls: dict[Layer, list[Tensor]] = {layer: [] for layer in model.layers}
    for node in topological(model.outputs):
        calls[node.layer].append(node)

    def place(node: Tensor) -> list[Any]:
        # a functional model begins with a call of its own: that of its input
        first = int(isinstance(node.layer, Network) and not isinstance(node.layer, Sequential))
        return [node.layer.name, calls[node.layer].index(node) + first, 0]

    def inbound(node: Tensor) -> list[Any]:
        arguments = {"training": False} if node.inference else {}
        return [[*place(source), arguments] for source in node.inputs]

    return {
        "name": model.name,
        "trainable": model.trainable,
        "layers": [
            {"name": layer.name, **_layer(layer), "inbound_nodes": [inbound(node) for node in nodes if node.inputs]}
            for layer, nodes in calls.items()
        ],
        "input_layers": [place(node) for node in model.inputs],
        "output_layers": [place(node) for node in model.outputs],
    }


def _layer(layer: Layer) -> Config:
    if isinstance(layer, Model):
        return _nested(layer)
    config = {name: _written(value) for name, value in layer.get_config().items() if name not in _ONLY_FASTCNN}
    config["dtype"] = "float32"
    if isinstance(layer, InputLayer):
        config["batch_input_shape"] = [None, *config.pop("shape")]
        config["sparse"] = False
        del config["trainable"]  # tf.keras refuses it
    if "data_format" in layer.only_defaults:
        config["data_format"] = "channels_last"
    class_name = type(layer).__name__
    if class_name == "LeakyReLU":
        config["alpha"] = config.pop("negative_slope")
    return {"class_name": class_name, "config": config}


def _written(value: Any) -> Any:
    """Return an argument as Keras 2 writes it: its only regularizer is L1L2."""
    if isinstance(value, Mapping) and value.get("class_name") in ("L1", "L2", "L1L2"):
        return {"class_name": "L1L2", "config": {name: value["config"].get(name, 0.0) for name in _L1L2}}
    return value


# -- reading -----------------------------------------------------------------------------------------------------------


def from_keras(config: Mapping[str, Any], custom_objects: CustomObjects | None = None) -> Model:
    """Return the model of {"class_name", "config"} as Keras or `to_keras` wrote it.

    Raises ValueError for what is no such configuration and for layers and arguments that fastcnn does not have.
    """
    own = custom_objects or {}
    name = config.get("class_name")
    if name not in _MODELS or not isinstance(config.get("config"), dict | list):
        raise ValueError(f"expected the configuration of a Sequential or functional model, got class {name!r}")
    try:
        converted = _read_model(config, own)
        cls: type[Model] = Sequential if _MODELS[name] == "Sequential" else Model
        return cls.from_config(converted["config"], own)
    except KeyError as error:
        raise ValueError(f"the configuration lacks {error}") from error
    except (AttributeError, IndexError, TypeError) as error:
        raise ValueError(f"the configuration is malformed: {error}") from error


def _read_model(entry: Mapping[str, Any], own: CustomObjects) -> Config:
    class_name = _MODELS[entry["class_name"]]
    config = entry["config"]
    if isinstance(config, list):  # a Sequential up to Keras 2.2.2
        config = {"layers": config}
    read = (_read_sequential if class_name == "Sequential" else _read_functional)(config, own)
    for layer in read["layers"]:
        if layer["class_name"] == "InputLayer":  # whose own `trainable` is not written
            layer["config"]["trainable"] = read["trainable"]
    return {"class_name": class_name, "config": read}


def _read_sequential(config: Mapping[str, Any], own: CustomObjects) -> Config:
    entries = list(config["layers"])
    first = entries[0] if entries else {}
    source = None
    if first.get("class_name") == "InputLayer":
        source = _read_layer(entries.pop(0), own)["config"]
    elif first.get("class_name") not in _MODELS:
        given = first.get("config", {})
        shape = next((given[name] for name in _BATCH_SHAPES if given.get(name)), config.get("build_input_shape"))
        if shape:
            source = {"shape": list(shape)[1:], "name": None}
    return {
        "name": config.get("name"),
        "trainable": config.get("trainable", True),
        "layers": [_read_layer(layer, own) for layer in entries],
        "input": source,
    }


def _read_functional(config: Mapping[str, Any], own: CustomObjects) -> Config:
    entries = config["layers"]
    used = {entry["name"]: list(_calls(entry)) for entry in entries}
    inputs, outputs = _places(config["input_layers"]), _places(config["output_layers"])
    # Keras counts the calls of a functional model from 1: the first is that of its own input
    counted = [place for calls in used.values() for sources, _ in calls for place in sources] + outputs
    nested = {entry["name"] for entry in entries if entry["class_name"] in _MODELS}
    first = {name: min((number for other, number in counted if other == name), default=0) for name in nested}

    def place(source: tuple[str, int]) -> list[Any]:
        return [source[0], source[1] - first.get(source[0], 0)]

    def read(entry: Mapping[str, Any]) -> Config:
        layer = _read_layer(entry, own)
        # Keras 3 writes training=False for every Dropout; elsewhere it was said in a call
        fixed = layer["class_name"] != "Dropout"
        calls = [
            {"inputs": [place(source) for source in sources], "inference": fixed and inference}
            for sources, inference in used[entry["name"]]
        ]
        return {**layer, "name": entry["name"], "calls": calls or [{"inputs": [], "inference": False}]}

    return {
        "name": config.get("name"),
        "trainable": config.get("trainable", True),
        "layers": [read(entry) for entry in entries],
        "inputs": [place(source) for source in inputs],
        "outputs": [place(source) for source in outputs],
    }


def _places(given: Sequence[Any]) -> list[tuple[str, int]]:
    """Return [["fc", 0, 0]] or ["fc", 0, 0] as [("fc", 0)]."""
    items = [given] if given and isinstance(given[0], str) else given
    return [(name, int(number)) for name, number, *_ in items]


def _calls(entry: Mapping[str, Any]) -> Iterator[tuple[list[tuple[str, int]], bool]]:
    """Yield the inputs of each call of a layer, and whether it keeps the layer in inference mode."""
    for node in entry["inbound_nodes"]:
        sources: list[tuple[str, int]] = []
        arguments: dict[str, Any] = {}
        if isinstance(node, Mapping):  # Keras 3
            arguments = dict(node.get("kwargs") or {})
            for given in node["args"]:
                for tensor in given if isinstance(given, list) else [given]:
                    name, number, _ = tensor["config"]["keras_history"]
                    sources.append((name, int(number)))
        else:
            for name, number, _, *more in [node] if node and isinstance(node[0], str) else node:
                sources.append((name, int(number)))
                arguments |= more[0] if more else {}
        training = arguments.pop("training", None)
        others = {name: value for name, value in arguments.items() if value is not None}
        if training or others:
            raise ValueError(f"layer {entry['name']!r} is called with {others or {'training': True}}")
        yield sources, training is False


def _read_layer(entry: Mapping[str, Any], own: CustomObjects) -> Config:
    class_name = entry["class_name"]
    if class_name in own:
        return {"class_name": class_name, "config": entry["config"]}
    if class_name in _MODELS:
        return _read_model(entry, own)
    name = entry["config"].get("name")
    if class_name == "Lambda":
        raise ValueError(f"layer {name!r} is a Lambda, which holds code; fastcnn never runs code from a file")
    if class_name not in CLASSES:
        raise ValueError(f"layer {name!r} is a {class_name}, which is no layer of fastcnn nor among custom_objects")
    cls = CLASSES[class_name]
    known = {*inspect.signature(cls.__init__).parameters, "name", "trainable"} - set(cls.only_defaults)
    config: Config = {}
    for key, value in entry["config"].items():
        argument = _RENAMED.get((class_name, key), key)
        if key in _BATCH_SHAPES:
            if class_name == "InputLayer" and value is not None:
                config["shape"] = list(value)[1:]
        elif argument in known:
            config[argument] = _read_value(value)
        elif key not in _UNUSED or not _UNUSED[key](value):
            raise ValueError(f"layer {name!r} ({class_name}) has {key}={value!r}, which fastcnn does not have")
    return {"class_name": class_name, "config": config}


_RENAMED = {("LeakyReLU", "alpha"): "negative_slope"}


def _read_value(value: Any) -> Any:
    """Return an argument without what Keras adds to the objects in it."""
    if not isinstance(value, Mapping) or "class_name" not in value:
        return value
    if value["class_name"] == "function":  # Keras 3 of an activation
        return value["config"]
    config = {key: v for key, v in (value.get("config") or {}).items() if key not in _AXES or v is not None}
    config.pop("dtype", None)
    if config.get("distribution") == "normal":  # before Keras 2.2.3, where it was truncated too
        config["distribution"] = "truncated_normal"
    return {"class_name": value["class_name"], "config": config}


_AXES = ("input_axes", "output_axes")


def _is(*allowed: Any) -> Callable[[Any], bool]:
    return lambda value: any(value is a or value == a for a in allowed)


def _is_float32(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = (value.get("config") or {}).get("name")
    return value in (None, "float32")


# arguments that fastcnn does not have, and which of their values change nothing
_UNUSED: dict[str, Callable[[Any], bool]] = {
    "activity_regularizer": _is(None),
    "adjustment": _is(None),
    "batch_size": _is(None),
    "beta_constraint": _is(None),
    "bias_constraint": _is(None),
    "build_config": lambda value: True,
    "data_format": _is(None, "channels_last"),
    "dtype": _is_float32,
    "fused": lambda value: True,
    "gamma_constraint": _is(None),
    "groups": _is(1),
    "input_dtype": _is_float32,
    "keepdims": _is(False),
    "kernel_constraint": _is(None),
    "noise_shape": _is(None),
    "optional": _is(False),
    "quantization_config": _is(None),
    "ragged": _is(False),
    "renorm": _is(False),
    "renorm_clipping": _is(None),
    "renorm_momentum": lambda value: True,
    "seed": lambda value: True,
    "sparse": _is(False),
    "synchronized": _is(False),
    "virtual_batch_size": _is(None),
}
