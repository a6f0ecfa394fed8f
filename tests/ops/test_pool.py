"""Pooling and zero padding against the float64 reference, on every instruction set, channel tail and thread count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcnn import _core, reference

Array = NDArray[Any]
Padding = tuple[tuple[int, int], tuple[int, int]]
NAN, INF = np.nan, np.inf
NONE: Padding = ((0, 0), (0, 0))

# N H W, pool_size, strides, padding
ROWS: dict[str, tuple[tuple[int, int, int], tuple[int, int], tuple[int, int], Padding]] = {
    "vgg": ((2, 8, 6), (2, 2), (2, 2), NONE),
    "odd-size": ((1, 7, 9), (2, 2), (2, 2), NONE),
    "resnet": ((2, 9, 8), (3, 3), (2, 2), ((1, 1), (1, 1))),
    "keras-same": ((1, 8, 8), (3, 3), (2, 2), ((0, 1), (0, 1))),
    "overlapping": ((1, 6, 7), (3, 3), (1, 1), ((1, 1), (1, 1))),
    "strides-differ": ((2, 7, 8), (3, 2), (2, 3), ((2, 0), (1, 0))),
    "gaps": ((1, 8, 9), (2, 2), (3, 4), NONE),
    "top": ((1, 5, 5), (3, 3), (2, 2), ((2, 0), (0, 0))),
    "bottom": ((1, 5, 5), (3, 3), (2, 2), ((0, 2), (0, 0))),
    "left": ((1, 5, 5), (3, 3), (2, 2), ((0, 0), (2, 0))),
    "right": ((1, 5, 5), (3, 3), (2, 2), ((0, 0), (0, 2))),
    "one-pixel": ((3, 1, 1), (3, 3), (1, 1), ((1, 1), (1, 1))),
    "one-place": ((1, 4, 3), (1, 1), (1, 1), NONE),
    "one-output": ((2, 4, 5), (4, 5), (2, 2), NONE),
    "one-output-column": ((1, 6, 3), (2, 3), (2, 4), NONE),
    "most-places": ((1, 16, 16), (16, 16), (1, 1), NONE),
    "no-images": ((0, 4, 4), (2, 2), (2, 2), NONE),
}
THREADED = {  # enough work for all threads; rows that no thread count divides
    "vgg-large": ((3, 30, 30), (2, 2), (2, 2), NONE),
    "resnet-large": ((2, 33, 35), (3, 3), (2, 2), ((1, 1), (1, 1))),
}


def channels() -> list[int]:
    lanes = _core.lanes()
    return sorted({1, 3, lanes - 1, lanes, lanes + 1, 33})


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def tied(*shape: int, seed: int = 0) -> Array:
    """Few different values, so that many windows hold their maximum more than once."""
    return np.random.default_rng(seed).integers(-2, 3, shape).astype(np.float32)


def cases() -> list[Any]:
    return [pytest.param(*row, id=name) for name, row in (ROWS | THREADED).items()]


def widths(row: tuple[int, int, int]) -> list[int]:
    return [48] if row[1] >= 30 else channels()


def within(y: Array, r: Array, S: Array, terms: int) -> bool:
    return bool(np.all(reference.error_units(y, r, S) <= reference.gate(terms)))


@pytest.mark.parametrize(("image", "pool", "strides", "padding"), cases())
def test_max_pool2d(
    isa: str,
    out: Callable[..., Array],
    on_threads: Callable[..., Any],
    image: tuple[int, int, int],
    pool: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding,
) -> None:
    for C in widths(image):
        x = tied(*image, C)
        y, argmax = reference.max_pool_forward(x, pool, strides, padding)
        dy, before = normal(*y.shape, seed=1), normal(*x.shape, seed=2)
        options = {"pool_size": pool, "strides": strides, "padding": padding}

        def run(x: Array = x, dy: Array = dy, before: Array = before, options: Any = options) -> tuple[Array, ...]:
            alone, with_places, places = out(dy.shape), out(dy.shape), out(dy.shape, np.uint8)
            _core.max_pool2d_forward(x, alone, **options)
            _core.max_pool2d_forward(x, with_places, argmax=places, **options)
            assert alone.tobytes() == with_places.tobytes()
            dx, added = out(x.shape), out(before)
            _core.max_pool2d_backward(dy, places, dx, **options)
            _core.max_pool2d_backward(dy, places, added, accumulate=True, **options)
            return alone, places, dx, added

        got_y, places, dx, added = on_threads(run)
        assert np.array_equal(got_y, y)
        assert np.array_equal(places, argmax)
        r = reference.max_pool_backward(dy, argmax, x.shape, pool, strides, padding)
        S = reference.max_pool_backward(np.abs(dy), argmax, x.shape, pool, strides, padding)
        assert within(dx, r, S, pool[0] * pool[1])
        assert within(added, before + r, np.abs(before) + S, pool[0] * pool[1] + 1)


@pytest.mark.parametrize(("image", "pool", "strides", "padding"), cases())
def test_average_pool2d(
    isa: str,
    out: Callable[..., Array],
    on_threads: Callable[..., Any],
    image: tuple[int, int, int],
    pool: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding,
) -> None:
    terms = pool[0] * pool[1]
    for C in widths(image):
        x = normal(*image, C)
        y = reference.average_pool_forward(x, pool, strides, padding)
        dy, before = normal(*y.shape, seed=1), normal(*x.shape, seed=2)
        options = {"pool_size": pool, "strides": strides, "padding": padding}

        def run(x: Array = x, dy: Array = dy, before: Array = before, options: Any = options) -> tuple[Array, ...]:
            got, dx, added = out(dy.shape), out(x.shape), out(before)
            _core.average_pool2d_forward(x, got, **options)
            _core.average_pool2d_backward(dy, dx, **options)
            _core.average_pool2d_backward(dy, added, accumulate=True, **options)
            return got, dx, added

        got, dx, added = on_threads(run)
        assert within(got, y, reference.average_pool_forward(np.abs(x), pool, strides, padding), terms)
        r = reference.average_pool_backward(dy, x.shape, pool, strides, padding)
        S = reference.average_pool_backward(np.abs(dy), x.shape, pool, strides, padding)
        assert within(dx, r, S, terms)
        assert within(added, before + r, np.abs(before) + S, terms + 1)


IMAGES = [(2, 7, 7), (1, 1, 1), (3, 5, 1), (1, 20, 13), (0, 2, 2), (5, 14, 14)]


@pytest.mark.parametrize("image", IMAGES, ids=lambda i: "x".join(map(str, i)))
def test_global_average_pool2d(
    isa: str, out: Callable[..., Array], on_threads: Callable[..., Any], image: tuple[int, int, int]
) -> None:
    pixels = image[1] * image[2]
    for C in [*channels(), 4 * _core.lanes(), 4 * _core.lanes() + 1, 129]:
        x = normal(*image, C) + 1  # sums that grow
        dy, before = normal(image[0], C, seed=1), normal(*x.shape, seed=2)

        def run(x: Array = x, dy: Array = dy, before: Array = before) -> tuple[Array, ...]:
            y, dx, added = out(dy.shape), out(x.shape), out(before)
            _core.global_average_pool2d_forward(x, y)
            _core.global_average_pool2d_backward(dy, dx)
            _core.global_average_pool2d_backward(dy, added, accumulate=True)
            return y, dx, added

        y, dx, added = on_threads(run)
        r = reference.global_average_pool_forward(x)
        assert within(y, r, reference.global_average_pool_forward(np.abs(x)), pixels)
        r = reference.global_average_pool_backward(dy, x.shape)
        assert within(dx, r, np.abs(r), 1)
        assert within(added, before + r, np.abs(before) + np.abs(r), 2)


@pytest.mark.parametrize("image", IMAGES, ids=lambda i: "x".join(map(str, i)))
def test_global_max_pool2d(
    isa: str, out: Callable[..., Array], on_threads: Callable[..., Any], image: tuple[int, int, int]
) -> None:
    for C in [*channels(), 4 * _core.lanes(), 4 * _core.lanes() + 1, 129]:
        x = tied(*image, C)
        y, argmax = reference.global_max_pool_forward(x)
        dy, before = normal(*y.shape, seed=1), normal(*x.shape, seed=2)

        def run(x: Array = x, dy: Array = dy, before: Array = before) -> tuple[Array, ...]:
            alone, with_places, places = out(dy.shape), out(dy.shape), out(dy.shape, np.int64)
            _core.global_max_pool2d_forward(x, alone)
            _core.global_max_pool2d_forward(x, with_places, argmax=places)
            assert alone.tobytes() == with_places.tobytes()
            dx, added = out(x.shape), out(before)
            _core.global_max_pool2d_backward(dy, places, dx)
            _core.global_max_pool2d_backward(dy, places, added, accumulate=True)
            return alone, places, dx, added

        got_y, places, dx, added = on_threads(run)
        assert np.array_equal(got_y, y)
        assert np.array_equal(places, argmax)
        r = reference.global_max_pool_backward(dy, argmax, x.shape)
        assert np.array_equal(dx, r)
        assert np.array_equal(added, before + r.astype(np.float32))


def test_averages_of_equal_values_are_exact(isa: str, out: Callable[..., Array]) -> None:
    x = np.full((1, 7, 7, 33), 3.0, np.float32)
    y, windows = out((1, 33)), out((1, 7, 7, 33))
    _core.global_average_pool2d_forward(x, y)
    _core.average_pool2d_forward(x, windows, pool_size=(3, 3), strides=(1, 1), padding=((1, 1), (1, 1)))
    assert np.all(y == 3)
    assert np.all(windows == 3)  # padding is not counted


def test_global_average_of_many_equal_pixels_stays_accurate(isa: str, out: Callable[..., Array]) -> None:
    x = np.full((1, 224, 224, 3), 0.1, np.float32)  # rounds the same way at each addition
    y = out((1, 3))
    _core.global_average_pool2d_forward(x, y)
    assert within(y, reference.global_average_pool_forward(x), reference.global_average_pool_forward(x), 224 * 224)


@pytest.mark.parametrize("padding", [NONE, ((1, 1), (1, 1)), ((3, 0), (0, 2)), ((0, 1), (4, 0))])
def test_zero_pad2d(isa: str, out: Callable[..., Array], on_threads: Callable[..., Any], padding: Padding) -> None:
    for image in [(2, 5, 4), (1, 1, 1), (0, 2, 2), (3, 31, 30)]:
        for C in widths(image):
            x = normal(*image, C)
            expected = reference.zero_pad_forward(x, padding)
            dy, before = normal(*expected.shape, seed=1), normal(*x.shape, seed=2)

            def run(x: Array = x, dy: Array = dy, before: Array = before) -> tuple[Array, ...]:
                y, dx, added = out(dy.shape), out(x.shape), out(before)
                _core.zero_pad2d_forward(x, y, padding=padding)
                _core.zero_pad2d_backward(dy, dx, padding=padding)
                _core.zero_pad2d_backward(dy, added, padding=padding, accumulate=True)
                return y, dx, added

            y, dx, added = on_threads(run)
            assert np.array_equal(y, expected)
            r = reference.zero_pad_backward(dy, padding)
            assert np.array_equal(dx, r)
            assert np.array_equal(added, before + r.astype(np.float32))


# A window of four values, and the place and value that win.
WINDOWS: list[tuple[list[float], int, float]] = [
    ([NAN, 1, 2, 3], 0, NAN),
    ([1, 2, 3, NAN], 3, NAN),
    ([INF, NAN, NAN, 1], 1, NAN),
    ([NAN, INF, 1, 1], 0, NAN),
    ([-INF, -INF, -INF, -INF], 0, -INF),
    ([-INF, -INF, -3.4e38, -INF], 2, -3.4e38),
    ([-INF, -INF, NAN, -INF], 2, NAN),
    ([1, INF, INF, 2], 1, INF),
    ([5, 5, 5, 5], 0, 5),
    ([-0.0, 0.0, 0.0, 0.0], 0, -0.0),
    ([-1e-45, 1e-45, 0, 0], 1, 1e-45),
]


@pytest.mark.parametrize(("values", "place", "value"), WINDOWS)
def test_maxima_of_special_values_at_every_place_of_every_width(
    isa: str, out: Callable[..., Array], values: list[float], place: int, value: float
) -> None:
    for C in range(1, 34):
        for c in {0, C // 2, C - 1}:
            x = np.zeros((1, 2, 2, C), np.float32)
            x[0, 0, 1] = 1  # elsewhere place 1 wins
            x[0, :, :, c] = np.reshape(values, (2, 2))
            y, argmax, alone = out((1, 1, 1, C)), out((1, 1, 1, C), np.uint8), out((1, 1, 1, C))
            _core.max_pool2d_forward(x, y, pool_size=(2, 2), strides=(2, 2), argmax=argmax)
            _core.max_pool2d_forward(x, alone, pool_size=(2, 2), strides=(2, 2))
            whole, pixels, whole_alone = out((1, C)), out((1, C), np.int64), out((1, C))
            _core.global_max_pool2d_forward(x, whole, argmax=pixels)
            _core.global_max_pool2d_forward(x, whole_alone)
            expected, places = np.ones(C, np.float32), np.ones(C, np.uint8)
            expected[c], places[c] = value, place
            for result in (y, alone, whole, whole_alone):
                assert np.array_equal(result.ravel(), expected, equal_nan=True)
                assert np.signbit(result.ravel()[c]) == np.signbit(np.float32(value)) or np.isnan(value)
            assert np.array_equal(argmax.ravel(), places)
            assert np.array_equal(pixels.ravel(), places)


def test_max_pool2d_padding_never_wins(isa: str, out: Callable[..., Array]) -> None:
    x = np.full((1, 3, 3, 33), -INF, np.float32)
    options: Any = {"pool_size": (3, 3), "strides": (2, 2), "padding": ((1, 1), (1, 1))}
    y, argmax, dx = out((1, 2, 2, 33)), out((1, 2, 2, 33), np.uint8), out(x.shape)
    _core.max_pool2d_forward(x, y, argmax=argmax, **options)
    assert np.all(y == -INF)
    assert argmax[0, :, :, 0].tolist() == [[4, 3], [1, 0]]  # the first place inside the image
    _core.max_pool2d_backward(np.ones_like(y), argmax, dx, **options)
    assert dx[0, :, :, 32].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_max_pool2d_backward_of_places_outside_the_window(isa: str, out: Callable[..., Array]) -> None:
    dx = out((1, 4, 4, 9))
    places = np.full((1, 2, 2, 9), 255, np.uint8)
    _core.max_pool2d_backward(np.ones((1, 2, 2, 9), np.float32), places, dx, pool_size=(2, 2), strides=(2, 2))
    assert np.all(dx == 0)


@pytest.mark.parametrize("place", [-1, 4, -(2**63), 2**63 - 1])
def test_global_max_pool2d_backward_of_places_outside_the_image(
    isa: str, out: Callable[..., Array], place: int
) -> None:
    dx = out((2, 2, 2, 9))
    _core.global_max_pool2d_backward(np.ones((2, 9), np.float32), np.full((2, 9), place, np.int64), dx)
    assert np.all(dx == 0)


@pytest.mark.parametrize("value", [NAN, INF, -INF, 3e38, 1e-45])
def test_average_pool2d_special_values(isa: str, out: Callable[..., Array], value: float) -> None:
    for C in range(1, 34):
        x = np.zeros((1, 2, 2, C), np.float32)
        x[0, 1, 0, C - 1] = value
        y, whole, dx = out((1, 1, 1, C)), out((1, C)), out(x.shape)
        _core.average_pool2d_forward(x, y, pool_size=(2, 2), strides=(2, 2))
        _core.global_average_pool2d_forward(x, whole)
        expected = reference.average_pool_forward(x, (2, 2)).astype(np.float32)
        assert np.array_equal(y, expected, equal_nan=True)
        assert np.array_equal(whole, expected[:, 0, 0], equal_nan=True)
        _core.average_pool2d_backward(x[:, 1:, :1], dx, pool_size=(2, 2), strides=(2, 2))
        expected = reference.average_pool_backward(x[:, 1:, :1], x.shape, (2, 2)).astype(np.float32)
        assert np.array_equal(dx, expected, equal_nan=True)


X, Y = (1, 5, 5, 3), (1, 2, 2, 3)
WINDOW: dict[str, Any] = {"pool_size": (3, 3), "strides": (2, 2), "padding": NONE}
WALL: dict[str, tuple[dict[str, Any], set[str]]] = {
    "max_pool2d_forward": (
        {"x": normal(*X), "y": normal(*Y), "argmax": np.zeros(Y, np.uint8), **WINDOW},
        {"y", "argmax"},
    ),
    "max_pool2d_backward": ({"dy": normal(*Y), "argmax": np.zeros(Y, np.uint8), "dx": normal(*X), **WINDOW}, {"dx"}),
    "average_pool2d_forward": ({"x": normal(*X), "y": normal(*Y), **WINDOW}, {"y"}),
    "average_pool2d_backward": ({"dy": normal(*Y), "dx": normal(*X), **WINDOW}, {"dx"}),
    "global_average_pool2d_forward": ({"x": normal(*X), "y": normal(1, 3)}, {"y"}),
    "global_average_pool2d_backward": ({"dy": normal(1, 3), "dx": normal(*X)}, {"dx"}),
    "global_max_pool2d_forward": (
        {"x": normal(*X), "y": normal(1, 3), "argmax": np.zeros((1, 3), np.int64)},
        {"y", "argmax"},
    ),
    "global_max_pool2d_backward": (
        {"dy": normal(1, 3), "argmax": np.zeros((1, 3), np.int64), "dx": normal(*X)},
        {"dx"},
    ),
    "zero_pad2d_forward": ({"x": normal(*X), "y": normal(1, 7, 7, 3), "padding": ((1, 1), (1, 1))}, {"y"}),
    "zero_pad2d_backward": ({"dy": normal(1, 7, 7, 3), "dx": normal(*X), "padding": ((1, 1), (1, 1))}, {"dx"}),
}
POOLS = [op for op in WALL if "pool_size" in WALL[op][0]]


@pytest.mark.parametrize("op", WALL)
def test_wall(op: str, wall: Callable[..., None]) -> None:
    wall(op, *WALL[op])


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"pool_size": (0, 3)}, r"pool_size must be 1 or more but is \(0, 3\)"),
    ({"pool_size": (3, -1)}, r"pool_size must be 1 or more but is \(3, -1\)"),
    ({"pool_size": (2**62, 3)}, r"pool_size must be 1 or more"),
    ({"pool_size": (6, 3)}, r"pool_size 6 exceeds the 5 rows of the padded x"),
    ({"pool_size": (3, 6)}, r"pool_size 6 exceeds the 5 columns of the padded x"),
    ({"strides": (0, 1)}, r"strides must be 1 or more but is \(0, 1\)"),
    ({"strides": (1, 2**62)}, r"strides must be 1 or more"),
    ({"padding": ((-1, 0), (0, 0))}, r"padding must be 0 or more but is \(-1, 0\)"),
    ({"padding": ((0, 0), (0, 2**62))}, r"padding must be 0 or more"),
    ({"padding": ((3, 0), (0, 0))}, r"padding \(3, 0\) of the rows must be less than pool_size 3"),
    ({"padding": ((0, 0), (0, 3))}, r"padding \(0, 3\) of the columns must be less than pool_size 3"),
]


@pytest.mark.parametrize("op", POOLS)
@pytest.mark.parametrize(("wrong", "sentence"), OPTIONS)
def test_wrong_options(op: str, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{op}: {sentence}"):
        getattr(_core, op)(**{**WALL[op][0], **wrong})


@pytest.mark.parametrize("op", POOLS)
def test_huge_strides_make_one_window(op: str) -> None:
    arguments = {**WALL[op][0], "strides": (2**31 - 1, 2**31 - 1)}
    for name in {"y", "dy", "argmax"} & set(arguments):
        arguments[name] = np.zeros((1, 1, 1, 3), arguments[name].dtype)
    getattr(_core, op)(**arguments)


def test_places_beyond_one_byte() -> None:
    x, y = normal(1, 17, 16, 1), normal(1, 1, 1, 1)
    sentence = r"argmax holds up to 256 places but pool_size is \(17, 16\)"
    with pytest.raises(ValueError, match=f"^max_pool2d_forward: {sentence}"):
        _core.max_pool2d_forward(x, y, pool_size=(17, 16), strides=(1, 1), argmax=np.zeros(y.shape, np.uint8))
    with pytest.raises(ValueError, match=f"^max_pool2d_backward: {sentence}"):
        _core.max_pool2d_backward(y, np.zeros(y.shape, np.uint8), x, pool_size=(17, 16), strides=(1, 1))
    _core.max_pool2d_forward(x, y, pool_size=(17, 16), strides=(1, 1))
    assert y.item() == x.max()


def test_images_without_pixels() -> None:
    empty = np.zeros((1, 0, 4, 2), np.float32)
    with pytest.raises(ValueError, match=r"^global_average_pool2d_forward: x has no pixels"):
        _core.global_average_pool2d_forward(empty, np.zeros((1, 2), np.float32))
    with pytest.raises(ValueError, match=r"^global_max_pool2d_forward: x has no pixels \(x is \[1, 0, 4, 2\]\)"):
        _core.global_max_pool2d_forward(empty, np.zeros((1, 2), np.float32))
    with pytest.raises(ValueError, match=r"^global_max_pool2d_backward: dx has no pixels"):
        _core.global_max_pool2d_backward(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.int64), empty)
    with pytest.raises(ValueError, match=r"^max_pool2d_forward: x has no rows"):
        _core.max_pool2d_forward(empty, empty, pool_size=(3, 1), strides=(1, 1), padding=((2, 2), (0, 0)))


def test_global_max_pool2d_of_too_many_pixels() -> None:
    huge, y = np.zeros((0, 2**16, 2**15, 1), np.float32), np.zeros((0, 1), np.float32)
    sentence = r"must have fewer than 2\^31 pixels but is \[0, 65536, 32768, 1\]"
    with pytest.raises(ValueError, match=rf"^global_max_pool2d_forward: x {sentence}"):
        _core.global_max_pool2d_forward(huge, y)
    with pytest.raises(ValueError, match=rf"^global_max_pool2d_backward: dx {sentence}"):
        _core.global_max_pool2d_backward(y, np.zeros((0, 1), np.int64), huge)


def test_zero_pad2d_wrong_padding() -> None:
    with pytest.raises(ValueError, match=r"^zero_pad2d_forward: padding must be 0 or more but is \(-1, 0\)"):
        _core.zero_pad2d_forward(normal(*X), normal(1, 4, 5, 3), padding=((-1, 0), (0, 0)))
    with pytest.raises(ValueError, match=r"^zero_pad2d_backward: dy must be \[1, 5, 6, 3\] but is \[1, 5, 5, 3\]"):
        _core.zero_pad2d_backward(normal(*X), normal(*X), padding=((0, 0), (0, 1)))
