"""Resizing without antialiasing and with half-pixel centres, as `image_dataset_from_directory` does in Keras.

Output pixel q of Q looks at input coordinate (q + 0.5) * W / Q - 0.5, clamped to the picture; `bilinear` weighs the two
pixels around it, columns before rows, in float32; `nearest` takes pixel floor((q + 0.5) * W / Q) (definition:
tf.image.resize with antialias=False). Downscaling therefore skips pixels rather than averaging them.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Index = NDArray[np.intp]
Fit = Literal["stretch", "crop", "pad"]
Scalar = TypeVar("Scalar", np.uint8, np.float32)

INTERPOLATIONS = ("bilinear", "nearest")


def resize_into(x: NDArray[np.uint8], y: Array, interpolation: str = "bilinear", fit: Fit = "stretch") -> None:
    """Write x[H,W,C] (0..255), resized, to y[P,Q,C].

    `stretch` ignores the aspect ratio; `crop` first cuts the largest centred window with the target's ratio; `pad`
    keeps the whole picture and fills the rest with zeros. A picture that already has the target's size is copied.
    """
    height, width = x.shape[:2]
    rows, columns = y.shape[:2]
    if fit == "crop":
        top, left, height, width = centred_window(height, width, rows, columns)
        x = x[top : top + height, left : left + width]
    elif fit == "pad":
        top, left, inner_rows, inner_columns = _padded_box(height, width, rows, columns)
        y[...] = 0
        y = y[top : top + inner_rows, left : left + inner_columns]
    if x.shape == y.shape:
        y[...] = x
    elif interpolation == "nearest":
        y[...] = x[_nearest(x.shape[0], y.shape[0])][:, _nearest(x.shape[1], y.shape[1])]
    else:
        _bilinear(x, y)


def centred_window(height: int, width: int, rows: int, columns: int) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) of the largest centred window with the ratio of [rows, columns]."""
    crop_height = max(min(height, width * rows // columns), 1)
    crop_width = max(min(width, height * columns // rows), 1)
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def _padded_box(height: int, width: int, rows: int, columns: int) -> tuple[int, int, int, int]:
    """Return (top, left, rows, columns) of the whole picture inside the target.

    The rule of tf.image.resize_with_pad in exact arithmetic; its float32 loses a row or column of some sizes.
    """
    if width * rows >= height * columns:
        inner = max(height * columns // width, 1)
        return (rows * width - height * columns) // (2 * width), 0, inner, columns
    inner = max(width * rows // height, 1)
    return 0, (columns * height - width * rows) // (2 * height), rows, inner


def _bilinear(x: NDArray[np.uint8], y: Array) -> None:
    rows, columns, channels = y.shape
    needed, top, bottom, row_weight = _row_table(x.shape[0], rows)
    left, right, column_weight = _column_table(x.shape[1], columns, channels)
    x = x.reshape(x.shape[0], -1) if len(needed) == len(x) else x[needed].reshape(len(needed), -1)
    # Columns first, on the input rows that some output row looks at: z[needed, Q*C].
    picked = _scratch.array("picked", (len(x), columns * channels), np.uint8)
    z = _scratch.array("z", picked.shape, np.float32)
    step = _scratch.array("step", picked.shape, np.float32)
    z[...] = np.take(x, left, axis=1, out=picked, mode="clip")
    step[...] = np.take(x, right, axis=1, out=picked, mode="clip")  # np.subtract would convert it slowly, in pieces
    step -= z
    step *= column_weight
    z += step
    upper = _scratch.array("upper", (rows, columns * channels), np.float32)
    lower = _scratch.array("lower", upper.shape, np.float32)
    np.take(z, top, axis=0, out=upper, mode="clip")
    np.take(z, bottom, axis=0, out=lower, mode="clip")
    lower -= upper
    lower *= row_weight
    np.add(upper.reshape(y.shape), lower.reshape(y.shape), out=y)


class _Scratch(threading.local):
    """Grow-only arrays, one set per thread: fresh megabyte arrays cost more in page faults than the arithmetic."""

    def __init__(self) -> None:
        self._buffers: dict[str, NDArray[np.uint8]] = {}

    def array(self, name: str, shape: tuple[int, int], dtype: type[Scalar]) -> NDArray[Scalar]:
        size = shape[0] * shape[1] * np.dtype(dtype).itemsize
        buffer = self._buffers.get(name)
        if buffer is None or buffer.nbytes < size:
            buffer = self._buffers[name] = np.empty(size, np.uint8)
        return buffer[:size].view(dtype).reshape(shape)


_scratch = _Scratch()


def _neighbours(size: int, new_size: int) -> tuple[Index, Index, Array]:
    """Return the two neighbours of each output coordinate and the weight of the second."""
    scale = np.float32(size) / np.float32(new_size)
    at = (np.arange(new_size, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    first = np.floor(at)
    low = np.clip(first, 0, size - 1).astype(np.intp)
    high = np.clip(np.ceil(at), 0, size - 1).astype(np.intp)
    return low, high, at - first


@lru_cache(maxsize=256)
def _row_table(size: int, new_size: int) -> tuple[Index, Index, Index, Array]:
    """Return the input rows in use, each output row's two neighbours among them, and the second one's weight."""
    low, high, weight = _neighbours(size, new_size)
    needed, at = np.unique(np.concatenate([low, high]), return_inverse=True)
    return needed, at[:new_size], at[new_size:], weight[:, None]


@lru_cache(maxsize=256)
def _column_table(size: int, new_size: int, channels: int) -> tuple[Index, Index, Array]:
    """Return each output element's two neighbours in a row of size*channels elements, and the second one's weight."""
    low, high, weight = _neighbours(size, new_size)
    channel = np.arange(channels)
    left = (low[:, None] * channels + channel).ravel()
    right = (high[:, None] * channels + channel).ravel()
    return left, right, np.repeat(weight, channels)


@lru_cache(maxsize=256)
def _nearest(size: int, new_size: int) -> Index:
    scale = np.float32(size) / np.float32(new_size)
    at = np.floor((np.arange(new_size, dtype=np.float32) + np.float32(0.5)) * scale)
    nearest: Index = np.minimum(at, size - 1).astype(np.intp)
    return nearest
