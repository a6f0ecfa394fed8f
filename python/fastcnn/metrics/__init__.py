"""Metrics with Keras' arguments and numbers, and how they are named and stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastcnn.losses import Loss
from fastcnn.losses import SparseCategoricalCrossentropy as _SparseLoss
from fastcnn.metrics.accuracy import (
    BinaryAccuracy,
    CategoricalAccuracy,
    FittingAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
)
from fastcnn.metrics.auc import AUC
from fastcnn.metrics.base import MeanMetric, Metric
from fastcnn.metrics.confusion import (
    FalseNegatives,
    FalsePositives,
    Precision,
    Recall,
    TrueNegatives,
    TruePositives,
    confusion_matrix,
)
from fastcnn.metrics.losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
)

_ANY_LABELS: dict[str, type[Metric]] = {"accuracy": FittingAccuracy, "acc": FittingAccuracy}
_PER_OUTPUT: dict[str, type[Metric]] = {
    "categorical_accuracy": CategoricalAccuracy,
    "top_k_categorical_accuracy": TopKCategoricalAccuracy,
    "binary_accuracy": BinaryAccuracy,
    "auc": AUC,
    "precision": Precision,
    "recall": Recall,
    "true_positives": TruePositives,
    "false_positives": FalsePositives,
    "true_negatives": TrueNegatives,
    "false_negatives": FalseNegatives,
    "categorical_crossentropy": CategoricalCrossentropy,
    "binary_crossentropy": BinaryCrossentropy,
    "mean_squared_error": MeanSquaredError,
}
_CLASS_NUMBERS: dict[str, type[Metric]] = {
    "sparse_categorical_accuracy": SparseCategoricalAccuracy,
    "sparse_top_k_categorical_accuracy": SparseTopKCategoricalAccuracy,
    "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
}
_SHORT = {"bce": "binary_crossentropy", "BCE": "binary_crossentropy", "mse": "mean_squared_error"}
_SHORT |= {"MSE": "mean_squared_error"}
_BY_CLASS_NAME = {cls.__name__: cls for cls in (*_PER_OUTPUT.values(), *_CLASS_NUMBERS.values())}
_SHORT |= {cls.__name__: name for name, cls in (_PER_OUTPUT | _CLASS_NUMBERS).items()}


def get(identifier: str | Mapping[str, Any] | Metric, loss: Loss) -> Metric:
    """Return the metric for a name, an instance or what `serialize` returned, to be logged under the name given.

    "accuracy" is that of one output or of classes, as the model's output has it; a name takes the loss's word for
    whether outputs are logits. Raises ValueError for an unknown name and for a metric that does not go with the labels
    of `loss`.
    """
    metric = _found(identifier, loss)
    if metric.labels == "outputs" and isinstance(loss, _SparseLoss):
        raise ValueError(
            f"metric {metric.name!r} needs a label per output and does not go with the class numbers of loss "
            f"{loss.name!r}; use one-hot labels and categorical_crossentropy"
        )
    metric.ignored = loss.ignore_class if isinstance(loss, _SparseLoss) else None
    return metric


def _found(identifier: object, loss: Loss) -> Metric:
    if isinstance(identifier, Metric):
        return identifier
    if isinstance(identifier, Mapping):
        cls = _BY_CLASS_NAME.get(str(identifier.get("class_name")))
        if cls is not None:
            return cls.from_config(identifier.get("config") or {})
    elif isinstance(identifier, str):
        name = _SHORT.get(identifier, identifier)
        fitting = _ANY_LABELS | (_CLASS_NUMBERS if isinstance(loss, _SparseLoss) else _PER_OUTPUT)
        if name in fitting:
            cls = fitting[name]
            logits = {"from_logits": loss.from_logits} if "from_logits" in cls.arguments else {}
            return cls.from_config({"name": identifier} | logits)
        if name in _CLASS_NUMBERS | _PER_OUTPUT:
            raise ValueError(
                f"metric {identifier!r} does not go with the labels of loss {loss.name!r}; use one of "
                f"{', '.join(fitting)}"
            )
    known = ", ".join(_ANY_LABELS | _PER_OUTPUT | _CLASS_NUMBERS)
    raise ValueError(f"metric must be one of {known} or a Metric, got {identifier!r}")


def serialize(metric: Metric) -> dict[str, Any]:
    """Return {"class_name": ..., "config": ...}, which `get` takes back."""
    return {"class_name": type(metric).__name__, "config": metric.get_config()}


def serialize_all(given: Iterable[Any]) -> list[Any]:
    """Return metrics as `compile` takes them in JSON's types: names stay names."""
    return [metric if isinstance(metric, str) else serialize(metric) for metric in given]


__all__ = [
    "AUC",
    "BinaryAccuracy",
    "BinaryCrossentropy",
    "CategoricalAccuracy",
    "CategoricalCrossentropy",
    "FalseNegatives",
    "FalsePositives",
    "MeanMetric",
    "MeanSquaredError",
    "Metric",
    "Precision",
    "Recall",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy",
    "TopKCategoricalAccuracy",
    "TrueNegatives",
    "TruePositives",
    "confusion_matrix",
    "get",
    "serialize",
    "serialize_all",
]
