"""ResNet50 and VGG16 against PyTorch's numbers on the same weights: logits, batch statistics, gradients, 20 Adam steps.

The vectors hold one float64 run and three float32 runs of PyTorch (bench/peers/torch_vectors.py made them). How far its
float32 runs lie from float64 is the yardstick: rounding moves a ReLU's input across zero now and then, which changes
gradients by a percent, and Adam turns the signs of the smallest gradients into whole steps.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import applications, losses, optimizers

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "bench" / "peers"
if not PEERS.is_dir():
    pytest.skip("needs bench/peers of the source tree", allow_module_level=True)
sys.path.insert(0, str(PEERS))

from seeded import seeded_images, seeded_labels, seeded_weights  # noqa: E402
from torch_names import keras_layout, keras_location, keras_weights  # noqa: E402
from vectors import Vectors, load_vectors  # noqa: E402

# How much farther from float64 than PyTorch's worst run: Winograd's errors are about five times the direct ones.
LOGITS, GRADIENTS = 8.0, 3.0
BUILDERS = {
    "resnet50": lambda **options: applications.ResNet50(variant="torchvision", **options),
    "vgg16": applications.VGG16,
}


@pytest.fixture(scope="module", params=["torch_resnet50_64", "torch_vgg16_64"])
def vectors(request: pytest.FixtureRequest) -> Vectors:
    return load_vectors(ROOT / "tests" / "vectors" / f"{request.param}.npz")


@pytest.fixture(params=[True, False], ids=["winograd", "direct"])
def winograd(request: pytest.FixtureRequest) -> Any:
    fastcnn.set_winograd(request.param)
    yield request.param
    fastcnn.set_winograd(True)


def build(vectors: Vectors) -> Any:
    config = vectors.config
    model = BUILDERS[config["model"]](
        weights=None,
        input_shape=(config["size"], config["size"], 3),
        classes=config["classes"],
        classifier_activation=None,
    )
    shapes = {name: sample.shape for name, sample in vectors.grads.items()}
    for name, sample in vectors.batch_stats.items():
        module, _, statistic = name.rpartition(".")
        shapes[f"{module}.running_{statistic}"] = sample.shape
    state = {name: seeded_weights(name, shape, config["seed"]) for name, shape in shapes.items()}
    for layer, arrays in keras_weights(state).items():
        model.get_layer(layer).set_weights(arrays)
    model.compile(
        optimizer=optimizers.Adam(config["learning_rate"], config["beta_1"], config["beta_2"], config["epsilon"]),
        loss=losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def data(vectors: Vectors) -> tuple[Any, Any]:
    config = vectors.config
    return (
        seeded_images(config["batch"], config["size"], config["seed"]),
        seeded_labels(config["batch"], config["classes"]),
    )


def check_loss(vectors: Vectors, loss: float) -> None:
    exact, rounded = float(vectors.arrays["loss64"]), vectors.arrays["loss32"]
    assert abs(loss - exact) <= max(LOGITS * np.abs(rounded - exact).max(), 1e-6 * exact)


def test_logits(vectors: Vectors, winograd: bool) -> None:
    x, _ = data(vectors)
    exact, rounded = vectors.arrays["eval_logits64"], vectors.arrays["eval_logits32"]
    error = np.abs(build(vectors).predict_on_batch(x) - exact).max()
    assert error <= LOGITS * np.abs(rounded - exact).max()
    assert error <= 2e-5 * np.abs(exact).max()


def test_loss_and_gradients(vectors: Vectors, winograd: bool) -> None:
    model = build(vectors)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    loss = model.train_on_batch(*data(vectors))
    check_loss(vectors, loss)
    state = model._training()[1]
    for name, sample in vectors.grads.items():
        layer, position = keras_location(name)
        parameter = model.get_layer(layer).weights[position]
        assert before[layer][position].shape == parameter.shape
        places = keras_layout(name, np.arange(np.prod(sample.shape)).reshape(sample.shape)).ravel()
        gradient = np.empty(places.size)
        gradient[places] = state.gradient(parameter).ravel()  # back in torch's order
        error = np.linalg.norm(gradient[sample.index] - sample.value64)
        # the error of a whole tensor, scaled to the sampled part; a floor for the tensors that happen to agree
        share = np.sqrt(sample.index.size / places.size)
        allowed = GRADIENTS * share * max(sample.error_norm32.max(), 0.01 * sample.norm64)
        assert error <= allowed, f"{name}: {error / (share * sample.norm64 + 1e-30):.2e} of its norm"


def test_twenty_steps(vectors: Vectors, winograd: bool) -> None:
    model = build(vectors)
    x, y = data(vectors)
    curve = [model.train_on_batch(x, y) for _ in range(vectors.config["steps"] + 1)]
    exact = vectors.arrays["curve64"]
    check_loss(vectors, curve[0])
    assert abs(curve[-1] - exact[-1]) <= 1e-3
