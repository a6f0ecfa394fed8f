"""The float64 softmax and losses: gradients and known outputs."""

from __future__ import annotations

import numpy as np
import pytest
from reference_arrays import Array, assert_gradient, normal, relative

from fastcnn import reference

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize("row", [[1, NAN, 2], [INF, 0, 1], [INF, INF, 0], [-INF, -INF, -INF]], ids=str)
def test_softmax_rows_of_nan(row: list[float]) -> None:
    x = np.array([[0.0, 1.0, 2.0], row])
    for y in (reference.softmax_forward(x), reference.log_softmax(x)):
        assert np.isnan(y).tolist() == [[False] * 3, [True] * 3]


def test_softmax_of_large_and_missing_logits() -> None:
    assert reference.softmax_forward([[1e4, 1e4, -INF]]).tolist() == [[0.5, 0.5, 0.0]]
    assert reference.log_softmax([[1e4, 0.0]]).tolist() == [[0.0, -1e4]]


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 2, 3)], ids=str)
def test_softmax_gradient(shape: tuple[int, ...]) -> None:
    x, dy = normal(*shape), normal(*shape, seed=1)
    y = reference.softmax_forward(x)
    assert relative(y, np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)) <= 1e-15
    assert relative(np.exp(reference.log_softmax(x)), y) <= 1e-15
    dx = reference.softmax_backward(dy, y)
    assert np.abs(dx - reference.finite_difference(reference.softmax_forward, x, dy)).max() <= 1e-9


@pytest.mark.parametrize("soft", [False, True], ids=["one-hot", "probabilities"])
def test_softmax_cross_entropy(soft: bool) -> None:
    N, K = 5, 4
    logits = normal(N, K)
    targets = reference.softmax_forward(normal(N, K, seed=1)) if soft else np.eye(K)[[0, 3, 1, 1, 2]]

    def loss(logits: Array) -> Array:
        return reference.softmax_cross_entropy_forward(logits, targets)[0]

    per_sample, dlogits = reference.softmax_cross_entropy_forward(logits, targets)
    assert per_sample.shape == (N,)
    assert relative(per_sample, -(targets * np.log(reference.softmax_forward(logits))).sum(axis=-1)) <= 1e-14
    assert_gradient(loss, logits, np.full(N, 1 / N), dlogits)
    keras = reference.categorical_crossentropy(7 * reference.softmax_forward(logits), targets)
    assert relative(keras, per_sample) <= 1e-14


def test_softmax_cross_entropy_ignores_impossible_classes_without_target() -> None:
    loss, dlogits = reference.softmax_cross_entropy_forward([[0.0, 0.0, -INF]], [[0.0, 1.0, 0.0]])
    assert loss.tolist() == [np.log(2)]
    assert dlogits.tolist() == [[0.5, -0.5, 0.0]]


def test_categorical_crossentropy_clips_as_keras() -> None:
    loss = reference.categorical_crossentropy([[0.0, 2.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]])
    assert loss.tolist() == [-np.log(1e-7), -np.log(1 - 1e-7)]


def test_losses_of_known_outputs() -> None:
    loss, dx = reference.squared_error([[1.0, 3.0]], [[0.0, 1.0]])
    assert (loss.tolist(), dx.tolist()) == ([2.5], [[1.0, 2.0]])
    loss, dx = reference.binary_cross_entropy([[0.25, 0.5]], [[1.0, 0.0]])
    assert abs(loss.item() - np.log(8) / 2) <= 1e-15
    assert dx.tolist() == [[-2.0, 1.0]]
    loss, dx = reference.sigmoid_cross_entropy([[np.log(3)]], [[0.0]])
    assert abs(loss.item() - np.log(4)) <= 1e-15
    assert dx.tolist() == [[0.75]]
    loss, dx = reference.categorical_cross_entropy([[1.0, 3.0]], [[1.0, 0.0]])
    assert abs(loss.item() - np.log(4)) <= 1e-15
    assert dx.tolist() == [[-0.75, 0.25]]
