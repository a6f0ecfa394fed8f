"""One optimizer step on weights w with gradients g, by Keras' formulas; new arrays are returned, none is changed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.reference.arrays import Array, check_shape, float64, special_values


def _state(operation: str, **arrays: ArrayLike) -> list[Array]:
    """Return the arrays as float64; raise ValueError unless all have w's shape."""
    w, *others = [float64(operation, argument, array) for argument, array in arrays.items()]
    for argument, array in zip(list(arrays)[1:], others, strict=True):
        check_shape(operation, argument, array.shape, w.shape)
    return [w, *others]


@special_values
def sgd_step(
    w: ArrayLike, g: ArrayLike, m: ArrayLike, lr: float, momentum: float, nesterov: bool = False
) -> tuple[Array, Array]:
    """Return (w, m): m = momentum*m - lr*g and w += m, or w += momentum*m - lr*g with the new m for Nesterov."""
    w, g, m = _state("sgd_step", w=w, g=g, m=m)
    m = momentum * m - lr * g
    return w + (momentum * m - lr * g if nesterov else m), m


@special_values
def adam_step(
    w: ArrayLike,
    g: ArrayLike,
    m: ArrayLike,
    v: ArrayLike,
    t: int,
    lr: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> tuple[Array, Array, Array]:
    """Return (w, m, v) after step t = 1, 2, ...: w -= lr * sqrt(1-beta_2^t)/(1-beta_1^t) * m / (sqrt(v) + epsilon)."""
    w, g, m, v = _state("adam_step", w=w, g=g, m=m, v=v)
    if t < 1:
        raise ValueError(f"adam_step: t must be at least 1 (the first step), got {t}")
    m = beta_1 * m + (1 - beta_1) * g
    v = beta_2 * v + (1 - beta_2) * g**2
    rate = lr * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    return w - rate * m / (np.sqrt(v) + epsilon), m, v


@special_values
def amsgrad_step(
    w: ArrayLike,
    g: ArrayLike,
    m: ArrayLike,
    v: ArrayLike,
    v_max: ArrayLike,
    t: int,
    lr: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> tuple[Array, Array, Array, Array]:
    """Return (w, m, v, v_max) as adam_step does, but with the largest v so far, v_max, under the root."""
    w, before = _state("amsgrad_step", w=w, v_max=v_max)
    _, first, second = adam_step(w, g, m, v, t, lr, beta_1, beta_2, epsilon)
    largest = np.maximum(before, second)
    rate = lr * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    return w - rate * first / (np.sqrt(largest) + epsilon), first, second, largest


@special_values
def rmsprop_step(
    w: ArrayLike,
    g: ArrayLike,
    v: ArrayLike,
    m: ArrayLike,
    mean: ArrayLike,
    lr: float,
    rho: float,
    momentum: float,
    epsilon: float,
    centered: bool = False,
) -> tuple[Array, Array, Array, Array]:
    """Return (w, v, m, mean): v and mean average g^2 and g, m = momentum*m + lr*g / sqrt(v + epsilon), w -= m.

    centered takes mean^2 off v under the root; mean stays as it is without it.
    """
    w, g, v, m, mean = _state("rmsprop_step", w=w, g=g, v=v, m=m, mean=mean)
    v = rho * v + (1 - rho) * g**2
    if centered:
        mean = rho * mean + (1 - rho) * g
    m = momentum * m + lr * g / np.sqrt((v - mean**2 if centered else v) + epsilon)
    return w - m, v, m, mean


@special_values
def ema_step(w: ArrayLike, average: ArrayLike, momentum: float) -> Array:
    """Return momentum*average + (1-momentum)*w."""
    w, average = _state("ema_step", w=w, average=average)
    return momentum * average + (1 - momentum) * w


@special_values
def squared_norms(g: ArrayLike, offsets: ArrayLike) -> Array:
    """Return the sums of g^2 from each offset to the next, for g[size] and ascending offsets[parts + 1]."""
    g = float64("squared_norms", "g", g, 1)
    ends = np.asarray(offsets, np.int64)
    return np.array([np.sum(g[begin:end] ** 2) for begin, end in pairwise(ends)])
