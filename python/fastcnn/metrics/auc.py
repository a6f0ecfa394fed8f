"""Area under the ROC or the precision-recall curve, from counts at thresholds as in Keras."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.metrics.base import Metric, Values, per_output, weights_of
from fastcnn.metrics.confusion import ratio, truth_of

CURVES = ("ROC", "PR", "PRGAIN")
SUMMATIONS = ("interpolation", "minoring", "majoring")
EPSILON = 1e-7


class AUC(Metric):
    """Area under a curve through the points that thresholds in 0..1 give; the truth lies within their spacing.

    `curve` "ROC" is recall over the rate of false positives, "PR" precision over recall, interpolated as by Davis and
    Goadrich 2006, "PRGAIN" their gains (Flach and Kull 2015). `summation_method` joins the points by lines, by the
    lower or by the upper of two steps. All outputs count alike, or with `multi_label` each has its own area, of which
    the mean is taken, weighted by `label_weights`. Outputs must be probabilities, or logits with `from_logits`.
    """

    state = ("_counts",)
    rises = True
    labels = "outputs"
    _counts: Values | None  # [label 0 or 1][thresholds that an output passed][output]: the weight of such outputs
    arguments = (
        "num_thresholds",
        "curve",
        "summation_method",
        "thresholds",
        "multi_label",
        "num_labels",
        "label_weights",
        "from_logits",
    )

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str = "auc",
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Sequence[float] | None = None,
        from_logits: bool = False,
    ) -> None:
        if curve not in CURVES:
            raise ValueError(f"AUC: curve must be one of {', '.join(CURVES)}, got {curve!r}")
        if summation_method not in SUMMATIONS:
            raise ValueError(f"AUC: summation_method must be one of {', '.join(SUMMATIONS)}, got {summation_method!r}")
        if isinstance(num_thresholds, bool) or not isinstance(num_thresholds, int) or num_thresholds < 2:
            raise ValueError(f"AUC: num_thresholds must be an integer of at least 2, got {num_thresholds!r}")
        if num_labels is not None and not multi_label:
            raise ValueError(f"AUC: num_labels needs multi_label=True, got {num_labels!r}")
        if thresholds is None:
            between: NDArray[np.float64] = np.arange(1, num_thresholds - 1) / (num_thresholds - 1)
        else:
            between = np.sort(np.array(thresholds, np.float64))
            if between.ndim != 1 or not ((between >= 0) & (between <= 1)).all():
                raise ValueError(f"AUC: thresholds must be numbers in 0..1, got {thresholds!r}")
        self.num_thresholds = len(between) + 2
        self.curve = curve
        self.summation_method = summation_method
        self.thresholds = None if thresholds is None else between.tolist()
        self.multi_label = bool(multi_label)
        self.num_labels = num_labels
        self.label_weights = None if label_weights is None else [float(weight) for weight in label_weights]
        self.from_logits = bool(from_logits)
        # compared in float32, as the outputs are
        self._limits = np.concatenate([[-EPSILON], between, [1 + EPSILON]]).astype(np.float32)
        super().__init__(name)

    def update_state(self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """Add a batch, each sample with its weight; raises ValueError for outputs that are no probabilities."""
        y, p = per_output(self.name, y_true, y_pred)
        truth = truth_of(self.name, y)
        p = p.astype(np.float32)
        if self.from_logits:
            p = (1 / (1 + np.exp(-p.astype(np.float64)))).astype(np.float32)
        if not ((p >= 0) & (p <= 1)).all():
            raise ValueError(f"{self.name}: y_pred must lie in 0..1; logits need from_logits=True")
        K = p.shape[1]
        for argument, expected in (
            ("num_labels", self.num_labels),
            ("label_weights", None if self.label_weights is None else len(self.label_weights)),
        ):
            if expected not in (None, K):
                raise ValueError(f"{self.name}: {argument} is for {expected} outputs but y_pred has {K}")
        weights = np.ones(len(p)) if sample_weight is None else weights_of(self.name, sample_weight, len(p))
        spread = np.repeat(weights[:, None], K, axis=1)
        if self.label_weights is not None and not self.multi_label:
            spread *= self.label_weights
        passed = np.searchsorted(self._limits, p)  # thresholds below the output
        columns = np.arange(K) if self.multi_label else np.zeros(K, np.int64)
        labels = K if self.multi_label else 1
        if self._counts is None:
            self._counts = np.zeros((2, self.num_thresholds + 1, labels))
        elif self._counts.shape[2] != labels:
            raise ValueError(f"{self.name}: y_pred has {K} outputs, earlier batches had {self._counts.shape[2]}")
        cells = passed * labels + columns
        for counts, chosen in zip(self._counts, (~truth, truth), strict=True):
            found = np.bincount(cells[chosen], spread[chosen], minlength=counts.size)
            counts += found.reshape(counts.shape)

    def reset_state(self) -> None:
        """Forget all batches."""
        self._counts = None

    def result(self) -> float:
        """Return the area; 0 before any sample."""
        if self._counts is None:
            return 0.0
        above = np.cumsum(self._counts[:, ::-1], axis=1)[:, ::-1][:, 1:]  # per threshold
        false_positives, true_positives = above
        true_negatives, false_negatives = self._counts.sum(axis=1, keepdims=True) - above
        if self.curve == "PR" and self.summation_method == "interpolation":
            return self._mean(_interpolated(true_positives, false_positives, false_negatives))
        recall = ratio(true_positives, true_positives + false_negatives)
        if self.curve == "ROC":
            x, y = ratio(false_positives, false_positives + true_negatives), recall
        elif self.curve == "PR":
            x, y = recall, ratio(true_positives, true_positives + false_positives)
        else:
            odds = ratio(true_positives + false_negatives, true_negatives + false_positives)
            none = true_positives == 0
            x = np.maximum(np.where(none, 0, 1 - odds * ratio(false_negatives, true_positives)), 0)
            y = np.where(none, 1, 1 - odds * ratio(false_positives, true_positives))
        heights = np.minimum(y[:-1], y[1:]) if self.summation_method == "minoring" else np.maximum(y[:-1], y[1:])
        if self.summation_method == "interpolation":
            heights = (y[:-1] + y[1:]) / 2
        return self._mean(((x[:-1] - x[1:]) * heights).sum(axis=0))

    def _mean(self, areas: Values) -> float:
        if self.multi_label and self.label_weights is not None:
            return float(ratio((areas * self.label_weights).sum(), np.sum(self.label_weights)))
        return float(areas.mean())


def _interpolated(true_positives: Values, false_positives: Values, false_negatives: Values) -> Values:
    """Return the area under precision over recall of each output, true and all positives growing in proportion.

    Between two thresholds the true positives are slope * positives + intercept, so that the area is the integral of
    (slope + intercept / positives) over the recall.
    """
    positives = true_positives + false_positives
    found = true_positives[:-1] - true_positives[1:]
    slope = ratio(found, np.maximum(positives[:-1] - positives[1:], 0))
    intercept = true_positives[1:] - slope * positives[1:]
    both = (positives[:-1] > 0) & (positives[1:] > 0)
    growth = np.where(both, ratio(positives[:-1], positives[1:]), 1.0)
    area: Values = ratio(slope * (found + intercept * np.log(growth)), true_positives[1:] + false_negatives[1:]).sum(
        axis=0
    )
    return area
