"""Errors that callers may want to tell apart."""

from __future__ import annotations


class NonFiniteError(ArithmeticError):
    """The loss of a training batch is NaN or infinite; raised before the update, so the weights are still good."""
