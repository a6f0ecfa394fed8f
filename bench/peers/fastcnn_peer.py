"""fastcnn: the same graphs and weights through its Keras-like API; input is NHWC. Needs fastcnn and safetensors.

"" is `predict_on_batch`, "predict" `predict`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from keras_models import lenet
from protocol import LEARNING_RATE, MODES, Workload, require, serve
from safetensors.numpy import load_file
from seeded import Array, seeded_labels
from torch_names import keras_weights

import fastcnn


def _build(workload: Workload) -> fastcnn.Model:
    """Returns the model in torchvision's graph, giving logits; raises KeyError for a name it has not."""
    if workload.model == "lenet":
        return lenet(fastcnn, workload.classes)
    applications = fastcnn.applications
    builders = {"resnet50": applications.ResNet50, "resnet18": applications.ResNet18, "vgg16": applications.VGG16}
    graph = {} if workload.model == "vgg16" else {"variant": "torchvision"}  # whose VGG16 has dropout besides
    return builders[workload.model](
        weights=None,
        input_shape=(workload.size, workload.size, workload.channels),
        classes=workload.classes,
        classifier_activation=None,
        **graph,
    )


def _file(workload: Workload, models: Path) -> Path:
    return workload.file(models, ".fastcnn.safetensors")


class FastcnnEngine:
    version = f"fastcnn {fastcnn.__version__}"

    @staticmethod
    def convert(workload: Workload, models: Path) -> None:
        model = _build(workload)
        state = load_file(workload.file(models, ".safetensors"))
        for layer, arrays in keras_weights(state, workload.model).items():
            model.get_layer(layer).set_weights(arrays)
        model.save(_file(workload, models))

    def __init__(self, workload: Workload, models: Path) -> None:
        require(workload, "fastcnn", MODES, ("", "predict"))
        fastcnn.set_num_threads(workload.threads)
        self._model = fastcnn.load_model(_file(workload, models))
        self._x = workload.images()
        self._target = seeded_labels(workload.batch, workload.classes)
        self._train = workload.mode == "train"
        self._predict = workload.variant == "predict"
        self._losses: list[float] = []
        self._logits: Array
        if self._train:
            self._model.compile(
                optimizer=fastcnn.optimizers.Adam(learning_rate=LEARNING_RATE[workload.model]),
                loss=fastcnn.losses.SparseCategoricalCrossentropy(from_logits=True),
            )

    def step(self) -> None:
        if self._train:
            loss = float(np.ravel(self._model.train_on_batch(self._x, self._target))[0])
            if len(self._losses) < 2:
                self._losses.append(loss)
        elif self._predict:
            self._logits = self._model.predict(self._x, batch_size=len(self._x), verbose=0)
        else:
            self._logits = self._model.predict_on_batch(self._x)

    def outputs(self) -> Array:
        return np.array(self._losses, np.float32) if self._train else self._logits


if __name__ == "__main__":
    serve(FastcnnEngine, Workload)
