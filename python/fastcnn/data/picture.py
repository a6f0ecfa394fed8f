"""One picture file to 8-bit pixels: which formats are read and what each kind of pixel becomes.

| kind | result |
|---|---|
| format | recognised by content, whatever the name says; only the accepted formats' decoders ever run |
| 1-bit, gray | three equal channels in `rgb` |
| alpha (RGBA, LA, palette with transparency) | dropped in `rgb` and `grayscale`, as Keras does; or over `background` |
| CMYK, YCCK, YCbCr | Pillow's conversion; colour profiles are ignored |
| colour to `grayscale` | Pillow's luma: 0.299 R + 0.587 G + 0.114 B (ITU-R 601-2) |
| 16-bit gray | divided by 257 and rounded (Keras clips at 255) |
| 16 bits per colour | the upper 8 bits (Pillow) |
| 32-bit float | refused |
| animation | first frame |
| EXIF orientation | ignored, as in Keras; applied with `exif_transpose` |
| truncated, empty, other format, more than MAX_PIXELS | ImageFileError |
| garbage after the end | ignored |
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np

from fastcnn.data.folder import FORMATS, ImageFileError, file_kind

if TYPE_CHECKING:
    from PIL import Image

ColorMode = Literal["grayscale", "rgb", "rgba"]
CHANNELS: dict[ColorMode, int] = {"grayscale": 1, "rgb": 3, "rgba": 4}

MAX_PIXELS = 2**26  # 67,108,864, below Pillow's own warning at 89,478,485
MAX_BYTES = 8 * MAX_PIXELS  # uncompressed 16-bit RGBA at the pixel limit

EXIF_ORIENTATION = 0x0112  # TIFF 6.0 tag 274
SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")

# First bytes of formats that are refused, only to name them in the error; accepted ones are here for damaged headers.
_SIGNATURES = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (8, b"WEBP", "WEBP"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"8BPS", "PSD"),
    (0, b"\x00\x00\x00\x0cjP", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"%!PS", "EPS"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS"),
    (0, b"SIMPLE  =", "FITS"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (0, b"%PDF", "PDF"),
)


def load_picture(
    source: str | io.BytesIO,
    color_mode: ColorMode = "rgb",
    *,
    formats: Sequence[str] = FORMATS,
    exif_transpose: bool = False,
    background: tuple[int, int, int] | None = None,
) -> Image.Image:
    """Read a picture from a path or a BytesIO and convert it to 8 bits per channel: mode L, RGB or RGBA.

    `background` (R, G, B in 0..255) is laid under transparent pixels in modes `rgb` and `grayscale`. Raises OSError
    when the file cannot be opened, ImageFileError when it is not a picture this module accepts (see its table).
    """
    image, name = open_picture(source, formats)
    return decode_picture(image, name, color_mode, exif_transpose=exif_transpose, background=background)


def decode_picture(
    image: Image.Image,
    name: str,
    color_mode: ColorMode = "rgb",
    *,
    exif_transpose: bool = False,
    background: tuple[int, int, int] | None = None,
) -> Image.Image:
    """Decode what `open_picture` returned and convert it like `load_picture`; raises ImageFileError."""
    with _named_errors(name, image.format or "unknown"):
        image.load()
        return _to_eight_bits(image, color_mode, exif_transpose, background)


def open_picture(source: str | io.BytesIO, formats: Sequence[str] = FORMATS) -> tuple[Image.Image, str]:
    """Return the picture with its header read and checked but no pixel decoded, and its name for messages.

    Its `format` is the accepted format that was found. Raises like `load_picture`.
    """
    from PIL import Image, UnidentifiedImageError, WebPImagePlugin  # noqa: F401  (the plugin registers WEBP)

    if isinstance(source, io.BytesIO):
        name, data = "<bytes>", source.getvalue()
    else:
        name, data = source, read_regular_file(source)
    format = _signature(data)
    if not data:
        raise ImageFileError(name, "unknown", "the file is empty")
    try:
        with _named_errors(name, format):
            image = Image.open(io.BytesIO(data), formats=list(formats))
    except ImageFileError as error:
        if not isinstance(error.__cause__, UnidentifiedImageError):
            raise
        accepted = ", ".join(formats)
        if format in formats:
            reason = "the header cannot be read"
        elif format == "unknown":
            reason = f"not a picture in an accepted format ({accepted})"
        else:
            reason = f"the format is not accepted (accepted are {accepted})"
        raise ImageFileError(name, format, reason) from None
    if image.format == "MPO":  # a JPEG followed by more pictures; the first is the picture
        image.format = "JPEG"
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageFileError(
            name, image.format or format, f"{width} x {height} pixels are more than the limit of {MAX_PIXELS:,} pixels"
        )
    return image, name


@contextmanager
def _named_errors(name: str, format: str) -> Iterator[None]:
    """Turn whatever a decoder raises into ImageFileError: Pillow uses a dozen types for damaged data."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise ImageFileError(name, format, str(error) or type(error).__name__) from error


def read_regular_file(path: str) -> bytes:
    # Non-blocking, so that opening a FIFO returns at once.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ImageFileError(path, "unknown", f"not a regular file but {file_kind(status.st_mode)}")
        if status.st_size > MAX_BYTES:
            raise ImageFileError(
                path, "unknown", f"{status.st_size:,} bytes are more than the limit of {MAX_BYTES:,} bytes"
            )
        # As few calls as possible: each gives the interpreter lock away, and small pictures take little else.
        content = os.read(descriptor, status.st_size + 1)
        while len(content) != status.st_size and (more := os.read(descriptor, MAX_BYTES)):
            content += more
        return content
    finally:
        os.close(descriptor)


def _signature(data: bytes) -> str:
    for start, magic, format in _SIGNATURES:
        if data.startswith(magic, start):
            return format
    return "unknown"


def _to_eight_bits(
    image: Image.Image, color_mode: ColorMode, exif_transpose: bool, background: tuple[int, int, int] | None
) -> Image.Image:
    from PIL import Image

    turn = orientation(image) if exif_transpose else 1
    if image.mode == "F":
        raise ValueError("32-bit float pixels are not supported")
    if image.mode in SIXTEEN_BIT:
        wide = np.clip(np.asarray(image).astype(np.int32), 0, 65535)
        image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    mode = {"grayscale": "L", "rgb": "RGB", "rgba": "RGBA"}[color_mode]
    if mode != "RGBA":
        if background is not None and has_alpha(image):
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, (*background, 255)), image)
        # Transparency is dropped below in any case; converting it as well would only cost time and a warning.
        image.info.pop("transparency", None)
    if image.mode != mode:
        image = image.convert(mode)
    return _turned(image, turn)


def has_alpha(image: Image.Image) -> bool:
    """Return whether some pixels may be transparent: an alpha channel, or a transparent colour or palette entry."""
    return "A" in image.getbands() or "transparency" in image.info


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1..8 (TIFF 6.0); 1, upright, when there is none or it cannot be read."""
    try:
        value = image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # damaged EXIF data does not make the pixels unusable; Pillow raises many types for it
        return 1
    return value if value in range(1, 9) else 1


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    """Return the picture upright, by its EXIF orientation."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(orientation)
    return image if turn is None else image.transpose(turn)
