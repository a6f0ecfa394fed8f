"""Pictures as arrays and back, with Keras' names: load_img, img_to_array, array_to_img, save_img."""

from __future__ import annotations

import io
import os
import warnings
from typing import IO, TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastcnn.data.picture import ColorMode, load_picture
from fastcnn.data.resize import centred_window

if TYPE_CHECKING:
    from PIL import Image

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "hamming", "box", "lanczos")


def load_img(
    path: str | bytes | os.PathLike[str] | io.BytesIO,
    color_mode: ColorMode = "rgb",
    target_size: tuple[int, int] | None = None,
    interpolation: str = "nearest",
    keep_aspect_ratio: bool = False,
) -> Image.Image:
    """Read a picture as a PIL image of mode L, RGB or RGBA, resized by Pillow to `target_size` (H, W) in pixels.

    `keep_aspect_ratio` first cuts the largest centred window with the target's ratio. What each kind of file becomes is
    the table of `fastcnn.data.picture`; unlike in Keras 16-bit gray becomes 8-bit, divided by 257. Raises
    FileNotFoundError or another OSError when the file cannot be opened, ImageFileError (a ValueError) when it is not an
    acceptable picture, ValueError and TypeError for the arguments.
    """
    if color_mode not in get_args(ColorMode):
        raise ValueError(f"load_img: color_mode must be one of {get_args(ColorMode)}, got {color_mode!r}")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"load_img: interpolation must be one of {INTERPOLATIONS}, got {interpolation!r}")
    if target_size is not None:
        target_size = _target(target_size)
    if isinstance(path, io.BytesIO):
        image = load_picture(path, color_mode)
    elif isinstance(path, str | bytes | os.PathLike):
        image = load_picture(os.fsdecode(path), color_mode)
    else:
        raise TypeError(f"load_img: path must be a path or io.BytesIO, got {type(path).__name__}")
    if target_size is None or image.size == target_size[::-1]:
        return image
    from PIL.Image import Resampling

    box = None
    if keep_aspect_ratio:
        top, left, height, width = centred_window(image.height, image.width, *target_size)
        box = (left, top, left + width, top + height)
    return image.resize(target_size[::-1], Resampling[interpolation.upper()], box=box)


def _target(target_size: object) -> tuple[int, int]:
    sizes = target_size if isinstance(target_size, list | tuple) else ()
    if len(sizes) != 2 or not all(isinstance(size, int | np.integer) and size > 0 for size in sizes):
        raise ValueError(f"load_img: target_size must be (height, width) in pixels, at least 1, got {target_size!r}")
    return int(sizes[0]), int(sizes[1])


def img_to_array(
    img: Image.Image | ArrayLike, data_format: str | None = None, dtype: DTypeLike | None = None
) -> NDArray[Any]:
    """Return a PIL image as an array [H,W,C] with its values unscaled, float32 unless `dtype` says otherwise.

    `data_format="channels_first"` gives [C,H,W]. Raises ValueError when the image has neither 2 nor 3 axes.
    """
    first = _channels_first("img_to_array", data_format)
    x = np.asarray(img, dtype=np.float32 if dtype is None else dtype)
    if x.ndim == 2:
        x = x[:, :, None]
    elif x.ndim != 3:
        raise ValueError(f"img_to_array: img must have 2 or 3 axes, got {x.ndim} (shape {list(x.shape)})")
    return x.transpose(2, 0, 1) if first else x


def array_to_img(
    x: ArrayLike, data_format: str | None = None, scale: bool = True, dtype: DTypeLike | None = None
) -> Image.Image:
    """Return an array [H,W,C] with C = 1, 3 or 4 as a PIL image of mode L, RGB or RGBA.

    `scale` maps the array's minimum to 0 and its maximum to 255; without it values are clipped to 0..255 (one channel
    with values above 255: mode I, 32-bit). Fractions are cut off, as in Keras; `dtype` (float32) is the type computed
    in. `data_format="channels_first"` takes [C,H,W]. Raises ValueError for another shape or values that are not finite.
    """
    from PIL import Image

    first = _channels_first("array_to_img", data_format)
    values = np.array(x, dtype=np.float32 if dtype is None else dtype)
    if values.ndim != 3:
        raise ValueError(f"array_to_img: x must have 3 axes, got {values.ndim} (shape {list(values.shape)})")
    if first:
        values = values.transpose(1, 2, 0)
    if values.shape[2] not in (1, 3, 4) or values.size == 0:
        raise ValueError(
            f"array_to_img: x must be [H, W, C] with 1, 3 or 4 channels and at least one pixel, "
            f"got shape {list(values.shape)} (channels last)"
        )
    if not np.isfinite(values).all():
        raise ValueError("array_to_img: x must be finite, got NaN or infinity")
    if scale:
        values = values - values.min()
        largest = values.max()
        values = (values / largest if largest != 0 else values) * 255
    if values.shape[2] == 1:
        values = values[:, :, 0]
        if values.max() > 255:
            return Image.fromarray(values.astype(np.int32))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def save_img(
    path: str | os.PathLike[str] | IO[bytes],
    x: ArrayLike,
    data_format: str | None = None,
    file_format: str | None = None,
    scale: bool = True,
    **kwargs: Any,
) -> None:
    """Write an array [H,W,C] as a picture file through `array_to_img`; other keywords go to Pillow's `Image.save`.

    `file_format` is needed when `path` is a file object, else the name's ending decides. An alpha channel is dropped
    with a warning when the format is JPEG, which has none.
    """
    image = array_to_img(x, data_format=data_format, scale=scale)
    if file_format is None and isinstance(path, str | os.PathLike):
        ending = os.path.splitext(os.fspath(path))[1].lower()
    else:
        ending = f".{file_format or ''}".lower()
    if ending in (".jpg", ".jpeg"):
        file_format = "jpeg"
        if image.mode == "RGBA":
            warnings.warn("save_img: JPEG has no alpha channel; it is dropped", stacklevel=2)
            image = image.convert("RGB")
    try:
        image.save(path, format=file_format, **kwargs)
    except OSError as error:  # Pillow has removed what it had written
        if error.filename is not None or not isinstance(path, str | os.PathLike):
            raise
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error


def _channels_first(function: str, data_format: str | None) -> bool:
    if data_format not in (None, "channels_last", "channels_first"):
        raise ValueError(
            f"{function}: data_format must be None, 'channels_last' or 'channels_first', got {data_format!r}"
        )
    return data_format == "channels_first"
