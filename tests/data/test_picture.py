"""The odd-image table: documented pixels, or an error that names path, format and reason."""

from __future__ import annotations

import io
import os
import pickle
import socket
import stat
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from fastcnn.data import picture
from fastcnn.data.folder import FORMATS, ImageFileError
from fastcnn.data.picture import load_picture, orientation

ENDINGS = {"JPEG": "jpg", "PNG": "png", "BMP": "bmp", "GIF": "gif", "PPM": "ppm", "WEBP": "webp"}


def colours(height: int = 6, width: int = 5) -> np.ndarray:
    """A picture of few colours, so that GIF keeps it exactly."""
    x = np.zeros((height, width, 3), dtype=np.uint8)
    x[:, : width // 2] = (200, 30, 60)
    x[: height // 2, width // 2 :] = (10, 220, 90)
    return x


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def pixels(data: bytes, color_mode: str = "rgb", **options: object) -> np.ndarray:
    return np.asarray(load_picture(io.BytesIO(data), color_mode, **options))  # type: ignore[arg-type]


def error(path: Path | bytes, **options: object) -> ImageFileError:
    source = io.BytesIO(path) if isinstance(path, bytes) else str(path)
    with pytest.raises(ImageFileError) as caught:
        load_picture(source, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert caught.value.path in text
    assert f"(format {caught.value.format})" in text
    assert caught.value.reason in text
    return caught.value


def png(width: int, height: int, bit_depth: int, color_type: int, rows: bytes) -> bytes:
    """A PNG file written chunk by chunk."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bit_depth, color_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


# Formats by content


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("ending", ["jpg", "png", "txt", ""])
def test_format_is_recognised_by_content(tmp_path: Path, format: str, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    path.write_bytes(encoded(Image.fromarray(colours()), format, **({"lossless": True} if format == "WEBP" else {})))
    x = np.asarray(load_picture(str(path)))
    assert x.dtype == np.uint8
    if format == "JPEG":
        assert x.shape == colours().shape
    else:
        np.testing.assert_array_equal(x, colours())


def test_tiff_is_read_on_request_only() -> None:
    data = encoded(Image.fromarray(colours()), "TIFF")
    np.testing.assert_array_equal(pixels(data, formats=("PNG", "TIFF")), colours())
    refused = error(data)
    assert refused.format == "TIFF"
    assert refused.reason == "the format is not accepted (accepted are JPEG, PNG, BMP, GIF, PPM, WEBP)"


def test_format_left_out_of_formats_is_refused() -> None:
    assert error(encoded(Image.fromarray(colours()), "PNG"), formats=("JPEG",)).format == "PNG"


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (b"8BPS\x00\x01" + bytes(60), "PSD"),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(60), "JPEG 2000"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "EPS"),
        (b"SIMPLE  =                    T" + bytes(60), "FITS"),
        (b"\x00\x00\x00\x20ftypavif" + bytes(60), "AVIF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unknown"),
        (b"this is no picture at all", "unknown"),
        (b"\x00", "unknown"),
    ],
)
def test_other_content_is_refused_and_named(tmp_path: Path, data: bytes, format: str) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    refused = error(path)
    assert refused.path == str(path)
    assert refused.format == format
    assert "accepted" in refused.reason


@pytest.mark.parametrize("format", ["EPS", "PSD", "FITS", "JPEG2000", "TIFF"])
def test_decoders_of_other_formats_never_run(monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    def never(*args: object) -> None:
        raise AssertionError(f"{format} was tried")

    Image.init()
    monkeypatch.setitem(Image.OPEN, format, (never, None))
    error(b"%!PS-Adobe-3.0 EPSF-3.0\n" + bytes(100))


# Kinds of pixels


def test_one_bit_and_gray_become_three_equal_channels() -> None:
    gray = np.arange(30, dtype=np.uint8).reshape(6, 5) * 8
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(gray), "PNG")), np.repeat(gray[:, :, None], 3, 2))
    one_bit = Image.fromarray(gray).convert("1")
    x = pixels(encoded(one_bit, "PNG"))
    np.testing.assert_array_equal(x, np.repeat(np.asarray(one_bit)[:, :, None] * np.uint8(255), 3, 2))
    assert set(np.unique(x)) == {0, 255}


def test_color_modes() -> None:
    data = encoded(Image.fromarray(colours()), "PNG")
    gray = pixels(data, "grayscale")
    luma = colours() @ np.array([0.299, 0.587, 0.114])
    assert gray.shape == (6, 5)
    assert np.abs(gray - luma).max() <= 1
    rgba = pixels(data, "rgba")
    np.testing.assert_array_equal(rgba[..., :3], colours())
    assert (rgba[..., 3] == 255).all()


def test_alpha_is_dropped_as_in_keras() -> None:
    alpha = np.full((6, 5, 1), 17, dtype=np.uint8)
    rgba = np.concatenate([colours(), alpha], axis=2)
    data = encoded(Image.fromarray(rgba), "PNG")
    np.testing.assert_array_equal(pixels(data), colours())
    np.testing.assert_array_equal(pixels(data, "rgba"), rgba)
    la = np.concatenate([colours()[:, :, :1], alpha], axis=2)
    np.testing.assert_array_equal(
        pixels(encoded(Image.fromarray(la), "PNG")), np.repeat(colours()[:, :, :1], 3, axis=2)
    )


@pytest.mark.parametrize("transparency", [0, b"\x00\x80\xff"])
def test_palette_transparency_is_dropped_without_a_warning(transparency: int | bytes) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8)).convert("L")
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    data = encoded(image, "PNG", transparency=transparency)
    assert pixels(data).tolist() == [[[200, 0, 0], [0, 200, 0], [0, 0, 200]]]
    assert pixels(data, "grayscale").shape == (1, 3)
    assert pixels(data, "rgba")[0, 0].tolist() == [200, 0, 0, 0]


def test_background_is_laid_under_transparent_pixels() -> None:
    rgba = np.array([[[100, 0, 0, 0], [100, 0, 0, 255], [100, 0, 0, 51]]], dtype=np.uint8)
    x = pixels(encoded(Image.fromarray(rgba), "PNG"), background=(0, 50, 250))
    assert x[0, 0].tolist() == [0, 50, 250]
    assert x[0, 1].tolist() == [100, 0, 0]
    assert np.abs(x[0, 2].astype(int) - [20, 40, 200]).max() <= 1
    opaque = encoded(Image.fromarray(colours()), "PNG")
    np.testing.assert_array_equal(pixels(opaque, background=(1, 2, 3)), colours())


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_cmyk_and_ycck_take_pillows_conversion(mode: str) -> None:
    image = Image.fromarray(colours()).convert(mode)
    data = encoded(image, "JPEG", quality=95)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(pixels(data), expected)
    assert np.abs(expected.astype(int).mean((0, 1)) - colours().mean((0, 1))).max() < 40


def test_sixteen_bit_gray_is_scaled_not_clipped() -> None:
    values = np.array([[0, 1, 128, 129, 257, 300, 32896, 65406, 65407, 65535]], dtype=np.uint16)
    expected = [0, 0, 0, 1, 1, 1, 128, 254, 255, 255]
    data = encoded(Image.fromarray(values), "PNG")
    assert pixels(data, "grayscale")[0].tolist() == expected
    assert pixels(data)[0].tolist() == [[value] * 3 for value in expected]
    pgm = b"P5 10 1 65535\n" + values.astype(">u2").tobytes()
    assert pixels(pgm, "grayscale")[0].tolist() == expected
    tiff = encoded(Image.fromarray(values), "TIFF")
    assert pixels(tiff, "grayscale", formats=("TIFF",))[0].tolist() == expected


def test_sixteen_bit_colour_keeps_the_upper_byte() -> None:
    row = struct.pack(">6H", 0x1234, 0xFF00, 0x00FF, 0xABCD, 0x8000, 0x7FFF)
    assert pixels(png(2, 1, 16, 2, b"\x00" + row)).tolist() == [[[0x12, 0xFF, 0x00], [0xAB, 0x80, 0x7F]]]


def test_float_pixels_are_refused() -> None:
    pfm = b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", 0.5, 1.5)
    assert error(pfm).reason == "32-bit float pixels are not supported"


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_animation_gives_the_first_frame(format: str) -> None:
    frames = [Image.fromarray(np.full((4, 4, 3), value, dtype=np.uint8)) for value in (40, 160, 240)]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=50, lossless=True)
    assert (pixels(data) == 40).all()


# EXIF


def exif_jpeg(value: int) -> bytes:
    x = np.zeros((16, 32, 3), dtype=np.uint8)
    x[:8, :16] = 250  # the upper left quarter
    exif = Image.Exif()
    exif[0x0112] = value
    return encoded(Image.fromarray(x), "JPEG", quality=100, exif=exif.tobytes())


@pytest.mark.parametrize("value", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_exif_orientation_is_ignored_unless_asked_for(value: int) -> None:
    data = exif_jpeg(value)
    plain = pixels(data)
    assert plain.shape == (16, 32, 3)
    assert plain[2, 2].min() > 200
    upright = pixels(data, exif_transpose=True)
    # Where the bright quarter of the stored picture belongs (TIFF 6.0, tag 274): (bottom, right).
    bottom, right = {2: (0, 1), 3: (1, 1), 4: (1, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}.get(value, (0, 0))
    height, width = (32, 16) if value in (5, 6, 7, 8) else (16, 32)
    assert upright.shape == (height, width, 3)
    bright = upright.min(axis=2) > 128
    expected = np.zeros((height, width), dtype=bool)
    top, left = bottom * height // 2, right * width // 2
    expected[top : top + height // 2, left : left + width // 2] = True
    np.testing.assert_array_equal(bright, expected)


def test_damaged_exif_means_upright() -> None:
    data = encoded(Image.fromarray(colours()), "PNG", exif=b"Exif\x00\x00garbage that is no TIFF header")
    np.testing.assert_array_equal(pixels(data, exif_transpose=True), colours())
    assert orientation(Image.open(io.BytesIO(data))) == 1


# Damage and limits


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.touch()
    assert error(path).reason == "the file is empty"


@pytest.mark.parametrize("format", FORMATS)
def test_truncated_file(format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), format)
    for length in (len(data) // 2, len(data) * 3 // 4):
        cut = error(data[:length])
        assert cut.format == format if format != "PPM" else cut.format in ("PPM", "unknown")
        assert cut.reason


@pytest.mark.parametrize("format", FORMATS)
def test_every_short_prefix_is_an_error(format: str) -> None:
    data = encoded(Image.fromarray(colours(20, 20)), format)
    for length in range(1, min(len(data), 60)):
        error(data[:length])


def test_load_truncated_images_is_never_touched() -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    error(encoded(Image.fromarray(noise), "JPEG")[:900])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize("format", FORMATS)
def test_garbage_after_the_end_is_ignored(format: str) -> None:
    data = encoded(Image.fromarray(colours()), format)
    np.testing.assert_array_equal(pixels(data + b"garbage" * 50), pixels(data))


@pytest.mark.parametrize("format", FORMATS)
def test_random_damage_is_an_error_or_a_picture(format: str) -> None:
    rng = np.random.default_rng(list(format.encode()))
    data = np.frombuffer(encoded(Image.fromarray(colours(16, 16)), format), dtype=np.uint8)
    outcomes = set()
    for _ in range(150):
        damaged = data.copy()
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(data))] = rng.integers(256)
        try:
            pixels(damaged.tobytes())
            outcomes.add("picture")
        except ImageFileError:
            outcomes.add("error")
    assert outcomes == {"picture", "error"}


@pytest.mark.parametrize(("width", "height"), [(8193, 8192), (2**26 + 1, 1), (20_000, 20_000)])
def test_decompression_bomb_is_refused_before_decoding(width: int, height: int) -> None:
    bomb = error(png(width, height, 8, 0, b""))
    assert bomb.format == "PNG"
    assert "pixels" in bomb.reason


def test_own_pixel_limit_lies_below_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    assert limit is not None
    assert limit > picture.MAX_PIXELS
    # The limit holds when the program has switched Pillow's off.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert error(png(20_000, 20_000, 8, 0, b"")).reason == (
        "20000 x 20000 pixels are more than the limit of 67,108,864 pixels"
    )


def test_file_above_the_byte_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    with path.open("wb") as file:
        file.truncate(picture.MAX_BYTES + 1)
    assert "bytes are more than the limit" in error(path).reason


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (20_000, 1), (1, 20_000)])
def test_thin_pictures(height: int, width: int) -> None:
    x = np.arange(height * width * 3, dtype=np.uint64).reshape(height, width, 3).astype(np.uint8)
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(x), "PNG")), x)


# Not regular files


def within(seconds: float, call: Callable[[], object]) -> None:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "still waiting for the file"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs mkfifo")
def test_fifo_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    os.mkfifo(path)
    reasons: list[str] = []
    within(5, lambda: reasons.append(error(path).reason))
    assert reasons == ["not a regular file but a FIFO"]


def test_folder_device_and_socket(tmp_path: Path) -> None:
    folder = tmp_path / "folder.jpg"
    folder.mkdir()
    assert error(folder).reason == "not a regular file but a folder"
    device = tmp_path / "device.jpg"
    device.symlink_to("/dev/zero")
    if stat.S_ISCHR(os.stat("/dev/zero").st_mode):
        assert error(device).reason == "not a regular file but a device"
    address = tmp_path / "s.jpg"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(address))
        with pytest.raises(OSError, match=r"s\.jpg"):
            load_picture(str(address))


def test_missing_file_and_dangling_link(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"x\.jpg"):
        load_picture(str(tmp_path / "x.jpg"))
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"link\.jpg"):
        load_picture(str(tmp_path / "link.jpg"))


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes(encoded(Image.fromarray(colours()), "PNG"))
    bad.write_bytes(good.read_bytes()[:40])
    load_picture(str(good))
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(20):
        load_picture(str(good))
        error(bad)
        error(tmp_path)
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before


def test_error_survives_pickling_and_prints_any_name() -> None:
    first = ImageFileError("/d/caf\udce9.jpg", "JPEG", "broken")
    again = pickle.loads(pickle.dumps(first))
    assert (again.path, again.format, again.reason) == (first.path, first.format, first.reason)
    assert str(again).encode("utf-8") == rb"picture '/d/caf\udce9.jpg' (format JPEG): broken"
    assert isinstance(again, ValueError)


def test_out_of_memory_stays_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(self: object, mode: str) -> None:
        raise MemoryError

    data = encoded(Image.fromarray(colours()), "PNG")
    monkeypatch.setattr(Image.Image, "convert", exhausted)
    with pytest.raises(MemoryError):
        pixels(data, "grayscale")
