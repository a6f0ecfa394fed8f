"""From torchvision's names and layouts to Keras' layer names and layouts, for the models of `torch_models.py`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np
from seeded import Array

_VGG_CONVOLUTIONS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # of each block


def _vgg_features(model: str) -> dict[int, tuple[str, bool]]:
    """Returns the Keras layer, and whether it is a BatchNormalization, of each index in torchvision's `features`."""
    batch_norm = model.endswith("_bn")
    found, index = {}, 0
    for block, count in enumerate(_VGG_CONVOLUTIONS[model.removesuffix("_bn")], 1):
        for conv in range(1, count + 1):
            found[index] = f"block{block}_conv{conv}", False
            if batch_norm:
                found[index + 1] = f"block{block}_bn{conv}", True
            index += 3 if batch_norm else 2  # the ReLU
        index += 1  # the pooling
    return found


_VGG_FEATURES = {model + end: _vgg_features(model + end) for model in _VGG_CONVOLUTIONS for end in ("", "_bn")}
_VGG_CLASSIFIER = {0: "fc1", 3: "fc2", 6: "predictions"}
_VGG_CHANNELS = 512  # of the map that the first dense layer reads
_LENET = {
    "features.0": "conv1",
    "features.3": "conv2",
    "classifier.0": "fc1",
    "classifier.2": "fc2",
    "classifier.4": "predictions",
}
_LENET_CHANNELS = 16

# the position of a variable in Keras' get_weights()
_POSITIONS = {
    True: {
        "weight": 0,
        "bias": 1,
        "running_mean": 2,
        "running_var": 3,
    },  # BatchNormalization: gamma, beta, moving_mean, moving_variance
    False: {"weight": 0, "bias": 1},  # kernel, bias
}


def _layer(module: str, model: str) -> tuple[str, bool]:
    """Returns Keras' layer name of a torch module, and whether it is a BatchNormalization."""
    if model == "lenet":
        return _LENET[module], False
    if match := re.fullmatch(r"features\.(\d+)", module):
        return _VGG_FEATURES[model][int(match[1])]
    if match := re.fullmatch(r"classifier\.(\d+)", module):
        return _VGG_CLASSIFIER[int(match[1])], False
    if match := re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn)(\d)", module):
        return f"conv{int(match[1]) + 1}_block{int(match[2]) + 1}_{match[4]}_{match[3]}", match[3] == "bn"
    if match := re.fullmatch(r"layer(\d)\.0\.downsample\.([01])", module):
        return f"conv{int(match[1]) + 1}_block1_0_{('conv', 'bn')[int(match[2])]}", match[2] == "1"
    if module in ("conv1", "bn1"):
        return f"conv1_{module[:-1]}", module == "bn1"
    if module == "fc":
        return "predictions", False
    raise ValueError(f"torch_names: no Keras layer corresponds to module {module!r}")


def keras_location(name: str, model: str = "vgg16") -> tuple[str, int]:
    """Returns (layer, position in its get_weights()) of a state_dict entry; `model` matters for VGGs and LeNet.

    Raises ValueError or KeyError for a name without one.
    """
    module, _, variable = name.rpartition(".")
    layer, batchnorm = _layer(module, model)
    return layer, _POSITIONS[batchnorm][variable]


def keras_layout(name: str, values: Array, model: str = "vgg16") -> Array:
    """Returns the values of a state_dict entry in Keras' layout.

    Convolutions go from OIHW to HWIO, dense layers are transposed, the one after a flatten goes from CHW to HWC rows;
    vectors stay.
    """
    if values.ndim == 4:
        return values.transpose(2, 3, 1, 0)
    if values.ndim != 2:
        return values
    if name == "classifier.0.weight":
        units, features = values.shape
        channels = _LENET_CHANNELS if model == "lenet" else _VGG_CHANNELS
        side = math.isqrt(features // channels)
        return values.reshape(units, channels, side, side).transpose(2, 3, 1, 0).reshape(features, units)
    return values.T


def torch_layout(name: str, values: Array, shape: tuple[int, ...], model: str = "vgg16") -> Array:
    """Returns an array in Keras' layout in that of a state_dict entry of that shape: what undoes `keras_layout`."""
    places = keras_layout(name, np.arange(math.prod(shape)).reshape(shape), model).ravel()
    flat = np.empty(places.size, values.dtype)
    flat[places] = values.ravel()
    return flat.reshape(shape)


def keras_weights(state: Mapping[str, Array], model: str = "vgg16") -> dict[str, list[Array]]:
    """Returns what each layer's set_weights() takes, by layer name; torch's batch counters are dropped."""
    layers: dict[str, dict[int, Array]] = {}
    for name, values in state.items():
        if not name.endswith("num_batches_tracked"):
            layer, position = keras_location(name, model)
            layers.setdefault(layer, {})[position] = np.ascontiguousarray(keras_layout(name, values, model))
    return {layer: [arrays[position] for position in sorted(arrays)] for layer, arrays in layers.items()}
