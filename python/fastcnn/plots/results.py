"""What a classifier takes for what."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.plots.figure import new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WRITTEN = 25  # classes, up to which each cell shows its count
_NAMED = 100  # classes, up to which the axes have names


def confusion_matrix(
    matrix: ArrayLike, class_names: Sequence[str] | None = None, path: str | os.PathLike[str] | None = None
) -> Figure:
    """Return a figure of a confusion matrix [K,K], truth in rows, as `fastcnn.metrics.confusion_matrix` counts it.

    Colours are shares of the row; the counts stand in the cells. Saved if `path` is given. Raises ImportError without
    matplotlib, ValueError for another shape, negative counts, or another number of names.
    """
    counts: Any = np.asarray(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.size == 0 or not (counts >= 0).all():
        raise ValueError(
            f"plots.confusion_matrix: matrix must be [K, K] counts of at least 0, got {list(counts.shape)}"
        )
    K = len(counts)
    names = [str(i) for i in range(K)] if class_names is None else list(class_names)
    if len(names) != K:
        raise ValueError(f"plots.confusion_matrix: {K} classes need as many names, got {len(names)}")
    side = min(16.0, 2.5 + 0.55 * K)
    figure = new_figure("confusion_matrix", side + 1, side)
    axes = figure.subplots()
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.zeros(counts.shape), where=rows > 0)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if K <= _NAMED:
        size = 9 if K <= _WRITTEN else 5
        axes.set_xticks(range(K), names, rotation=60, ha="right", fontsize=size)
        axes.set_yticks(range(K), names, fontsize=size)
    if K <= _WRITTEN:
        for i, j in np.ndindex(K, K):
            colour = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, f"{counts[i, j]:g}", ha="center", va="center", color=colour, fontsize=8)
    axes.set(xlabel="taken for", ylabel="is")
    total = counts.sum()
    axes.set_title(f"{np.trace(counts) / total:.1%} of {total:g} right" if total else "nothing counted")
    figure.colorbar(image, ax=axes, label="share of the class", shrink=0.8)
    return save(figure, path)
