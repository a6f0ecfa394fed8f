"""How large the gradients of one batch are; training goes on as if nobody had asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn import _core

if TYPE_CHECKING:
    from fastcnn.models.training import Trainer


def gradient_norms(model: Trainer, x: ArrayLike, y: Any, sample_weight: Any) -> dict[str, float]:
    """Return what Model.gradient_norms does."""
    where = "gradient_norms"
    with model._exclusive(where, join=True):
        batch = model._lone_batch(where, x, y, sample_weight, None, train=True)
        state = model._training()[1]
        with model._lease() as workspace, state.unchanged():
            model._compute(where, workspace, batch, True)
        layout = state.layout
        squares = np.zeros(len(layout.parameters))
        if layout.parameters:  # summed by the engine: BLAS adds in an order that follows its threads
            ends = [*(layout.offsets[parameter] for parameter in layout.parameters), layout.size]
            _core.squared_norms(state.gradients, np.array(ends, np.int64), squares)
        return {w.path: float(norm) for w, norm in zip(layout.parameters, np.sqrt(squares), strict=True)}
