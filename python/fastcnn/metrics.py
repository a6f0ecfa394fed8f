"""Accuracy and top-k accuracy as running means over the pictures of an epoch.

Labels may be one-hot [N,K] (the class is the largest value) or class numbers [N] or [N,1].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.losses import Loss, SparseCategoricalCrossentropy


class Metric:
    """The mean over all pictures since the last reset of a number per picture; a subclass says which in `values`."""

    arguments: ClassVar[tuple[str, ...]] = ()

    def __init__(self, name: str) -> None:
        self.name = name
        self.reset_state()

    def values(self, y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[Any]:
        """Return the metric of each of N predictions [N,K]."""
        raise NotImplementedError

    def update_state(self, y_true: ArrayLike, y_pred: ArrayLike) -> None:
        """Add a batch."""
        values = self.values(y_true, y_pred)
        self._total += float(values.sum())
        self._count += values.size

    def result(self) -> float:
        """Return the mean; 0 before any picture, as in Keras."""
        return self._total / self._count if self._count else 0.0

    def reset_state(self) -> None:
        """Forget all batches."""
        self._total = 0.0
        self._count = 0

    def get_config(self) -> dict[str, Any]:
        """Return name and arguments, enough for `from_config`."""
        return {"name": self.name} | {argument: getattr(self, argument) for argument in self.arguments}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build from what `get_config` returned."""
        return cls(**config)


class CategoricalAccuracy(Metric):
    """Share of pictures whose largest output is their class; of equal outputs the first counts."""

    def __init__(self, name: str = "categorical_accuracy") -> None:
        super().__init__(name)

    def values(self, y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[Any]:
        """Return a bool for each of N predictions [N,K]."""
        labels, p = _labels(self.name, y_true, y_pred)
        right: NDArray[Any] = p.argmax(axis=1) == labels
        return right


class SparseCategoricalAccuracy(CategoricalAccuracy):
    """CategoricalAccuracy under the name Keras gives it for class numbers."""

    def __init__(self, name: str = "sparse_categorical_accuracy") -> None:
        super().__init__(name)


class TopKCategoricalAccuracy(Metric):
    """Share of pictures whose class is among the k largest outputs; ties count as within, a NaN or infinity as not."""

    arguments = ("k",)

    def __init__(self, k: int = 5, name: str = "top_k_categorical_accuracy") -> None:
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise ValueError(f"{type(self).__name__}: k must be an integer of at least 1, got {k!r}")
        self.k = int(k)
        super().__init__(name)

    def values(self, y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[Any]:
        """Return a bool for each of N predictions [N,K]."""
        labels, p = _labels(self.name, y_true, y_pred)
        own = np.take_along_axis(p, labels[:, None], axis=1)
        within: NDArray[Any] = ((p > own).sum(axis=1) < self.k) & np.isfinite(own[:, 0])
        return within


class SparseTopKCategoricalAccuracy(TopKCategoricalAccuracy):
    """TopKCategoricalAccuracy under the name Keras gives it for class numbers."""

    def __init__(self, k: int = 5, name: str = "sparse_top_k_categorical_accuracy") -> None:
        super().__init__(k, name)


_CLASSES: tuple[type[Metric], ...] = (
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    TopKCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
)
_BY_CLASS_NAME = {cls.__name__: cls for cls in _CLASSES}
_ANY_LABELS = {"accuracy": CategoricalAccuracy, "acc": CategoricalAccuracy}
_ONE_HOT = {
    "categorical_accuracy": CategoricalAccuracy,
    "top_k_categorical_accuracy": TopKCategoricalAccuracy,
}
_CLASS_NUMBERS = {
    "sparse_categorical_accuracy": SparseCategoricalAccuracy,
    "sparse_top_k_categorical_accuracy": SparseTopKCategoricalAccuracy,
}


def get(identifier: str | Mapping[str, Any] | Metric, loss: Loss) -> Metric:
    """Return the metric for a name, an instance or what `serialize` returned, to be logged under the name given.

    Raises ValueError for an unknown name and for one that does not go with the labels of `loss`.
    """
    if isinstance(identifier, Metric):
        return identifier
    if isinstance(identifier, Mapping):
        cls = _BY_CLASS_NAME.get(str(identifier.get("class_name")))
        if cls is not None:
            return cls.from_config(identifier.get("config") or {})
    elif isinstance(identifier, str):
        sparse = isinstance(loss, SparseCategoricalCrossentropy)
        fitting = _ANY_LABELS | (_CLASS_NUMBERS if sparse else _ONE_HOT)
        if identifier in fitting:
            return fitting[identifier](name=identifier)
        if identifier in _CLASS_NUMBERS | _ONE_HOT:
            raise ValueError(
                f"metric {identifier!r} does not go with the labels of loss {loss.name!r}; use one of "
                f"{', '.join(fitting)}"
            )
    known = ", ".join(_ANY_LABELS | _ONE_HOT | _CLASS_NUMBERS)
    raise ValueError(f"metric must be one of {known} or a Metric, got {identifier!r}")


def serialize(metric: Metric) -> dict[str, Any]:
    """Return {"class_name": ..., "config": ...}, which `get` takes back."""
    return {"class_name": type(metric).__name__, "config": metric.get_config()}


def _labels(name: str, y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return class numbers [N] and predictions [N,K]."""
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
    if labels.size and not 0 <= labels.min() <= labels.max() < p.shape[1]:
        raise ValueError(
            f"{name}: y_true must hold class numbers in 0..{p.shape[1] - 1}, got {labels.min()} to {labels.max()}"
        )
    return labels, p
