"""The order in which samples are visited: a function of (seed, epoch) alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastcnn.random import generator


def permutation(size: int, *key: int | str) -> NDArray[np.int64]:
    """Return a permutation of 0..size-1 that depends on `size` and `key` only.

    Sorting raw Philox words keeps the result the same in every NumPy: the words are a documented constant of the bit
    generator, while the algorithm behind `Generator.permutation` may change between releases.
    """
    words = generator("permutation", *key).bit_generator.random_raw(size)
    return np.argsort(words, kind="stable").astype(np.int64, copy=False)


def epoch_order(size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of `size` samples in one epoch, counted from 0."""
    return permutation(size, "epoch", seed, epoch)


def split_order(size: int, seed: int) -> NDArray[np.int64]:
    """Return the order of a file list whose last part becomes the validation set."""
    return permutation(size, "split", seed)
