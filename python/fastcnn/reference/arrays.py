"""Float64 intake of the reference operations: every array passes here once, and a wrong shape gets its sentence."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

Array = NDArray[np.float64]
Shape = tuple[int, ...]


def special_values(operation: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorate an operation for which NaN and Inf are ordinary values (Inf - Inf is NaN): they raise no warning."""

    @wraps(operation)
    def without_warnings(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return operation(*args, **kwargs)

    return without_warnings


def float64(operation: str, argument: str, value: ArrayLike, *ranks: int) -> Array:
    """Return value as a float64 array; raise ValueError unless its rank is one of ranks (no ranks: any rank)."""
    array = np.asarray(value, np.float64)
    if ranks and array.ndim not in ranks:
        expected = " or ".join(str(rank) for rank in ranks)
        raise ValueError(
            f"{operation}: {argument} has rank {array.ndim}, expected {expected} ({argument} is {list(array.shape)})"
        )
    return array


def check_shape(operation: str, argument: str, shape: Shape, expected: Shape) -> None:
    """Raise ValueError unless shape equals expected."""
    if shape != expected:
        raise ValueError(f"{operation}: {argument} is {list(shape)}, expected {list(expected)}")


def sum_over(values: Array, *axes: int, keepdims: bool = False) -> Array:
    """Return the sum of values over axes."""
    total: Array = np.sum(values, axis=axes, keepdims=keepdims)
    return total
