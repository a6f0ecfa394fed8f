"""Batch normalisation over all axes but the last: x is [N,D] or [N,H,W,C], one mean and variance per channel.

    out = gamma * (x - mean) / std + beta,   std = sqrt(variance + eps),   variance = mean of (x - mean)^2 (biased)

The variance is taken in two passes: the mean of squares less the squared mean loses all its digits when mean >> std.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.reference.arrays import Array, check_shape, float64, special_values, sum_over

BatchNormCache = tuple[Array, Array, Array, Array]


def _sum(values: Array) -> Array:
    """Return the sum over all axes but the last."""
    return sum_over(values, *range(values.ndim - 1))


def _count(values: Array) -> int:
    """Return how many values each channel has: N, or N*H*W."""
    return int(np.prod(values.shape[:-1]))


def _channels(operation: str, x: Array, **vectors: ArrayLike) -> list[Array]:
    """Return the per-channel vectors as float64; raise ValueError unless each has x's channels."""
    checked = []
    for argument, vector in vectors.items():
        array = float64(operation, argument, vector, 1)
        check_shape(operation, argument, array.shape, x.shape[-1:])
        checked.append(array)
    return checked


@special_values
def batchnorm_statistics(x: ArrayLike) -> tuple[Array, Array]:
    """Return (mean, biased variance), each [C]; raise ValueError with fewer than two values per channel."""
    x = float64("batchnorm_statistics", "x", x, 2, 4)
    count = _count(x)
    if count < 2:
        raise ValueError(
            f"batchnorm_statistics: x has {count} value(s) per channel, expected at least 2 (x is {list(x.shape)})"
        )
    mean = _sum(x) / count
    return mean, _sum((x - mean) ** 2) / count


@special_values
def batchnorm_moving_average(moving: ArrayLike, batch: ArrayLike, momentum: float) -> Array:
    """Return momentum * moving + (1 - momentum) * batch, the new moving mean or variance [C] (Keras' definition)."""
    moving = float64("batchnorm_moving_average", "moving", moving, 1)
    batch = float64("batchnorm_moving_average", "batch", batch, 1)
    check_shape("batchnorm_moving_average", "batch", batch.shape, moving.shape)
    return momentum * moving + (1 - momentum) * batch


@special_values
def batchnorm_forward(x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, eps: float) -> tuple[Array, BatchNormCache]:
    """Return (out, cache) by batch statistics, cache = (x_norm, x_centered, std, gamma).

    Raises ValueError when the shapes disagree and with fewer than two values per channel.
    """
    x = float64("batchnorm_forward", "x", x, 2, 4)
    gamma, beta = _channels("batchnorm_forward", x, gamma=gamma, beta=beta)
    mean, variance = batchnorm_statistics(x)
    x_centered = x - mean
    std = np.sqrt(variance + eps)
    x_norm = x_centered / std
    return gamma * x_norm + beta, (x_norm, x_centered, std, gamma)


@special_values
def batchnorm_backward(dout: ArrayLike, cache: BatchNormCache) -> tuple[Array, Array, Array]:
    """Return (dx, dgamma, dbeta), walking the forward graph backwards through each of its intermediates."""
    x_norm, x_centered, std, gamma = cache
    dout = float64("batchnorm_backward", "dout", dout)
    check_shape("batchnorm_backward", "dout", dout.shape, x_norm.shape)
    count = _count(dout)

    # out = gamma * x_norm + beta
    dbeta = _sum(dout)
    dgamma = _sum(dout * x_norm)
    dx_norm = dout * gamma
    # x_norm = x_centered / std
    dstd = -_sum(dx_norm * x_centered) / std**2
    dx_centered = dx_norm / std
    # std = sqrt(variance + eps)
    dvariance = dstd / (2 * std)
    # variance = sum of x_centered^2 / count
    dx_centered = dx_centered + dvariance * 2 * x_centered / count
    # x_centered = x - mean
    dmean = -_sum(dx_centered)
    # mean = sum of x / count
    dx = dx_centered + dmean / count
    return dx, dgamma, dbeta


@special_values
def batchnorm_backward_alt(dout: ArrayLike, cache: BatchNormCache) -> tuple[Array, Array, Array]:
    """Return (dx, dgamma, dbeta) with dx = gamma/std * (dout - (dbeta + x_norm * dgamma) / count), simplified on paper.

    The mean is subtracted from every value of its channel and the variance scales it, so dx is dout without its
    components along 1 and along x_norm.
    """
    x_norm, _, std, gamma = cache
    dout = float64("batchnorm_backward_alt", "dout", dout)
    check_shape("batchnorm_backward_alt", "dout", dout.shape, x_norm.shape)
    dbeta = _sum(dout)
    dgamma = _sum(dout * x_norm)
    dx = gamma / std * (dout - (dbeta + x_norm * dgamma) / _count(dout))
    return dx, dgamma, dbeta


@special_values
def batchnorm_inference(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, mean: ArrayLike, variance: ArrayLike, eps: float
) -> Array:
    """Return out of x's shape by the given (moving) statistics, each [C]; raise ValueError when the shapes disagree."""
    x = float64("batchnorm_inference", "x", x, 2, 4)
    gamma, beta, mean, variance = _channels(
        "batchnorm_inference", x, gamma=gamma, beta=beta, mean=mean, variance=variance
    )
    return gamma * (x - mean) / np.sqrt(variance + eps) + beta


@special_values
def batchnorm_inference_backward(
    dout: ArrayLike, x: ArrayLike, gamma: ArrayLike, mean: ArrayLike, variance: ArrayLike, eps: float
) -> tuple[Array, Array, Array]:
    """Return (dx, dgamma, dbeta) of batchnorm_inference: the statistics are constants, so dx = dout * gamma / std."""
    x = float64("batchnorm_inference_backward", "x", x, 2, 4)
    dout = float64("batchnorm_inference_backward", "dout", dout)
    check_shape("batchnorm_inference_backward", "dout", dout.shape, x.shape)
    gamma, mean, variance = _channels("batchnorm_inference_backward", x, gamma=gamma, mean=mean, variance=variance)
    inv_std = 1 / np.sqrt(variance + eps)
    return dout * gamma * inv_std, _sum(dout * (x - mean) * inv_std), _sum(dout)


def _norm_magnitude(x: Array, eps: float) -> tuple[Array, Array]:
    """Return S of x_norm = (x - sum of x / count) / std, and std."""
    _, variance = batchnorm_statistics(x)
    std = np.sqrt(variance + eps)
    return (np.abs(x) + _sum(np.abs(x)) / _count(x)) / std, std


@special_values
def batchnorm_forward_magnitude(x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, eps: float) -> Array:
    """Return S of batchnorm_forward's out: |gamma| * (|x| + mean of |x|) / std + |beta|."""
    x = float64("batchnorm_forward_magnitude", "x", x, 2, 4)
    gamma, beta = _channels("batchnorm_forward_magnitude", x, gamma=gamma, beta=beta)
    x_norm, _ = _norm_magnitude(x, eps)
    return np.abs(gamma) * x_norm + np.abs(beta)


@special_values
def batchnorm_backward_magnitude(
    dout: ArrayLike, x: ArrayLike, gamma: ArrayLike, eps: float
) -> tuple[Array, Array, Array]:
    """Return S of (dx, dgamma, dbeta): batchnorm_backward_alt's formula with every term absolute."""
    x = float64("batchnorm_backward_magnitude", "x", x, 2, 4)
    dout = np.abs(float64("batchnorm_backward_magnitude", "dout", dout))
    check_shape("batchnorm_backward_magnitude", "dout", dout.shape, x.shape)
    (gamma,) = _channels("batchnorm_backward_magnitude", x, gamma=gamma)
    x_norm, std = _norm_magnitude(x, eps)
    dbeta = _sum(dout)
    dgamma = _sum(dout * x_norm)
    dx = np.abs(gamma) / std * (dout + (dbeta + x_norm * dgamma) / _count(x))
    return dx, dgamma, dbeta
