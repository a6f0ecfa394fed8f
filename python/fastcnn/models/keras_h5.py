"""Keras' .h5 files: whole models in Keras 2's layout, and weights in that of Keras 2 and of Keras 3.

Keras 2: the root has `model_config` and, of a compiled model, `training_config` as JSON; the group `model_weights`
(weights alone: the root) lists `layer_names`; each layer's group lists `weight_names`, paths to its arrays. HDF5 itself
knows no order, so these lists are followed, and layers found by name, or where the names differ by their place.
`optimizer_weights` holds the optimizer's arrays. Besides, fastcnn notes there in `fastcnn.training` what Keras has no
word for, and in `fastcnn.class_names` what the outputs are called.

Keras 3's `.weights.h5`: arrays `layers/<class>[_n]/vars/<i>`, counted per class in the order of the layers, with the
layer's name as the attribute `name` of `vars`.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn import random
from fastcnn._version import __version__
from fastcnn.formats import FilePath, ModelFileError, hdf5
from fastcnn.formats.safetensors import to_float32
from fastcnn.layers.base import Layer
from fastcnn.models import keras_config, keras_training
from fastcnn.models.model import Model
from fastcnn.models.network import Network
from fastcnn.models.sequential import Sequential
from fastcnn.parameters import Parameter

_MODEL_CONFIG, _TRAINING_CONFIG = "model_config", "training_config"
_OWN_TRAINING, _CLASS_NAMES, _VERSION = "fastcnn.training", "fastcnn.class_names", "fastcnn.version"
_WEIGHTS, _OPTIMIZER, _OWN_OPTIMIZER = "model_weights", "optimizer_weights", "fastcnn_optimizer"
_KERAS_VERSION, _BACKEND = "2.2.4", "tensorflow"  # what readers take the layout by
_KERAS_3 = ("layers", "_layer_checkpoint_dependencies")
KERAS_3_SUFFIX = ".weights.h5"

Found = dict[Parameter, str]  # where the file has a weight

# -- writing -----------------------------------------------------------------------------------------------------------


def save(model: Model, filepath: FilePath) -> None:
    """Write a whole model; raises ImportError without h5py, ValueError for a layer without configuration, OSError."""
    texts = {_MODEL_CONFIG: json.dumps(keras_config.to_keras(model)), _VERSION: __version__}
    training = keras_training.to_keras(model)
    if training is not None:
        texts[_TRAINING_CONFIG] = json.dumps(training)
        own = {"compile": model.get_compile_config(), "trained": model.trained_layers(), "seed": random.get_seed()}
        texts[_OWN_TRAINING] = json.dumps(own)
    if model.class_names is not None:
        texts[_CLASS_NAMES] = json.dumps(list(model.class_names))
    with hdf5.write(filepath) as file:
        for name, text in texts.items():
            file.text("", name, text)
        file.group(_WEIGHTS)
        _write_weights(file, _WEIGHTS, model)
        file.text("", "keras_version", _KERAS_VERSION)
        file.text("", "backend", _BACKEND)
        if model.optimizer is not None and model.optimizer.batches > 0:
            _write_optimizer(file, model)


def save_weights(model: Model, filepath: FilePath) -> None:
    """Write the weights, in Keras 3's layout where the name ends in .weights.h5; raises as `save` does."""
    with hdf5.write(filepath) as file:
        if os.fsdecode(filepath).lower().endswith(KERAS_3_SUFFIX):
            file.group("layers")
            for path, layer in _keras_3_paths("layers", model):
                file.group(f"{path}/vars")
                file.text(f"{path}/vars", "name", layer.name)
                for number, weight in enumerate(() if isinstance(layer, Network) else layer.weights):
                    file.array(f"{path}/vars/{number}", weight.value)
        else:
            _write_weights(file, "", model)


def _write_weights(file: hdf5.Writer, root: str, model: Model) -> None:
    file.names(root, "layer_names", [layer.name for layer in model.layers])
    file.text(root, "keras_version", _KERAS_VERSION)
    file.text(root, "backend", _BACKEND)
    prefix = f"{root}/" if root else ""
    for layer in model.layers:
        file.group(prefix + layer.name)
        weights = _in_keras_order(layer)
        file.names(prefix + layer.name, "weight_names", [f"{weight.path}:0" for weight in weights])
        for weight in weights:
            file.array(f"{prefix}{layer.name}/{weight.path}:0", weight.value)


def _write_optimizer(file: hdf5.Writer, model: Model) -> None:
    optimizer = model.optimizer
    assert optimizer is not None
    order, known_to_keras = keras_training.slots(optimizer, model.trained_weights)
    state = model.optimizer_state()
    arrays: dict[str, NDArray[Any]] = {keras_training.ITERATION: np.array(optimizer.batches, np.int64)}
    if isinstance(optimizer.get_config()["learning_rate"], float):
        arrays[keras_training.RATE] = np.array(optimizer.learning_rate, np.float32)
    for slot, weight in order:
        arrays[f"{weight.path.replace('/', '_')}_{slot}"] = state[f"{slot}/{weight.path}"]
    group = _OPTIMIZER if known_to_keras else _OWN_OPTIMIZER
    names = [f"{optimizer.name}/{name}" for name in arrays]
    file.group(group)
    file.names(group, "weight_names", names)
    for name, array in zip(names, arrays.values(), strict=True):
        file.array(f"{group}/{name}", array)


def _in_keras_order(layer: Layer) -> list[Parameter]:
    """Return a layer's weights, those being trained first, as Keras has them in files."""
    return [*layer.trainable_weights, *layer.non_trainable_weights]


# -- reading -----------------------------------------------------------------------------------------------------------


def load_model(filepath: FilePath, custom_objects: Mapping[str, type[Layer]], compile: bool) -> Model:
    """Return the model of a file, compiled if it says how and fastcnn can; else a warning tells why not.

    Raises ModelFileError for a file that is damaged, hostile or no whole model, ImportError without h5py, OSError.
    """
    with hdf5.read(filepath) as file:
        text = file.text("", _MODEL_CONFIG)
        if text is None:
            file.fail("holds weights but no architecture (model_config is missing); build the model and call its "
                      "load_weights")  # fmt: skip
        config = _json(file, _MODEL_CONFIG, text)
        try:
            model = keras_config.from_keras(config, custom_objects)
        except (ValueError, RecursionError) as error:
            file.fail(f"the architecture cannot be built: {error}")
        found = _found_by_layers(file, _WEIGHTS, model, by_name=False, skip_mismatch=False)
        missing = [weight.path for weight in model.weights if weight not in found]
        if missing:
            file.fail(f"has no values for {', '.join(missing[:10])}")
        for weight, path in found.items():
            file.check(path, weight.shape)
        model._gather()
        for weight, path in found.items():  # one after the other, so that they are not in memory twice
            weight.assign(_array(file, path, weight))
        names = file.text("", _CLASS_NAMES)
        if names is not None:
            model.class_names = _names(file, names)
        if compile:
            _compile(file, model)
    return model


def load_weights(model: Model, filepath: FilePath, by_name: bool, skip_mismatch: bool) -> None:
    """Overwrite a model's weights with those of a file, all or after an error none.

    Raises ModelFileError listing what does not fit, ImportError without h5py, OSError.
    """
    with hdf5.read(filepath) as file:
        if any(file.has_group(name) for name in _KERAS_3) and not file.has_group(_WEIGHTS):
            found = _found_by_keras_3(file, model, by_name, skip_mismatch)
        else:
            root = _WEIGHTS if file.has_group(_WEIGHTS) else ""
            found = _found_by_layers(file, root, model, by_name, skip_mismatch)
        arrays = {weight: _array(file, path, weight) for weight, path in found.items()}
    model._gather()
    for weight, array in arrays.items():
        weight.assign(array)


def _array(file: hdf5.Reader, path: str, weight: Parameter) -> NDArray[np.float32]:
    if file.info(path).dtype.kind != "f":
        file.fail(f"array {path!r} is {file.info(path).dtype}, weights are floats")
    return to_float32(path, file.array(path, weight.shape))


# -- which array is whose ----------------------------------------------------------------------------------------------


def _found_by_layers(file: hdf5.Reader, root: str, model: Model, by_name: bool, skip_mismatch: bool) -> Found:
    """Return where a file in Keras 2's layout has the weights."""
    names = file.names(root, "layer_names") if not root or file.has_group(root) else None
    if names is None:
        file.fail("is HDF5 but lists no layers: neither Keras 2's layer_names nor Keras 3's group 'layers' is there")
    prefix = f"{root}/" if root else ""
    lists = {name: file.names(prefix + name, "weight_names") or [] for name in names}
    stored = {name: [f"{prefix}{name}/{path}" for path in paths] for name, paths in lists.items() if paths}
    own = {layer.name: layer for layer in model.layers if layer.weights}
    if by_name:
        pairs = {name: own[name] for name in stored if name in own}
    elif stored.keys() == own.keys():
        pairs = own
    elif len(stored) == len(own):
        pairs = dict(zip(stored, own.values(), strict=True))
    else:
        file.fail(_counts(stored, own))
    found: dict[Parameter, str] = {}
    problems: list[str] = []
    for name, layer in pairs.items():
        paths = _paired(layer, stored[name])
        if paths is None:
            problems.append(f"layer {layer.name!r} has {len(layer.weights)} weights, the file {len(stored[name])}")
        else:
            found |= paths
    return _fitting(file, found, problems, skip_mismatch)


def _counts(stored: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    missing, unexpected = [n for n in own if n not in stored], [n for n in stored if n not in own]
    return (
        f"the file has weights of {len(stored)} layers, the model {len(own)}; only in the model: "
        f"{', '.join(missing[:10]) or '-'}; only in the file: {', '.join(unexpected[:10]) or '-'} (by_name=True loads "
        "the layers that both have)"
    )


def _paired(layer: Layer, paths: Sequence[str]) -> Found | None:
    """Return the arrays of a layer's weights, those of a model in a model by their names if these tell."""
    if len(paths) != len(layer.weights):
        return None
    if isinstance(layer, Network):
        ends = {"/".join(path.removesuffix(":0").split("/")[-2:]): path for path in paths}
        named = {weight: ends[weight.path] for weight in layer.weights if weight.path in ends}
        if len(named) == len(paths):
            return named
    return dict(zip(_in_keras_order(layer), paths, strict=True))


def _fitting(file: hdf5.Reader, found: Found, problems: list[str], skip_mismatch: bool) -> Found:
    """Return the weights whose arrays have their shapes; of others warn, or raise one ModelFileError."""
    fitting: Found = {}
    for weight, path in found.items():
        shape = file.info(path).shape
        if shape == weight.shape:
            fitting[weight] = path
        else:
            problems.append(f"{weight.path} is {list(shape)} in the file, {list(weight.shape)} in the model")
    if problems and not skip_mismatch:
        file.fail("the weights do not fit the model\n  " + "\n  ".join(problems[:20]))
    if problems:
        warnings.warn(f"load_weights: skipped weights of another shape: {'; '.join(problems)}", stacklevel=5)
    return fitting


def _found_by_keras_3(file: hdf5.Reader, model: Model, by_name: bool, skip_mismatch: bool) -> Found:
    """Return where a file in Keras 3's layout has the weights."""
    root = next(name for name in _KERAS_3 if file.has_group(name))
    expected = list(_keras_3_paths(root, model))
    named = {
        f"{path.rpartition('/')[0]}/{name}": path
        for path in _keras_3_groups(file, root)
        if (name := file.text(f"{path}/vars", "name")) is not None
    }
    found: Found = {}
    problems: list[str] = []
    moved: dict[str, str] = {}  # where a model in the model lies in the file
    for path, layer in expected:
        folder, _, _ = path.rpartition("/")
        place = folder
        for start, other in moved.items():
            if folder.startswith(start):
                place = other + folder[len(start) :]
        path_in_file = named.get(f"{place}/{layer.name}") if named else f"{place}/{path.rpartition('/')[2]}"
        if path_in_file is None and not by_name:
            path_in_file = f"{place}/{path.rpartition('/')[2]}"  # other names: by class and place
        if isinstance(layer, Network):
            moved[path] = path_in_file or path
            continue
        if not layer.weights or path_in_file is None:
            continue
        names = file.children(f"{path_in_file}/vars") if file.has_group(f"{path_in_file}/vars") else []
        if len(names) != len(layer.weights):
            if names or not by_name:
                problems.append(f"layer {layer.name!r} has {len(layer.weights)} weights, the file {len(names)}")
            continue
        found |= {weight: f"{path_in_file}/vars/{number}" for number, weight in enumerate(layer.weights)}
    return _fitting(file, found, problems, skip_mismatch)


def _keras_3_groups(file: hdf5.Reader, root: str) -> Iterator[str]:
    """Yield the groups of all layers that have `vars`, those of models in the model too."""
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        for name in file.children(folder):
            path = f"{folder}/{name}"
            if file.has_group(f"{path}/vars"):
                yield path
            if path.count("/") < 2 * _MAX_DEPTH and file.has_group(f"{path}/layers"):
                waiting.append(f"{path}/layers")


_MAX_DEPTH = 16  # models within models


def _keras_3_paths(root: str, model: Network) -> Iterator[tuple[str, Layer]]:
    """Yield the group of every layer as Keras 3 numbers them, a model before the layers within it."""
    counts: Counter[str] = Counter()
    for layer in model.layers:
        word = _snake_case(_keras_class(layer))
        number = counts[word]
        counts[word] += 1
        path = f"{root}/{word}_{number}" if number else f"{root}/{word}"
        yield path, layer
        if isinstance(layer, Network):
            yield from _keras_3_paths(f"{path}/layers", layer)


def _keras_class(layer: Layer) -> str:
    if isinstance(layer, Network):
        return "Sequential" if isinstance(layer, Sequential) else "Functional"
    return type(layer).__name__


def _snake_case(name: str) -> str:
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)).lower()


# -- training ----------------------------------------------------------------------------------------------------------


def _compile(file: hdf5.Reader, model: Model) -> None:
    """Compile a model as the file says, with the optimizer's arrays; warn about what fastcnn does not have."""
    own, foreign = file.text("", _OWN_TRAINING), file.text("", _TRAINING_CONFIG)
    try:
        if own is not None:
            training = _json(file, _OWN_TRAINING, own)
            model.compile_from_config(training["compile"])
            if training.get("trained") is not None:
                model.fix_trained_layers(training["trained"])
        elif foreign is not None:
            model.compile(**keras_training.compile_arguments(_json(file, _TRAINING_CONFIG, foreign)))
        else:
            return
    except ModelFileError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
        warnings.warn(
            f"{file.path}: the model is not compiled, since fastcnn cannot train as the file says ({error}); call "
            "compile before training",
            stacklevel=4,
        )
        return
    _load_optimizer(file, model)


def _load_optimizer(file: hdf5.Reader, model: Model) -> None:
    optimizer = model.optimizer
    assert optimizer is not None
    order, known_to_keras = keras_training.slots(optimizer, model.trained_weights)
    group = _OPTIMIZER if known_to_keras else _OWN_OPTIMIZER
    if not file.has_group(group):
        return
    found, count = keras_training.places(file.names(group, "weight_names") or [], order)
    stored = {place: f"{group}/{name}" for place, name in found.items()}
    counter = f"{group}/{count}"
    fits = count is not None and file.info(counter).dtype.kind in "iu"
    for slot, weight in order if fits else ():
        info = file.info(stored[slot, weight.path])
        fits = fits and info.shape == weight.shape and info.dtype.kind == "f"
    if not fits:
        warnings.warn(
            f"{file.path}: the optimizer's arrays are not in an order known here; training would begin with fresh ones",
            stacklevel=5,
        )
        return
    arrays: dict[str, NDArray[Any]] = {}
    for slot, weight in order:
        path = stored[slot, weight.path]
        arrays[f"{slot}/{weight.path}"] = to_float32(path, file.array(path, weight.shape))
    arrays["iterations"] = file.array(counter, ())
    if arrays["iterations"] < 0:
        file.fail(f"{counter!r} must be a whole number of at least 0, got {arrays['iterations']}")
    model.load_optimizer_state(arrays)


def _json(file: hdf5.Reader, name: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        file.fail(f"{name} is not JSON ({error})")
    if not isinstance(value, dict):
        file.fail(f"{name} is not a JSON object")
    return value


def _names(file: hdf5.Reader, text: str) -> list[str]:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        file.fail(f"{_CLASS_NAMES} is not JSON ({error})")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        file.fail(f"{_CLASS_NAMES} is not a list of names")
    return names
