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
_WIDTH, _HIGHEST = 10, 2.5  # inches: of a row of feature maps


def filters(
    model: Model | Layer, path: str | os.PathLike[str] | None = None, *, count: int = 64, channels: int = 16
) -> Figure:
    """Return a figure of the first `count` filters of a convolution, or of a model's first one.

    Each is stretched to its own range: in colour if it has three input channels, otherwise the slices of its first
    `channels` channels in grey, side by side. Saved if `path` is given. Raises ImportError without matplotlib,
    ValueError for what has no convolution.
    """
    from fastcnn.layers import Conv2D

    layers: Any = model.flat_layers() if hasattr(model, "flat_layers") else [model]
    layer = next((layer for layer in layers if isinstance(layer, Conv2D) and layer.weights), None)
    if layer is None:
        raise ValueError(f"plots.filters: {getattr(model, 'name', repr(model))} has no Conv2D layer with weights")
    for argument, value in (("count", count), ("channels", channels)):
        if value < 1:
            raise ValueError(f"plots.filters: {argument} must be at least 1, got {value}")
    R, S, C, K = layer.kernel.shape
    tiles = _stretched(np.moveaxis(layer.kernel.value, 3, 0)[:count])
    shown = f"{len(tiles)} of {K} filters {R} x {S} x {C}"
    if C != 3:
        slices = np.moveaxis(tiles[..., :channels], 3, 1)[..., None]
        tiles = np.stack([_grid(part, len(part), _GAP) for part in slices])
        shown += f", channels 0 to {len(slices[0]) - 1} from left to right" if C > 1 else ""
    figure = new_figure("filters", 6, 6)
    axes = figure.subplots()
    gap = 2 * _GAP if 1 < C != 3 else _GAP
    axes.imshow(_picture(_grid(tiles, gap=gap)), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(f"{layer.name}: {shown}", fontsize=9)
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

    Without names, up to four convolutions from the first to the last, or any layers of a model without one. Each
    channel is stretched to its own range. Saved if `path` is given. Raises ImportError without matplotlib, ValueError
    for another shape and for layers that are unknown or make no maps.
    """
    from fastcnn.layers import Conv2D, InputLayer
    from fastcnn.models import Model

    if count < 1:
        raise ValueError(f"plots.feature_maps: count must be at least 1, got {count}")
    sample: NDArray[Any] = np.asarray(x)
    shape = model.input.sample_shape
    sample = sample[None] if sample.ndim == len(shape) else sample
    if sample.shape != (1, *shape):
        raise ValueError(f"plots.feature_maps: x must be one sample {list(shape)}, got {list(np.shape(x))}")
    maps = {layer.name: layer for layer in model.layers if _makes_maps(layer)}
    if layers is None:
        convolutions = [name for name, layer in maps.items() if isinstance(layer, Conv2D)]
        names = convolutions or [name for name, layer in maps.items() if not isinstance(layer, InputLayer)]
        layers = [names[i] for i in sorted({round(p) for p in np.linspace(0, len(names) - 1, min(4, len(names)))})]
    layers = [layers] if isinstance(layers, str) else layers
    unknown = [name for name in layers if name not in maps]
    if unknown or not layers:
        raise ValueError(f"plots.feature_maps: layers must be layers that make maps, {list(maps)}; got {list(layers)}")
    for weight in model.weights:
        weight.memory  # noqa: B018 (the model's weights lie together, which a part of it would prevent)
    part = Model(model.input, [maps[name].output for name in layers], name=f"{model.name}_maps")
    outputs = part.predict_on_batch(sample)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    rows = [_stretched(np.moveaxis(output[0], 2, 0)[:count, :, :, None]) for output in outputs]
    grids = [_picture(_grid(tiles, len(tiles), between=np.nan)) for tiles in rows]  # NaN has no colour
    heights = [min(_WIDTH * grid.shape[0] / grid.shape[1], _HIGHEST) + 0.4 for grid in grids]
    figure = new_figure("feature_maps", _WIDTH, sum(heights))
    plots = np.atleast_1d(figure.subplots(len(layers), 1, height_ratios=heights))
    for axes, name, output, tiles, grid in zip(plots, layers, outputs, rows, grids, strict=True):
        axes.imshow(grid, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
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


def _stretched(tiles: NDArray[Any]) -> NDArray[Any]:
    """Return tiles [N,H,W,C], each stretched to 0..1; 0.5 for one that is the same everywhere."""
    low = tiles.min(axis=(1, 2, 3), keepdims=True)
    spread = tiles.max(axis=(1, 2, 3), keepdims=True) - low
    scaled: NDArray[Any] = np.divide(tiles - low, spread, out=np.full(tiles.shape, 0.5), where=spread > 0)
    return scaled


def _grid(tiles: NDArray[Any], columns: int | None = None, gap: int = _GAP, between: float = 1.0) -> NDArray[Any]:
    """Return tiles [N,H,W,C] side by side, `gap` pixels apart, about as high as wide unless `columns` says."""
    count, H, W, C = tiles.shape
    columns = columns or int(np.ceil(np.sqrt(count * H / W)))
    rows = -(-count // columns)
    grid = np.full((rows * (H + gap) - gap, columns * (W + gap) - gap, C), between)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (H + gap), i % columns * (W + gap)
        grid[top : top + H, left : left + W] = tile
    return grid


def _picture(grid: NDArray[Any]) -> NDArray[Any]:
    """Return an array as imshow takes it: one channel has no axis."""
    return grid[:, :, 0] if grid.shape[2] == 1 else grid
