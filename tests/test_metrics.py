from __future__ import annotations

import math

import numpy as np
import pytest

from fastcnn import losses, metrics

SPARSE = losses.SparseCategoricalCrossentropy()
CATEGORICAL = losses.CategoricalCrossentropy()

P = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.4, 0.4, 0.2]], np.float32)
LABELS = np.array([1, 0, 0, 1])  # right, right, wrong (third place), wrong (tie: the first counts)


@pytest.mark.parametrize("y", [LABELS, LABELS[:, None], np.eye(3)[LABELS]], ids=["numbers", "column", "one-hot"])
def test_accuracy(y: np.ndarray) -> None:
    metric = metrics.CategoricalAccuracy()
    metric.update_state(y, P)
    assert metric.result() == 0.5


@pytest.mark.parametrize(("k", "share"), [(1, 0.75), (2, 0.75), (3, 1.0), (9, 1.0)])
def test_top_k(k: int, share: float) -> None:
    """With k=1 the tie counts as right, unlike in accuracy: Keras does the same."""
    metric = metrics.TopKCategoricalAccuracy(k=k)
    metric.update_state(np.eye(3)[LABELS], P)
    assert metric.result() == share


def test_not_finite_is_wrong() -> None:
    metric = metrics.SparseTopKCategoricalAccuracy(k=5)
    metric.update_state([0, 0], np.array([[math.nan, 1], [1, 0]]))
    assert metric.result() == 0.5


def test_running_mean_weights_batches_by_size() -> None:
    metric = metrics.SparseCategoricalAccuracy()
    metric.update_state(LABELS[:3], P[:3])
    metric.update_state(LABELS[3:], P[3:])
    assert metric.result() == 0.5
    metric.reset_state()
    assert metric.result() == 0
    metric.update_state(LABELS[:1], P[:1])
    assert metric.result() == 1


@pytest.mark.parametrize(
    ("identifier", "loss", "cls"),
    [
        ("accuracy", SPARSE, metrics.FittingAccuracy),
        ("acc", CATEGORICAL, metrics.FittingAccuracy),
        ("categorical_accuracy", CATEGORICAL, metrics.CategoricalAccuracy),
        ("sparse_categorical_accuracy", SPARSE, metrics.SparseCategoricalAccuracy),
        ("top_k_categorical_accuracy", CATEGORICAL, metrics.TopKCategoricalAccuracy),
        ("sparse_top_k_categorical_accuracy", SPARSE, metrics.SparseTopKCategoricalAccuracy),
    ],
)
def test_logged_under_the_name_given(identifier: str, loss: losses.Loss, cls: type[metrics.Metric]) -> None:
    metric = metrics.get(identifier, loss)
    assert type(metric) is cls
    assert metric.name == identifier


def test_config_round_trip() -> None:
    metric = metrics.TopKCategoricalAccuracy(k=3, name="top3")
    copy = metrics.get(metrics.serialize(metric), CATEGORICAL)
    assert type(copy) is metrics.TopKCategoricalAccuracy
    assert copy.get_config() == {"name": "top3", "k": 3}
    assert metrics.get(metric, SPARSE) is metric


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.get("hinge", SPARSE), "metric must be one of accuracy, acc,.*got 'hinge'"),
        (lambda: metrics.get("categorical_accuracy", SPARSE), "does not go with the labels of loss 'sparse_cat"),
        (lambda: metrics.get("sparse_categorical_accuracy", CATEGORICAL), "use one of accuracy, acc, categorical_acc"),
        (lambda: metrics.TopKCategoricalAccuracy(k=0), "k must be an integer of at least 1, got 0"),
        (lambda: metrics.CategoricalAccuracy().update_state([0, 1], P), r"y_true must be \[4, 3\].*got \[2\]"),
        (lambda: metrics.CategoricalAccuracy().update_state([0], [0.5]), r"y_pred must be \[N, classes\], got \[1\]"),
        (lambda: metrics.CategoricalAccuracy().update_state([3], P[:1]), r"in 0\.\.2, got 3 to 3"),
    ],
)
def test_bad_arguments(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()
