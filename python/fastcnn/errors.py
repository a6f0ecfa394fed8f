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
