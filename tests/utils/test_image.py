from __future__ import annotations

import inspect
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastcnn.data.folder import ImageFileError
from fastcnn.utils.image import array_to_img, img_to_array, load_img, save_img


def defaults(function: object) -> dict[str, object]:
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return {p.name: p.default for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD}


def test_signatures_are_those_of_keras() -> None:
    none = inspect.Parameter.empty
    assert defaults(load_img) == {
        "path": none,
        "color_mode": "rgb",
        "target_size": None,
        "interpolation": "nearest",
        "keep_aspect_ratio": False,
    }
    assert defaults(img_to_array) == {"img": none, "data_format": None, "dtype": None}
    assert defaults(array_to_img) == {"x": none, "data_format": None, "scale": True, "dtype": None}
    assert defaults(save_img) == {"path": none, "x": none, "data_format": None, "file_format": None, "scale": True}


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


@pytest.fixture
def path(tmp_path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(tmp_path / "x.png")
    return tmp_path / "x.png"


def test_load_img_takes_every_kind_of_path(path: Path, pixels: np.ndarray) -> None:
    for source in (path, str(path), str(path).encode(), io.BytesIO(path.read_bytes())):
        image = load_img(source)
        assert isinstance(image, Image.Image)
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_load_img_color_modes(path: Path) -> None:
    assert [load_img(path, mode).mode for mode in ("grayscale", "rgb", "rgba")] == ["L", "RGB", "RGBA"]


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "hamming", "box", "lanczos"])
def test_load_img_resizes_as_pillow_does(path: Path, interpolation: str) -> None:
    method = Image.Resampling[interpolation.upper()]
    expected = Image.open(path).resize((7, 5), method)
    np.testing.assert_array_equal(load_img(path, target_size=(5, 7), interpolation=interpolation), expected)
    # 12 x 20 pixels to a square: columns 4 to 15
    expected = Image.open(path).resize((6, 6), method, box=(4, 0, 16, 12))
    got = load_img(path, target_size=(6, 6), interpolation=interpolation, keep_aspect_ratio=True)
    np.testing.assert_array_equal(got, expected)


def test_load_img_of_the_target_size_is_untouched(path: Path, pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(load_img(path, target_size=(12, 20), interpolation="lanczos"), pixels)


def test_load_img_follows_the_picture_policy(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 65535]], dtype=np.uint16)).save(tmp_path / "wide.png")
    assert np.asarray(load_img(tmp_path / "wide.png", "grayscale")).tolist() == [[0, 255]]
    (tmp_path / "text.jpg").write_text("text")
    with pytest.raises(ImageFileError, match=r"text\.jpg' \(format unknown\): not a picture in an accepted format"):
        load_img(tmp_path / "text.jpg")
    with pytest.raises(FileNotFoundError, match=r"no\.jpg"):
        load_img(tmp_path / "no.jpg")


def test_load_img_wrong_arguments(path: Path) -> None:
    with pytest.raises(ValueError, match=r"load_img: color_mode must be one of \('grayscale', .*got 'bgr'"):
        load_img(path, "bgr")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"load_img: interpolation must be one of \('nearest', .*got 'area'"):
        load_img(path, interpolation="area")
    with pytest.raises(TypeError, match=r"load_img: path must be a path or io\.BytesIO, got int"):
        load_img(3)  # type: ignore[arg-type]
    for wrong in ((5,), (0, 5), (5, 5.5), 5):
        with pytest.raises(ValueError, match=r"load_img: target_size must be \(height, width\)"):
            load_img(path, target_size=wrong)  # type: ignore[arg-type]


def test_img_to_array(path: Path, pixels: np.ndarray) -> None:
    x = img_to_array(load_img(path))
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, pixels)
    np.testing.assert_array_equal(img_to_array(load_img(path), "channels_first"), pixels.transpose(2, 0, 1))
    assert img_to_array(load_img(path), dtype="uint8").dtype == np.uint8
    assert img_to_array(load_img(path, "grayscale")).shape == (12, 20, 1)
    assert img_to_array(load_img(path, "grayscale"), "channels_first").shape == (1, 12, 20)
    with pytest.raises(ValueError, match=r"img_to_array: img must have 2 or 3 axes, got 1 \(shape \[4\]\)"):
        img_to_array(np.zeros(4))
    with pytest.raises(ValueError, match="img_to_array: data_format must be"):
        img_to_array(np.zeros((4, 4)), "NHWC")


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_array_to_img_and_back(channels: int, mode: str) -> None:
    x = np.random.default_rng(1).integers(0, 256, (5, 6, channels)).astype(np.float32)
    image = array_to_img(x, scale=False)
    assert image.mode == mode
    np.testing.assert_array_equal(img_to_array(image), x)
    first = array_to_img(x.transpose(2, 0, 1), data_format="channels_first", scale=False)
    np.testing.assert_array_equal(img_to_array(first), x)


def test_array_to_img_scales_to_the_full_range() -> None:
    x = np.array([[[-1.0], [0.0], [3.0]]])
    assert np.asarray(array_to_img(x)).tolist() == [[0, 63, 255]]  # 63.75 is cut off
    assert x.ravel().tolist() == [-1, 0, 3]
    assert np.asarray(array_to_img(np.full((2, 2, 1), 7.0))).max() == 0


def test_array_to_img_without_scale_clips() -> None:
    x = np.array([[[-5.0, 10.9, 300.0]]])
    assert np.asarray(array_to_img(x, scale=False)).tolist() == [[[0, 10, 255]]]
    wide = array_to_img(np.array([[[1000.0]]]), scale=False)
    assert wide.mode == "I"
    assert np.asarray(wide).tolist() == [[1000]]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((4, 4)), r"x must have 3 axes, got 2 \(shape \[4, 4\]\)"),
        (np.zeros((4, 4, 2)), r".* 1, 3 or 4 channels and at least one pixel, got shape \[4, 4, 2\]"),
        (np.zeros((0, 4, 3)), r".* at least one pixel, got shape \[0, 4, 3\]"),
        (np.full((2, 2, 3), np.nan), "x must be finite, got NaN or infinity"),
    ],
)
def test_array_to_img_wrong_arrays(x: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=f"array_to_img: {message}"):
        array_to_img(x)


def test_save_img(tmp_path: Path, pixels: np.ndarray) -> None:
    save_img(tmp_path / "y.png", pixels, scale=False)
    np.testing.assert_array_equal(img_to_array(load_img(tmp_path / "y.png")), pixels)
    buffer = io.BytesIO()
    save_img(buffer, pixels, file_format="jpg", quality=30)
    assert Image.open(buffer).format == "JPEG"
    small = len(buffer.getvalue())
    save_img(tmp_path / "z.JPG", pixels, quality=100)
    assert (tmp_path / "z.JPG").stat().st_size > small


def test_save_img_drops_alpha_for_jpeg_with_a_warning(tmp_path: Path, pixels: np.ndarray) -> None:
    rgba = np.concatenate([pixels, pixels[:, :, :1]], axis=2)
    with pytest.warns(UserWarning, match="save_img: JPEG has no alpha channel"):
        save_img(tmp_path / "y.jpg", rgba)
    assert load_img(tmp_path / "y.jpg").mode == "RGB"
    save_img(tmp_path / "y.png", rgba, scale=False)
    np.testing.assert_array_equal(np.asarray(load_img(tmp_path / "y.png", "rgba")), rgba)
