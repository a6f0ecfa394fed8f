"""Normalization: inputs to mean 0 and variance 1, by statistics that are given or taken from data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.graph import Shape
from fastcnn.layers.base import LayerOptions, Step
from fastcnn.layers.norm import BatchNormalization, FusedBatchNormalization

Statistic = float | Sequence[float] | NDArray[Any]
_EPSILON = 1e-14  # added to variances: Keras divides by no less than 1e-7


class Normalization(BatchNormalization):
    """y = (x - mean) / sqrt(variance) per channel: batch normalisation with fixed statistics, without scale and shift.

    `mean` and `variance`, each one number or one per channel, are given together or computed by `adapt`; without
    either the layer changes nothing. They are weights that training leaves alone, saved with the model. `axis` is the
    last; `invert` is not supported.
    """

    only_defaults = ("invert",)

    def __init__(
        self,
        axis: int = -1,
        mean: Statistic | None = None,
        variance: Statistic | None = None,
        invert: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        if not isinstance(axis, int) or isinstance(axis, bool):
            raise ValueError(f"Normalization: axis must be the last axis, -1, got {axis!r}")
        super().__init__(axis=axis, epsilon=_EPSILON, center=False, scale=False, **options)
        self._refuse(invert=(invert, False))
        if (mean is None) != (variance is None):
            raise ValueError(f"Normalization: mean and variance go together, got mean={mean!r}, variance={variance!r}")
        self.mean = _listed("mean", mean)
        self.variance = _listed("variance", variance)
        if self.variance is not None and np.min(self.variance) < 0:
            raise ValueError(f"Normalization: variance must not be negative, got {variance!r}")
        self._adapted: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    def build(self, *shapes: Shape) -> Shape:
        """Return the input's shape; makes mean and variance, each [C]."""
        shape = self._checked(*shapes)
        C = shape[-1:]
        self.gamma = self.beta = None
        first = not self._parameters
        self.moving_mean = self.add_weight("mean", C, "zeros", trainable=False)
        self.moving_variance = self.add_weight("variance", C, "ones", trainable=False)
        if first and self._adapted is not None:
            self._assign(*self._adapted)
        elif first and self.mean is not None and self.variance is not None:
            self._assign(np.asarray(self.mean), np.asarray(self.variance))
        return shape

    def _assign(self, mean: NDArray[Any], variance: NDArray[Any]) -> None:
        C = self.moving_mean.shape
        for name, value in (("mean", mean), ("variance", variance)):
            if value.shape not in ((), C):
                raise ValueError(f"{self.name}: {name} must be one number or {C[0]}, got {list(value.shape)}")
        self.moving_mean.assign(np.broadcast_to(mean, C))
        self.moving_variance.assign(np.broadcast_to(variance, C))

    def lower(self, trainable: bool, inference: bool) -> tuple[Step, ...]:
        """Return the step with fixed statistics."""
        return (FusedBatchNormalization(self, trainable=False, batch_statistics=False),)

    def adapt(self, data: ArrayLike | Iterable[Any]) -> None:
        """Take mean and variance of each channel from data: an array [N,...,C], or an iterable of batches.

        Batches may be x, (x, y) or (x, y, sample_weight). Sums are taken in float64; earlier statistics are forgotten.
        """
        if self.mean is not None:
            raise RuntimeError(f"{self.name}: adapt cannot be used after mean and variance were given")
        count = 0
        mean: NDArray[np.float64] = np.zeros(1)
        squares: NDArray[np.float64] = np.zeros(1)
        batches = [data] if isinstance(data, np.ndarray) else data
        if not isinstance(batches, Iterable):
            raise TypeError(f"{self.name}: adapt takes an array or batches of arrays, got {type(data).__name__}")
        for batch in batches:
            x = np.asarray(batch[0] if isinstance(batch, tuple) else batch, np.float64)
            if x.ndim < 2:
                raise ValueError(f"{self.name}: adapt takes batches [N, ..., C], got {list(x.shape)}")
            rows = x.reshape(-1, x.shape[-1])
            if not len(rows):
                continue
            if count and rows.shape[1:] != mean.shape:
                raise ValueError(f"{self.name}: adapt got batches with {mean.shape[0]} and {rows.shape[1]} channels")
            # merging batches by Chan, Golub and LeVeque 1983
            new_mean, total = rows.mean(axis=0), count + len(rows)
            step = new_mean - mean
            squares = squares + ((rows - new_mean) ** 2).sum(axis=0) + step**2 * (count * len(rows) / total)
            mean, count = mean + step * (len(rows) / total), total
        if not count:
            raise ValueError(f"{self.name}: adapt got no data")
        self._adapted = mean, squares / count
        if self._parameters:
            self._assign(*self._adapted)


def _listed(argument: str, value: Statistic | None) -> float | list[float] | None:
    """Return a statistic in JSON's types."""
    if value is None:
        return None
    array = np.asarray(value)
    if array.ndim > 1 or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise ValueError(f"Normalization: {argument} must be a finite number or one per channel, got {value!r}")
    listed: float | list[float] = array.astype(np.float64).tolist()
    return listed
