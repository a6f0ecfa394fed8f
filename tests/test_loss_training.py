"""Losses in training: gradients against finite differences in float64, weights, reductions, and what is refused."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from fastcnn import losses, reference
from fastcnn.layers import Activation, Dense, Input
from fastcnn.models import Sequential
from fastcnn.optimizers import SGD
from fastcnn.utils import set_random_seed

N, C = 6, 4
X = np.random.default_rng(1).normal(size=(N, C)).astype(np.float32)
CLASSES = np.array([0, 2, 1, 1, 0, 2])
ONE_HOT = np.eye(3)[CLASSES]
MANY = np.random.default_rng(2).integers(0, 2, (N, 3))
SOFT = np.random.default_rng(3).random((N, 3))

CASES: dict[str, tuple[str | None, int, losses.Loss, Any]] = {
    "softmax, categorical": ("softmax", 3, losses.CategoricalCrossentropy(), ONE_HOT),
    "softmax, smoothed": ("softmax", 3, losses.CategoricalCrossentropy(label_smoothing=0.1), ONE_HOT),
    "softmax, sparse": ("softmax", 3, losses.SparseCategoricalCrossentropy(), CLASSES),
    "softmax, ignoring": ("softmax", 3, losses.SparseCategoricalCrossentropy(ignore_class=2), CLASSES),
    "softmax, binary": ("softmax", 3, losses.BinaryCrossentropy(), MANY),
    "softmax, squared": ("softmax", 3, losses.MeanSquaredError(), ONE_HOT),
    "logits, categorical": (None, 3, losses.CategoricalCrossentropy(from_logits=True), ONE_HOT),
    "logits, sparse": (None, 3, losses.SparseCategoricalCrossentropy(from_logits=True), CLASSES),
    "logits, binary": (None, 3, losses.BinaryCrossentropy(from_logits=True), MANY),
    "one logit, binary": (None, 1, losses.BinaryCrossentropy(from_logits=True), MANY[:, 0]),
    "sigmoid, categorical": ("sigmoid", 3, losses.CategoricalCrossentropy(), ONE_HOT),
    "sigmoid, sparse": ("sigmoid", 3, losses.SparseCategoricalCrossentropy(), CLASSES),
    "sigmoid, binary": ("sigmoid", 3, losses.BinaryCrossentropy(), MANY),
    "sigmoid, smoothed": ("sigmoid", 3, losses.BinaryCrossentropy(label_smoothing=0.3), SOFT),
    "one sigmoid, binary": ("sigmoid", 1, losses.BinaryCrossentropy(), MANY[:, :1]),
    "sigmoid, squared": ("sigmoid", 3, losses.MeanSquaredError(), SOFT),
    "linear, squared": (None, 3, losses.MeanSquaredError(), SOFT * 9),
    "one linear, squared": (None, 1, losses.MeanSquaredError(), SOFT[:, 0]),
    "relu, squared": ("relu", 3, losses.MeanSquaredError(), SOFT),
    "sum": ("softmax", 3, losses.SparseCategoricalCrossentropy(reduction="sum"), CLASSES),
    "weighted mean": ("sigmoid", 3, losses.BinaryCrossentropy(reduction="mean_with_sample_weight"), MANY),
}
WEIGHTS = np.array([1.0, 0.0, 2.5, 0.5, 1.0, 3.0])


def model_of(activation: str | None, units: int) -> Sequential:
    """A hidden layer of sigmoids, so that their own gradient is part of every check."""
    set_random_seed(3)
    model = Sequential([Input((C,)), Dense(5, activation="sigmoid"), Dense(units, bias_initializer="ones")])
    if activation is not None:
        model.add(Activation(activation))
    return model


def output(weights: list[np.ndarray], activation: str | None) -> np.ndarray:
    """The same in float64."""
    w1, b1, w2, b2 = weights
    hidden = reference.sigmoid_forward(X @ w1 + b1)
    logits = hidden @ w2 + b2
    functions: Any = {
        None: lambda x: x,
        "relu": reference.relu_forward,
        "softmax": reference.softmax_forward,
        "sigmoid": reference.sigmoid_forward,
    }
    return np.asarray(functions[activation](logits))


@pytest.mark.parametrize("sample_weight", [None, WEIGHTS], ids=["even", "weighted"])
@pytest.mark.parametrize("case", CASES)
def test_the_gradient_of_a_step_equals_finite_differences(case: str, sample_weight: np.ndarray | None) -> None:
    activation, units, loss, y = CASES[case]
    model = model_of(activation, units)
    model.compile(SGD(1.0), loss)
    before = [w.astype(np.float64) for w in model.get_weights()]
    expected = loss(y, output(before, activation), sample_weight)
    evaluated = model.evaluate(X, y, batch_size=N, sample_weight=sample_weight)
    assert evaluated == pytest.approx(expected, rel=1e-5)
    assert model.train_on_batch(X, y, sample_weight=sample_weight) == pytest.approx(expected, rel=1e-5)
    for i, (old, new) in enumerate(zip(before, model.get_weights(), strict=True)):

        def value(changed: np.ndarray, i: int = i) -> np.ndarray:
            return np.array(loss(y, output([*before[:i], changed, *before[i + 1 :]], activation), sample_weight))

        slopes = reference.finite_difference(value, old, np.ones(()))
        gradient = old - new  # at rate 1; the new weight is rounded to half a unit of it
        scale = max(1.0, float(np.abs(slopes).max()))
        assert np.abs(gradient - slopes).max() <= 1e-5 * scale
        assert i < 2 or np.any(np.abs(slopes) > 1e-3)


@pytest.mark.parametrize("case", ["softmax, categorical", "sigmoid, binary", "sigmoid, categorical", "linear, squared"])
def test_evaluation_and_prediction_give_the_same_outputs(case: str) -> None:
    """Metrics see what predict returns, logits too."""
    activation, units, loss, y = CASES[case]
    model = model_of(activation, units)
    model.compile("sgd", loss, metrics=["mse"])
    p = model.predict(X)
    found = model.evaluate(X, y, return_dict=True)
    assert found["mse"] == pytest.approx(float(((p - np.asarray(y)) ** 2).mean()), rel=1e-5)


def test_metrics_of_logits_see_logits() -> None:
    model = model_of(None, 3)
    model.compile("sgd", losses.CategoricalCrossentropy(from_logits=True), metrics=["mse", "categorical_crossentropy"])
    found = model.evaluate(X, ONE_HOT, return_dict=True)
    assert found["mse"] == pytest.approx(float(((model.predict(X) - ONE_HOT) ** 2).mean()), rel=1e-5)
    assert found["categorical_crossentropy"] == pytest.approx(found["loss"], rel=1e-5)
    trained = model.train_on_batch(X, ONE_HOT, return_dict=True)
    assert trained["mse"] == pytest.approx(found["mse"], rel=1e-5)


def test_a_binary_classifier_learns() -> None:
    y = (X[:, 0] > 0).astype(int)
    model = model_of("sigmoid", 1)
    model.compile("adam", "binary_crossentropy", metrics=["accuracy", "auc"])
    model.optimizer.learning_rate = 0.1  # type: ignore[union-attr]
    history = model.fit(X, y, epochs=60, verbose=0).history
    assert history["accuracy"][-1] == history["auc"][-1] == 1
    assert history["loss"][-1] < 0.1


def test_weights_count_the_same_in_every_form() -> None:
    """class_weight is sample_weight by class; both divide by the number of samples, not by their sum."""
    y = MANY[:, 0]
    table = {0: 0.25, 1: 3.0}
    by_class = np.array([table[int(label)] for label in y])
    results = []
    for options in ({"class_weight": table}, {"sample_weight": by_class}, {"sample_weight": by_class[:, None]}):
        model = model_of("sigmoid", 1)
        model.compile(SGD(0.5), "binary_crossentropy")
        before = losses.binary_crossentropy(y, model.predict(X))
        assert model.train_on_batch(X, y, **options) == pytest.approx((before * by_class).mean(), rel=1e-5)
        results.append(model.get_weights())
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_class_weights_of_any_number_for_the_squared_error() -> None:
    y = np.array([10.0, 10.2, 7.0, 3.0, 10.0, 3.4])
    model = model_of(None, 1)
    model.compile(SGD(0.0), "mse")
    values = losses.mean_squared_error(y, model.predict(X))
    found = model.train_on_batch(X, y, class_weight={10: 2.0, 3: 0.0})
    assert found == pytest.approx((values * [2, 2, 1, 0, 2, 0]).mean(), rel=1e-5)


def test_validation_has_no_class_weights() -> None:
    model = model_of("softmax", 3)
    model.compile(SGD(0.0), "sparse_categorical_crossentropy", weighted_metrics=["accuracy"], metrics=["accuracy"])
    history = model.fit(
        X, CLASSES, epochs=1, verbose=0, class_weight={0: 0.0, 1: 5.0}, validation_data=(X, CLASSES)
    ).history
    plain = model.evaluate(X, CLASSES, return_dict=True)
    assert history["val_loss"][0] == pytest.approx(plain["loss"], rel=1e-6)
    right = model.predict(X).argmax(1) == CLASSES
    weights = np.array([0.0, 5.0, 1.0])[CLASSES]
    assert history["accuracy"][0] == history["val_accuracy"][0] == pytest.approx(right.mean())
    assert history["weighted_accuracy"][0] == pytest.approx((right * weights).sum() / weights.sum())
    assert history["val_weighted_accuracy"][0] == pytest.approx(right.mean())


def test_weighted_metrics_count_sample_weights() -> None:
    model = model_of("softmax", 3)
    model.compile(SGD(0.0), "categorical_crossentropy", metrics=["mse"], weighted_metrics=["mse", "acc"])
    assert model.metrics_names == ["loss", "mse", "weighted_mse", "acc"]
    p = model.predict(X).astype(np.float64)
    values = ((p - ONE_HOT) ** 2).mean(axis=1)
    right = p.argmax(1) == CLASSES
    for call in (model.evaluate, model.test_on_batch, model.train_on_batch):
        found = call(X, ONE_HOT, sample_weight=WEIGHTS, return_dict=True)
        assert found["mse"] == pytest.approx(values.mean(), rel=1e-5)
        assert found["weighted_mse"] == pytest.approx((values * WEIGHTS).sum() / WEIGHTS.sum(), rel=1e-5)
        assert found["acc"] == pytest.approx((right * WEIGHTS).sum() / WEIGHTS.sum())
    other = model_of("softmax", 3)
    other.compile_from_config(model.get_compile_config())  # type: ignore[arg-type]
    assert other.metrics_names == model.metrics_names


def test_ignored_samples_are_wrong_for_accuracy_and_absent_from_the_loss() -> None:
    y = np.array([0, -1, 1, -1, 0, 2])
    model = model_of("softmax", 3)
    loss = losses.SparseCategoricalCrossentropy(ignore_class=-1)
    names = ["accuracy", "sparse_top_k_categorical_accuracy", "sparse_categorical_crossentropy"]
    model.compile(SGD(0.5), loss, metrics=names)
    kept = y >= 0
    p = model.predict(X).astype(np.float64)
    found = model.train_on_batch(X, y, return_dict=True, class_weight={0: 1.0})
    assert found["loss"] == pytest.approx(-np.log(p[kept, y[kept]]).mean(), rel=1e-5)
    assert found["sparse_categorical_crossentropy"] == pytest.approx(found["loss"], rel=1e-5)
    assert found["accuracy"] == pytest.approx((p.argmax(1) == y).mean())
    assert found["sparse_top_k_categorical_accuracy"] == pytest.approx(kept.mean())
    alone = model_of("softmax", 3)
    alone.compile(SGD(0.5), "sparse_categorical_crossentropy")
    alone.train_on_batch(X[kept], y[kept])
    for a, b in zip(model.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("activation", "units", "loss", "y", "options", "message"),
    [
        ("sigmoid", 1, "bce", [0, 1, 2, 0, 0, 1], {}, "fit: y must hold values in 0..1 for binary_crossentropy, got 2"),
        ("sigmoid", 1, "bce", np.eye(2)[[0] * 6], {}, "fit: y must have the shape [N] or [N, 1]"),
        ("sigmoid", 3, "bce", CLASSES, {}, "fit: y must have the shape [N, 3] for binary_crossentropy"),
        ("sigmoid", 1, "bce", [0, 1, 0, 0, 0], {}, "fit: y must hold 6 labels, one per sample of x, got [5]"),
        (
            None,
            1,
            "mse",
            [0, 1, math.nan, 0, 0, 0],
            {},
            "fit: y must hold finite values for mean_squared_error, got nan",
        ),
        (None, 2, "mse", CLASSES, {}, "fit: y must have the shape [N, 2] for mean_squared_error"),
        (
            "softmax",
            2,
            "sparse_categorical_crossentropy",
            CLASSES,
            {},
            "whole numbers in 0..1 (the model has 2 outputs)",
        ),
        (
            "softmax",
            1,
            "sparse_categorical_crossentropy",
            [0] * 6,
            {},
            "one output with sparse_categorical_crossentropy",
        ),
        ("softmax", 1, "bce", [0] * 6, {}, "one output with binary_crossentropy is the same for every sample"),
        (None, 1, "bce", [0] * 6, {}, "does not end with a softmax or sigmoid but the loss has from_logits=False"),
        ("relu", 3, "bce", MANY, {}, "does not end with a softmax or sigmoid but the loss has from_logits=False"),
        (
            "sigmoid",
            1,
            losses.BinaryCrossentropy(from_logits=True),
            [0] * 6,
            {},
            "ends with a sigmoid but the loss has from_logits=True",
        ),
        (
            "sigmoid",
            1,
            "bce",
            [0] * 6,
            {"class_weight": {2: 1.0}},
            "class_weight names class 2, the model has classes 0..1",
        ),
        (
            "sigmoid",
            1,
            "bce",
            [0] * 6,
            {"class_weight": {0: -1.0}},
            "class_weight of class 0 must be finite and at least 0",
        ),
        ("sigmoid", 1, "bce", [0] * 6, {"class_weight": {0: math.nan}}, "class_weight of class 0 must be finite"),
        (
            "sigmoid",
            1,
            "bce",
            [0] * 6,
            {"class_weight": {"a": 1.0}},
            "class_weight must have whole numbers as keys, got 'a'",
        ),
        (
            "sigmoid",
            1,
            "bce",
            [0] * 6,
            {"class_weight": [1.0]},
            "class_weight must map class numbers to weights, got list",
        ),
        (
            "sigmoid",
            1,
            "bce",
            [0] * 6,
            {"sample_weight": [1, 1, -1, 1, 1, 1]},
            "sample_weight must be finite and at least 0, got -1.0 at [2]",
        ),
        ("sigmoid", 1, "bce", [0] * 6, {"sample_weight": [math.inf] * 6}, "sample_weight must be finite"),
        ("sigmoid", 1, "bce", [0] * 6, {"sample_weight": [1.0] * 5}, "sample_weight must be 6 numbers"),
        (
            "sigmoid",
            1,
            "bce",
            [0] * 6,
            {"validation_data": (X, [3] * 6)},
            "fit: validation_data: y must hold values in 0..1",
        ),
    ],
)
def test_wrong_data_are_named_before_the_first_step(
    activation: str | None, units: int, loss: object, y: Any, options: dict[str, Any], message: str
) -> None:
    model = model_of(activation, units)
    model.compile("sgd", loss)
    before = model.get_weights()
    with pytest.raises(ValueError, match=re.escape(message)):
        model.fit(X, np.asarray(y), verbose=0, **options)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (
            losses.MeanSquaredError(reduction=None),
            {},
            "mean_squared_error with reduction=None gives no number to train on",
        ),
        ("sparse_categorical_crossentropy", {"metrics": ["auc"]}, "'auc' does not go with the labels of loss"),
        ("sparse_categorical_crossentropy", {"weighted_metrics": ["mse"]}, "'mse' does not go with the labels of loss"),
    ],
)
def test_wrong_losses_and_metrics_are_named_by_compile(loss: object, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_of("softmax", 3).compile("sgd", loss, **options)
