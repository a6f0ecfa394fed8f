"""The losses as metrics: their mean over all samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn import losses
from fastcnn.losses import Loss
from fastcnn.metrics.base import MeanMetric, weights_of


class _LossMetric(MeanMetric):
    rises = False

    def __init__(self, name: str, loss: Loss) -> None:
        self.loss = loss
        super().__init__(name)

    def values(self, y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[np.float64]:
        """Return the loss of each of N predictions [N,K]."""
        return self.loss.per_sample(self.name, y_true, y_pred)


class CategoricalCrossentropy(_LossMetric):
    """Cross-entropy for one-hot labels [N,K]."""

    arguments = ("from_logits", "label_smoothing")
    labels = "outputs"

    def __init__(
        self, name: str = "categorical_crossentropy", from_logits: bool = False, label_smoothing: float = 0.0
    ) -> None:
        loss = losses.CategoricalCrossentropy(from_logits, label_smoothing)
        self.from_logits, self.label_smoothing = loss.from_logits, loss.label_smoothing
        super().__init__(name, loss)


class BinaryCrossentropy(_LossMetric):
    """Binary cross-entropy for labels [N,K]."""

    arguments = ("from_logits", "label_smoothing")
    labels = "outputs"

    def __init__(
        self, name: str = "binary_crossentropy", from_logits: bool = False, label_smoothing: float = 0.0
    ) -> None:
        loss = losses.BinaryCrossentropy(from_logits, label_smoothing)
        self.from_logits, self.label_smoothing = loss.from_logits, loss.label_smoothing
        super().__init__(name, loss)


class MeanSquaredError(_LossMetric):
    """Squared error for labels [N,K]."""

    labels = "outputs"

    def __init__(self, name: str = "mean_squared_error") -> None:
        super().__init__(name, losses.MeanSquaredError())


class SparseCategoricalCrossentropy(_LossMetric):
    """Cross-entropy for class numbers [N] or [N,1]; samples that the loss ignores do not count."""

    arguments = ("from_logits",)

    def __init__(self, name: str = "sparse_categorical_crossentropy", from_logits: bool = False) -> None:
        self.from_logits = bool(from_logits)
        super().__init__(name, losses.SparseCategoricalCrossentropy(from_logits))

    def update_state(self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """Add a batch, each sample with its weight."""
        self.loss = losses.SparseCategoricalCrossentropy(self.from_logits, self.ignored)
        counted = self.loss.counted(y_true)
        if counted is not None:
            weights = 1.0 if sample_weight is None else weights_of(self.name, sample_weight, len(counted))
            sample_weight = counted * weights
        super().update_state(y_true, y_pred, sample_weight)
