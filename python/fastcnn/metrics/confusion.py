"""Counts of right and wrong decisions at thresholds, precision and recall from them, and the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.metrics.base import Metric, Values, per_output, weights_of

Thresholds = float | Sequence[float] | None


class ConfusionCounts(Metric):
    """Weighted counts over all outputs: `positives` and `negatives` [thresholds, 2], the wrong ones before the right.

    An output above a threshold is a positive; it is right where the label [N,K], 0 or 1, is 1. One threshold gives one
    number, a list an array. `top_k` lets only the k largest outputs of a sample be positives, at any value unless there
    are thresholds; `class_id` looks at one output alone.
    """

    state = ("positives", "negatives")
    labels = "outputs"
    arguments: ClassVar[tuple[str, ...]] = ("thresholds",)

    def __init__(
        self,
        name: str,
        thresholds: Thresholds = None,
        top_k: int | None = None,
        class_id: int | None = None,
    ) -> None:
        self.thresholds = thresholds
        self.top_k = top_k
        self.class_id = class_id
        owner = type(self).__name__
        for argument, value, least in (("top_k", top_k, 1), ("class_id", class_id, 0)):
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if value is not None and (not whole or value < least):
                raise ValueError(f"{owner}: {argument} must be None or an integer of at least {least}, got {value!r}")
        single = thresholds is None or isinstance(thresholds, int | float | np.number)
        default = 0.5 if top_k is None else -math.inf
        given: Any = [default if thresholds is None else thresholds] if single else thresholds
        self._limits: Values = np.array(given, np.float64)
        inside = (self._limits >= 0) & (self._limits <= 1)
        if self._limits.ndim != 1 or not self._limits.size or not (inside.all() or thresholds is None):
            raise ValueError(f"{owner}: thresholds must be None or numbers in 0..1, got {thresholds!r}")
        self._single = single
        super().__init__(name)

    def update_state(self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """Add a batch, each sample with its weight."""
        y, p = per_output(self.name, y_true, y_pred)
        p = p.astype(np.float64)
        if self.top_k is not None:
            p = _only_largest(p, self.top_k)
        weights = np.ones(len(p)) if sample_weight is None else weights_of(self.name, sample_weight, len(p))
        if self.class_id is not None:
            if self.class_id >= p.shape[1]:
                raise ValueError(f"{self.name}: class_id is {self.class_id} but y_pred has {p.shape[1]} outputs")
            y, p = y[:, self.class_id, None], p[:, self.class_id, None]
        truth = truth_of(self.name, y)
        for i, limit in enumerate(self._limits):
            above = p > limit
            right = (above == truth) * weights[:, None]
            wrong = (above != truth) * weights[:, None]
            for counts, chosen in ((self.positives, above), (self.negatives, ~above)):
                counts[i] += (wrong[chosen].sum(), right[chosen].sum())

    def reset_state(self) -> None:
        """Forget all batches."""
        self.positives: Values = np.zeros((self._limits.size, 2))
        self.negatives: Values = np.zeros((self._limits.size, 2))

    def _shown(self, values: Values) -> Any:
        return float(values[0]) if self._single else values.copy()


class _Count(ConfusionCounts):
    def __init__(self, thresholds: Thresholds = None, name: str | None = None) -> None:
        super().__init__(name or self.default_name, thresholds)

    default_name: str


class TruePositives(_Count):
    """How many outputs are above the threshold and have the label 1."""

    rises = True
    default_name = "true_positives"

    def result(self) -> Any:
        """Return the count, one per threshold."""
        return self._shown(self.positives[:, 1])


class FalsePositives(_Count):
    """How many outputs are above the threshold but have the label 0."""

    rises = False
    default_name = "false_positives"

    def result(self) -> Any:
        """Return the count, one per threshold."""
        return self._shown(self.positives[:, 0])


class TrueNegatives(_Count):
    """How many outputs are not above the threshold and have the label 0."""

    rises = True
    default_name = "true_negatives"

    def result(self) -> Any:
        """Return the count, one per threshold."""
        return self._shown(self.negatives[:, 1])


class FalseNegatives(_Count):
    """How many outputs are not above the threshold but have the label 1."""

    rises = False
    default_name = "false_negatives"

    def result(self) -> Any:
        """Return the count, one per threshold."""
        return self._shown(self.negatives[:, 0])


class Precision(ConfusionCounts):
    """Share of the positives that are right; 0 if there is none."""

    rises = True
    arguments = ("thresholds", "top_k", "class_id")

    def __init__(
        self,
        thresholds: Thresholds = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str = "precision",
    ) -> None:
        super().__init__(name, thresholds, top_k, class_id)

    def result(self) -> Any:
        """Return the precision, one per threshold."""
        return self._shown(ratio(self.positives[:, 1], self.positives.sum(axis=1)))


class Recall(ConfusionCounts):
    """Share of the labels 1 that are found; 0 if there is none."""

    rises = True
    arguments = ("thresholds", "top_k", "class_id")

    def __init__(
        self,
        thresholds: Thresholds = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str = "recall",
    ) -> None:
        super().__init__(name, thresholds, top_k, class_id)

    def result(self) -> Any:
        """Return the recall, one per threshold."""
        found = self.positives[:, 1]
        return self._shown(ratio(found, found + self.negatives[:, 0]))


def confusion_matrix(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    num_classes: int | None = None,
    sample_weight: ArrayLike | None = None,
) -> NDArray[Any]:
    """Return how often class i (row) was taken for class j (column), [K,K]: int64, or float64 with weights.

    Labels and predictions are class numbers [N] or values [N,K], whose largest counts; K is `num_classes`, or else
    follows from their shapes or the largest number. Raises ValueError for other shapes and numbers outside 0..K-1.
    """
    columns = {np.shape(a)[1] for a in (y_true, y_pred) if np.ndim(a) == 2 and np.shape(a)[1] > 1}
    rows, taken = (_numbers(name, a) for name, a in (("y_true", y_true), ("y_pred", y_pred)))
    if len(rows) != len(taken):
        raise ValueError(f"confusion_matrix: y_true has {len(rows)} rows but y_pred has {len(taken)}")
    most = max(int(max(rows.max(initial=-1), taken.max(initial=-1))) + 1, *columns, 1)
    K = most if num_classes is None else num_classes
    if len(columns) > 1 or most > K:
        raise ValueError(f"confusion_matrix: class numbers must be in 0..{K - 1}, got {most} classes")
    if sample_weight is None:
        return np.bincount(rows * K + taken, minlength=K * K).reshape(K, K)
    weights = weights_of("confusion_matrix", sample_weight, len(rows))
    return np.bincount(rows * K + taken, weights, minlength=K * K).reshape(K, K)


def _numbers(name: str, values: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] > 1:
        largest: NDArray[np.int64] = array.argmax(axis=1)
        return largest
    if array.ndim not in (1, 2) or array.dtype.kind not in "biuf":
        raise ValueError(
            f"confusion_matrix: {name} must be class numbers [N] or values [N, K], "
            f"got {list(array.shape)} {array.dtype}"
        )
    flat = array.reshape(-1)
    if not ((flat >= 0) & (flat == np.floor(flat))).all():
        raise ValueError(f"confusion_matrix: {name} must hold whole numbers of at least 0")
    return flat.astype(np.int64)


def truth_of(name: str, y: NDArray[Any]) -> NDArray[np.bool_]:
    """Return labels as bool; raise ValueError for other values than 0 and 1."""
    truth: NDArray[np.bool_] = y == 1
    if not (truth | (y == 0)).all():
        raise ValueError(f"{name}: y_true must hold 0 and 1, got {y[~(truth | (y == 0))][0]}")
    return truth


def ratio(above: Values, below: Values) -> Values:
    """Return above / below, 0 where below is 0."""
    quotient: Values = np.divide(above, below, out=np.zeros(np.shape(above)), where=below != 0)
    return quotient


def _only_largest(p: Values, k: int) -> Values:
    """Return -inf for all but the k largest outputs of each row; of equal ones the first count."""
    order = np.argsort(-p, axis=1, kind="stable")
    kept = np.full_like(p, -math.inf)
    chosen = order[:, :k]
    np.put_along_axis(kept, chosen, np.take_along_axis(p, chosen, axis=1), axis=1)
    return kept
