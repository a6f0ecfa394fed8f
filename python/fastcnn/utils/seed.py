"""One call that makes a program repeatable."""

from __future__ import annotations

import random

import numpy as np

from fastcnn.random import set_seed


def set_random_seed(seed: int) -> None:
    """Set fastcnn's default seed and those of Python's `random` and NumPy's global generator, as Keras does.

    `seed` is an integer in [0, 2**32). Layers, datasets and dropout built afterwards with `seed=None` get seeds that
    follow from it. Raises TypeError or ValueError otherwise.
    """
    set_seed(seed)
    random.seed(int(seed))
    np.random.seed(int(seed))
