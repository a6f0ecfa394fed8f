"""What all losses have: checked labels, float32 targets for the engine, and how many losses become one number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float32]
Rows = NDArray[np.float64]
Kind = Literal["categorical", "binary", "squared"]

PROBABILITY_FLOOR = 1e-7  # Keras' epsilon
REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None)


class Loss:
    """A loss of outputs [N,K] for labels: `kind` says which formula, `from_logits` that the outputs are logits.

    `reduction` makes one number of the N losses, each times its sample weight: their sum, or that divided by N
    ("sum_over_batch_size", "mean") or by the sum of the weights ("mean_with_sample_weight"); None keeps all N, which
    training cannot use.
    """

    kind: ClassVar[Kind]
    arguments: ClassVar[tuple[str, ...]] = ("reduction",)
    default_name: ClassVar[str]
    from_logits = False

    def __init__(self, reduction: str | None, name: str | None) -> None:
        if reduction not in REDUCTIONS:
            known = ", ".join(repr(known) for known in REDUCTIONS)
            raise ValueError(f"{type(self).__name__}: reduction must be one of {known}, got {reduction!r}")
        self.reduction = None if reduction == "none" else reduction
        self.name = name or self.default_name

    @property
    def floor(self) -> float:
        """Smallest probability the logarithm sees, 0 with logits."""
        return 0.0 if self.from_logits else PROBABILITY_FLOOR

    @property
    def formula(self) -> tuple[Kind, bool, float]:
        """What the engine needs to know: equal formulas share their programs."""
        return self.kind, self.from_logits, self.floor

    # -- labels --------------------------------------------------------------------------------------------------------

    def check(self, y: ArrayLike, outputs: int, where: str = "y") -> NDArray[Any]:
        """Return the labels as an array after checking them all; `where` names the argument in the ValueError."""
        raise NotImplementedError

    def targets(self, y: ArrayLike, outputs: int, where: str = "y") -> Array:
        """Return labels as float32 targets [N,K]; raises ValueError as `check` does."""
        raise NotImplementedError

    def counted(self, y: ArrayLike) -> NDArray[np.bool_] | None:
        """Return which of N samples have a loss, None for all."""
        return None

    def label_classes(self, outputs: int) -> int | None:
        """Return how many classes the labels of a model with that many outputs tell apart, None for any number."""
        return outputs

    # -- numbers -------------------------------------------------------------------------------------------------------

    def values(self, t: Rows, p: Rows) -> Rows:
        """Return the loss of each row for targets and outputs [N,K], in float64."""
        raise NotImplementedError

    def row_weights(self, y: ArrayLike, sample_weight: ArrayLike | None, size: int, parts: int = 1) -> Rows:
        """Return the factors of the N samples' losses whose sum is the reduced loss, or `parts` times that.

        The mean over that many parts of the batch, computed one by one, is then that of the whole.
        """
        weights = np.ones(size) if sample_weight is None else np.asarray(sample_weight, np.float64).reshape(-1)
        counted = self.counted(y)
        count: float = size
        if counted is not None:
            weights = weights * counted
            count = float(counted.sum())
        if self.reduction in ("sum", None):
            return weights * parts
        if self.reduction == "mean_with_sample_weight" and (sample_weight is not None or counted is not None):
            count = float(weights.sum())
        return weights * parts / count if count else np.zeros(size)

    def __call__(self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> Any:
        """Return the reduced loss of outputs [N,K], or with the reduction None those of the N samples."""
        owner = type(self).__name__
        values = self.per_sample(owner, y_true, y_pred)
        if sample_weight is not None and np.shape(sample_weight) not in ((len(values),), (len(values), 1)):
            raise ValueError(
                f"{owner}: sample_weight must be {len(values)} numbers, one per sample, "
                f"got {list(np.shape(sample_weight))}"
            )
        weighted = values * self.row_weights(y_true, sample_weight, len(values))
        return weighted if self.reduction is None else float(weighted.sum())

    def per_sample(self, owner: str, y_true: ArrayLike, y_pred: ArrayLike) -> Rows:
        """Return the loss of each sample, not weighted; `owner` names the caller in errors."""
        p = np.asarray(y_pred, np.float64)
        if p.ndim != 2 or p.size == 0:
            raise ValueError(f"{owner}: y_pred must be [N, classes] and not empty, got {list(p.shape)}")
        t = self.targets(y_true, p.shape[1], f"{owner}: y_true").astype(np.float64)
        if len(t) != len(p):
            raise ValueError(f"{owner}: y_true has {len(t)} rows but y_pred has {len(p)}")
        return self.values(t, p)

    # -- configuration -------------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return name and arguments, enough for `from_config`."""
        return {"name": self.name} | {argument: getattr(self, argument) for argument in self.arguments}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build from what `get_config` returned."""
        return cls(**config)


def bounds(floor: float) -> tuple[float, float]:
    """Return the least and the largest probability that a logarithm sees, rounded to float32 as in Keras."""
    return float(np.float32(floor)), float(np.float32(1) - np.float32(floor))


def last_axis(owner: str, axis: int) -> None:
    """Raise ValueError for an axis other than the last."""
    if axis != -1:
        raise ValueError(f"{owner}: axis must be -1 (classes last), got {axis!r}")


def smoothing(owner: str, label_smoothing: float) -> float:
    """Return the share of label smoothing; raise ValueError for one outside 0..1."""
    if isinstance(label_smoothing, bool) or not 0 <= label_smoothing <= 1 or math.isnan(label_smoothing):
        raise ValueError(f"{owner}: label_smoothing must lie in [0, 1], got {label_smoothing!r}")
    return float(label_smoothing)


def numbers(y: ArrayLike, where: str) -> NDArray[Any]:
    """Return labels as an array; raise ValueError for what is not real numbers."""
    labels = np.asarray(y)
    if labels.dtype.kind not in "biuf":
        raise ValueError(f"{where} must hold numbers, got {labels.dtype}")
    return labels


def is_column(labels: NDArray[Any]) -> bool:
    """Return whether there is one number per sample: [N] or [N,1]."""
    return labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)


def per_output(labels: NDArray[Any], outputs: int, where: str, name: str) -> NDArray[Any]:
    """Return labels [N,K], for one output also given as [N]; raise ValueError for another shape."""
    if outputs == 1 and is_column(labels):
        return labels.reshape(-1, 1)
    if labels.ndim != 2 or labels.shape[1] != outputs:
        shape = "[N] or [N, 1]" if outputs == 1 else f"[N, {outputs}]"
        raise ValueError(
            f"{where} must have the shape {shape} for {name} (the model has {outputs} "
            f"output{'s' if outputs > 1 else ''}), got {list(labels.shape)}"
        )
    return labels


def refuse(labels: NDArray[Any], valid: NDArray[np.bool_], expected: str) -> None:
    """Raise ValueError naming the first label that is not valid."""
    if not valid.all():
        place = [int(i) for i in np.argwhere(~valid)[0]]
        raise ValueError(f"{expected}, got {labels[tuple(place)]} at {place}")
