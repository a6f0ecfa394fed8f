"""Accuracy and top-k accuracy.

Labels of classes that exclude each other may be one-hot [N,K] (the class is the largest value) or class numbers [N] or
[N,1].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.metrics.base import MeanMetric, per_output


class CategoricalAccuracy(MeanMetric):
    """Share of samples whose largest output is their class; of equal outputs the first counts."""

    rises = True

    def __init__(self, name: str = "categorical_accuracy") -> None:
        super().__init__(name)

    def values(self, y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[Any]:
        """Return a bool for each of N predictions [N,K]."""
        labels, p = self._classes(y_true, y_pred)
        right: NDArray[Any] = p.argmax(axis=1) == labels
        return right

    def _classes(self, y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray[np.int64], NDArray[Any]]:
        return class_numbers(self.name, y_true, y_pred, self.ignored)


class SparseCategoricalAccuracy(CategoricalAccuracy):
    """CategoricalAccuracy under the name Keras gives it for class numbers."""

    def __init__(self, name: str = "sparse_categorical_accuracy") -> None:
        super().__init__(name)


class BinaryAccuracy(MeanMetric):
    """Share of outputs above `threshold` where the label [N,K] is 1, and not where it is 0."""

    rises = True
    arguments = ("threshold",)
    labels = "outputs"

    def __init__(self, name: str = "binary_accuracy", threshold: float = 0.5) -> None:
        if isinstance(threshold, bool) or not 0 <= threshold <= 1:
            raise ValueError(f"BinaryAccuracy: threshold must lie in [0, 1], got {threshold!r}")
        self.threshold = float(threshold)
        super().__init__(name)

    def values(self, y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[Any]:
        """Return the share of right outputs of each of N predictions [N,K]."""
        y, p = per_output(self.name, y_true, y_pred)
        right: NDArray[Any] = ((p > self.threshold) == y).mean(axis=1)
        return right


class FittingAccuracy(CategoricalAccuracy):
    """What "accuracy" means: BinaryAccuracy for one output, else CategoricalAccuracy."""

    def values(self, y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[Any]:
        """Return the accuracy of each of N predictions [N,K]."""
        if np.ndim(y_pred) == 2 and np.shape(y_pred)[1] == 1:
            return BinaryAccuracy(self.name).values(y_true, y_pred)
        return super().values(y_true, y_pred)


class TopKCategoricalAccuracy(CategoricalAccuracy):
    """Share of samples whose class is among the k largest outputs; ties count as within, a NaN or infinity as not."""

    arguments = ("k",)

    def __init__(self, k: int = 5, name: str = "top_k_categorical_accuracy") -> None:
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise ValueError(f"{type(self).__name__}: k must be an integer of at least 1, got {k!r}")
        self.k = int(k)
        super().__init__(name)

    def values(self, y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[Any]:
        """Return a bool for each of N predictions [N,K]."""
        labels, p = self._classes(y_true, y_pred)
        own = np.take_along_axis(p, np.maximum(labels, 0)[:, None], axis=1)
        within: NDArray[Any] = ((p > own).sum(axis=1) < self.k) & np.isfinite(own[:, 0]) & (labels >= 0)
        return within


class SparseTopKCategoricalAccuracy(TopKCategoricalAccuracy):
    """TopKCategoricalAccuracy under the name Keras gives it for class numbers."""

    def __init__(self, k: int = 5, name: str = "sparse_top_k_categorical_accuracy") -> None:
        super().__init__(k, name)


def class_numbers(
    name: str, y_true: ArrayLike, y_pred: ArrayLike, ignored: int | None = None
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return class numbers [N], -1 for the label `ignored`, and predictions [N,K]; raises ValueError naming `name`."""
    p = np.asarray(y_pred)
    y = np.asarray(y_true)
    if p.ndim != 2:
        raise ValueError(f"{name}: y_pred must be [N, classes], got {list(p.shape)}")
    if y.ndim == 2 and y.shape == p.shape and y.shape[1] > 1:
        return y.argmax(axis=1), p
    if y.shape not in ((len(p),), (len(p), 1)):
        raise ValueError(
            f"{name}: y_true must be {list(p.shape)} (one-hot), [{len(p)}] or [{len(p)}, 1] (class numbers), "
            f"got {list(y.shape)}"
        )
    labels = y.reshape(-1).astype(np.int64)
    counted = labels if ignored is None else labels[labels != ignored]
    if counted.size and not 0 <= counted.min() <= counted.max() < p.shape[1]:
        raise ValueError(
            f"{name}: y_true must hold class numbers in 0..{p.shape[1] - 1}, got {counted.min()} to {counted.max()}"
        )
    return labels if ignored is None else np.where(labels == ignored, -1, labels), p
