"""Cross-entropies of classes that exclude each other, for one-hot labels and for class numbers.

The loss of one picture is -sum t*log(clip(p, 1e-7, 1-1e-7)) with p divided by its sum, as in Keras; behind a softmax
training computes it from the logits. The classes hold the arguments; called, they compute the same in NumPy float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.losses.base import Array, Loss, Rows, bounds, is_column, last_axis, numbers, refuse, smoothing


class _Categorical(Loss):
    kind = "categorical"

    def __init__(self, from_logits: bool, reduction: str | None, axis: int, name: str | None) -> None:
        super().__init__(reduction, name)
        last_axis(type(self).__name__, axis)
        self.from_logits = bool(from_logits)

    def values(self, t: Rows, p: Rows) -> Rows:
        """Return the loss of each row for targets and outputs [N,K], in float64."""
        if self.from_logits:
            below = p - p.max(axis=1, keepdims=True)
            log_p = below - np.log(np.exp(below).sum(axis=1, keepdims=True))
        else:
            log_p = np.log(np.clip(p / p.sum(axis=1, keepdims=True), *bounds(self.floor)))
        loss: Rows = -(t * log_p).sum(axis=1)
        return loss


class CategoricalCrossentropy(_Categorical):
    """Cross-entropy for one-hot or soft labels [N,K] in 0..1; smoothing s makes them t*(1-s) + s/K."""

    arguments = ("from_logits", "label_smoothing", "reduction")
    default_name = "categorical_crossentropy"

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(from_logits, reduction, axis, name)
        self.label_smoothing = smoothing("CategoricalCrossentropy", label_smoothing)

    def check(self, y: ArrayLike, outputs: int, where: str = "y") -> NDArray[Any]:
        """Return y[N,K]; raises ValueError for another shape and values outside 0..1."""
        labels = numbers(y, where)
        if labels.ndim != 2 or labels.shape[1] != outputs:
            hint = "; class numbers need sparse_categorical_crossentropy" if is_column(labels) else ""
            raise ValueError(
                f"{where} must be one-hot of shape [N, {outputs}] for categorical_crossentropy "
                f"(the model has {outputs} outputs), got {list(labels.shape)}{hint}"
            )
        valid = (labels >= 0) & (labels <= 1)  # false for NaN too
        refuse(labels, valid, f"{where} must hold values in 0..1 for categorical_crossentropy")
        return labels

    def targets(self, y: ArrayLike, outputs: int, where: str = "y") -> Array:
        """Return y, smoothed, as float32 [N,K]; raises ValueError as `check` does."""
        t = self.check(y, outputs, where).astype(np.float32)
        if self.label_smoothing:
            t *= np.float32(1 - self.label_smoothing)
            t += np.float32(self.label_smoothing / outputs)
        return t


class SparseCategoricalCrossentropy(_Categorical):
    """Cross-entropy for class numbers [N] or [N,1]; samples labelled `ignore_class` count in neither sum nor number."""

    arguments = ("from_logits", "ignore_class", "reduction")
    default_name = "sparse_categorical_crossentropy"

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str | None = None,
    ) -> None:
        super().__init__(from_logits, reduction, axis, name)
        if ignore_class is not None and (
            isinstance(ignore_class, bool) or not isinstance(ignore_class, int | np.integer)
        ):
            raise ValueError(
                f"SparseCategoricalCrossentropy: ignore_class must be None or an integer, got {ignore_class!r}"
            )
        self.ignore_class = None if ignore_class is None else int(ignore_class)

    def check(self, y: ArrayLike, outputs: int, where: str = "y") -> NDArray[Any]:
        """Return y[N]; raises ValueError for another shape, fractions and numbers outside 0..K-1."""
        labels = numbers(y, where)
        if not is_column(labels):
            hint = "; one-hot labels need categorical_crossentropy" if labels.ndim == 2 else ""
            raise ValueError(
                f"{where} must be class numbers of shape [N] or [N, 1] for sparse_categorical_crossentropy, "
                f"got {list(labels.shape)}{hint}"
            )
        labels = labels.reshape(-1)
        valid = (labels >= 0) & (labels < outputs) & (labels == np.floor(labels))
        also = ""
        if self.ignore_class is not None:
            valid |= labels == self.ignore_class
            also = f" or ignore_class={self.ignore_class}"
        refuse(
            labels,
            valid,
            f"{where} must hold whole numbers in 0..{outputs - 1}{also} (the model has {outputs} outputs)",
        )
        return labels

    def targets(self, y: ArrayLike, outputs: int, where: str = "y") -> Array:
        """Return y one-hot as float32 [N,K], rows of zeros for what is ignored; raises ValueError as `check` does."""
        labels = self.check(y, outputs, where).astype(np.int64)
        t = np.zeros((labels.size, outputs), np.float32)
        rows = np.arange(labels.size)
        counted = self.counted(labels)
        if counted is not None:
            rows, labels = rows[counted], labels[counted]
        t[rows, labels] = 1
        return t

    def counted(self, y: ArrayLike) -> NDArray[np.bool_] | None:
        """Return which of N samples have a loss, None for all."""
        if self.ignore_class is None:
            return None
        counted: NDArray[np.bool_] = np.asarray(y).reshape(-1) != self.ignore_class
        return counted


def categorical_crossentropy(
    y_true: ArrayLike, y_pred: ArrayLike, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Rows:
    """Return the loss of each of N predictions [N,K] for labels [N,K]; also accepted as `compile(loss=...)`."""
    loss = CategoricalCrossentropy(from_logits, label_smoothing, axis)
    return loss.per_sample("categorical_crossentropy", y_true, y_pred)


def sparse_categorical_crossentropy(
    y_true: ArrayLike, y_pred: ArrayLike, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Rows:
    """Return the loss of each of N predictions [N,K] for class numbers [N]; also accepted as `compile(loss=...)`."""
    loss = SparseCategoricalCrossentropy(from_logits, ignore_class, axis=axis)
    return loss.per_sample("sparse_categorical_crossentropy", y_true, y_pred)
