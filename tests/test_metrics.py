from __future__ import annotations

import json
import math
from collections.abc import Callable

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


# -- decisions at thresholds -------------------------------------------------------------------------------------------


def some_outputs(N: int = 60, K: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities that know something of them, and weights."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, (N, K))
    p = np.clip(0.3 * y + 0.7 * rng.random((N, K)), 0, 1)
    return y, np.round(p * 64).astype(np.float32) / 64, rng.integers(0, 4, N) / 2


def counted(y: np.ndarray, p: np.ndarray, w: np.ndarray, threshold: float) -> dict[str, float]:
    """Count one by one."""
    counts = dict.fromkeys(("true_positives", "false_positives", "true_negatives", "false_negatives"), 0.0)
    for row, outputs, weight in zip(y, p, w, strict=True):
        for label, output in zip(row, outputs, strict=True):
            above = output > threshold
            counts[f"{'true' if above == label else 'false'}_{'positives' if above else 'negatives'}"] += weight
    return counts


COUNTS = (metrics.TruePositives, metrics.FalsePositives, metrics.TrueNegatives, metrics.FalseNegatives)


@pytest.mark.parametrize("threshold", [None, 0.0, 0.25, 0.7, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_counts_precision_and_recall(threshold: float | None, weighted: bool) -> None:
    y, p, w = some_outputs()
    expected = counted(y, p, w if weighted else np.ones(len(y)), 0.5 if threshold is None else threshold)
    made = [*(cls(threshold) for cls in COUNTS), metrics.Precision(threshold), metrics.Recall(threshold)]
    for part in (slice(0, 25), slice(25, 60)):
        for metric in made:
            metric.update_state(y[part], p[part], w[part] if weighted else None)
    for metric in made[:4]:
        assert metric.result() == expected[metric.name]
    found = expected["true_positives"]
    positives, wanted = found + expected["false_positives"], found + expected["false_negatives"]
    assert made[4].result() == pytest.approx(found / positives if positives else 0, rel=1e-12)
    assert made[5].result() == pytest.approx(found / wanted, rel=1e-12)
    made[5].reset_state()
    assert made[5].result() == 0


def test_several_thresholds_give_an_array() -> None:
    y, p, _ = some_outputs()
    single = [metrics.Recall(threshold)(y, p) for threshold in (0.2, 0.6)]
    assert metrics.Recall([0.2, 0.6])(y, p).tolist() == single
    assert metrics.TruePositives([0.2])(y, p).shape == (1,)


def test_one_output_may_have_no_axis() -> None:
    assert metrics.Precision()([0, 1, 1], [0.9, 0.8, 0.1]) == 0.5
    assert metrics.BinaryAccuracy()([0, 1, 1], [[0.9], [0.8], [0.1]]) == pytest.approx(1 / 3)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_precision_and_recall_of_the_largest_outputs(k: int) -> None:
    y, p, _ = some_outputs()
    p += np.arange(3, dtype=np.float32) / 1000  # no ties
    chosen = np.argsort(np.argsort(-p, axis=1), axis=1) < k
    assert metrics.Precision(top_k=k)(y, p) == pytest.approx((chosen & (y == 1)).sum() / chosen.sum())
    assert metrics.Recall(top_k=k)(y, p) == pytest.approx((chosen & (y == 1)).sum() / y.sum())
    both = chosen & (p > 0.5)
    assert metrics.Precision(0.5, top_k=k)(y, p) == pytest.approx((both & (y == 1)).sum() / both.sum())
    one = metrics.Recall(top_k=k, class_id=1)(y, p)
    assert one == pytest.approx((chosen & (y == 1))[:, 1].sum() / y[:, 1].sum())


def test_ties_beyond_the_kth_output_are_no_positives() -> None:
    assert metrics.Precision(top_k=1)([[0, 1, 0]], [[0.3, 0.3, 0.3]]) == 0


@pytest.mark.parametrize("threshold", [0.5, 0.75])
def test_binary_accuracy(threshold: float) -> None:
    y, p, w = some_outputs()
    counts = counted(y, p, np.ones(len(y)), threshold)
    right = (counts["true_positives"] + counts["true_negatives"]) / y.size
    assert metrics.BinaryAccuracy(threshold=threshold)(y, p) == pytest.approx(right)
    rows = ((p > threshold) == y).mean(axis=1)
    assert metrics.BinaryAccuracy(threshold=threshold)(y, p, w) == pytest.approx((rows * w).sum() / w.sum())


def test_accuracy_follows_the_number_of_outputs() -> None:
    assert metrics.get("accuracy", losses.BinaryCrossentropy())([0, 1, 1, 0], [[0.1], [0.9], [0.4], [0.2]]) == 0.75
    assert metrics.get("accuracy", CATEGORICAL)(np.eye(3)[LABELS], P) == 0.5
    assert metrics.get("accuracy", SPARSE)(LABELS[:, None], P, sample_weight=[1, 0, 0, 3]) == 0.25


# -- areas -------------------------------------------------------------------------------------------------------------


def points(y: np.ndarray, p: np.ndarray, w: np.ndarray, thresholds: list[float]) -> np.ndarray:
    """Return [thresholds, 4]: true positives, false positives, true negatives, false negatives, column by column."""
    rows = []
    for threshold in np.array([-1e-7, *thresholds, 1 + 1e-7], np.float32):
        above = p.astype(np.float32) > threshold
        masks = (above & (y == 1), above & (y == 0), ~above & (y == 0), ~above & (y == 1))
        rows.append([(mask * w[:, None]).sum() for mask in masks])
    return np.array(rows)


def area(counts: np.ndarray, curve: str, summation: str) -> float:
    """Add up the area between neighbouring thresholds, by small steps where precision is interpolated."""
    tp, fp, tn, fn = counts.T
    if curve == "PR" and summation == "interpolation":
        total = 0.0
        for i in range(len(tp) - 1):
            steps = np.linspace(0, 1, 20_001)
            true = tp[i + 1] + (tp[i] - tp[i + 1]) * steps
            every = true + fp[i + 1] + (fp[i] - fp[i + 1]) * steps
            middle, recall = (true[1:] + true[:-1]) / 2, np.diff(true) / (tp[0] + fn[0])
            total += float((middle / np.maximum((every[1:] + every[:-1]) / 2, 1e-300) * recall).sum())
        return total
    recall = tp / (tp + fn)
    x, height = fp / (fp + tn), recall
    if curve == "PR":
        x, height = recall, tp / np.where(tp + fp == 0, 1, tp + fp)
    if curve == "PRGAIN":
        odds, safe = (tp + fn) / (tn + fp), np.where(tp == 0, 1, tp)
        x = np.maximum(np.where(tp == 0, 0, 1 - odds * fn / safe), 0)
        height = np.where(tp == 0, 1, 1 - odds * fp / safe)
    join = {"interpolation": lambda a, b: (a + b) / 2, "minoring": min, "majoring": max}[summation]
    return sum((x[i] - x[i + 1]) * join(height[i], height[i + 1]) for i in range(len(x) - 1))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("summation", ["interpolation", "minoring", "majoring"])
@pytest.mark.parametrize("curve", ["ROC", "PR", "PRGAIN"])
def test_auc(curve: str, summation: str, weighted: bool) -> None:
    y, p, w = some_outputs()
    weights = w if weighted else np.ones(len(y))
    inner = [(i + 1) / 19 for i in range(18)]
    given = [0.75, 0.1, 0.5]
    for thresholds, options in ((inner, {"num_thresholds": 20}), (sorted(given), {"thresholds": given})):
        metric = metrics.AUC(curve=curve, summation_method=summation, **options)  # type: ignore[arg-type]
        for part in (slice(0, 25), slice(25, 60)):
            metric.update_state(y[part], p[part], w[part] if weighted else None)
        expected = area(points(y, p, weights, thresholds), curve, summation)
        assert metric.result() == pytest.approx(expected, rel=1e-6)
        assert 0 < metric.result() < 1.01


def test_auc_of_each_output() -> None:
    y, p, w = some_outputs()
    alone = [metrics.AUC()(y[:, k], p[:, k], w) for k in range(3)]
    assert metrics.AUC(multi_label=True)(y, p, w) == pytest.approx(np.mean(alone))
    shares = [1.0, 2.0, 0.0]
    weighted = metrics.AUC(multi_label=True, num_labels=3, label_weights=shares)
    assert weighted(y, p, w) == pytest.approx(np.dot(alone, shares) / 3)
    flat = metrics.AUC(label_weights=shares)(y, p, w)
    spread = (w[:, None] * shares).reshape(-1)
    assert flat == pytest.approx(metrics.AUC()(y.reshape(-1), p.reshape(-1), spread))


def test_auc_of_logits() -> None:
    y, p, _ = some_outputs()
    logits = np.log((p + 1e-3) / (1.001 - p))
    assert metrics.AUC(from_logits=True)(y, logits) == pytest.approx(metrics.AUC()(y, 1 / (1 + np.exp(-logits))))
    metric = metrics.get("AUC", losses.BinaryCrossentropy(from_logits=True))
    assert metric.get_config() == metrics.AUC(from_logits=True, name="AUC").get_config()


def test_auc_before_any_sample_and_of_one_class() -> None:
    assert metrics.AUC().result() == 0
    assert metrics.AUC()([1, 1], [0.2, 0.7]) == 0


# -- confusion matrix --------------------------------------------------------------------------------------------------


def test_confusion_matrix() -> None:
    matrix = metrics.confusion_matrix([0, 1, 1, 2], [0, 2, 1, 2])
    assert matrix.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert matrix.dtype == np.int64
    assert metrics.confusion_matrix(np.eye(3)[LABELS], P).tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 0]]
    assert metrics.confusion_matrix(LABELS[:, None], P).shape == (3, 3)
    weighted = metrics.confusion_matrix([0, 1], [1, 1], 4, sample_weight=[0.5, 2])
    assert weighted.shape == (4, 4)
    assert weighted[0, 1] == 0.5
    assert weighted[1, 1] == 2


# -- losses as metrics -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "loss", "y"),
    [
        ("mse", losses.mean_squared_error, np.eye(3)[LABELS]),
        ("mean_squared_error", losses.mean_squared_error, np.eye(3)[LABELS]),
        ("bce", losses.binary_crossentropy, np.eye(3)[LABELS]),
        ("BinaryCrossentropy", losses.binary_crossentropy, np.eye(3)[LABELS]),
        ("categorical_crossentropy", losses.categorical_crossentropy, np.eye(3)[LABELS]),
        ("sparse_categorical_crossentropy", losses.sparse_categorical_crossentropy, LABELS),
    ],
)
def test_losses_as_metrics(name: str, loss: Callable[..., np.ndarray], y: np.ndarray) -> None:
    values, weights = loss(y, P), np.array([1.0, 0.0, 2.0, 0.5])
    metric = metrics.get(name, SPARSE if name.startswith("sparse") else CATEGORICAL)
    assert metric.name == name
    metric.update_state(y[:3], P[:3])
    metric.update_state(y[3:], P[3:])
    assert metric.result() == pytest.approx(values.mean(), rel=1e-12)
    metric.reset_state()
    assert metric(y, P, weights) == pytest.approx((values * weights).sum() / weights.sum(), rel=1e-12)


# -- configuration and errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metric",
    [
        metrics.AUC(50, "PR", "majoring", "area", multi_label=True, label_weights=[1, 2]),
        metrics.AUC(thresholds=[0.5, 0.1]),
        metrics.Precision([0.1, 0.5], 2, 1, "p"),
        metrics.Recall(0.3),
        metrics.FalseNegatives([0.2], "misses"),
        metrics.BinaryAccuracy(threshold=0.2),
        metrics.BinaryCrossentropy("entropy", label_smoothing=0.1),
        metrics.SparseCategoricalCrossentropy(from_logits=True),
        metrics.MeanSquaredError(),
    ],
)
def test_configurations(metric: metrics.Metric) -> None:
    loss = SPARSE if isinstance(metric, metrics.SparseCategoricalCrossentropy) else CATEGORICAL
    copy = metrics.get(json.loads(json.dumps(metrics.serialize(metric))), loss)
    assert type(copy) is type(metric)
    assert copy.get_config() == metric.get_config()


Y2, P2 = [[0, 1], [1, 0]], [[0.2, 0.9], [0.4, 0.5]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.Precision(1.5), r"Precision: thresholds must be None or numbers in 0\.\.1, got 1\.5"),
        (lambda: metrics.Recall([]), r"Recall: thresholds must be .*got \[\]"),
        (lambda: metrics.Precision(top_k=0), "top_k must be None or an integer of at least 1, got 0"),
        (lambda: metrics.Recall(class_id=-1), "class_id must be None or an integer of at least 0, got -1"),
        (lambda: metrics.Recall(class_id=2)(Y2, P2), "recall: class_id is 2 but y_pred has 2 outputs"),
        (lambda: metrics.Recall()([[0, 2], [1, 0]], P2), "recall: y_true must hold 0 and 1, got 2"),
        (lambda: metrics.Recall()([0, 1], P2), r"y_true must have one value per output, \[2, 2\], got \[2\]"),
        (lambda: metrics.Recall()(Y2, P2, [1.0]), r"sample_weight must be 2 numbers, one per sample, got \[1\]"),
        (lambda: metrics.BinaryAccuracy(threshold=2), r"threshold must lie in \[0, 1\], got 2"),
        (lambda: metrics.AUC(1), "num_thresholds must be an integer of at least 2, got 1"),
        (lambda: metrics.AUC(curve="roc"), "curve must be one of ROC, PR, PRGAIN, got 'roc'"),
        (lambda: metrics.AUC(summation_method="mean"), "summation_method must be one of interpolation.*got 'mean'"),
        (lambda: metrics.AUC(num_labels=2), "num_labels needs multi_label=True, got 2"),
        (lambda: metrics.AUC(thresholds=[0.5, 1.5]), r"thresholds must be numbers in 0\.\.1, got"),
        (lambda: metrics.AUC()(Y2, [[0.2, 1.9], [0.4, 0.5]]), r"auc: y_pred must lie in 0\.\.1; logits need"),
        (lambda: metrics.AUC()(Y2, [[0.2, math.nan], [0.4, 0.5]]), r"auc: y_pred must lie in 0\.\.1"),
        (lambda: metrics.AUC(label_weights=[1])(Y2, P2), "label_weights is for 1 outputs but y_pred has 2"),
        (lambda: metrics.confusion_matrix([0, 1], [0]), "y_true has 2 rows but y_pred has 1"),
        (lambda: metrics.confusion_matrix([0, 3], [0, 1], 3), r"class numbers must be in 0\.\.2"),
        (lambda: metrics.confusion_matrix([0, 0.5], [0, 1]), "y_true must hold whole numbers of at least 0"),
        (lambda: metrics.confusion_matrix([0, 1], [["a"], ["b"]]), "y_pred must be class numbers"),
        (
            lambda: metrics.get(metrics.AUC(), SPARSE),
            "'auc' needs a label per output and does not go with the class numb",
        ),
    ],
)
def test_wrong_arguments(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# -- the same by scikit-learn ------------------------------------------------------------------------------------------


def test_against_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    y, p, w = some_outputs(N=400, K=1, seed=7)
    between = [(i + 0.5) / 64 for i in range(64)]  # one threshold between any two outputs: the curve is exact
    assert metrics.AUC(thresholds=between)(y, p) == pytest.approx(sklearn.roc_auc_score(y, p), rel=1e-12)
    weighted = sklearn.roc_auc_score(y, p, sample_weight=w)
    assert metrics.AUC(thresholds=between)(y, p, w) == pytest.approx(weighted, rel=1e-12)
    chosen = p[:, 0] > 0.5
    for metric, function in ((metrics.Precision(), "precision_score"), (metrics.Recall(), "recall_score")):
        assert metric(y, p, w) == pytest.approx(getattr(sklearn, function)(y, chosen, sample_weight=w), rel=1e-12)
    tn, fp, fn, tp = sklearn.confusion_matrix(y, chosen).ravel()
    assert [cls()(y, p) for cls in COUNTS] == [tp, fp, tn, fn]


def test_classes_against_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    y, w = rng.integers(0, 7, 500), rng.random(500)
    p = rng.random((500, 7)) + 0.5 * np.eye(7)[y]
    p /= p.sum(axis=1, keepdims=True)
    taken = p.argmax(1)
    assert np.array_equal(metrics.confusion_matrix(y, p), sklearn.confusion_matrix(y, taken))
    weighted = metrics.confusion_matrix(y, p, sample_weight=w)
    np.testing.assert_allclose(weighted, sklearn.confusion_matrix(y, taken, sample_weight=w), rtol=1e-12)
    accuracy = metrics.SparseCategoricalAccuracy()(y, p, w)
    assert accuracy == pytest.approx(sklearn.accuracy_score(y, taken, sample_weight=w), rel=1e-12)
    for k in (1, 2, 5):
        expected = sklearn.top_k_accuracy_score(y, p, k=k)
        assert metrics.SparseTopKCategoricalAccuracy(k)(y, p) == pytest.approx(expected, rel=1e-12)
        assert metrics.TopKCategoricalAccuracy(k)(np.eye(7)[y], p) == pytest.approx(expected, rel=1e-12)
    assert losses.SparseCategoricalCrossentropy()(y, p) == pytest.approx(sklearn.log_loss(y, p), rel=1e-6)
    one_hot = np.eye(7)[y]
    assert losses.MeanSquaredError()(one_hot, p) == pytest.approx(sklearn.mean_squared_error(one_hot, p), rel=1e-6)
    binary = np.mean([sklearn.log_loss(one_hot[:, k], p[:, k]) for k in range(7)])
    assert losses.BinaryCrossentropy()(one_hot, p) == pytest.approx(binary, rel=1e-6)
