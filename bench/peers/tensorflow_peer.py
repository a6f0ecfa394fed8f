"""Keras 3 on TensorFlow, CPU, in all its ways to call a model. Needs tensorflow-cpu, keras and safetensors.

"predict", "predict_on_batch" and "call" are Keras' own; "function" is a tf.function of the model, "jit" the same
through XLA, "frozen" a graph whose variables have become constants, so that TensorFlow folds and fuses. All take a
NumPy array and give one. A training step is Keras' `train_on_batch`, whose graph "jit" compiles with XLA. oneDNN is
TensorFlow's own choice, which TF_ENABLE_ONEDNN_OPTS=0 or 1 overrides.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before the import
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf
from keras_models import build
from protocol import LEARNING_RATE, Workload, require, serve
from safetensors.numpy import load_file
from seeded import Array, seeded_labels
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from torch_names import keras_weights

VARIANTS = {
    "infer": ("predict", "predict_on_batch", "call", "function", "jit", "frozen"),
    "train": ("train_on_batch", "jit"),
}


def _file(workload: Workload, models: Path) -> Path:
    return workload.file(models, ".keras")


def _graph_file(workload: Workload, models: Path) -> Path:
    return workload.file(models, ".tensorflow.pb")


def _write_graph(model: Any, path: Path) -> None:
    """Writes the model's graph from "images" to "logits" with its variables as constants."""
    signature = [tf.TensorSpec(model.inputs[0].shape, name="images")]
    logits = tf.function(lambda images: tf.identity(model(images, training=False), name="logits"), signature)
    frozen = convert_variables_to_constants_v2(logits.get_concrete_function())
    path.write_bytes(frozen.graph.as_graph_def().SerializeToString())


def _frozen(x: Array, path: Path, threads: int) -> Callable[[], Any]:
    """Returns what runs a file of `_write_graph` on x in a session: a concrete function would take 12 GB for VGG16."""
    definition = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    with tf.Graph().as_default() as graph:
        images = tf.compat.v1.placeholder(tf.float32, x.shape)
        (logits,) = tf.import_graph_def(definition, {"images:0": images}, ["logits:0"], name="")
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=1)
    run = tf.compat.v1.Session(graph=graph, config=config).make_callable(logits, [images])
    return lambda: run(x)


def _caller(model: Any, x: Array, variant: str) -> Callable[[], Any]:
    """Returns what runs a Keras model on x."""
    if variant == "predict":
        return lambda: model.predict(x, batch_size=len(x), verbose=0)
    if variant == "predict_on_batch":
        return lambda: model.predict_on_batch(x)
    if variant == "call":
        return lambda: model(x, training=False).numpy()
    signature = [tf.TensorSpec(x.shape)]
    logits = tf.function(lambda images: model(images, training=False), signature, jit_compile=variant == "jit")
    return lambda: logits(x).numpy()


def _trainer(model: Any, x: Array, workload: Workload) -> Callable[[], float]:
    """Returns what makes a step of Adam on x and returns its loss, the mean over steps unless metrics are reset."""
    model.compile(
        keras.optimizers.Adam(LEARNING_RATE[workload.model], epsilon=1e-7),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=workload.variant == "jit",
    )
    labels = seeded_labels(workload.batch, workload.classes)
    return lambda: model.train_on_batch(x, labels)


class TensorFlowEngine:
    version = f"keras {keras.__version__} tensorflow {tf.__version__}"

    @staticmethod
    def convert(workload: Workload, models: Path) -> None:
        model = build(keras, workload.model, workload.size, workload.classes)
        state = load_file(workload.file(models, ".safetensors"))
        for layer, arrays in keras_weights(state, workload.model).items():
            model.get_layer(layer).set_weights(arrays)
        model.save(_file(workload, models))
        _write_graph(model, _graph_file(workload, models))

    def __init__(self, workload: Workload, models: Path) -> None:
        require(workload, "tensorflow", tuple(VARIANTS), VARIANTS.get(workload.mode, ()))
        x = workload.images()
        self._result: Any
        self._losses: list[float] = []
        self._model = None
        if workload.variant == "frozen":
            self._call = _frozen(x, _graph_file(workload, models), workload.threads)
            return
        tf.config.threading.set_intra_op_parallelism_threads(workload.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        model = keras.models.load_model(_file(workload, models), compile=False)
        if workload.mode == "train":
            self._model, self._call = model, _trainer(model, x, workload)
        else:
            self._call = _caller(model, x, workload.variant)

    def step(self) -> None:
        self._result = self._call()
        if self._model is not None and len(self._losses) < 2:
            self._losses.append(float(self._result))
            self._model.reset_metrics()

    def outputs(self) -> Array:
        return np.array(self._losses, np.float32) if self._model is not None else cast(Array, self._result)


if __name__ == "__main__":
    serve(TensorFlowEngine, Workload)
