"""Keras' functions on whole models: saving, copying, and architectures as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastcnn.formats import FilePath
from fastcnn.layers.base import Layer
from fastcnn.models import keras_config
from fastcnn.models.model import Model
from fastcnn.models.network import Network
from fastcnn.models.sequential import Sequential

CustomObjects = Mapping[str, type[Layer]]


def save_model(model: Model, filepath: FilePath, overwrite: bool = True, zipped: None = None) -> None:
    """Write a whole model to a file: `model.save`; raises as that does."""
    model.save(filepath, overwrite=overwrite, zipped=zipped)


def clone_model(model: Model, input_tensors: None = None, clone_function: None = None) -> Model:
    """Return a model of the same layers with weights of its own, newly initialised, and not compiled.

    Raises TypeError for what is no model and ValueError for `input_tensors` and `clone_function`, which fastcnn does
    not have, and for a layer without configuration.
    """
    if not isinstance(model, Model):
        raise TypeError(f"clone_model: model must be a Model or Sequential, got {type(model).__name__}")
    for argument, value in (("input_tensors", input_tensors), ("clone_function", clone_function)):
        if value is not None:
            raise ValueError(f"clone_model: {argument} is not supported yet and must be None, got {value!r}")
    own = {type(layer).__name__: type(layer) for layer in model.flat_layers()}
    cls = Sequential if isinstance(model, Sequential) else Model
    copy: Model = cls.from_config(model.get_config(), own)
    copy.class_names = None if model.class_names is None else list(model.class_names)
    return copy


def model_from_config(config: Mapping[str, Any], custom_objects: CustomObjects | None = None) -> Model:
    """Return the model of {"class_name", "config"} as Keras 2, Keras 3 or `Model.to_json` have it, not compiled.

    `custom_objects` maps class names to the caller's own layers. Raises ValueError for what is no such configuration
    and for layers and arguments that fastcnn does not have; nothing in it is ever run.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"model_from_config: config must be a dict, got {type(config).__name__}")
    try:
        return keras_config.from_keras(config, custom_objects)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"model_from_config: {error}") from error


def model_from_json(json_string: str, custom_objects: CustomObjects | None = None) -> Model:
    """Return the model of a text that `Model.to_json` of fastcnn or Keras gave; raises as `model_from_config` does."""
    try:
        config = json.loads(json_string)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"model_from_json: json_string is not JSON ({error})") from error
    return model_from_config(config, custom_objects)


def to_json(model: Network, **options: Any) -> str:
    """Return the architecture as JSON in Keras 2's form; `options` go to json.dumps."""
    assert isinstance(model, Model)
    return json.dumps(keras_config.to_keras(model), **options)
