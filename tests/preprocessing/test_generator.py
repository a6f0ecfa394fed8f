"""ImageDataGenerator: its transformations and normalisations against float64 formulas, and what it draws."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcnn import reference
from fastcnn.applications.imagenet_utils import preprocess_input
from fastcnn.preprocessing.image import ImageDataGenerator
from fastcnn.random import uniforms
from fastcnn.utils import set_random_seed

Array = NDArray[Any]
FILL_MODES = ("nearest", "constant", "reflect", "wrap")
WARP_GATE = 16  # as in tests/ops/test_warp.py


def picture(height: int = 9, width: int = 12, channels: int = 3, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(0, 255, (height, width, channels)).astype(np.float32)


def keras_matrix(p: dict[str, Any], height: int, width: int) -> Array:
    """Return Keras' map in float64, written out: rotation, shift, shear and zoom about the centre, x being rows."""
    theta, shear = np.deg2rad(p.get("theta", 0)), np.deg2rad(p.get("shear", 0))
    turn = np.array([[np.cos(theta), -np.sin(theta), 0], [np.sin(theta), np.cos(theta), 0], [0, 0, 1]])
    shift = np.array([[1, 0, p.get("tx", 0)], [0, 1, p.get("ty", 0)], [0, 0, 1]])
    lean = np.array([[1, -np.sin(shear), 0], [0, np.cos(shear), 0], [0, 0, 1]])
    stretch = np.diag([p.get("zx", 1), p.get("zy", 1), 1])
    centre = np.array([[1, 0, height / 2 - 0.5], [0, 1, width / 2 - 0.5], [0, 0, 1]])
    return (centre @ turn @ shift @ lean @ stretch @ np.linalg.inv(centre))[:2]


# -- geometry ----------------------------------------------------------------------------------------------------------

MAPS: list[dict[str, Any]] = [
    {"theta": 17.0},
    {"theta": -140.0},
    {"tx": 2.25, "ty": -3.25},
    {"shear": 25.0},
    {"zx": 0.6, "zy": 1.7},
    {"theta": 33.0, "tx": 1.5, "ty": -0.75, "shear": -12.0, "zx": 1.2, "zy": 0.8},
]


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("fill_mode", FILL_MODES)
@pytest.mark.parametrize("parameters", MAPS, ids=lambda p: "-".join(p))
def test_geometry_is_keras(parameters: dict[str, Any], fill_mode: str, order: int) -> None:
    x = picture()
    generator = ImageDataGenerator(fill_mode=fill_mode, cval=40.0, interpolation_order=order)
    y = generator.apply_transform(x, parameters)
    matrix = keras_matrix(parameters, *x.shape[:2])
    expected = reference.warp_forward(x, matrix, x.shape[:2], fill_mode, 40, bilinear=order == 1)
    assert y.dtype == np.float32
    if order == 1:
        S = reference.warp_magnitude(x, matrix, x.shape[:2], fill_mode, 40)
        assert reference.error_units(y, expected, S).max() <= WARP_GATE
    else:
        # a place half-way between two pixels may go to either
        places = np.stack(np.meshgrid(range(9), range(12), [1], indexing="ij"), -1)[:, :, 0] @ matrix.T
        decided = (np.abs(places % 1 - 0.5) > 1e-9).all(axis=-1)
        assert decided.mean() > 0.4
        assert np.array_equal(y[decided], expected[decided])


def test_directions() -> None:
    """Positive tx shows what lies below, positive theta turns clockwise, a zoom above 1 makes the picture smaller."""
    x = np.zeros((5, 5, 1), np.float32)
    x[1, 2] = 1
    generator = ImageDataGenerator(fill_mode="constant")
    assert generator.apply_transform(x, {"tx": 1})[0, 2] == 1
    assert generator.apply_transform(x, {"ty": 1})[1, 1] == 1
    assert generator.apply_transform(x, {"theta": 90})[2, 3] == pytest.approx(1)
    assert generator.apply_transform(np.ones((5, 5, 1), np.float32), {"zx": 2, "zy": 2}).sum() == 9


def test_flips_and_channel_shift() -> None:
    x = picture()
    generator = ImageDataGenerator()
    assert np.array_equal(generator.apply_transform(x, {"flip_horizontal": True}), x[:, ::-1])
    assert np.array_equal(generator.apply_transform(x, {"flip_vertical": True}), x[::-1])
    shifted = generator.apply_transform(x, {"channel_shift_intensity": 30.0})
    assert np.array_equal(shifted, np.clip(x + np.float32(30), x.min(), x.max()))
    assert np.array_equal(generator.apply_transform(x, {}), x)


def test_brightness() -> None:
    generator = ImageDataGenerator()
    x = picture(channels=4)
    y = generator.apply_transform(x, {"brightness": 1.5})
    expected = np.minimum(x.astype(np.float64)[..., :3] * 1.5, 255)
    assert np.abs(y[..., :3] - expected).max() <= 255 * 2**-23
    assert np.array_equal(y[..., 3], x[..., 3])
    # outside 0..255 the range is stretched to it, as Keras does
    x = np.array([-1.0, 0.0, 1.0, 3.0], np.float32).reshape(2, 2, 1)
    y = generator.apply_transform(x, {"brightness": 0.5})
    expected = (x.astype(np.float64) + 1) * 0.5 - 1
    assert np.abs(y - expected).max() <= 1e-6
    flat = np.full((2, 2, 1), -3, np.float32)
    assert np.array_equal(generator.apply_transform(flat, {"brightness": 0.5}), flat)


def test_the_order_is_geometry_channels_flips_brightness() -> None:
    x = picture()
    generator = ImageDataGenerator(fill_mode="reflect")
    parts = [{"theta": 20.0}, {"channel_shift_intensity": -50.0}, {"flip_horizontal": True}, {"brightness": 1.3}]
    expected = x
    for part in parts:
        expected = generator.apply_transform(expected, part)
    together: dict[str, Any] = {name: value for part in parts for name, value in part.items()}
    assert np.array_equal(generator.apply_transform(x, together), expected)
    with pytest.raises(ValueError, match="has no 'angle'; it knows theta, tx"):
        generator.apply_transform(x, {"angle": 3})


# -- what is drawn -----------------------------------------------------------------------------------------------------


def drawn(name: str, **arguments: Any) -> list[Any]:
    generator = ImageDataGenerator(**arguments)
    return [generator.get_random_transform((20, 40, 3), seed)[name] for seed in range(300)]


@pytest.mark.parametrize(
    ("name", "arguments", "low", "high"),
    [
        ("theta", {"rotation_range": 30}, -30, 30),
        ("shear", {"shear_range": 10.0}, -10, 10),
        ("zx", {"zoom_range": 0.2}, 0.8, 1.2),
        ("zy", {"zoom_range": [0.5, 3]}, 0.5, 3),
        ("tx", {"height_shift_range": 0.25}, -5, 5),
        ("ty", {"width_shift_range": 0.25}, -10, 10),
        ("ty", {"width_shift_range": 3.0}, -3, 3),
        ("channel_shift_intensity", {"channel_shift_range": 8.0}, -8, 8),
        ("brightness", {"brightness_range": (0.5, 2.0)}, 0.5, 2),
    ],
)
def test_ranges_are_filled(name: str, arguments: dict[str, Any], low: float, high: float) -> None:
    values = np.array(drawn(name, **arguments))
    assert low <= values.min() < low + 0.05 * (high - low)
    assert high - 0.05 * (high - low) < values.max() < high
    # of 300 uniform numbers the mean is within 4 standard errors
    assert abs(values.mean() - (low + high) / 2) < 4 * (high - low) / np.sqrt(12 * 300)


def test_shifts_by_whole_pixels_and_lists() -> None:
    assert set(drawn("tx", height_shift_range=3)) == {-2, -1, 0, 1, 2}
    assert set(drawn("tx", height_shift_range=1)) == {0}
    assert set(drawn("ty", width_shift_range=[2, -5])) == {-5, -2, 2, 5}
    assert set(drawn("ty", width_shift_range=(0.1, 0.25))) == {-10, -4, 4, 10}  # all below 1: shares of 40 pixels


def test_flips_are_fair_and_independent() -> None:
    generator = ImageDataGenerator(horizontal_flip=True, vertical_flip=True)
    seen = [generator.get_random_transform((4, 4, 3), seed) for seed in range(400)]
    for across in (False, True):
        for down in (False, True):
            count = sum(p["flip_horizontal"] == across and p["flip_vertical"] == down for p in seen)
            assert 60 < count < 140


def test_one_more_transformation_leaves_the_others_alone() -> None:
    few = ImageDataGenerator(rotation_range=30).get_random_transform((20, 40, 3), 7)
    many = ImageDataGenerator(
        rotation_range=30, width_shift_range=0.2, zoom_range=0.1, horizontal_flip=True
    ).get_random_transform((20, 40, 3), 7)
    assert few["theta"] == many["theta"] != 0


def test_random_transform_follows_from_the_seed() -> None:
    generator = ImageDataGenerator(rotation_range=90, brightness_range=(0.5, 1.5))
    x = picture()
    assert np.array_equal(generator.random_transform(x, seed=3), generator.random_transform(x, seed=3))
    assert not np.array_equal(generator.random_transform(x, seed=3), generator.random_transform(x, seed=4))
    set_random_seed(5)
    first = [generator.random_transform(x) for _ in range(2)]
    set_random_seed(5)
    assert np.array_equal(first, [generator.random_transform(x) for _ in range(2)])
    assert not np.array_equal(*first)


def test_uniforms_are_words_of_philox() -> None:
    a = uniforms(1000, "x", 1)
    assert np.array_equal(a, uniforms(1000, "x", 1))
    assert np.array_equal(a[:5], uniforms(5, "x", 1))
    assert 0 <= a.min() < 0.01 < 0.99 < a.max() < 1
    assert np.array_equal(a * 2**53, np.floor(a * 2**53))
    assert not np.array_equal(a, uniforms(1000, "x", 2))


# -- normalisation -----------------------------------------------------------------------------------------------------


def close(y: Array, expected: Array, scale: float = 1) -> bool:
    """Tell whether y is within 32 roundings of a number as large as `scale`."""
    return bool(np.abs(y - expected).max() <= 32 * scale * reference.UNIT_ROUNDOFF)


def test_standardize_in_keras_order() -> None:
    x = picture()
    before = x.copy()
    generator = ImageDataGenerator(
        preprocessing_function=lambda p: p + 10,
        rescale=1 / 255,
        samplewise_center=True,
        samplewise_std_normalization=True,
    )
    z = (x.astype(np.float64) + 10) / 255
    assert close(generator.standardize(x), (z - z.mean()) / (z.std() + 1e-6), 8)
    assert np.array_equal(x, before)
    assert generator.standardize(x.astype(np.uint8)).dtype == np.float32


def test_a_preprocessing_function_of_the_applications() -> None:
    x = picture()
    generator = ImageDataGenerator(preprocessing_function=preprocess_input)
    assert np.array_equal(generator.standardize(x), preprocess_input(x))


def test_featurewise_statistics() -> None:
    x = np.random.default_rng(1).uniform(0, 255, (20, 5, 4, 3))
    generator = ImageDataGenerator(featurewise_center=True, featurewise_std_normalization=True, rescale=1 / 255)
    generator.fit(x)
    z = x / 255
    mean, std = z.mean(axis=(0, 1, 2)), z.std(axis=(0, 1, 2))
    assert generator.mean is not None
    assert generator.std is not None
    assert generator.mean.shape == generator.std.shape == (1, 1, 3)
    y = generator.standardize(x[3])
    assert close(y, (z[3] - mean) / (std + 1e-6), 8)
    assert np.array_equal(generator.standardize(x)[3], y)


def test_zca_whitens() -> None:
    x = np.random.default_rng(2).normal(size=(200, 3, 3, 1)) @ np.ones((1, 1)) + np.linspace(0, 1, 9).reshape(3, 3, 1)
    x[:, 1] += x[:, 0]
    generator = ImageDataGenerator(featurewise_center=True, zca_whitening=True)
    generator.fit(x)
    white = generator.standardize(x).reshape(200, 9).astype(np.float64)
    # whitening is symmetric and makes the covariance the identity
    assert generator.zca_whitening_matrix is not None
    assert close(generator.zca_whitening_matrix, generator.zca_whitening_matrix.T, 8)
    centred = x - x.mean(axis=(0, 1, 2))
    assert np.abs(white.T @ white / 200 - np.eye(9)).max() < 1e-4
    assert close(white, (centred.reshape(200, 9)) @ generator.zca_whitening_matrix.astype(np.float64), 64)


def test_fit_can_augment() -> None:
    x = np.random.default_rng(1).uniform(0, 1, (3, 6, 6, 1))
    generator = ImageDataGenerator(featurewise_center=True, rotation_range=90, fill_mode="constant", cval=5)
    generator.fit(x)
    plain = generator.mean
    generator.fit(x, augment=True, rounds=4, seed=2)
    augmented = generator.mean
    generator.fit(x, augment=True, rounds=4, seed=2)
    assert plain is not None
    assert augmented is not None
    assert np.array_equal(augmented, generator.mean)
    assert augmented > plain + 0.1  # corners of 5 turned in


def test_what_is_implied_warns() -> None:
    for arguments, option, value in (
        ({"zca_whitening": True}, "featurewise_center", True),
        ({"featurewise_std_normalization": True}, "featurewise_center", True),
        ({"samplewise_std_normalization": True}, "samplewise_center", True),
    ):
        with pytest.warns(UserWarning, match=f"sets {option} to {value}"):
            generator = ImageDataGenerator(**arguments)
        assert getattr(generator, option) is value
    with pytest.warns(UserWarning, match="sets featurewise_std_normalization to False"):
        ImageDataGenerator(zca_whitening=True, featurewise_center=True, featurewise_std_normalization=True)


# -- arguments ---------------------------------------------------------------------------------------------------------


def test_signatures_are_keras() -> None:
    expected = {
        ImageDataGenerator.__init__: "featurewise_center=False, samplewise_center=False, "
        "featurewise_std_normalization=False, samplewise_std_normalization=False, zca_whitening=False, "
        "zca_epsilon=1e-06, rotation_range=0, width_shift_range=0.0, height_shift_range=0.0, brightness_range=None, "
        "shear_range=0.0, zoom_range=0.0, channel_shift_range=0.0, fill_mode='nearest', cval=0.0, "
        "horizontal_flip=False, vertical_flip=False, rescale=None, preprocessing_function=None, data_format=None, "
        "validation_split=0.0, interpolation_order=1, dtype=None",
        ImageDataGenerator.flow: "x, y=None, batch_size=32, shuffle=True, sample_weight=None, seed=None, "
        "save_to_dir=None, save_prefix='', save_format='png', ignore_class_split=False, subset=None",
        ImageDataGenerator.flow_from_directory: "directory, target_size=(256, 256), color_mode='rgb', classes=None, "
        "class_mode='categorical', batch_size=32, shuffle=True, seed=None, save_to_dir=None, save_prefix='', "
        "save_format='png', follow_links=False, subset=None, interpolation='nearest', keep_aspect_ratio=False",
    }
    for function, text in expected.items():
        parameters = list(inspect.signature(function).parameters.values())[1:]
        found = ", ".join(str(p.replace(annotation=inspect.Parameter.empty)) for p in parameters)
        assert found == text, function.__qualname__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fill_mode": "mirror"}, "fill_mode must be one of constant, nearest, reflect, wrap, got 'mirror'"),
        ({"interpolation_order": 3}, "interpolation_order must be 0 or 1, got 3"),
        ({"data_format": "channels_first"}, "data_format must be None or 'channels_last', got 'channels_first'"),
        ({"dtype": "float64"}, "dtype must be None or 'float32', got 'float64'"),
        ({"validation_split": 1}, "validation_split must be at least 0 and below 1, got 1"),
        ({"rotation_range": -3}, "rotation_range must not be negative, got -3"),
        ({"shear_range": "x"}, "shear_range must be a finite number, got 'x'"),
        ({"width_shift_range": []}, "width_shift_range must not be empty"),
        ({"width_shift_range": ["a"]}, "width_shift_range must be a finite number, got 'a'"),
        ({"zoom_range": 1}, "zoom_range must be below 1 or two numbers above 0, got 1"),
        ({"zoom_range": (1, 2, 3)}, "zoom_range must be two numbers, got (1, 2, 3)"),
        ({"brightness_range": 0.3}, "brightness_range must be two numbers, got 0.3"),
        ({"cval": float("nan")}, "cval must be a finite number, got nan"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"ImageDataGenerator: {message}")):
        ImageDataGenerator(**arguments)


def test_wrong_data_are_named() -> None:
    generator = ImageDataGenerator(featurewise_center=True)
    with pytest.raises(RuntimeError, match=re.escape("featurewise_center needs the generator's fit(x) first")):
        generator.standardize(picture())
    with pytest.raises(ValueError, match=re.escape("fit: x must be [N, H, W, C]")):
        generator.fit(picture())
    with pytest.raises(ValueError, match=r"fit: x must be one array .* differ in size"):
        generator.fit([picture(3, 4), picture(4, 3)])
    with pytest.raises(TypeError, match="fit: x must hold real numbers"):
        generator.fit(np.array([[[["a"]]]]))
    with pytest.warns(UserWarning, match="has 2 channels"):
        generator.fit(np.zeros((2, 3, 3, 2)))
    with pytest.raises(ValueError, match="rounds must be a positive integer, got 0"):
        generator.fit(np.zeros((2, 3, 3, 3)), augment=True, rounds=0)
    with pytest.raises(ValueError, match=re.escape("x must be one picture [H, W, C], got [3, 3]")):
        generator.random_transform(np.zeros((3, 3)))
    shrinking = ImageDataGenerator(preprocessing_function=lambda x: x[1:])
    with pytest.raises(ValueError, match="preprocessing_function must keep the shape"):
        shrinking.standardize(picture())
    with pytest.raises(TypeError, match="preprocessing_function must be callable"):
        ImageDataGenerator(preprocessing_function="tf")  # type: ignore[arg-type]
