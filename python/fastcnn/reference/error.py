"""The one tolerance: errors of float32 results in units of u*S, the gates they must pass, and finite differences.

S is the sum of the absolute terms that make up an element, u = 2^-24 the unit roundoff of float32. Rounding errors of
random sign grow with the square root of the number of terms (Ipsen and Zhou, arXiv 1906.10465), which the gates follow.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.reference.arrays import Array, check_shape, float64, special_values
from fastcnn.reference.conv import conv2d_forward
from fastcnn.reference.window import VALID, Padding, Pair

UNIT_ROUNDOFF = 2.0**-24
SMALLEST_FLOAT32 = 2.0**-149


def magnitude(operation: Callable[..., Array], *arguments: object, **options: object) -> Array:
    """Return S of a sum of products: operation called with the absolute value of each NumPy array among arguments.

    Right for conv2d_*, dense_* and the sums of average_pool_* and global_average_pool_*, forward and backward.
    """
    absolute = [np.abs(argument) if isinstance(argument, np.ndarray) else argument for argument in arguments]
    return operation(*absolute, **options)


def conv2d_magnitude(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    strides: Pair = (1, 1),
    padding: Padding = VALID,
    dilation: Pair = (1, 1),
) -> Array:
    """Return S [N,P,Q,K] of conv2d_forward: the sum of |x*w| over the window, plus |b|."""
    arrays = [array if array is None else np.asarray(array) for array in (x, w, b)]
    return magnitude(conv2d_forward, *arrays, strides=strides, padding=padding, dilation=dilation)


@special_values
def error_units(y: ArrayLike, r: ArrayLike, S: ArrayLike, terms: int = 0) -> Array:
    """Return |y - r| / (u*S) per element for a float32 result y, its float64 reference r and the magnitude S.

    terms is the number of products per element, each of which may lose 2^-149 to underflow. An element equal to its
    reference (NaN to NaN, Inf to Inf) is 0; another one is Inf if S is 0 or either value is not finite.
    Raises ValueError when the shapes disagree.
    """
    y, r, S = (float64("error_units", argument, array) for argument, array in (("y", y), ("r", r), ("S", S)))
    check_shape("error_units", "y", y.shape, r.shape)
    check_shape("error_units", "S", S.shape, r.shape)
    units = np.maximum(np.abs(y - r) - terms * SMALLEST_FLOAT32, 0.0) / (UNIT_ROUNDOFF * S)
    # S = 0 needs no case of its own: a difference over 0 is Inf, and 0 / 0, an underflow allowed for nothing, is NaN.
    hopeless = ~np.isfinite(y) | ~np.isfinite(r) | np.isnan(units)
    equal = (y == r) | (np.isnan(y) & np.isnan(r))
    return np.where(equal, 0.0, np.where(hopeless, np.inf, units))


@special_values
def error_ulps(y: ArrayLike, r: ArrayLike, scale: ArrayLike | None = None) -> Array:
    """Return |y - r| in float32 spacings at |scale| (at |r| when None), for operations bounded in ULP.

    Equal and non-finite elements count as in error_units; raises ValueError when the shapes disagree.
    """
    y, r = float64("error_ulps", "y", y), float64("error_ulps", "r", r)
    scale = r if scale is None else float64("error_ulps", "scale", scale)
    spacing = np.spacing(np.abs(scale).astype(np.float32)).astype(np.float64)
    return error_units(y, r, spacing / UNIT_ROUNDOFF)


def hard_bound(terms: int) -> float:
    """Return terms + 2, the largest error in u*S that any order of summation can cause."""
    return terms + 2.0


def gate(terms: int) -> float:
    """Return 2*sqrt(terms) + 2, the largest accepted error in u*S of a direct sum of that many products."""
    return 2 * sqrt(terms) + 2


def winograd_gate(terms: int) -> float:
    """Return 2*sqrt(terms) + 8 in u*S_w; terms is C (4 C with strides of 2), or the summed tiles for dw."""
    return 2 * sqrt(terms) + 8


def batchnorm_gate(count: int) -> float:
    """Return 2*sqrt(count) + 8 in u*S for count = N*H*W values per channel, forward and backward."""
    return 2 * sqrt(count) + 8


def finite_difference(f: Callable[[Array], Array], x: ArrayLike, dy: ArrayLike, eps: float = 1e-6) -> Array:
    """Return the gradient with respect to x of the sum of f(x) * dy, by central differences of step eps."""
    x = float64("finite_difference", "x", x).copy()
    dx = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        value = x[index]
        x[index] = value + eps
        above = f(x)
        x[index] = value - eps
        below = f(x)
        x[index] = value
        dx[index] = np.sum((above - below) * np.asarray(dy)) / (2 * eps)
    return dx
