"""Convolution with what float32 holds at its edges: NaN and infinities, denormals, any magnitude, huge steps."""

from __future__ import annotations

import numpy as np
import pytest
from conv_cases import (
    ConvCase,
    check_special,
    check_statistics,
    expected_backward_data,
    expected_backward_weights,
    expected_forward,
    integers,
    normal,
)
from verdict import Array, each_isa

from fastcnn import _core, reference

ONE = ((1, 1), (1, 1))


# -- special values ----------------------------------------------------------------------------------------------------

SPECIAL = np.array([np.nan, np.inf, -np.inf], np.float32)
WIDTHS = range(1, 34)
MAP = (7, 5)  # pixels enough for tile registers
SHAPES = {"3x3": (3, ONE), "1x1": (1, ((0, 0), (0, 0)))}


def nonzero(rng: np.random.Generator, *shape: int) -> Array:
    return (np.sign(rng.standard_normal(shape)) * rng.uniform(0.5, 2, shape)).astype(np.float32)


def with_special(rng: np.random.Generator, images: int, *shape: int) -> Array:
    """Return finite images [N,H,W,C], image i with special value i // C at channel i % C of some pixel."""
    H, W, C = shape
    x = nonzero(rng, images, H, W, C)
    for i in range(images):
        x[i, i % H, i % W, i % C] = SPECIAL[i // C]
    return x


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_special_values_in_images(width: int, shape: str) -> None:
    window, padding = SHAPES[shape]
    case = ConvCase(len(SPECIAL) * width, *MAP, width, width, window, window, padding=padding)
    rng = np.random.default_rng(width)
    x, dy = with_special(rng, *case.x_shape), with_special(rng, *case.y_shape)
    finite, w = nonzero(rng, *case.x_shape), nonzero(rng, *case.w_shape)
    forward = expected_forward(case, x, w)
    added = expected_forward(case, finite, w).plus(dy).relu()
    data = expected_backward_data(case, dy, w)
    for isa in each_isa():
        for algorithm in case.algorithms():
            row = f"conv2d_forward[{isa}-{algorithm}-{case}]"
            y = np.zeros(case.y_shape, np.float32)
            _core.conv2d_forward(x, case.pack(w, algorithm), y)
            check_special(row, y, forward, algorithm)
            _core.conv2d_forward(x, case.pack(w, algorithm), y, relu=True)
            check_special(row, y, forward.relu(), algorithm)
            _core.conv2d_forward(finite, case.pack(w, algorithm), y, residual=dy, relu=True)
            check_special(row, y, added, algorithm)
            dx = np.zeros(case.x_shape, np.float32)
            _core.conv2d_backward_data(dy, case.pack(w, algorithm, backward_data=True), dx)
            check_special(row.replace("forward", "backward_data"), dx, data, algorithm)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("value", SPECIAL)
def test_special_values_in_weights(value: float, shape: str) -> None:
    """Every other channel has the value at the first tap, which some outputs have in the padding: 0 * Inf is NaN."""
    window, padding = SHAPES[shape]
    for width in WIDTHS:
        case = ConvCase(1, *MAP, width, width, window, window, padding=padding)
        rng = np.random.default_rng(width)
        shapes = (case.x_shape, case.y_shape, case.w_shape, (width,))
        x, dy, w, bias = (nonzero(rng, *shape) for shape in shapes)
        every_other = np.arange(0, width, 2)
        special_w, special_bias = w.copy(), bias.copy()
        special_w[0, 0, every_other, every_other] = value
        special_bias[every_other] = value
        with_w, with_bias = expected_forward(case, x, special_w), expected_forward(case, x, w).plus(special_bias)
        lost = ~np.isfinite(reference.conv2d_backward_data(dy, special_w, case.x_shape, padding=padding))
        for isa in each_isa():
            for algorithm in case.algorithms():
                row = f"conv2d_forward[{isa}-{algorithm}-{case}]"
                y, dx = np.zeros(case.y_shape, np.float32), np.zeros(case.x_shape, np.float32)
                _core.conv2d_forward(x, case.pack(special_w, algorithm), y)
                check_special(row, y, with_w, algorithm)
                _core.conv2d_forward(x, case.pack(w, algorithm, bias=special_bias), y)
                check_special(row, y, with_bias, algorithm)
                # The reference of backward-data leaves out the products with zeros outside dy.
                _core.conv2d_backward_data(dy, case.pack(special_w, algorithm, backward_data=True), dx)
                assert not np.any(np.isfinite(dx[lost])), row.replace("forward", "backward_data")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("value", SPECIAL)
def test_special_values_in_weight_gradients(value: float, shape: str) -> None:
    window, padding = SHAPES[shape]
    for width in WIDTHS:
        case = ConvCase(2, *MAP, width, width, window, window, padding=padding)
        rng = np.random.default_rng(width)
        x, dy = nonzero(rng, *case.x_shape), nonzero(rng, *case.y_shape)
        special_x, special_dy = x.copy(), dy.copy()
        special_x[1, width % MAP[0], width % MAP[1], ::2] = value
        special_dy[1, width % MAP[0], width % MAP[1], ::2] = value
        pairs = [(a, b, expected_backward_weights(case, a, b)) for a, b in ((special_x, dy), (x, special_dy))]
        for isa in each_isa():
            for a, b, expected in pairs:
                for algorithm in case.gradient_algorithms():
                    dw = np.zeros(case.w_shape, np.float32)
                    _core.conv2d_backward_weights(a, b, dw, algorithm=algorithm, **case.options)
                    check_special(f"conv2d_backward_weights[{isa}-{algorithm}-{case}]", dw, expected, algorithm)


@pytest.mark.parametrize("width", WIDTHS)
def test_nan_wins_the_pool_of_the_epilogue(width: int) -> None:
    """A window of four NaN or one gives NaN and the place of the first."""
    case = ConvCase(5, 2, 2, width, width, 1, 1)
    y = nonzero(np.random.default_rng(width), *case.y_shape)
    for place in range(4):
        y[place, place // 2, place % 2] = np.nan
    y[4] = np.nan
    for isa in each_isa():
        pooled, argmax = np.zeros((5, 1, 1, width), np.float32), np.full((5, 1, 1, width), 255, np.uint8)
        packed = case.pack(np.eye(width, dtype=np.float32)[None, None], "gemm")
        one = np.where(np.isnan(y[:, :, :, :1]), np.nan, y)  # NaN in one channel is NaN in all: 0 * NaN
        _core.conv2d_forward(one, packed, pooled, relu=True, pool=True, argmax=argmax)
        assert np.all(np.isnan(pooled)), isa
        assert np.all(argmax[:, 0, 0] == np.array([0, 1, 2, 3, 0])[:, None]), isa


def test_denormals_are_kept(isa: str) -> None:
    """Multiples of 2^-149 have exact sums; flushing them would give zeros."""
    for case in (ConvCase(2, *MAP, 3, 17, 3, 3, padding=ONE), ConvCase(2, *MAP, 19, 9, 3, 3, padding=ONE)):
        rng = np.random.default_rng(1)
        x, w, dy = integers(rng, *case.x_shape), integers(rng, *case.w_shape), integers(rng, *case.y_shape)
        tiny = np.float32(reference.SMALLEST_FLOAT32)
        y, dx, dw = (np.zeros(shape, np.float32) for shape in (case.y_shape, case.x_shape, case.w_shape))
        _core.conv2d_forward(x * tiny, case.pack(w, "gemm"), y)
        assert np.array_equal(y, reference.conv2d_forward(x, w, **case.options) * tiny)
        _core.conv2d_backward_data(dy * tiny, case.pack(w, "gemm", backward_data=True), dx)
        assert np.array_equal(dx, reference.conv2d_backward_data(dy, w, case.x_shape, **case.options) * tiny)
        _core.conv2d_backward_weights(x * tiny, dy, dw, algorithm="gemm", **case.options)
        assert np.array_equal(dw, reference.conv2d_backward_weights(x, dy, case.w_shape, **case.options) * tiny)


def powers(rng: np.random.Generator, least: int, most: int, *shape: int) -> Array:
    """Return random powers of two as float64."""
    return np.ldexp(1.0, rng.integers(least, most + 1, shape))


@pytest.mark.parametrize("channels", [5, 32, 40])
def test_pixels_and_channels_of_any_magnitude(isa: str, channels: int) -> None:
    """Small integers times a power of two a pixel and one an output channel: within the range all sums are exact."""
    case = ConvCase(2, *MAP, channels, 50, 1, 1)
    rng = np.random.default_rng(channels)
    x, w, dy = integers(rng, *case.x_shape), integers(rng, *case.w_shape), integers(rng, *case.y_shape)
    for low, high in ((-140, -100), (-60, 60), (90, 115)):
        of_pixel = powers(rng, low, high, *case.x_shape[:3], 1)
        of_output = powers(rng, -60, 60, case.K)
        of_pixel[0, 0, 0] = of_output[7] = 1  # usual ones among them
        y, dx = np.zeros(case.y_shape, np.float32), np.zeros(case.x_shape, np.float32)
        with np.errstate(over="ignore", under="ignore"):
            unit = of_pixel * of_output
            expected = (reference.conv2d_forward(x, w) * unit).astype(np.float32)
        packed = case.pack((w * of_output).astype(np.float32), "gemm")
        _core.conv2d_forward((x * of_pixel).astype(np.float32), packed, y)
        within = (unit >= reference.SMALLEST_FLOAT32) & (unit <= 2.0**115)
        assert np.count_nonzero(within) > within.size / 10
        assert np.array_equal(y[within], expected[within])
        assert np.all(np.abs(y[unit < reference.SMALLEST_FLOAT32]) < 2.0**-125)
        turned = case.pack(w, "gemm", backward_data=True)
        _core.conv2d_backward_data((dy * of_pixel).astype(np.float32), turned, dx)
        assert np.array_equal(dx, (reference.conv2d_backward_data(dy, w, case.x_shape) * of_pixel).astype(np.float32))


def test_channels_of_any_magnitude_beside_one_that_is_not_finite(isa: str) -> None:
    case = ConvCase(2, *MAP, 40, 50, 1, 1)
    rng = np.random.default_rng(0)
    x, w, of_output = integers(rng, *case.x_shape), integers(rng, *case.w_shape), powers(rng, -120, 60, case.K)
    scaled = (w * of_output).astype(np.float32)
    scaled[0, 0, 5, 3] = np.inf
    y = np.zeros(case.y_shape, np.float32)
    _core.conv2d_forward(x, case.pack(scaled, "gemm"), y)
    others = np.arange(case.K) != 3
    assert np.array_equal(y[..., others], (reference.conv2d_forward(x, w) * of_output).astype(np.float32)[..., others])
    assert not np.any(np.isfinite(y[..., 3]))


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_windows_with_pixels_of_any_magnitude(isa: str, strides: tuple[int, int]) -> None:
    """Windows share pixels; one that is far from 1, or not finite, must not disturb others."""
    case = ConvCase(2, 14, 14, 40, 50, 3, 3, strides, ONE)
    rng = np.random.default_rng(0)
    x, w = integers(rng, *case.x_shape), integers(rng, *case.w_shape)
    packed = case.pack(w, "gemm")
    for unit in (2.0**-130, 2.0**-50, 2.0**110):
        y = np.zeros(case.y_shape, np.float32)
        _core.conv2d_forward((x * np.float32(unit)).astype(np.float32), packed, y)
        assert np.array_equal(y, (reference.conv2d_forward(x, w, **case.options) * unit).astype(np.float32)), unit
    x[1, 7, 7] = 0
    expected = reference.conv2d_forward(x, w, **case.options)
    x[1, 7, 7, 3] = np.inf
    y = np.zeros(case.y_shape, np.float32)
    _core.conv2d_forward(x, packed, y)
    reached = ~np.isfinite(reference.conv2d_forward(x, w, **case.options))
    assert np.any(reached)
    assert np.array_equal(y[~reached], expected[~reached].astype(np.float32))
    assert not np.any(np.isfinite(y[reached]))


WEIGHT_GRADIENTS = [
    ConvCase(2, 14, 14, 40, 50, 3, 3, padding=ONE),
    ConvCase(2, 15, 13, 36, 33, 3, 3, (2, 2), ONE),
    ConvCase(2, 17, 30, 33, 32, 3, 3, padding=ONE),  # rows in units of 6, 6 and 5
    ConvCase(3, 10, 9, 40, 70, 1, 1),
    ConvCase(3, 10, 9, 70, 40, 1, 1),
]


@pytest.mark.parametrize("case", WEIGHT_GRADIENTS, ids=str)
def test_weight_gradients_of_any_magnitude(isa: str, case: ConvCase) -> None:
    """Small integers times a power of two a channel: all sums are exact, unless they leave the range."""
    rng = np.random.default_rng(0)
    x, dy = integers(rng, *case.x_shape), integers(rng, *case.y_shape)
    exact = reference.conv2d_backward_weights(x, dy, case.w_shape, **case.options)
    for low, high in ((-70, -45), (-20, 20), (50, 58)):
        of_x, of_dy = powers(rng, low, high, case.C), powers(rng, low, high, case.K)
        dw = np.ones(case.w_shape, np.float32)
        a, b = (x * of_x).astype(np.float32), (dy * of_dy).astype(np.float32)
        _core.conv2d_backward_weights(a, b, dw, algorithm="gemm", **case.options)
        unit = of_x[:, None] * of_dy
        within = (unit >= reference.SMALLEST_FLOAT32) & (unit <= 2.0**110)
        assert np.count_nonzero(within) > within.size / 10
        assert np.array_equal(dw[..., within], (exact * unit).astype(np.float32)[..., within])
    x[0, 3, 4, 5] = np.nan
    dw = np.ones(case.w_shape, np.float32)
    _core.conv2d_backward_weights(x, dy, dw, accumulate=True, algorithm="gemm", **case.options)
    others = np.arange(case.C) != 5
    assert np.array_equal(dw[:, :, others], (exact + 1).astype(np.float32)[:, :, others])
    assert np.any(np.isnan(dw[:, :, 5]))


def check_weight_gradients(isa: str, case: ConvCase, x: Array, dy: Array) -> None:
    expected = expected_backward_weights(case, x, dy)
    for algorithm in case.gradient_algorithms():
        dw = np.empty(case.w_shape, np.float32)
        _core.conv2d_backward_weights(x, dy, dw, algorithm=algorithm, **case.options)
        verdict = expected.judge(dw, algorithm)
        assert verdict["units"] <= verdict["gate"], f"{isa}-{algorithm}"


TINY = [ConvCase(40, 4, 4, 64, 33, 3, 3, padding=ONE), ConvCase(2, 14, 15, 64, 64, 3, 3, padding=ONE)]


@pytest.mark.parametrize("case", TINY, ids=str)
def test_tiny_values_beside_usual_ones(isa: str, case: ConvCase) -> None:
    """What is left of a value of 1e-34 after two parts of 8 bits is subnormal; it must not spoil its neighbour's."""
    rng = np.random.default_rng(0)

    def mixed(*shape: int) -> Array:
        tiny = np.where(rng.integers(2, size=shape) == 1, 10.0 ** rng.uniform(-44, -30, shape), 1)
        return (rng.standard_normal(shape) * tiny).astype(np.float32)

    x, w, dy = mixed(*case.x_shape), mixed(*case.w_shape), mixed(*case.y_shape)
    for backward, expected in ((False, expected_forward(case, x, w)), (True, expected_backward_data(case, dy, w))):
        for algorithm in case.algorithms(backward):
            out = np.empty(expected.r.shape, np.float32)
            packed = case.pack(w, algorithm, backward_data=backward)
            if backward:
                _core.conv2d_backward_data(dy, packed, out)
            else:
                _core.conv2d_forward(x, packed, out)
            verdict = expected.judge(out, algorithm)
            assert verdict["units"] <= verdict["gate"], f"{isa}-{algorithm}, backward: {backward}"
    check_weight_gradients(isa, case, x, dy)


@pytest.mark.parametrize("images", [slice(0, 32), slice(32, 64), slice(64, 70)], ids=str)
def test_a_tiny_channel_of_some_images_in_weight_gradients(isa: str, images: slice) -> None:
    """Such images leave the tile registers, block by block; what they add lies where it belongs."""
    case = ConvCase(70, 3, 3, 40, 33, 3, 3, padding=ONE)
    rng = np.random.default_rng(0)
    x, dy = normal(rng, *case.x_shape), normal(rng, *case.y_shape)
    x[images, :, :, 5] *= np.float32(2.0**-70)
    check_weight_gradients(isa, case, x, dy)


def test_a_tiny_channel_beside_windows_on_pictures(isa: str) -> None:
    """The same where windows are joined for tile registers."""
    case = ConvCase(2, 17, 17, 3, 64, 7, 7, (2, 2), ((3, 3), (3, 3)))
    rng = np.random.default_rng(0)
    x, dy = normal(rng, *case.x_shape), normal(rng, *case.y_shape)
    dy[..., 5] *= np.float32(2.0**-90)
    check_weight_gradients(isa, case, x, dy)


SPREAD = [ConvCase(3, 20, 21, 2, 9, 3, 3, padding=ONE), ConvCase(2, 30, 31, 17, 5, 1, 1)]


@pytest.mark.parametrize("case", SPREAD, ids=str)
def test_statistics_far_from_zero(isa: str, case: ConvCase) -> None:
    """A mean of 10^4 and deviations of 10^-2: neither cancellation nor a rounded mean may spoil the variance."""
    rng = np.random.default_rng(0)
    x, w, bias = normal(rng, *case.x_shape), normal(rng, *case.w_shape) / 200, np.full(case.K, 1e4, np.float32)
    for algorithm in case.algorithms():
        packed = case.pack(w, algorithm, bias=bias)
        blocks = packed.statistics_blocks(case.N)
        y, statistics = np.empty(case.y_shape, np.float32), np.empty((blocks, 2, case.K), np.float32)
        counts = np.empty(blocks, np.int64)
        _core.conv2d_forward(x, packed, y, statistics=statistics, counts=counts)
        check_statistics(y, statistics, counts)


@pytest.mark.parametrize("channels", [3, 20])
def test_huge_steps_that_are_legal(isa: str, channels: int) -> None:
    """Steps of 2^30 leave one tap over each output: the convolution is that tap's 1x1 product."""
    huge = 2**30
    rng = np.random.default_rng(0)
    x, w = integers(rng, 2, 3, 2, channels), integers(rng, 3, 3, channels, 9)
    far = ConvCase(2, 3, 2, channels, 9, 3, 3, padding=((huge, huge), (huge, huge)), dilation=(huge, huge))
    dy, y, dx, dw = integers(rng, 2, 3, 2, 9), np.empty((2, 3, 2, 9), np.float32), np.empty_like(x), np.empty_like(w)
    _core.conv2d_forward(x, far.pack(w, "gemm"), y)
    _core.conv2d_backward_data(dy, far.pack(w, "gemm", backward_data=True), dx)
    _core.conv2d_backward_weights(x, dy, dw, **far.options)
    assert np.array_equal(y, x @ w[1, 1])
    assert np.array_equal(dx, dy @ w[1, 1].T)
    centre = np.zeros_like(dw)
    centre[1, 1] = np.einsum("nhwc,nhwk->ck", x, dy)
    assert np.array_equal(dw, centre)

    steps = ConvCase(2, 3, 2, channels, 9, 1, 1, (huge, huge), ((huge, 0), (0, huge)))
    w, dw, y = w[:1, :1].copy(), dw[:1, :1].copy(), np.empty((2, 2, 2, 9), np.float32)
    _core.conv2d_forward(x, steps.pack(w, "gemm"), y)
    expected_y = np.zeros_like(y)
    expected_y[:, 1, 0] = x[:, 0, 0] @ w[0, 0]
    assert np.array_equal(y, expected_y)
    dy = integers(rng, 2, 2, 2, 9)
    _core.conv2d_backward_data(dy, steps.pack(w, "gemm", backward_data=True), dx)
    _core.conv2d_backward_weights(x, dy, dw, **steps.options)
    expected_dx = np.zeros_like(dx)
    expected_dx[:, 0, 0] = dy[:, 1, 0] @ w[0, 0].T
    assert np.array_equal(dx, expected_dx)
    assert np.array_equal(dw[0, 0], x[:, 0, 0].T @ dy[:, 1, 0])
