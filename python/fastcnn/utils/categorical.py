"""Class numbers as one-hot rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def to_categorical(x: ArrayLike, num_classes: int | None = None) -> NDArray[np.float32]:
    """Return class numbers x[...] as one-hot float32 [..., num_classes] (Keras 3: float64).

    A last axis of length 1 is dropped first, as in Keras; `num_classes` defaults to the largest number plus one. Raises
    ValueError for numbers that are not whole or not in 0..num_classes-1.
    """
    given = np.asarray(x)
    if given.dtype.kind not in "biuf":
        raise ValueError(f"to_categorical: x must hold numbers, got {given.dtype}")
    if given.ndim > 1 and given.shape[-1] == 1:
        given = given[..., 0]
    if given.dtype.kind == "f" and not (np.isfinite(given) & (given == np.floor(given))).all():
        raise ValueError("to_categorical: x must hold whole numbers, got fractions, NaN or infinity")
    if num_classes is None:
        if given.size == 0:
            raise ValueError("to_categorical: num_classes must be given when x is empty")
        num_classes = int(given.max()) + 1
    elif num_classes < 1:
        raise ValueError(f"to_categorical: num_classes must be at least 1, got {num_classes}")
    if given.size and not 0 <= given.min() <= given.max() < num_classes:
        raise ValueError(
            f"to_categorical: x must lie in 0..{num_classes - 1} (num_classes={num_classes}), "
            f"got {given.min()} to {given.max()}"
        )
    labels = given.astype(np.int64)
    y = np.zeros((labels.size, num_classes), dtype=np.float32)
    y[np.arange(labels.size), labels.ravel()] = 1
    return y.reshape(*labels.shape, num_classes)
