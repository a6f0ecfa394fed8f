"""What fit, evaluate and predict were given: what it is, and whether it can be used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.graph import Shape
from fastcnn.layers.base import Array

Labels = NDArray[Any]
_CLASS_FORMS = ("int", "sparse", "categorical", "binary")  # as Keras' datasets and generators name them


def is_array_like(x: Any) -> bool:
    """Return whether x is samples in one piece rather than something that yields batches."""
    return isinstance(x, np.ndarray | list | tuple) or hasattr(x, "__array__")


def is_indexed(x: Any) -> bool:
    """Return whether x gives batches by number, `len(x)` of them, and has no epochs of its own."""
    indexed = hasattr(x, "__getitem__") and hasattr(x, "__len__")
    return indexed and not (hasattr(x, "epoch") or is_array_like(x) or isinstance(x, str | bytes | Mapping))


def sample_shape(x: Any) -> Shape:
    """Return the shape of one sample of what a method was given, () if it cannot be told."""
    if is_array_like(x):
        if hasattr(x, "shape"):
            return tuple(x.shape[1:])
        return tuple(np.shape(x[0])) if len(x) else ()
    if hasattr(x, "image_shape"):
        return tuple(x.image_shape)
    if is_indexed(x) and len(x):
        return tuple(np.shape(unpacked("x", x[0])[0])[1:])
    return ()


def label_form(x: Any) -> tuple[int | None, str | None]:
    """Return how many classes the labels of a dataset tell apart and their form, None where it does not say."""
    form = getattr(x, "label_mode", None) or getattr(x, "class_mode", None)
    known = getattr(x, "num_classes", None)
    return (known, form) if form in _CLASS_FORMS and isinstance(known, int) else (None, None)


def checked_x(where: str, x: ArrayLike, shape: Shape) -> NDArray[Any]:
    """Return samples as an array [N, *shape]; raises TypeError for what is not real numbers, ValueError for shapes."""
    try:
        array = np.asarray(x)
    except ValueError as error:  # a list of samples of different shapes
        raise ValueError(f"{where}: x must be one array; its samples differ in shape ({error})") from error
    if isinstance(x, np.ma.MaskedArray) or array.dtype.kind not in "biuf":
        kind = "a masked array" if isinstance(x, np.ma.MaskedArray) else str(array.dtype)
        raise TypeError(f"{where}: x must hold real numbers, got {kind}")
    if array.shape[1:] != shape or array.ndim == 0:
        expected = ", ".join(str(size) for size in shape)
        raise ValueError(f"{where}: x must be [N, {expected}] but is {list(array.shape)}")
    return array


def checked_weights(where: str, sample_weight: ArrayLike, size: int) -> Array:
    """Return one float32 weight per sample; raises ValueError for another shape and for NaN or infinity."""
    weights = np.asarray(sample_weight)
    if weights.shape not in ((size,), (size, 1)) or weights.dtype.kind not in "biuf":
        raise ValueError(
            f"{where}: sample_weight must be {size} numbers, one per sample, got {list(weights.shape)} {weights.dtype}"
        )
    weights = weights.reshape(-1).astype(np.float32)
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        raise ValueError(
            f"{where}: sample_weight must be finite and at least 0, got {weights[wrong[0]]} at [{wrong[0]}]"
        )
    return weights


def checked_class_weight(where: str, class_weight: Mapping[int, float], classes: int | None) -> dict[int, float]:
    """Return the weights by class; raises ValueError for a class that the model does not have and a wrong weight.

    `classes` None means that any number may be a label.
    """
    if not isinstance(class_weight, Mapping):
        raise ValueError(f"{where}: class_weight must map class numbers to weights, got {type(class_weight).__name__}")
    table: dict[int, float] = {}
    for number, weight in class_weight.items():
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise ValueError(f"{where}: class_weight must have whole numbers as keys, got {number!r}")
        if classes is not None and not 0 <= number < classes:
            raise ValueError(f"{where}: class_weight names class {number}, the model has classes 0..{classes - 1}")
        real = isinstance(weight, int | float | np.number) and not isinstance(weight, bool)
        if not real or not 0 <= weight < math.inf:
            raise ValueError(f"{where}: class_weight of class {number} must be finite and at least 0, got {weight!r}")
        table[int(number)] = float(weight)
    return table


def class_weights(table: Mapping[int, float], y: Labels) -> Array:
    """Return the weight of each sample's class, 1 where the table has none; of several labels the largest is it."""
    classes = y.argmax(axis=1) if y.ndim == 2 and y.shape[1] > 1 else np.round(y.reshape(-1))
    weights = np.ones(len(classes), np.float32)
    for number, weight in table.items():
        weights[classes == number] = weight
    return weights


def split(where: str, data: Sequence[Any], fraction: float) -> tuple[list[Any], list[Any]]:
    """Return arrays (None stays None) without and with their last `fraction` of samples, as Keras' validation_split."""
    if not 0 < fraction < 1:
        raise ValueError(f"{where}: validation_split must lie in [0, 1), got {fraction!r}")
    if not is_array_like(data[0]):
        raise ValueError(f"{where}: validation_split needs arrays; give validation_data with a dataset or generator")
    arrays = [None if array is None else np.asarray(array) for array in data]
    size = len(data[0])
    kept = math.floor(size * (1 - fraction))
    if kept in (0, size):
        raise ValueError(f"{where}: validation_split {fraction} of {size} samples leaves {kept} for training")
    return (
        [None if array is None else array[:kept] for array in arrays],
        [None if array is None else array[kept:] for array in arrays],
    )


def check_count(where: str, argument: str, value: int | None) -> None:
    """Raise ValueError unless value is None or a positive integer."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1):
        raise ValueError(f"{where}: {argument} must be a positive integer or None, got {value!r}")


def unpacked(where: str, item: Any) -> tuple[Any, Any, Any]:
    """Return x, y and sample weights of a batch as a dataset gives it, None for what is missing."""
    if not isinstance(item, tuple):
        return item, None, None
    if not 1 <= len(item) <= 3:
        raise ValueError(f"{where}: a batch must be x, (x, y) or (x, y, sample_weight), got {len(item)} parts")
    x, y, sample_weight = (*item, None, None)[:3]
    return x, y, sample_weight
