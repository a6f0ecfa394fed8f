"""From torchvision's names and layouts to Keras' layer names and layouts, for the models of `torch_models.py`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np
from seeded import Array

_VGG_FEATURES = {  # index in torchvision's `features` -> Keras layer
    index: f"block{block}_conv{conv}"
    for block, indices in enumerate(((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)), 1)
    for conv, index in enumerate(indices, 1)
}
_VGG_CLASSIFIER = {0: "fc1", 3: "fc2", 6: "predictions"}
_VGG_CHANNELS = 512  # of the map that the first dense layer reads

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


def _layer(module: str) -> tuple[str, bool]:
    """Returns Keras' layer name of a torch module, and whether it is a BatchNormalization."""
    if match := re.fullmatch(r"features\.(\d+)", module):
        return _VGG_FEATURES[int(match[1])], False
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


def keras_location(name: str) -> tuple[str, int]:
    """Returns (layer, position in its get_weights()) of a state_dict entry.

    Raises ValueError or KeyError for a name without one.
    """
    module, _, variable = name.rpartition(".")
    layer, batchnorm = _layer(module)
    return layer, _POSITIONS[batchnorm][variable]


def keras_layout(name: str, values: Array) -> Array:
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
        side = math.isqrt(features // _VGG_CHANNELS)
        return values.reshape(units, _VGG_CHANNELS, side, side).transpose(2, 3, 1, 0).reshape(features, units)
    return values.T


def keras_weights(state: Mapping[str, Array]) -> dict[str, list[Array]]:
    """Returns what each layer's set_weights() takes, by layer name; torch's batch counters are dropped."""
    layers: dict[str, dict[int, Array]] = {}
    for name, values in state.items():
        if not name.endswith("num_batches_tracked"):
            layer, position = keras_location(name)
            layers.setdefault(layer, {})[position] = np.ascontiguousarray(keras_layout(name, values))
    return {layer: [arrays[position] for position in sorted(arrays)] for layer, arrays in layers.items()}
