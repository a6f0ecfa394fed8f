"""How training goes: curves of a History, and how large the gradients of the layers are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.callbacks import History
from fastcnn.plots.figure import new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMED = 24  # weights, up to which the axis has their names


def history(h: History | Mapping[str, Sequence[float]], path: str | os.PathLike[str] | None = None) -> Figure:
    """Return a figure with one plot per log name, training and validation together, and save it if `path` is given.

    Raises ImportError without matplotlib, ValueError for an empty history.
    """
    logs = h.history if isinstance(h, History) else h
    names = [name for name in logs if not name.startswith("val_")]
    figure = new_figure("history", 5 * max(1, len(names)), 4)
    from matplotlib.ticker import MaxNLocator

    if not names:
        raise ValueError("plots.history: the history is empty; train at least one epoch first")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            if key in logs:
                axes.plot(range(1, len(logs[key]) + 1), logs[key], marker="o", markersize=3, label=label)
        axes.set(title=name, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    return save(figure, path)


def gradient_norms(
    norms: Mapping[str, float] | Mapping[str, Mapping[str, float]],
    path: str | os.PathLike[str] | None = None,
    *,
    axes: Axes | None = None,
) -> Figure:
    """Return a figure of gradient norms, layer by layer from the input on, on a logarithmic scale.

    `norms` is what `Model.gradient_norms` returned, or several such by the name of their line. With `axes` the plot is
    drawn there. Raises ImportError without matplotlib, ValueError for norms that are empty, negative or not finite.
    """
    several = any(isinstance(value, Mapping) for value in norms.values())
    lines: Any = norms if several else {"": norms}
    for name, line in lines.items():
        if not isinstance(line, Mapping):
            raise ValueError(f"plots.gradient_norms: norms must all be numbers or all be runs, {name!r} is {line!r}")
        if not line or not all(_is_norm(value) for value in line.values()):
            raise ValueError(
                f"plots.gradient_norms: norms{f' of {name!r}' if name else ''} must be finite numbers of at least 0, "
                f"got {dict(list(line.items())[:3])}"
            )
    if axes is None:
        figure = new_figure("gradient_norms", 8, 4)
        axes = figure.subplots()
    else:
        figure = axes.get_figure()  # type: ignore[assignment]
    for name, line in lines.items():
        axes.plot(range(1, len(line) + 1), list(line.values()), marker=".", linewidth=1, label=name or None)
    axes.set(xlabel="weight, from the input on", ylabel="norm of the gradient")
    if any(value > 0 for line in lines.values() for value in line.values()):  # zeros fall out of it at the foot
        axes.set_yscale("log")
    names = list(next(iter(lines.values())))
    if len(names) <= _NAMED and all(list(line) == names for line in lines.values()):
        axes.set_xticks(range(1, len(names) + 1), names, rotation=60, ha="right", fontsize=7)
        axes.set_xlabel("")
    axes.grid(alpha=0.3)
    if len(lines) > 1:
        axes.legend()
    return save(figure, path)


def _is_norm(value: object) -> bool:
    return isinstance(value, int | float | np.number) and bool(0 <= value < np.inf)
