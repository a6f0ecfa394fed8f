"""What all metrics have, and the running mean of a number per sample."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]


class Metric:
    """A number that batches of labels and outputs [N,K] build up: `update_state`, `result`, `reset_state`.

    `labels` says which labels it reads: "any", or "outputs" for those with one value per output. `rises` says whether
    higher is better, None where neither is. `state` names the attributes that batches change.
    """

    arguments: ClassVar[tuple[str, ...]] = ()
    state: ClassVar[tuple[str, ...]] = ()
    rises: ClassVar[bool | None] = None
    labels: ClassVar[Literal["any", "outputs"]] = "any"
    ignored: int | None = None  # the loss's ignore_class, a label that is no class

    def __init__(self, name: str) -> None:
        self.name = name
        self.reset_state()

    def update_state(self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """Add a batch, each sample with its weight."""
        raise NotImplementedError

    def result(self) -> Any:
        """Return the metric of all batches since the last reset."""
        raise NotImplementedError

    def reset_state(self) -> None:
        """Forget all batches."""
        raise NotImplementedError

    def get_state(self) -> dict[str, Any]:
        """Return what the batches since the last reset have left."""
        return {name: copy.copy(getattr(self, name)) for name in self.state}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `get_state` returned."""
        for name in self.state:
            setattr(self, name, copy.copy(state[name]))

    def __call__(self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> Any:
        """Add a batch and return the metric of all so far."""
        self.update_state(y_true, y_pred, sample_weight)
        return self.result()

    def get_config(self) -> dict[str, Any]:
        """Return name and arguments, enough for `from_config`."""
        return {"name": self.name} | {argument: getattr(self, argument) for argument in self.arguments}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build from what `get_config` returned."""
        return cls(**config)


class MeanMetric(Metric):
    """The weighted mean over all samples since the last reset of a number per sample; a subclass says which."""

    state = ("_total", "_count")

    def values(self, y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[Any]:
        """Return the metric of each of N predictions [N,K]."""
        raise NotImplementedError

    def update_state(self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """Add a batch, each sample with its weight."""
        values = self.values(y_true, y_pred)
        if sample_weight is None:
            self._total += float(values.sum())
            self._count += values.size
            return
        weights = weights_of(self.name, sample_weight, len(values))
        self._total += float(np.dot(values.astype(np.float64), weights))
        self._count += float(weights.sum())

    def result(self) -> float:
        """Return the mean; 0 before any sample, as in Keras."""
        return self._total / self._count if self._count else 0.0

    def reset_state(self) -> None:
        """Forget all batches."""
        self._total = 0.0
        self._count = 0.0


def weights_of(name: str, sample_weight: ArrayLike, size: int) -> Values:
    """Return one weight per sample as float64; raise ValueError for another shape."""
    weights = np.asarray(sample_weight, np.float64)
    if weights.shape not in ((size,), (size, 1)):
        raise ValueError(f"{name}: sample_weight must be {size} numbers, one per sample, got {list(weights.shape)}")
    return weights.reshape(-1)


def per_output(name: str, y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return labels and predictions [N,K]; both may be [N] for one output; raise ValueError if their shapes differ."""
    p, y = np.asarray(y_pred), np.asarray(y_true)
    p = p[:, None] if p.ndim == 1 else p
    y = y[:, None] if y.ndim == 1 else y
    if p.ndim != 2:
        raise ValueError(f"{name}: y_pred must be [N] or [N, outputs], got {list(np.shape(y_pred))}")
    if y.shape != p.shape:
        raise ValueError(
            f"{name}: y_true must have one value per output, {list(p.shape)}, got {list(np.shape(y_true))}"
        )
    return y, p
