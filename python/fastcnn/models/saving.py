"""Models as files: the architecture, the weights and what training needs to go on.

The name's ending chooses the format of a new file: safetensors, whose names are said in `fastcnn.formats.safetensors`,
or Keras' .h5, which is `fastcnn.models.keras_h5`'s; the content of an old one tells which it is. A file is data: its
configuration can only name fastcnn's layers, or classes passed in `custom_objects`, and every name and shape is checked
before a weight changes.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastcnn import _core, random
from fastcnn._version import __version__
from fastcnn.formats import FilePath, ModelFileError, detect, safetensors

if TYPE_CHECKING:
    from fastcnn.layers import Layer
    from fastcnn.models.model import Model
    from fastcnn.models.training import Trainer

SUFFIX = ".safetensors"
KERAS_SUFFIXES = (".h5", ".hdf5")

_OPTIMIZER = "optimizer/"
_ITERATIONS = f"{_OPTIMIZER}iterations"
_VERSION, _ISA = "fastcnn.version", "fastcnn.isa"
_CONFIG, _TRAINING, _CLASS_NAMES = "fastcnn.config", "fastcnn.training", "fastcnn.class_names"


def check_suffix(filepath: FilePath) -> None:
    """Raise ValueError unless a model can be saved under this name."""
    suffix = os.path.splitext(os.fsdecode(filepath))[1]
    if suffix.lower() not in (SUFFIX, *KERAS_SUFFIXES):
        raise ValueError(
            f"{os.fsdecode(filepath)}: a model file ends in {SUFFIX}, or in {' or '.join(KERAS_SUFFIXES)} (Keras), "
            f"got {suffix!r}"
        )


def _is_keras(filepath: FilePath) -> bool:
    return os.path.splitext(os.fsdecode(filepath))[1].lower() in KERAS_SUFFIXES


def save(model: Model, filepath: FilePath, overwrite: bool = True) -> None:
    """Write a whole model: architecture, weights, class names, and if it is compiled how it trains and the optimizer.

    The file replaces an old one at once or not at all. Raises ValueError for a suffix other than .safetensors, .h5 and
    .hdf5 and for weights that are not finite, FileExistsError for a file that may not be overwritten, OSError, and
    ImportError for .h5 without h5py.
    """
    _check_target(filepath, overwrite)
    tensors = _weights(model)
    if _is_keras(filepath):
        from fastcnn.models import keras_h5

        keras_h5.save(model, filepath)
        return
    training: dict[str, Any] = {
        "compile": model.get_compile_config(),
        "trained": model.trained_layers(),
        "seed": random.get_seed(),
    }
    if model.optimizer is not None and model.optimizer.batches > 0:
        training["step"] = model.optimizer.batches
        tensors |= {_OPTIMIZER + name: array for name, array in model.optimizer_state().items()}
    metadata = _metadata() | {
        _CONFIG: json.dumps({"class_name": type(model).__name__, "config": model.get_config()}),
        _TRAINING: json.dumps(training),
    }
    if model.class_names is not None:
        metadata[_CLASS_NAMES] = json.dumps(list(model.class_names))
    safetensors.write(filepath, tensors, metadata)


def save_weights(model: Model, filepath: FilePath, overwrite: bool = True) -> None:
    """Write the weights alone, where the name ends in .weights.h5 in Keras 3's layout; raises as `save` does."""
    _check_target(filepath, overwrite)
    tensors = _weights(model)
    if _is_keras(filepath):
        from fastcnn.models import keras_h5

        keras_h5.save_weights(model, filepath)
        return
    safetensors.write(filepath, tensors, _metadata())


def load_model(
    filepath: FilePath,
    custom_objects: Mapping[str, type[Layer]] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> Model:
    """Return the model in a file, compiled as it was when saved unless `compile` is false.

    `custom_objects` maps class names to the caller's own layers. Raises ModelFileError for a file that is damaged, of
    another format or no whole model, OSError, ImportError for Keras' .h5 without h5py, and ValueError for
    `safe_mode=False`: nothing in a file is ever run. A .h5 that says how to train in a way fastcnn cannot is loaded
    with a warning, not compiled.
    """
    if not safe_mode:
        raise ValueError("load_model: safe_mode must be True; fastcnn never runs code from a model file")
    if detect(filepath) == "hdf5":
        from fastcnn.models import keras_h5

        return keras_h5.load_model(filepath, custom_objects or {}, compile)
    header = safetensors.read_header(filepath)
    if _CONFIG not in header.metadata:
        raise ModelFileError(
            f"{os.fsdecode(filepath)}: holds weights but no architecture ({_CONFIG} is missing); build the model and "
            "call its load_weights"
        )
    model = _build(filepath, header.metadata, custom_objects or {})
    stored = _optimizer_shapes(header)
    state = _compile(filepath, model, header) if compile else {}
    file = safetensors.read(filepath, weight_shapes(model) | (state or stored), lambda: _memory(model))
    restored = {name.removeprefix(_OPTIMIZER): _optimizer_array(filepath, name, file.tensors[name]) for name in state}
    _assign(model, file.tensors)
    if restored:
        model.load_optimizer_state(restored)
    return model


def load_weights(model: Model, filepath: FilePath, by_name: bool = False, skip_mismatch: bool = False) -> None:
    """Overwrite a model's weights with those of the same names in a file, all of them or, after an error, none.

    `by_name` allows names that only the model or only the file has; `skip_mismatch` leaves weights of another shape as
    they are and warns. Raises ModelFileError listing every name that is missing, unexpected or of another shape. The
    layers of a Keras .h5, whole models' too, are found by name, or if the names differ and `by_name` is false by place.
    """
    if detect(filepath) == "hdf5":
        from fastcnn.models import keras_h5

        keras_h5.load_weights(model, filepath, by_name, skip_mismatch)
        return
    header = safetensors.read_header(filepath)
    own = weight_shapes(model)
    found = {name: info.shape for name, info in header.tensors.items()}
    expected = found.copy() if by_name else {}
    for name, shape in own.items():
        if name in found or not by_name:
            expected[name] = found[name] if skip_mismatch and name in found else shape
    file = safetensors.read(filepath, expected | _optimizer_shapes(header))
    fitting = {name: file.tensors[name] for name, shape in own.items() if found.get(name) == shape}
    if skipped := [name for name in own if name in found and name not in fitting]:
        lines = [f"{name} is {list(found[name])} in the file, {list(own[name])} in the model" for name in skipped]
        warnings.warn(f"load_weights: skipped weights of another shape: {'; '.join(lines)}", stacklevel=2)
    _assign(model, fitting)


def _metadata() -> dict[str, str]:
    return {_VERSION: __version__, _ISA: _core.isa()}


def _weights(model: Model) -> dict[str, NDArray[Any]]:
    """Return every weight by its path; raise ValueError for values that are not finite."""
    tensors: dict[str, NDArray[Any]] = {}
    for parameter in model.weights:
        if parameter.path in tensors or parameter.path.startswith(_OPTIMIZER):
            raise ValueError(f"save: the layer name in {parameter.path} is taken, rename the layer")
        value = parameter.value
        if not np.isfinite(value).all():
            raise ValueError(f"save: {parameter.path} holds NaN or infinity; such a model is not saved")
        tensors[parameter.path] = value
    return tensors


def _check_target(filepath: FilePath, overwrite: bool) -> None:
    check_suffix(filepath)
    if not overwrite and os.path.exists(filepath):
        raise FileExistsError(f"{os.fsdecode(filepath)} exists and overwrite is False")


def weight_shapes(model: Trainer) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight by its path."""
    return {parameter.path: parameter.shape for parameter in model.weights}


def _optimizer_shapes(header: safetensors.Header) -> dict[str, tuple[int, ...]]:
    """Return what the file has for an optimizer, where nobody wants it."""
    return {name: info.shape for name, info in header.tensors.items() if name.startswith(_OPTIMIZER)}


def _memory(model: Model) -> dict[str, NDArray[Any]]:
    """Return where the weights will lie: what is read there is not in memory twice."""
    model._gather()
    return {parameter.path: parameter.memory for parameter in model.weights}


def _assign(model: Model, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Overwrite the weights that are among the tensors; raise before the first if one cannot be converted."""
    arrays = {
        parameter: safetensors.to_float32(parameter.path, tensors[parameter.path])
        for parameter in model.weights
        if parameter.path in tensors
    }
    model._gather()
    for parameter, array in arrays.items():
        parameter.assign(array)


def _build(filepath: FilePath, metadata: Mapping[str, str], custom_objects: Mapping[str, type[Layer]]) -> Model:
    from fastcnn.models import Model, Sequential

    stored = metadata_json(filepath, metadata, _CONFIG)
    cls = next((cls for cls in (Model, Sequential) if cls.__name__ == stored.get("class_name")), None)
    if cls is None:
        raise ModelFileError(
            f"{os.fsdecode(filepath)}: holds a {stored.get('class_name')!r}, expected a Model or Sequential"
        )
    try:
        model = cls.from_config(stored["config"], custom_objects)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{os.fsdecode(filepath)}: the architecture cannot be built: {_reason(error)}") from error
    model.class_names = _class_names(filepath, metadata)
    return model


def _compile(filepath: FilePath, model: Model, header: safetensors.Header) -> dict[str, tuple[int, ...]]:
    """Compile the model as it was, if it was; return the shapes of the optimizer's state, if it had made a step."""
    training = metadata_json(filepath, header.metadata, _TRAINING)
    if training.get("compile") is None:
        return {}
    try:
        model.compile_from_config(training["compile"])
        if (trained := training.get("trained")) is not None:  # `trainable` may have been changed since
            model.fix_trained_layers(trained)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{os.fsdecode(filepath)}: the model cannot be compiled: {_reason(error)}; load_model(compile=False) loads "
            "the rest"
        ) from error
    if not training.get("step"):
        return {}
    assert model.optimizer is not None
    slots = {
        f"{_OPTIMIZER}{slot}/{parameter.path}": parameter.shape
        for slot in model.optimizer.slots
        for parameter in model.trained_weights
    }
    return slots | {_ITERATIONS: ()}


def _optimizer_array(filepath: FilePath, name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return a slot as float32, or the number of steps; raise ModelFileError for what cannot be either."""
    if name != _ITERATIONS:
        return safetensors.to_float32(name, array)
    if array.dtype.kind not in "iu" or array < 0:
        raise ModelFileError(f"{os.fsdecode(filepath)}: {name} must be a whole number of at least 0, got {array}")
    return array


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _class_names(filepath: FilePath, metadata: Mapping[str, str]) -> list[str] | None:
    if _CLASS_NAMES not in metadata:
        return None
    names = _parse(filepath, metadata, _CLASS_NAMES)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelFileError(f"{os.fsdecode(filepath)}: {_CLASS_NAMES} is not a list of names")
    return names


def metadata_json(filepath: FilePath, metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    """Return the JSON object under a key, empty if there is none."""
    value = _parse(filepath, metadata, key) if key in metadata else {}
    if not isinstance(value, dict):
        raise ModelFileError(f"{os.fsdecode(filepath)}: {key} is not a JSON object")
    return value


def _parse(filepath: FilePath, metadata: Mapping[str, str], key: str) -> Any:
    try:
        return json.loads(metadata[key])
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{os.fsdecode(filepath)}: {key} is not JSON ({error})") from error
