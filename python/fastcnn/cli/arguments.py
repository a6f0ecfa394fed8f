"""Types of command-line arguments: each checks the text and returns a value, so that argparse reports wrong usage."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from fastcnn.models.saving import check_suffix


class UsageError(ValueError):
    """Arguments that do not go together: wrong usage, exit code 2."""


def whole(low: int) -> Callable[[str], int]:
    """Return a type for whole numbers of at least `low`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {low}, got {text!r}")
        return value

    return parse


def fraction(text: str) -> float:
    """Return a number in [0, 1)."""
    value = _number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 0 and below 1, got {text!r}")
    return value


def positive(text: str) -> float:
    """Return a finite number above 0."""
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def not_negative(text: str) -> float:
    """Return a finite number of at least 0."""
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, got {text!r}")
    return value


def frequency(text: str) -> str | int:
    """Return "epoch" or a number of batches."""
    return text if text == "epoch" else whole(1)(text)


def model_file(text: str) -> str:
    """Return the name of a file that a model can be saved to."""
    try:
        check_suffix(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
