"""Training that computes activations again instead of keeping them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nets import bits, plain, residual, some_data

from fastcnn import applications, load_model
from fastcnn.applications import cifar_resnet
from fastcnn.layers import Conv2D, Dense, Dropout, Flatten, Input, PythonLayer
from fastcnn.models import Model, Sequential
from fastcnn.models.memory import training_plan
from fastcnn.optimizers import Adam
from fastcnn.utils import set_random_seed

LOSS = "sparse_categorical_crossentropy"


def deep(seed: int = 1) -> Model:
    set_random_seed(seed)
    return cifar_resnet(20, input_shape=(8, 8, 3), classes=3)


def pictures(count: int, size: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    return rng.standard_normal((count, size, size, 3)).astype(np.float32), rng.integers(0, 3, count)


def noisy(seed: int = 1) -> Sequential:
    set_random_seed(seed)
    layers: list[Any] = [Input((6, 6, 2))]
    for i in range(12):
        layers += [Conv2D(4, 3, padding="same", activation="relu", kernel_regularizer="l2"), Dropout(0.2, name=f"d{i}")]
    return Sequential([*layers, Flatten(), Dense(3, activation="softmax")])


@pytest.mark.parametrize(
    ("make", "data"), [(plain, some_data), (residual, some_data), (noisy, some_data), (deep, pictures)]
)
def test_no_bit_changes(isa: str, make: Any, data: Any) -> None:
    x, y = data(11)
    found = []
    for recompute in (False, True):
        model = make()
        model.compile(Adam(0.01, global_clipnorm=1.0), LOSS, metrics=["accuracy"], recompute=recompute)
        history = model.fit(x, y, batch_size=4, epochs=2, verbose=0, validation_data=(x, y))
        slots = [array.tobytes() for array in model.optimizer_state().values()]
        found.append((bits(model), dict(history.history), slots))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("name", "most"), [("ResNet50", 433e6), ("ResNet152", 552e6), ("ResNet18", 177e6)], ids=["50", "152", "18"]
)
def test_the_plan_shows_the_saving(name: str, most: float) -> None:
    """A third, a fifth and 1/1.9 of what everything kept takes where each normalisation has a tensor of its own."""
    model = getattr(applications, name)(weights=None, classes=10)
    plans = []
    for recompute in (False, True):
        model.compile("sgd", "categorical_crossentropy", recompute=recompute)
        plans.append(model.memory_plan(16))
    kept, again = plans
    assert again.activations < min(most, kept.activations)
    assert (kept.weights, kept.gradients, kept.packed) == (again.weights, again.gradients, again.packed)


def test_it_is_part_of_what_compile_fixed(tmp_path: Path) -> None:
    model = deep()
    model.compile("adam", LOSS)
    assert "recompute" not in model.get_compile_config()
    kept = model.memory_plan(32)
    model.compile("adam", LOSS, recompute=True)
    again = model.memory_plan(32)
    assert again.activations < kept.activations
    model.save(tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").memory_plan(32) == again
    with pytest.raises(ValueError, match="compile: recompute must be True or False, got 'yes'"):
        model.compile("adam", LOSS, recompute="yes")


def test_a_smaller_batch_uses_the_same_memory() -> None:
    model = deep()
    model.compile("sgd", LOSS, recompute=True)
    x, y = pictures(15)
    model.fit(x, y, batch_size=8, verbose=0)
    (workspace,) = model._pool.idle()
    assert workspace.nbytes[0] == model.memory_plan(8).activations


def test_with_a_memory_limit() -> None:
    x, y = some_data(64)
    found = []
    for recompute in (False, True):
        model = noisy()
        model.compile("sgd", LOSS, recompute=recompute)
        limit = training_plan(model, {16}, True).total
        assert model.fit(x, y, batch_size=64, verbose=0, memory_limit=limit).micro_batches == 4
        found.append(bits(model))
    assert found[0] == found[1]


def test_nothing_is_computed_again_in_vain() -> None:
    """The first block of VGG16, whose backward run needs it whole, is the peak of its memory."""
    model = applications.VGG16(weights=None, classes=10)
    model.compile("sgd", "categorical_crossentropy", recompute=True)
    model.memory_plan(4)
    assert not model._training()[0]._schedule.again


def test_functions_of_a_python_layer_are_called_once() -> None:
    calls: list[str] = []

    def forward(x: np.ndarray) -> np.ndarray:
        calls.append("forward")
        return 2 * x

    def backward(dy: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        calls.append("backward")
        return 2 * dy

    x, y = some_data(4)
    found = []
    for recompute in (False, True):
        set_random_seed(1)
        layers: list[Any] = [Input((6, 6, 2))]
        for i in range(12):
            layers.append(Conv2D(4, 3, padding="same", activation="relu"))
            if i % 4 == 1:
                layers.append(PythonLayer(forward, backward))
        model = Sequential([*layers, Flatten(), Dense(3, activation="softmax")])
        model.compile("sgd", LOSS, recompute=recompute)
        model.train_on_batch(x, y)
        assert calls == ["forward"] * 3 + ["backward"] * 3
        calls.clear()
        found.append(bits(model))
    assert model._training()[0]._schedule.again
    assert found[0] == found[1]
