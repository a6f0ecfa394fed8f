"""Weights and images as functions of a counter: every engine makes the same float32 numbers, so none has to be stored.

Only integer arithmetic, one float64 multiplication and one addition lie between counter and value, so the bits depend
on no library version.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_CHUNK = 1 << 18  # counters hashed at a time: the temporaries stay in the cache
_LANE_SUM_MEAN = 2 * 65535
_LANE_SUM_DEVIATION = math.sqrt((65536**2 - 1) / 3)  # of the sum of four uniform 16-bit integers
_COARSE = 8  # rows and columns of an image's coarse field


def _key(name: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "little")


def _hash(counter: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mixes 64-bit counters by the splitmix64 finaliser (Steele, Lea and Flood, OOPSLA 2014)."""
    z = counter * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _normal(name: str, shape: tuple[int, ...], seed: int, mean: float, deviation: float) -> Array:
    """Bell-shaped values, the sum of a hash's four 16-bit lanes, at most 3.47 deviations from the mean."""
    values = np.empty(math.prod(shape), np.float32)
    key = np.array([_key(name, seed)], np.uint64)
    for begin in range(0, values.size, _CHUNK):
        end = min(begin + _CHUNK, values.size)
        bits = _hash(np.arange(begin, end, dtype=np.uint64) + key)
        lanes = bits.astype("<u8", copy=False).view("<u2").reshape(-1, 4)
        total = lanes.sum(axis=1, dtype=np.int64) - _LANE_SUM_MEAN
        values[begin:end] = total * (deviation / _LANE_SUM_DEVIATION) + mean
    return values.reshape(shape)


def seeded_weights(name: str, shape: tuple[int, ...], seed: int = 0) -> Array:
    """Returns the float32 values of one entry of a torchvision state_dict, in torch's layout.

    Convolution kernels [K,C,R,S] have deviation sqrt(2/(C*R*S)) (He et al. 2015), dense ones [units,features]
    sqrt(1/features); gamma lies around 1, beta, biases and running_mean around 0, running_var around 2, so that
    residual sums stay small in inference too. Raises ValueError if the name says none of these.
    """
    last = name.rpartition(".")[2]
    if last == "weight" and len(shape) == 4:
        return _normal(name, shape, seed, 0.0, math.sqrt(2 / math.prod(shape[1:])))
    if last == "weight" and len(shape) == 2:
        return _normal(name, shape, seed, 0.0, math.sqrt(1 / shape[1]))
    vectors = {"weight": (1.0, 0.1), "bias": (0.0, 0.05), "running_mean": (0.0, 0.1), "running_var": (2.0, 0.25)}
    if last not in vectors or len(shape) != 1:
        raise ValueError(
            f"seeded_weights: name must end in one of {sorted(vectors)} and fit its shape, "
            f"got {name!r} with shape {list(shape)}"
        )
    return _normal(name, shape, seed, *vectors[last])


def seeded_keras_weights(name: str, shape: tuple[int, ...], seed: int = 0) -> Array:
    """Returns the float32 values of one weight in Keras' layout, of the same laws as `seeded_weights`.

    The last part of the name says what it is. Raises ValueError if it is none of Keras' names.
    """
    last = name.rpartition("/")[2]
    if last == "kernel" and len(shape) in (2, 4):
        return _normal(name, shape, seed, 0.0, math.sqrt((2 if len(shape) == 4 else 1) / math.prod(shape[:-1])))
    vectors = {"gamma": (1.0, 0.1), "beta": (0.0, 0.05), "bias": (0.0, 0.05), "moving_mean": (0.0, 0.1)}
    vectors["moving_variance"] = (2.0, 0.25)
    if last not in vectors or len(shape) != 1:
        raise ValueError(f"seeded_keras_weights: {name!r} with shape {list(shape)} is none of Keras' weights")
    return _normal(name, shape, seed, *vectors[last])


def seeded_images(batch: int, size: int, seed: int = 0, channels: int = 3) -> Array:
    """Returns images [batch,size,size,channels] of mean 0 and deviation 1, a coarse field plus noise.

    A smaller batch is a prefix of a larger one.
    """
    cell = np.arange(size) * _COARSE // size
    coarse = _normal("images.coarse", (batch, _COARSE, _COARSE, channels), seed, 0.0, 0.8)
    fine = _normal("images.fine", (batch, size, size, channels), seed, 0.0, 0.6)
    return coarse[:, cell[:, None], cell] + fine


def seeded_labels(batch: int, classes: int) -> NDArray[np.int64]:
    """Returns the class indices [batch] 0, 1, 2, ... modulo classes."""
    return np.arange(batch, dtype=np.int64) % classes
