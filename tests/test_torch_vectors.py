"""All architectures against PyTorch's numbers on the same weights: logits, gradients, for two of them 20 Adam steps.

The vectors hold one float64 run and three float32 runs of PyTorch (bench/peers/torch_vectors.py made them). How far its
float32 runs lie from float64 is the yardstick: rounding moves a ReLU's input across zero now and then, which changes
gradients by a percent, and Adam turns the signs of the smallest gradients into whole steps.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import applications, losses, optimizers
from fastcnn.models import Model
from fastcnn.models.gradients import gradients_of

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "bench" / "peers"
if not PEERS.is_dir():
    pytest.skip("needs bench/peers of the source tree", allow_module_level=True)
sys.path.insert(0, str(PEERS))

from seeded import seeded_images, seeded_labels, seeded_weights  # noqa: E402
from torch_names import keras_location, keras_weights, torch_layout  # noqa: E402
from vectors import Vectors, load_vectors  # noqa: E402

# How much farther from float64 than PyTorch's worst run: Winograd's errors are about five times the direct ones.
LOGITS, GRADIENTS = 8.0, 3.0
RESNETS = ("ResNet18", "ResNet34", "ResNet50", "ResNet101", "ResNet152")
BUILDERS: dict[str, Callable[..., Model]] = {
    **{name.lower(): partial(getattr(applications, name), weights=None, variant="torchvision") for name in RESNETS},
    # torchvision's own variant takes 224 x 224 only; the variants' epsilons differ by less than float32 can show
    "vgg16": partial(applications.VGG16, weights=None),
    "vgg19": partial(applications.VGG19, weights=None),
    "vgg16_bn": partial(applications.VGG16, weights=None, batch_norm=True),
    "vgg19_bn": partial(applications.VGG19, weights=None, batch_norm=True),
    "cifar_resnet20": partial(applications.cifar_resnet, 20),
    "cifar_resnet20b": partial(applications.cifar_resnet, 20, shortcut="B"),
    "cifar_plain20": partial(applications.cifar_resnet, 20, residual=False),
}
FILES = sorted(path.stem for path in (ROOT / "tests" / "vectors").glob("torch_*.npz"))


WITH_CURVE = ("torch_resnet50_64", "torch_vgg16_64")  # these run with and without Winograd


@pytest.fixture(
    params=[*((name, True) for name in FILES), *((name, False) for name in WITH_CURVE)],
    ids=lambda case: f"{case[0]}-{'winograd' if case[1] else 'direct'}",
)
def vectors(request: pytest.FixtureRequest) -> Iterator[Vectors]:
    name, winograd = request.param
    fastcnn.set_winograd(winograd)
    yield load_vectors(ROOT / "tests" / "vectors" / f"{name}.npz")
    fastcnn.set_winograd(True)


def build(vectors: Vectors) -> Any:
    config = vectors.config
    model = BUILDERS[config["model"]](
        input_shape=(config["size"], config["size"], 3),
        classes=config["classes"],
        classifier_activation=None,
    )
    shapes = {name: sample.shape for name, sample in vectors.grads.items()}
    for name, sample in vectors.batch_stats.items():
        module, _, statistic = name.rpartition(".")
        shapes[f"{module}.running_{statistic}"] = sample.shape
    state = {name: seeded_weights(name, shape, config["seed"]) for name, shape in shapes.items()}
    for layer, arrays in keras_weights(state, config["model"]).items():
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


def test_every_architecture_has_vectors() -> None:
    assert {load_vectors(ROOT / "tests" / "vectors" / f"{name}.npz").config["model"] for name in FILES} == set(BUILDERS)


def test_logits(vectors: Vectors) -> None:
    x, _ = data(vectors)
    exact, rounded = vectors.arrays["eval_logits64"], vectors.arrays["eval_logits32"]
    error = np.abs(build(vectors).predict_on_batch(x) - exact).max()
    assert error <= LOGITS * np.abs(rounded - exact).max()
    assert error <= 2e-5 * np.abs(exact).max()


def test_loss_and_gradients(vectors: Vectors) -> None:
    model = build(vectors)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    found = {parameter: gradient.copy() for parameter, gradient in gradients_of(model, *data(vectors))}
    check_loss(vectors, model.train_on_batch(*data(vectors)))
    for name, sample in vectors.grads.items():
        layer, position = keras_location(name, vectors.config["model"])
        parameter = model.get_layer(layer).weights[position]
        assert before[layer][position].shape == parameter.shape
        gradient = torch_layout(name, found[parameter], sample.shape).astype(np.float64).ravel()
        error = np.linalg.norm(gradient[sample.index] - sample.value64)
        # the error of a whole tensor, scaled to the sampled part; a floor for the tensors that happen to agree
        share = np.sqrt(sample.index.size / gradient.size)
        allowed = GRADIENTS * share * max(sample.error_norm32.max(), 0.01 * sample.norm64)
        assert error <= allowed, f"{name}: {error / (share * sample.norm64 + 1e-30):.2e} of its norm"


@pytest.mark.parametrize(
    "vectors", [(name, winograd) for name in WITH_CURVE for winograd in (True, False)], indirect=True
)
def test_twenty_steps(vectors: Vectors) -> None:
    assert vectors.config["steps"] == 20
    model = build(vectors)
    x, y = data(vectors)
    curve = [model.train_on_batch(x, y) for _ in range(vectors.config["steps"] + 1)]
    exact = vectors.arrays["curve64"]
    check_loss(vectors, curve[0])
    assert abs(curve[-1] - exact[-1]) <= 1e-3
