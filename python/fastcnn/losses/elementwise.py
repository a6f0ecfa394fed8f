"""Losses that are means over a sample's outputs: binary cross-entropy and the squared error.

As in Keras, probabilities are clipped to [1e-7, 1 - 1e-7] in float32; behind a sigmoid training computes binary
cross-entropy from the logits. The classes hold the arguments; called, they compute the same in NumPy float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.losses.base import Array, Loss, Rows, bounds, last_axis, numbers, per_output, refuse, smoothing


class BinaryCrossentropy(Loss):
    """Mean of -t*log(p) - (1-t)*log(1-p) over the outputs, for labels [N,K] in 0..1, or [N] with one output.

    Smoothing s makes the labels t*(1-s) + s/2.
    """

    kind = "binary"
    arguments = ("from_logits", "label_smoothing", "reduction")
    default_name = "binary_crossentropy"

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(reduction, name)
        last_axis("BinaryCrossentropy", axis)
        self.from_logits = bool(from_logits)
        self.label_smoothing = smoothing("BinaryCrossentropy", label_smoothing)

    def check(self, y: ArrayLike, outputs: int, where: str = "y") -> NDArray[Any]:
        """Return y[N,K]; raises ValueError for another shape and values outside 0..1."""
        labels = per_output(numbers(y, where), outputs, where, "binary_crossentropy")
        refuse(labels, (labels >= 0) & (labels <= 1), f"{where} must hold values in 0..1 for binary_crossentropy")
        return labels

    def targets(self, y: ArrayLike, outputs: int, where: str = "y") -> Array:
        """Return y, smoothed, as float32 [N,K]; raises ValueError as `check` does."""
        t = self.check(y, outputs, where).astype(np.float32)
        if self.label_smoothing:
            t *= np.float32(1 - self.label_smoothing)
            t += np.float32(self.label_smoothing / 2)
        return t

    def label_classes(self, outputs: int) -> int | None:
        """Return 2 for one output, which tells two classes apart."""
        return max(outputs, 2)

    def values(self, t: Rows, p: Rows) -> Rows:
        """Return the loss of each row for targets and outputs [N,K], in float64."""
        if self.from_logits:
            loss: Rows = (np.maximum(p, 0) - t * p + np.log1p(np.exp(-np.abs(p)))).mean(axis=1)
            return loss
        least, most = bounds(self.floor)
        p = np.clip(p, least, most)
        loss = -(t * np.log(p) + (1 - t) * np.log(np.minimum(1 - p, most))).mean(axis=1)
        return loss


class MeanSquaredError(Loss):
    """Mean of (p - t)^2 over the outputs, for labels [N,K], or [N] with one output."""

    kind = "squared"
    default_name = "mean_squared_error"

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = None) -> None:
        super().__init__(reduction, name)

    def check(self, y: ArrayLike, outputs: int, where: str = "y") -> NDArray[Any]:
        """Return y[N,K]; raises ValueError for another shape and values that are not finite."""
        labels = per_output(numbers(y, where), outputs, where, "mean_squared_error")
        refuse(labels, np.isfinite(labels), f"{where} must hold finite values for mean_squared_error")
        return labels

    def targets(self, y: ArrayLike, outputs: int, where: str = "y") -> Array:
        """Return y as float32 [N,K]; raises ValueError as `check` does."""
        return self.check(y, outputs, where).astype(np.float32)

    def label_classes(self, outputs: int) -> int | None:
        """Return None for one output: its label may be any number."""
        return None if outputs == 1 else outputs

    def values(self, t: Rows, p: Rows) -> Rows:
        """Return the loss of each row for targets and outputs [N,K], in float64."""
        loss: Rows = ((p - t) ** 2).mean(axis=1)
        return loss


def binary_crossentropy(
    y_true: ArrayLike, y_pred: ArrayLike, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Rows:
    """Return the loss of each of N predictions [N,K] for labels [N,K]; also accepted as `compile(loss=...)`."""
    return BinaryCrossentropy(from_logits, label_smoothing, axis).per_sample("binary_crossentropy", y_true, y_pred)


def mean_squared_error(y_true: ArrayLike, y_pred: ArrayLike) -> Rows:
    """Return the mean squared error of each of N predictions [N,K]; also accepted as `compile(loss=...)`."""
    return MeanSquaredError().per_sample("mean_squared_error", y_true, y_pred)
