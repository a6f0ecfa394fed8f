"""Pictures of a training run: curves from a History (needs matplotlib), and a sheet of pictures with captions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.callbacks import History
from fastcnn.formats.atomic import atomic_open

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

_CAPTION_HEIGHT = 12  # pixels, of Pillow's built-in font with a margin
_MARGIN = 4
_GOOD, _BAD = (0, 110, 0), (200, 0, 0)


def history(h: History | Mapping[str, Sequence[float]], path: str | os.PathLike[str] | None = None) -> Figure:
    """Return a figure with one plot per log name, training and validation together, and save it if `path` is given.

    Raises ImportError without matplotlib, ValueError for an empty history.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise ImportError('plots.history needs matplotlib: pip install "fastcnn[plot]"') from error
    logs = h.history if isinstance(h, History) else h
    names = [name for name in logs if not name.startswith("val_")]
    if not names:
        raise ValueError("plots.history: the history is empty; train at least one epoch first")
    figure = Figure(figsize=(5 * len(names), 4), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            if key in logs:
                axes.plot(range(1, len(logs[key]) + 1), logs[key], marker="o", markersize=3, label=label)
        axes.set(title=name, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    if path is not None:
        with atomic_open(path) as file:
            figure.savefig(file, format=_format(path), dpi=120)
    return figure


def contact_sheet(
    pictures: ArrayLike,
    captions: Sequence[str],
    path: str | os.PathLike[str] | None = None,
    *,
    good: Sequence[bool] | None = None,
    columns: int = 8,
) -> Image.Image:
    """Return pictures [N,H,W,3] of 0..255 side by side, each above its caption, and save them if `path` is given.

    Captions are cut to the picture's width; `good` colours them green or red. Raises ValueError for other shapes.
    """
    from PIL import Image, ImageDraw

    values: Any = np.asarray(pictures)
    if values.ndim != 4 or values.shape[3] != 3 or 0 in values.shape:
        raise ValueError(f"contact_sheet: pictures must be [N, H, W, 3] and not empty, got {list(values.shape)}")
    if len(captions) != len(values) or (good is not None and len(good) != len(values)):
        raise ValueError(f"contact_sheet: {len(values)} pictures need as many captions, got {len(captions)}")
    if columns < 1:
        raise ValueError(f"contact_sheet: columns must be at least 1, got {columns}")
    values = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    count, height, width, _ = values.shape
    rows = -(-count // columns)
    step = (width + _MARGIN, height + _CAPTION_HEIGHT + _MARGIN)
    sheet = Image.new("RGB", (min(columns, count) * step[0] + _MARGIN, rows * step[1] + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for i in range(count):
        left = _MARGIN + i % columns * step[0]
        top = _MARGIN + i // columns * step[1]
        sheet.paste(Image.fromarray(values[i]), (left, top))
        colour = (0, 0, 0) if good is None else _GOOD if good[i] else _BAD
        caption = captions[i]
        while caption and draw.textlength(caption) > width:
            caption = caption[:-1]
        draw.text((left, top + height), caption, fill=colour)
    if path is not None:
        with atomic_open(path) as file:
            sheet.save(file, format=_format(path))
    return sheet


def _format(path: str | os.PathLike[str]) -> str:
    """Return the picture format that a file name's ending means, PNG without one."""
    ending = os.path.splitext(os.fspath(path))[1][1:].lower()
    return "jpeg" if ending == "jpg" else ending or "png"
