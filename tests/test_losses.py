from __future__ import annotations

import math

import numpy as np
import pytest

from fastcnn import losses, reference


def probabilities(seed: int, N: int, K: int) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(N, K)) * 3
    return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("K", [2, 3, 10])
def test_loss_equals_the_reference(K: int) -> None:
    p = probabilities(K, 7, K)
    labels = np.arange(7) % K
    one_hot = np.eye(K)[labels]
    expected = reference.categorical_crossentropy(p, one_hot)
    np.testing.assert_allclose(losses.categorical_crossentropy(one_hot, p), expected, rtol=1e-12)
    np.testing.assert_allclose(losses.sparse_categorical_crossentropy(labels, p), expected, rtol=1e-12)
    assert math.isclose(losses.CategoricalCrossentropy()(one_hot, p), expected.mean(), rel_tol=1e-12)
    assert math.isclose(losses.SparseCategoricalCrossentropy()(labels, p), expected.mean(), rel_tol=1e-12)


def test_from_logits_equals_the_reference() -> None:
    x = np.random.default_rng(1).normal(size=(5, 4)) * 50
    t = np.eye(4)[[0, 1, 2, 3, 0]]
    expected, _ = reference.softmax_cross_entropy_forward(x, t)
    np.testing.assert_allclose(losses.categorical_crossentropy(t, x, from_logits=True), expected, rtol=1e-12)
    assert losses.CategoricalCrossentropy(from_logits=True).floor == 0


def test_probabilities_are_normalised_and_clipped_as_in_keras() -> None:
    loss = losses.sparse_categorical_crossentropy([0, 1], [[2.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(loss, [-math.log(1 - 2.0**-23), -math.log(np.float32(1e-7))], rtol=1e-9)
    assert losses.CategoricalCrossentropy().floor == 1e-7


def test_sparse_targets() -> None:
    loss = losses.SparseCategoricalCrossentropy()
    for y in ([2, 0], [[2], [0]], np.array([2.0, 0.0]), np.array([2, 0], np.uint8)):
        t = loss.targets(y, 3)
        assert t.dtype == np.float32
        assert t.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert loss.targets([], 3).shape == (0, 3)


def test_categorical_targets_are_a_copy() -> None:
    y = np.eye(3, dtype=np.float32)[[2, 0]]
    t = losses.CategoricalCrossentropy().targets(y, 3)
    t[:] = 9
    assert y.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert losses.CategoricalCrossentropy().targets(y.astype(bool), 3).tolist() == y.tolist()


def test_label_smoothing() -> None:
    t = losses.CategoricalCrossentropy(label_smoothing=0.3).targets(np.eye(3)[[1]], 3)
    np.testing.assert_allclose(t, [[0.1, 0.8, 0.1]], rtol=1e-6)


SPARSE = losses.SparseCategoricalCrossentropy()
CATEGORICAL = losses.CategoricalCrossentropy()
BINARY, MSE = losses.BinaryCrossentropy(), losses.MeanSquaredError()
IGNORING = losses.SparseCategoricalCrossentropy(ignore_class=-1)


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        (SPARSE, [0, 3], r"fit: y must hold whole numbers in 0\.\.2 \(the model has 3 outputs\), got 3 at \[1\]"),
        (SPARSE, [0, -1], r"got -1 at \[1\]"),
        (SPARSE, [0.5], r"got 0.5 at \[0\]"),
        (SPARSE, [math.nan], r"got nan at \[0\]"),
        (SPARSE, np.eye(3), r"class numbers of shape \[N\] or \[N, 1\] .*got \[3, 3\]; one-hot labels need"),
        (SPARSE, ["cat"], "fit: y must hold numbers, got <U3"),
        (CATEGORICAL, [0, 1], r"one-hot of shape \[N, 3\] .*got \[2\]; class numbers need sparse_categorical"),
        (CATEGORICAL, [[0], [1]], r"got \[2, 1\]; class numbers need sparse_categorical_crossentropy"),
        (CATEGORICAL, np.eye(4), r"\(the model has 3 outputs\), got \[4, 4\]$"),
        (CATEGORICAL, [[0, 1.5, 0]], r"fit: y must hold values in 0\.\.1 .*got 1.5 at \[0, 1\]"),
        (CATEGORICAL, [[0, 1, 0], [0, 0, math.nan]], r"got nan at \[1, 2\]"),
        (IGNORING, [-1, -2], r"in 0\.\.2 or ignore_class=-1 \(the model has 3 outputs\), got -2 at \[1\]"),
        (BINARY, [0, 1], r"the shape \[N, 3\] for binary_crossentropy \(the model has 3 outputs\), got \[2\]"),
        (BINARY, [[0, 1, 2]], r"values in 0\.\.1 for binary_crossentropy, got 2 at \[0, 2\]"),
        (MSE, [[0, 1, math.inf]], r"finite values for mean_squared_error, got inf at \[0, 2\]"),
        (MSE, np.zeros((2, 4)), r"the shape \[N, 3\] for mean_squared_error \(the model has 3 outputs\), got \[2, 4\]"),
    ],
)
def test_bad_labels(loss: losses.Loss, y: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss.check(y, 3, "fit: y")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        loss.targets(y, 3, "fit: y")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("identifier", "cls"),
    [
        ("categorical_crossentropy", losses.CategoricalCrossentropy),
        ("sparse_categorical_crossentropy", losses.SparseCategoricalCrossentropy),
        ("CategoricalCrossentropy", losses.CategoricalCrossentropy),
        (losses.categorical_crossentropy, losses.CategoricalCrossentropy),
        (losses.sparse_categorical_crossentropy, losses.SparseCategoricalCrossentropy),
        ("mse", losses.MeanSquaredError),
        ("MeanSquaredError", losses.MeanSquaredError),
        ("bce", losses.BinaryCrossentropy),
        ("binary_crossentropy", losses.BinaryCrossentropy),
        (losses.binary_crossentropy, losses.BinaryCrossentropy),
        (losses.mean_squared_error, losses.MeanSquaredError),
    ],
)
def test_get(identifier: object, cls: type[losses.Loss]) -> None:
    assert type(losses.get(identifier)) is cls


def test_config_round_trip() -> None:
    loss = losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1, name="ce")
    copy = losses.get(losses.serialize(loss))
    assert copy.get_config() == {
        "name": "ce",
        "from_logits": True,
        "label_smoothing": 0.1,
        "reduction": "sum_over_batch_size",
    }
    assert losses.get(loss) is loss


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.get("hinge"), "loss must be one of categorical_crossentropy, sparse.*got 'hinge'"),
        (lambda: losses.get(len), "got <built-in function len>"),
        (lambda: losses.CategoricalCrossentropy(axis=1), r"axis must be -1 \(classes last\), got 1"),
        (lambda: losses.MeanSquaredError(reduction="max"), "reduction must be one of 'sum_over_batch_size'.*got 'max'"),
        (lambda: losses.CategoricalCrossentropy(label_smoothing=2), r"label_smoothing must lie in \[0, 1\], got 2"),
        (lambda: losses.SparseCategoricalCrossentropy(ignore_class=2.5), "ignore_class must be None or an.*got 2.5"),
        (lambda: losses.BinaryCrossentropy(axis=0), r"BinaryCrossentropy: axis must be -1"),
        (lambda: losses.BinaryCrossentropy(label_smoothing=-0.1), r"label_smoothing must lie in \[0, 1\], got -0.1"),
        (lambda: MSE([[1.0]], [[0.5]], sample_weight=[1, 2]), r"sample_weight must be 1 numbers.*got \[2\]"),
        (lambda: losses.categorical_crossentropy([[1, 0]], [0.5, 0.5]), r"y_pred must be \[N, classes\].*got \[2\]"),
        (lambda: losses.sparse_categorical_crossentropy([1], [[1, 0], [0, 1]]), "y_true has 1 rows but y_pred has 2"),
    ],
)
def test_bad_arguments(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()


# -- binary cross-entropy and the squared error ------------------------------------------------------------------------


@pytest.mark.parametrize("K", [1, 4])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_binary_cross_entropy_equals_the_reference(K: int, smoothing: float) -> None:
    rng = np.random.default_rng(K)
    x, t = rng.normal(size=(7, K)) * 30, rng.integers(0, 2, (7, K))
    p = np.asarray(reference.sigmoid_forward(x))
    smooth = np.float32(t * (1 - np.float32(smoothing)) + np.float32(smoothing / 2))
    logits = losses.binary_crossentropy(t, x, from_logits=True, label_smoothing=smoothing)
    np.testing.assert_allclose(logits, reference.sigmoid_cross_entropy(x, smooth, 0.0)[0], rtol=1e-6)
    probabilities = losses.binary_crossentropy(t, p, label_smoothing=smoothing)
    np.testing.assert_allclose(probabilities, reference.binary_cross_entropy(p, smooth)[0], rtol=1e-6)
    if K == 1:
        assert np.array_equal(losses.binary_crossentropy(t[:, 0], p), losses.binary_crossentropy(t, p))


def test_squared_error_equals_the_reference() -> None:
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(7, 3)), rng.normal(size=(7, 3)).astype(np.float32)
    np.testing.assert_allclose(losses.mean_squared_error(t, x), reference.squared_error(x, t)[0], rtol=1e-12)


# -- reductions, weights, what is ignored ------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, [0.5, 0.0, 2.0, 1.0]])
@pytest.mark.parametrize("ignore", [None, 2])
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None])
def test_reductions(reduction: str | None, ignore: int | None, weights: list[float] | None) -> None:
    p, y = probabilities(4, 4, 3), np.array([0, 2, 1, 0])
    loss = losses.SparseCategoricalCrossentropy(ignore_class=ignore, reduction=reduction)
    kept = np.ones(4, bool) if ignore is None else y != ignore
    values = -np.log(p[np.arange(4), y]) * kept
    factors = kept * (np.ones(4) if weights is None else np.array(weights))
    expected = {
        "sum": (values * factors).sum(),
        "mean_with_sample_weight": (values * factors).sum()
        / (4 if weights is None and ignore is None else factors.sum()),
    }.get(str(reduction), (values * factors).sum() / kept.sum())
    if reduction in ("none", None):
        expected = values * factors
    np.testing.assert_allclose(loss(y, p, sample_weight=weights), expected, rtol=1e-12)


def test_nothing_but_ignored_samples_cost_nothing() -> None:
    assert IGNORING([-1, -1], [[0.5, 0.5], [0.5, 0.5]]) == 0
    assert IGNORING.targets([-1, 1], 3).tolist() == [[0, 0, 0], [0, 1, 0]]
