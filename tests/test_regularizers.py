"""Penalties on weights: their numbers, their part in loss and gradient, and what reports and files say of them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from fastcnn import load_model, regularizers
from fastcnn.layers import BatchNormalization, Conv2D, Dense, Flatten, Input
from fastcnn.models import Model
from fastcnn.optimizers import SGD
from fastcnn.regularizers import L1, L1L2, L2

W = np.array([[0.5, -2.0], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("given", "penalty", "config"),
    [
        (L1(), 0.035, {"l1": 0.01}),
        ("l2", 0.0525, {"l2": 0.01}),
        ("L1", 0.035, {"l1": 0.01}),
        (L1L2, 0.0, {"l1": 0.0, "l2": 0.0}),
        (L1L2(0.5, 2), 12.25, {"l1": 0.5, "l2": 2.0}),
        ({"class_name": "L2", "config": {"l2": 1}}, 5.25, {"l2": 1.0}),
        ("l1_l2", 0.0, {"l1": 0.0, "l2": 0.0}),
    ],
)
def test_get(given: object, penalty: float, config: dict[str, float]) -> None:
    found = regularizers.get(given)
    assert found is not None
    assert found(W) == pytest.approx(penalty)
    assert found.get_config() == config
    again = regularizers.get(regularizers.serialize(found))
    assert (type(again), again(W)) == (type(found), found(W))
    assert eval(repr(found))(W) == found(W)


def test_none_and_second_names() -> None:
    assert regularizers.get(None) is None
    assert (regularizers.l1, regularizers.l2, regularizers.l1_l2) == (L1, L2, L1L2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: L1(-0.1), "L1: l1 must be a finite number of at least 0, got -0.1"),
        (lambda: L2("x"), "L2: l2 must be a finite number of at least 0, got 'x'"),
        (lambda: L1L2(0, float("nan")), "L1L2: l2 must be a finite number of at least 0, got nan"),
        (lambda: regularizers.get("l3"), "regularizer must be one of l1, l2, l1_l2, a Regularizer or None, got 'l3'"),
        (lambda: regularizers.get(lambda w: 0), "regularizer must be one of"),
    ],
)
def test_refuses(make, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def model() -> Model:
    x = Input((6, 6, 2), name="x")
    y = Conv2D(3, 3, kernel_regularizer=L2(0.25), bias_regularizer="l1", name="c")(x)
    y = BatchNormalization(gamma_regularizer=L1(0.5), name="n")(y)
    y = Dense(2, activation="softmax", kernel_regularizer=L1L2(0.125, 0.0625), name="d")(Flatten()(y))
    return Model(x, y)


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((4, 6, 6, 2)).astype(np.float32), np.array([0, 1, 1, 0])


def penalty(net: Model) -> float:
    return sum(w.regularizer(w.value) for w in net.trainable_weights if w.regularizer is not None)


def test_the_penalty_is_part_of_every_loss() -> None:
    """As Keras reports it: in training, evaluation and validation, whatever the sample weights."""
    net = model()
    net.compile(SGD(0.0), "sparse_categorical_crossentropy")
    x, y = data()
    added = penalty(net)
    assert added > 1
    p = net.predict(x)
    plain = -np.log(p[np.arange(4), y]).mean()
    assert net.evaluate(x, y) == pytest.approx(plain + added, rel=1e-6)
    assert net.test_on_batch(x, y, sample_weight=np.zeros(4)) == pytest.approx(added, rel=1e-6)
    assert net.train_on_batch(x, y, sample_weight=np.zeros(4)) == pytest.approx(added, rel=1e-6)
    history = net.fit(x, y, batch_size=3, epochs=1, validation_data=(x, y), verbose=0).history
    assert history["val_loss"][0] == pytest.approx(net.evaluate(x, y), rel=1e-6)


def test_the_gradient_of_the_penalty_is_added_to_the_weights_gradient() -> None:
    """Without weight on any sample the penalty alone moves the weights, by -rate * (l1*sign(w) + 2*l2*w)."""
    net = model()
    net.compile(SGD(0.5), "sparse_categorical_crossentropy")
    x, y = data()
    before = {w.path: w.numpy().astype(np.float64) for w in net.weights}
    net.train_on_batch(x, y, sample_weight=np.zeros(4))
    for w in net.trainable_weights:
        found, old = w.numpy(), before[w.path]
        step = 0.0
        if w.regularizer is not None:
            step = 0.5 * (w.regularizer.l1 * np.sign(old) + 2 * w.regularizer.l2 * old)
        np.testing.assert_allclose(found, old - step, rtol=1e-6, atol=1e-7)
    assert any(w.regularizer is not None and w.regularizer.l1 for w in net.trainable_weights)


def test_frozen_weights_have_no_penalty() -> None:
    net = model()
    net.get_layer("c").trainable = False
    net.compile(SGD(0.5), "sparse_categorical_crossentropy")
    x, y = data()
    kernel = net.get_layer("c").get_weights()[0]
    rest = penalty(net)
    assert net.test_on_batch(x, y, sample_weight=np.zeros(4)) == pytest.approx(rest, rel=1e-6)
    net.train_on_batch(x, y)
    assert np.array_equal(net.get_layer("c").get_weights()[0], kernel)


def test_files_keep_regularizers(tmp_path: Path) -> None:
    net = model()
    net.compile(SGD(0.1), "sparse_categorical_crossentropy")
    net.save(tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    x, y = data()
    assert again.get_layer("d").kernel.regularizer.get_config() == {"l1": 0.125, "l2": 0.0625}
    assert again.train_on_batch(x, y) == net.train_on_batch(x, y)
