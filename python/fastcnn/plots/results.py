"""What a classifier takes for what."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn import metrics
from fastcnn.plots.figure import new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHARED = 25  # classes, up to which each cell shows its count and its share of the row
_WRITTEN = 100  # classes, up to which the axes have names and cells that are not zero show their count


def confusion_matrix(
    matrix: ArrayLike | tuple[ArrayLike, ArrayLike],
    class_names: Sequence[str] | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Return a figure of a confusion matrix [K,K], truth in rows, as `fastcnn.metrics.confusion_matrix` counts it.

    A tuple of two is (y_true, y_pred), which are counted first: class numbers [N] or values [N,K]. Colours are shares
    of the row; the counts stand in the cells, up to 25 classes with the shares. Saved if `path` is given. Raises
    ImportError without matplotlib, ValueError for another shape, negative counts, no samples, or another number of
    names.
    """
    counts: Any = np.asarray(_counted(*matrix, class_names) if _is_pair(matrix) else matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.size == 0:
        raise ValueError(
            f"plots.confusion_matrix: matrix must be [K, K] counts of at least 0, got {list(counts.shape)}"
        )
    if counts.dtype.kind not in "biuf" or not (np.isfinite(counts) & (counts >= 0)).all():
        raise ValueError(
            "plots.confusion_matrix: matrix must hold finite counts of at least 0, got "
            + (f"{counts.min()}..{counts.max()}" if counts.dtype.kind in "biuf" else str(counts.dtype))
        )
    K = len(counts)
    names = [str(i) for i in range(K)] if class_names is None else list(class_names)
    if len(names) != K:
        raise ValueError(f"plots.confusion_matrix: {K} classes need as many names, got {len(names)}")
    side = 2.5 + (0.55 * K if K <= _SHARED else min(0.33 * K, 33.0))
    figure = new_figure("confusion_matrix", side + 1, side)
    axes = figure.subplots()
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.zeros(counts.shape), where=rows > 0)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if K <= _WRITTEN:
        size = 9 if K <= _SHARED else 7
        axes.set_xticks(range(K), names, rotation=60, ha="right", fontsize=size)
        axes.set_yticks(range(K), names, fontsize=size)
        for i, j in np.ndindex(K, K) if K <= _SHARED else np.argwhere(counts):
            text = _count(counts[i, j])
            if K <= _SHARED and counts[i, j] > 0:
                text += f"\n{shares[i, j]:.0%}"
            colour = "white" if shares[i, j] > 0.5 else "black"
            label = axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=size - 1)
            label.set_in_layout(False)  # it lies inside the axes; measuring thousands takes long
    axes.set(xlabel="taken for", ylabel="is")
    total = counts.sum()
    axes.set_title(f"{np.trace(counts) / total:.1%} of {_count(total)} right" if total else "nothing counted")
    figure.colorbar(image, ax=axes, label="share of the class", shrink=0.8)
    return save(figure, path)


def _is_pair(matrix: Any) -> TypeGuard[tuple[ArrayLike, ArrayLike]]:
    return isinstance(matrix, tuple) and len(matrix) == 2


def _counted(y_true: ArrayLike, y_pred: ArrayLike, class_names: Sequence[str] | None) -> NDArray[Any]:
    """Return the matrix of some samples; raise ValueError for none."""
    if np.size(y_true) == 0:
        raise ValueError("plots.confusion_matrix: y_true must hold at least one label, got none")
    classes = None if class_names is None else len(class_names)
    try:
        return metrics.confusion_matrix(y_true, y_pred, classes)
    except ValueError as error:
        raise ValueError(f"plots.{error}") from error


def _count(number: float) -> str:
    """Return a whole number in full, another with six digits."""
    return str(int(number)) if float(number).is_integer() else f"{number:g}"
