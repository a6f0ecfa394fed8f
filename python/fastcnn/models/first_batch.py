"""Looking at data before the first step: what would go wrong in a batch that comes only after an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np

from fastcnn.graph import Shape
from fastcnn.losses import Loss
from fastcnn.models.given import checked_x, is_array_like, is_indexed, unpacked


def checked_data(where: str, data: Any, shape: Shape, loss: Loss, outputs: int) -> Any:
    """Return a dataset or generator to be used in place of the one given, its first batch checked as far as it can be.

    `shape` is that of the model's samples, `outputs` their number of outputs. Of data that know their pictures' size or
    hold their labels these are checked; of batches by number the first; a generator's first batch is taken and put
    back. Raises ValueError and TypeError as the step on that batch would.
    """
    if is_array_like(data):
        return data
    given = getattr(data, "image_shape", None)
    if given is not None and tuple(given) != shape:
        raise ValueError(
            f"{where}: gives pictures of {list(given)} but the model takes {list(shape)}; change target_size or "
            "image_size, or the model's input_shape"
        )
    labels = getattr(data, "y", None)
    if labels is not None and is_array_like(labels):
        loss.check(labels, outputs, f"{where}: y")
    elif is_indexed(data) and len(data):
        _check(where, data[0], shape, loss, outputs)
    elif isinstance(data, Iterator) and not hasattr(data, "epoch"):
        first = next(data, None)
        if first is None:
            raise ValueError(f"{where}: holds no batches")
        _check(where, first, shape, loss, outputs)
        return chain([first], data)
    return data


def _check(where: str, item: Any, shape: Shape, loss: Loss, outputs: int) -> None:
    x, y, _ = unpacked(where, item)
    samples = checked_x(where, x, shape)
    if y is None:
        raise ValueError(f"{where}: y is missing; the data must give labels too")
    if len(samples):
        loss.check(np.asarray(y), outputs, f"{where}: y")
