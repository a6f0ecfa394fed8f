"""Arrays for the tests of the float64 reference, and how its gradients are judged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn import reference

Array = NDArray[Any]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def integers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.float64)


def distinct(*shape: int) -> Array:
    """Values in random order, each well apart from 0 and from the next: no kink within a finite difference's step."""
    size = int(np.prod(shape))
    return np.random.default_rng(0).permutation(np.arange(size) - size / 2 + 0.25).reshape(shape)


def assert_gradient(f: Callable[[Array], Array], x: Array, dy: Array, dx: Array) -> None:
    """Compare dx with finite differences by gradcheck's tolerances: 1e-5 absolute, 1e-3 relative, for eps 1e-6."""
    expected = reference.finite_difference(f, x, dy)
    assert dx.shape == x.shape
    assert np.all(np.abs(dx - expected) <= 1e-5 + 1e-3 * np.abs(expected))
    assert np.any(expected != 0)


def relative(a: Array, b: Array) -> float:
    return float(np.max(np.abs(a - b)) / np.max(np.abs(b)))
