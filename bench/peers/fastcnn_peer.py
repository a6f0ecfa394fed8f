"""fastcnn: the same graphs and weights through its Keras-like API; input is NHWC. Needs fastcnn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from protocol import CLASSES, LEARNING_RATE, MODES, Workload, require, serve
from safetensors.numpy import load_file
from seeded import Array, seeded_images, seeded_labels
from torch_names import keras_weights

import fastcnn


def build(name: str, size: int, classes: int) -> Any:
    """Returns fastcnn's model of that name, in torchvision's graph, giving logits; raises KeyError for another name."""
    applications = fastcnn.applications
    builders = {"resnet50": applications.ResNet50, "resnet18": applications.ResNet18, "vgg16": applications.VGG16}
    graph = {} if name == "vgg16" else {"variant": "torchvision"}  # whose VGG16 has dropout besides
    return builders[name](
        weights=None, input_shape=(size, size, 3), classes=classes, classifier_activation=None, **graph
    )


class FastcnnEngine:
    version = f"fastcnn {fastcnn.__version__}"

    def __init__(self, workload: Workload, models: Path) -> None:
        require(workload, "fastcnn", MODES)
        fastcnn.set_num_threads(workload.threads)
        self._model = build(workload.model, workload.size, CLASSES)
        for layer, arrays in keras_weights(load_file(workload.file(models, ".safetensors"))).items():
            self._model.get_layer(layer).set_weights(arrays)
        self._x = seeded_images(workload.batch, workload.size)
        self._target = seeded_labels(workload.batch, CLASSES)
        self._train = workload.mode == "train"
        self._losses: list[float] = []
        self._logits: Array
        if self._train:
            self._model.compile(
                optimizer=fastcnn.optimizers.Adam(learning_rate=LEARNING_RATE[workload.model]),
                loss=fastcnn.losses.SparseCategoricalCrossentropy(from_logits=True),
            )

    def step(self) -> None:
        if not self._train:
            self._logits = self._model.predict_on_batch(self._x)
            return
        loss = float(np.ravel(self._model.train_on_batch(self._x, self._target))[0])
        if len(self._losses) < 2:
            self._losses.append(loss)

    def outputs(self) -> Array:
        return np.array(self._losses, np.float32) if self._train else self._logits


if __name__ == "__main__":
    serve(FastcnnEngine, Workload)
