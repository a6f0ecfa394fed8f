"""Dropout in models: on in training alone, the same numbers for the same seed and step on any number of threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastcnn
from fastcnn import load_model, reference
from fastcnn.layers import Dense, Dropout, Input
from fastcnn.models import Model, Sequential
from fastcnn.optimizers import SGD

SIZE = 3000


def net(seed: int | None = None, rate: float = 0.25, name: str = "drop") -> Model:
    """Weights of a dense layer without a bias show what came through: with rate 0 of the optimizer, dw = x * dy."""
    x = Input((SIZE,))
    y = Dense(2, use_bias=False, kernel_initializer="zeros", activation="softmax", name="d")(
        Dropout(rate, seed=seed, name=name)(x)
    )
    model = Model(x, y)
    model.compile(SGD(0.0), "sparse_categorical_crossentropy")
    return model


def came_through(model: Model) -> np.ndarray:
    """Return the dropped-out ones that the dense layer saw in a training step."""
    model.train_on_batch(np.ones((1, SIZE)), [0])
    gradient = model._training()[1].gradient(model.get_layer("d").kernel)
    result: np.ndarray = gradient[:, 0] / np.float32(-0.5)  # dy = p - t = -1/2
    return result


def test_the_mask_is_that_of_the_reference() -> None:
    model = net(seed=5)
    layer = model.get_layer("drop")
    for step in range(3):
        expected = reference.dropout(np.ones(SIZE), (layer.random_key(0), step), 0.25)
        np.testing.assert_allclose(came_through(model), expected, rtol=1e-6)
        assert model.optimizer.iterations == step + 1
    assert 0.7 < np.mean(expected > 0) < 0.8


def test_prediction_and_evaluation_drop_nothing() -> None:
    model = net()
    model.set_weights([np.random.default_rng(0).standard_normal((SIZE, 2)) / 50])
    x = np.random.default_rng(1).standard_normal((4, SIZE))
    plain = Sequential([Input((SIZE,)), Dense(2, use_bias=False, activation="softmax")])
    plain.set_weights(model.get_weights())
    plain.compile("sgd", "sparse_categorical_crossentropy")
    assert np.array_equal(model.predict(x), plain.predict(x))
    assert model.evaluate(x, [0, 1, 0, 1]) == plain.evaluate(x, [0, 1, 0, 1])


def test_seeds_layers_and_steps_differ() -> None:
    fastcnn.set_random_seed(3)
    masks = [came_through(net()), came_through(net(name="other")), came_through(net(seed=1)), came_through(net(seed=2))]
    fastcnn.set_random_seed(4)
    masks.append(came_through(net()))
    fastcnn.set_random_seed(3)
    again = net()
    assert np.array_equal(came_through(again), masks[0])
    masks.append(came_through(again))  # the second step
    fastcnn.set_random_seed(4)
    assert np.array_equal(came_through(net(seed=1)), masks[2])  # a layer's own seed is all that counts
    for i, a in enumerate(masks):
        for b in masks[:i]:
            assert np.mean(a == b) < 0.7  # independent masks of rate 1/4 agree in 5/8 of the places


def test_a_new_seed_counts_for_a_model_that_has_trained() -> None:
    fastcnn.set_random_seed(3)
    fresh = came_through(net())
    model = net()
    fastcnn.set_random_seed(9)
    came_through(model)
    model.optimizer.iterations = 0
    fastcnn.set_random_seed(3)
    assert np.array_equal(came_through(model), fresh)


def test_dropout_stays_on_in_a_frozen_model() -> None:
    """As in Keras, where only batch normalisation changes with `trainable`."""
    model = net(seed=5)
    model.get_layer("drop").trainable = False
    model.compile(SGD(0.0), "sparse_categorical_crossentropy")
    assert np.mean(came_through(model) == 0) > 0.2


def test_a_call_with_training_false_drops_nothing() -> None:
    x = Input((SIZE,))
    y = Dense(2, use_bias=False, kernel_initializer="zeros", activation="softmax", name="d")(
        Dropout(0.5)(x, training=False)
    )
    model = Model(x, y)
    model.compile(SGD(0.0), "sparse_categorical_crossentropy")
    assert np.array_equal(came_through(model), np.ones(SIZE))


def test_training_goes_on_with_the_same_numbers_after_loading(tmp_path: Path) -> None:
    fastcnn.set_random_seed(3)
    x, y = np.random.default_rng(0).standard_normal((8, SIZE)), np.arange(8) % 2

    def made() -> Model:
        model = net()
        model.compile("adam", "sparse_categorical_crossentropy")
        return model

    straight = made()
    for _ in range(4):
        straight.train_on_batch(x, y)
    first = made()
    for _ in range(2):
        first.train_on_batch(x, y)
    first.save(tmp_path / "m.safetensors")
    second = load_model(tmp_path / "m.safetensors")
    for _ in range(2):
        second.train_on_batch(x, y)
    assert np.array_equal(second.get_weights()[0], straight.get_weights()[0])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bits_do_not_depend_on_threads(threads: int) -> None:
    with fastcnn.threads(threads):
        x = np.random.default_rng(0).standard_normal((40, SIZE)).astype(np.float32)
        model = net(seed=5)
        model.compile(SGD(0.1), "sparse_categorical_crossentropy")
        for _ in range(2):
            model.train_on_batch(x, np.arange(40) % 2)
    bits = model.get_weights()[0].tobytes()
    with fastcnn.threads(1):
        other = net(seed=5)
        other.compile(SGD(0.1), "sparse_categorical_crossentropy")
        for _ in range(2):
            other.train_on_batch(x, np.arange(40) % 2)
    assert other.get_weights()[0].tobytes() == bits
