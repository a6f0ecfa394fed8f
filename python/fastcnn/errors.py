"""Errors that callers may want to tell apart."""

from __future__ import annotations

import math


class NonFiniteError(ArithmeticError):
    """The loss of a training batch is NaN or infinite; raised before the update, so the weights are still good.

    `loss` is that loss; NaN where it is a gradient that is not finite, with which the next loss would be NaN.
    """

    def __init__(self, message: str, loss: float = math.nan) -> None:
        super().__init__(message)
        self.loss = loss


def check_finite(where: str, loss: float) -> None:
    """Raise NonFiniteError for a loss that is not finite; `where` names the batch."""
    if not math.isfinite(loss):
        raise NonFiniteError(f"{where}: the loss is {loss}; the weights are those before this batch", loss)
