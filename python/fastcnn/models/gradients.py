"""The gradients of one batch, and how large they are; training goes on as if nobody had asked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn import _core
from fastcnn.layers.base import Array
from fastcnn.parameters import Parameter

if TYPE_CHECKING:
    from fastcnn.models.training import Trainer


def gradients_of(
    model: Trainer, x: ArrayLike, y: Any, sample_weight: Any = None, where: str = "gradients"
) -> Iterator[tuple[Parameter, Array]]:
    """Yield each trained weight with its gradient, which holds until the next one is asked for."""
    with model._exclusive(where, join=True):
        batch = model._lone_batch(where, x, y, sample_weight, None, train=True)
        state = model._training()[1]
        with model._lease() as workspace, state.unchanged(), state.all_gradients():
            try:
                model._compute(where, workspace, batch, "gradients" if state.at_once else "training")
                yield from state.layout.views(state.gradients)
            finally:  # the program's array goes with the block
                workspace.forget("gradients")


def gradient_norms(model: Trainer, x: ArrayLike, y: Any, sample_weight: Any) -> dict[str, float]:
    """Return what Model.gradient_norms does."""
    found = gradients_of(model, x, y, sample_weight, "gradient_norms")
    return {parameter.path: _norm(gradient) for parameter, gradient in found}


def _norm(gradient: Array) -> float:
    """Return an L2 norm, summed by the engine: BLAS adds in an order that follows its threads."""
    square = np.zeros(1)
    _core.squared_norms(gradient.reshape(-1), np.array([0, gradient.size], np.int64), square)
    return math.sqrt(square[0])
