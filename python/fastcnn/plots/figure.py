"""What all plots share: matplotlib on demand, and files that are written whole or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fastcnn.formats.atomic import atomic_open

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 120


def new_figure(plot: str, width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches; raise ImportError naming the plot without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f'plots.{plot} needs matplotlib: pip install "fastcnn[plot]"') from error
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: str | os.PathLike[str] | None) -> Figure:
    """Write a figure if a path is given, and return it."""
    if path is not None:
        with atomic_open(path) as file:
            figure.savefig(file, format=picture_format(path), dpi=_DPI)
    return figure


def picture_format(path: str | os.PathLike[str]) -> str:
    """Return the picture format that a file name's ending means, PNG without one."""
    ending = os.path.splitext(os.fspath(path))[1][1:].lower()
    return "jpeg" if ending == "jpg" else ending or "png"
