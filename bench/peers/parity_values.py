"""Losses and metrics with their options, on values that Keras and fastcnn both get; `keras` is either package."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from seeded import seeded_keras_weights

ROWS, OUTPUTS = 24, 5
REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", None)


def _uniform(name: str, *shape: int) -> Any:
    """Return values in 0..1 that are multiples of 1/64, so that sums and ties are the same everywhere."""
    values = seeded_keras_weights(f"{name}/kernel", (int(np.prod(shape)), 1)) * np.sqrt(np.prod(shape))
    return (np.round((np.tanh(values) + 1) * 32) / 64).astype(np.float32).reshape(shape)


def _data() -> dict[str, Any]:
    draw = _uniform("probabilities", ROWS, OUTPUTS)
    labels = (np.arange(ROWS) * 7 % 11) % OUTPUTS
    binary = (_uniform("labels", ROWS, OUTPUTS) > 0.5).astype(np.float32)
    edge = draw.copy()
    edge[:4] = np.eye(OUTPUTS, dtype=np.float32)[labels[:4]]  # certain and right
    edge[4:8] = np.eye(OUTPUTS, dtype=np.float32)[(labels[4:8] + 1) % OUTPUTS]  # certain and wrong
    return {
        "classes": labels,
        "column": labels[:, None],
        "one-hot": np.eye(OUTPUTS, dtype=np.float32)[labels],
        "soft": draw[::-1] / draw.sum(axis=1)[::-1, None],
        "binary": binary,
        "probabilities": edge,
        "logits": (draw - 0.5) * 16,
        "weights": (np.arange(ROWS) % 5).astype(np.float32) / 2,
    }


def _listed(value: Any) -> Any:
    return np.asarray(value, np.float64).tolist()


def _loss_cases() -> dict[str, tuple[str, dict[str, Any], str, str, bool]]:
    """Return name: (class, arguments, labels, outputs, whether weighted)."""
    own: dict[str, tuple[tuple[str, ...], tuple[dict[str, Any], ...]]] = {
        "CategoricalCrossentropy": (("one-hot", "soft"), ({}, {"label_smoothing": 0.1})),
        "SparseCategoricalCrossentropy": (("classes", "column"), ({}, {"ignore_class": 2})),
        "BinaryCrossentropy": (("binary", "soft"), ({}, {"label_smoothing": 0.2})),
        "MeanSquaredError": (("binary", "soft"), ({},)),
    }
    cases = {}
    for name, (labels, options) in own.items():
        outputs = ("probabilities",) if name == "MeanSquaredError" else ("probabilities", "logits")
        for y, option, out, reduction, weighted in itertools.product(
            labels, options, outputs, REDUCTIONS, (False, True)
        ):
            arguments = option | {"reduction": reduction} | ({"from_logits": True} if out == "logits" else {})
            cases[f"{name} {arguments} {y} {'weighted' if weighted else ''}".strip()] = (
                name, arguments, y, out, weighted
            )  # fmt: skip
    return cases


def losses(keras: Any) -> dict[str, Any]:
    """Return what every loss gives with every option: a number, or one a sample with the reduction None."""
    data = _data()
    found = {}
    for case, (name, arguments, y, out, weighted) in _loss_cases().items():
        loss = getattr(keras.losses, name)(**arguments)
        value = loss(data[y], data[out], data["weights"] if weighted else None)
        found[case] = _listed(value)
    return found


_METRICS: dict[str, tuple[tuple[dict[str, Any], ...], str, tuple[str, ...]]] = {
    "CategoricalAccuracy": (({},), "one-hot", ("probabilities", "logits")),
    "SparseCategoricalAccuracy": (({},), "classes", ("probabilities", "logits")),
    "TopKCategoricalAccuracy": (({}, {"k": 1}, {"k": 2}), "one-hot", ("probabilities", "logits")),
    "SparseTopKCategoricalAccuracy": (({}, {"k": 1}, {"k": 3}), "classes", ("probabilities", "logits")),
    "BinaryAccuracy": (({}, {"threshold": 0.25}), "binary", ("probabilities",)),
    "TruePositives": (({}, {"thresholds": 0.25}, {"thresholds": [0.25, 0.75]}), "binary", ("probabilities",)),
    "FalsePositives": (({}, {"thresholds": 0.25}, {"thresholds": [0.25, 0.75]}), "binary", ("probabilities",)),
    "TrueNegatives": (({}, {"thresholds": 0.25}, {"thresholds": [0.25, 0.75]}), "binary", ("probabilities",)),
    "FalseNegatives": (({}, {"thresholds": 0.25}, {"thresholds": [0.25, 0.75]}), "binary", ("probabilities",)),
    "Precision": (
        ({}, {"thresholds": 0.25}, {"thresholds": [0.25, 0.75]}, {"top_k": 2}, {"class_id": 1}),
        "binary",
        ("probabilities",),
    ),
    "Recall": (
        ({}, {"thresholds": 0.25}, {"thresholds": [0.25, 0.75]}, {"top_k": 2}, {"class_id": 1}),
        "binary",
        ("probabilities",),
    ),
    "AUC": (
        (
            {},
            {"num_thresholds": 50},
            {"curve": "PR"},
            {"summation_method": "minoring"},
            {"summation_method": "majoring"},
            {"thresholds": [0.25, 0.5]},
            {"multi_label": True, "num_labels": OUTPUTS},
        ),
        "binary",
        ("probabilities",),
    ),
    "CategoricalCrossentropy": (({}, {"label_smoothing": 0.1}), "one-hot", ("probabilities", "logits")),
    "SparseCategoricalCrossentropy": (({},), "classes", ("probabilities", "logits")),
    "BinaryCrossentropy": (({}, {"label_smoothing": 0.2}), "binary", ("probabilities", "logits")),
    "MeanSquaredError": (({},), "binary", ("probabilities",)),
}


def metrics(keras: Any) -> dict[str, Any]:
    """Return what every metric gives after three batches, before any, and after a reset and one batch."""
    data = _data()
    found = {}
    for name, (options, y, outputs) in _METRICS.items():
        for option, out, weighted in itertools.product(options, outputs, (False, True)):
            logits = {"from_logits": True} if out == "logits" and "Crossentropy" in name else {}
            metric = getattr(keras.metrics, name)(**option, **logits)
            values = [] if name == "AUC" else [_listed(metric.result())]
            for part in (slice(0, 9), slice(9, 20), slice(20, ROWS)):
                metric.update_state(data[y][part], data[out][part], data["weights"][part] if weighted else None)
            values.append(_listed(metric.result()))
            metric.reset_state()
            metric.update_state(data[y][3:9], data[out][3:9])
            values.append(_listed(metric.result()))
            case = f"{name} {option} {out} {'weighted' if weighted else ''}".strip()
            found[case] = values
    return found
