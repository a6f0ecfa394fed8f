"""What a network has learned to look for: filters, and feature maps of a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.plots.figure import new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastcnn.layers import Layer
    from fastcnn.models import Model

_GAP = 1  # pixels between tiles


def filters(model: Model | Layer, path: str | os.PathLike[str] | None = None, *, count: int = 64) -> Figure:
    """Return a figure of the first `count` filters of a convolution, or of a model's first one.

    Each is stretched to its own range: in colour if it has three input channels, otherwise its first channel in grey.
    Saved if `path` is given. Raises ImportError without matplotlib, ValueError for what has no convolution.
    """
    from fastcnn.layers import Conv2D

    layers: Any = model.flat_layers() if hasattr(model, "flat_layers") else [model]
    layer = next((layer for layer in layers if isinstance(layer, Conv2D) and layer.weights), None)
    if layer is None:
        raise ValueError(f"plots.filters: {model.name} has no Conv2D layer with weights")
    kernel = layer.get_weights()[0]  # [R,S,C,K]
    tiles = np.moveaxis(kernel if kernel.shape[2] == 3 else kernel[:, :, :1], 3, 0)[:count]
    figure = new_figure("filters", 6, 6)
    axes = figure.subplots()
    axes.imshow(_grid(tiles), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    R, S, C, K = kernel.shape
    axes.set_title(f"{layer.name}: {len(tiles)} of {K} filters {R} x {S} x {C}")
    axes.axis("off")
    return save(figure, path)


def feature_maps(
    model: Model,
    x: ArrayLike,
    layers: Sequence[str] | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    count: int = 16,
) -> Figure:
    """Return a figure of the first `count` channels that layers make of one sample x, or x[1,...]; a row per layer.

    Without names, up to four layers spread over those whose outputs are maps. Each channel is stretched to its own
    range. Saved if `path` is given. Raises ImportError without matplotlib, ValueError for another shape and for layers
    that are unknown or make no maps.
    """
    from fastcnn.models import Model

    sample: NDArray[Any] = np.asarray(x)
    shape = model.input.sample_shape
    sample = sample[None] if sample.ndim == len(shape) else sample
    if sample.shape != (1, *shape):
        raise ValueError(f"plots.feature_maps: x must be one sample {list(shape)}, got {list(np.shape(x))}")
    maps = {layer.name: layer for layer in model.layers if _makes_maps(layer)}
    if layers is None:
        names = list(maps)[1:]  # without the input
        layers = [names[i] for i in sorted({round(p) for p in np.linspace(0, len(names) - 1, min(4, len(names)))})]
    unknown = [name for name in layers if name not in maps]
    if unknown or not layers:
        raise ValueError(f"plots.feature_maps: layers must be layers that make maps, {list(maps)}; got {list(layers)}")
    outputs = Model(model.input, [maps[name].output for name in layers]).predict_on_batch(sample)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    figure = new_figure("feature_maps", 10, 1.6 * len(layers) + 0.4)
    for axes, name, output in zip(np.atleast_1d(figure.subplots(len(layers), 1)), layers, outputs, strict=True):
        tiles = np.moveaxis(output[0], 2, 0)[:count, :, :, None]
        axes.imshow(_grid(tiles, columns=len(tiles)), cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
        H, W, C = output.shape[1:]
        axes.set_title(f"{name}: {len(tiles)} of {C} channels {H} x {W}", fontsize=9)
        axes.axis("off")
    return save(figure, path)


def _makes_maps(layer: Layer) -> bool:
    """Return whether a layer has one call and its output is [H,W,C]."""
    try:
        shape = layer.output.shape
    except (AttributeError, RuntimeError, ValueError):
        return False
    return len(shape) == 4


def _grid(tiles: NDArray[Any], columns: int | None = None) -> NDArray[Any]:
    """Return tiles [N,H,W,C] of C = 1 or 3 side by side, each stretched to 0..1, with white between them."""
    count, H, W, C = tiles.shape
    columns = columns or int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    low = tiles.min(axis=(1, 2, 3), keepdims=True)
    spread = tiles.max(axis=(1, 2, 3), keepdims=True) - low
    scaled = np.divide(tiles - low, spread, out=np.full(tiles.shape, 0.5), where=spread > 0)
    grid = np.ones((rows * (H + _GAP) - _GAP, columns * (W + _GAP) - _GAP, C))
    for i, tile in enumerate(scaled):
        top, left = i // columns * (H + _GAP), i % columns * (W + _GAP)
        grid[top : top + H, left : left + W] = tile
    return grid[:, :, 0] if C == 1 else grid
