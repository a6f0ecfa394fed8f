"""A model's graph as a picture: a box per call of a layer, an arrow per tensor."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from fastcnn.graph import topological
from fastcnn.plots.figure import new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastcnn.models import Model
    from fastcnn.models.network import Tensor

_WIDTH, _HEIGHT = 3.2, 0.75  # inches from box to box
_FONT = 7
_CURVE = 0.35  # of arrows that pass layers


def plot_model(
    model: Model,
    to_file: str | os.PathLike[str] | None = "model.png",
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = False,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 120,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
) -> Figure:
    """Draw a model's layers and write the picture to a file if one is named; return the matplotlib figure.

    A box has the layer's class, and as asked for its name, activation, whether it is trainable, and the shapes of its
    inputs and output. `rankdir` is "TB" from top to bottom or "LR" from left to right; a file's ending is its format.
    Raises ValueError for another `rankdir`, for a model without layers and for `expand_nested=True`, which fastcnn does
    not have, ImportError without matplotlib, OSError.
    """
    if rankdir not in ("TB", "LR"):
        raise ValueError(f"plot_model: rankdir must be 'TB' or 'LR', got {rankdir!r}")
    if expand_nested:
        raise ValueError("plot_model: expand_nested is not supported yet and must be False; plot the inner model alone")
    nodes = topological(model.outputs) if model.built else []
    if not nodes:
        raise ValueError(f"plot_model: {model.name} has no layers yet; call build(shape) first")
    options = (show_layer_names, show_layer_activations, show_trainable, show_shapes, show_dtype)
    places = _places(nodes)
    across = 1 + max(column for _, column in places.values()) - min(column for _, column in places.values())
    along = 1 + max(row for row, _ in places.values())
    down = rankdir == "TB"
    lines = max(_label(node, *options).count("\n") for node in nodes) + 1
    step = _HEIGHT * (0.5 + 0.5 * lines)
    size = (across * _WIDTH, along * step) if down else (along * _WIDTH, across * step)
    figure = new_figure("plot_model", *size)
    figure.set_dpi(dpi)
    axes = figure.add_subplot()
    axes.set_axis_off()
    at = {node: (column, -row) if down else (row, -column) for node, (row, column) in places.items()}
    xs, ys = zip(*at.values(), strict=True)
    axes.set_xlim(min(xs) - 0.5, max(xs) + 0.5)
    axes.set_ylim(min(ys) - 0.5, max(ys) + 0.5)
    boxes = {
        node: axes.text(
            at[node][0],
            at[node][1],
            _label(node, *options),
            ha="center",
            va="center",
            fontsize=_FONT,
            bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": "black", "linewidth": 0.8},
        )
        for node in nodes
    }
    for node in nodes:
        for source in node.inputs:
            passes = places[node][0] - places[source][0] > 1
            axes.annotate(
                "",
                at[node],
                at[source],
                arrowprops={
                    "arrowstyle": "->",
                    "linewidth": 0.8,
                    "patchA": boxes[source].get_bbox_patch(),
                    "patchB": boxes[node].get_bbox_patch(),
                    "connectionstyle": f"arc3,rad={_CURVE if passes else 0}",
                },
            )
    return save(figure, to_file)


def _places(nodes: list[Tensor]) -> dict[Tensor, tuple[int, float]]:
    """Return the row of each node, one behind the last of its inputs, and its column around 0."""
    rows: dict[Tensor, int] = {}
    for node in nodes:
        rows[node] = max((rows[source] + 1 for source in node.inputs), default=0)
    widths = Counter(rows.values())
    taken: Counter[int] = Counter()
    places = {}
    for node, row in rows.items():
        places[node] = (row, taken[row] - (widths[row] - 1) / 2)
        taken[row] += 1
    return places


def _label(node: Tensor, name: bool, activation: bool, trainable: bool, shapes: bool, dtype: bool) -> str:
    layer = node.layer
    title = f"{layer.name} ({type(layer).__name__})" if name else type(layer).__name__
    lines = [title]
    if activation and hasattr(layer, "activation"):
        lines.append(f"activation: {layer.activation}")
    if trainable and layer.weights:
        lines.append("trainable" if layer.trainable_weights else "not trainable")
    if shapes:
        given = ", ".join(str(source.shape) for source in node.inputs) or str(node.shape)
        lines.append(f"{given} -> {node.shape}")
    if dtype:
        lines.append(node.dtype)
    return "\n".join(lines)
