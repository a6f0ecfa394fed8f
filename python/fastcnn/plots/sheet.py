"""A sheet of pictures with captions, drawn by Pillow alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.formats.atomic import atomic_open
from fastcnn.plots.figure import picture_format

if TYPE_CHECKING:
    from PIL import Image

_CAPTION_HEIGHT = 12  # pixels, of Pillow's built-in font with a margin
_MARGIN = 4
_GOOD, _BAD = (0, 110, 0), (200, 0, 0)


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
            sheet.save(file, format=picture_format(path))
    return sheet
