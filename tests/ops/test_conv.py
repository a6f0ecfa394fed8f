"""Convolution, forward and backward: every algorithm on every instruction set against the float64 reference.

A failure names its row: conv2d_backward_data[avx2-winograd-N2H7W7C9K8R3S3].
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest
from conv_cases import (
    LARGE_CASES,
    ConvCase,
    OnThreads,
    Out,
    check_special,
    check_statistics,
    corner_cases,
    expected_forward,
    judge_conv,
    judge_conv_exact,
    normal,
)
from verdict import Array, same_bits

from fastcnn import _core

CASES = [*LARGE_CASES, *islice(corner_cases(seed=1), 90)]
ONE = ((1, 1), (1, 1))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_corner_cases(case: ConvCase, out: Out, on_threads: OnThreads) -> None:
    wrong = [str(verdict) for verdict in judge_conv(case, out, on_threads) if not verdict.ok]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_integers_and_adjoint_identities(case: ConvCase, out: Out) -> None:
    wrong = [str(verdict) for verdict in judge_conv_exact(case, out) if not verdict.ok]
    assert not wrong, "\n".join(wrong)


def test_corner_cases_reach_every_level() -> None:
    def levels(value: Callable[[ConvCase], Any]) -> set[Any]:
        return {value(case) for case in CASES}

    assert levels(lambda case: case.C) >= {*range(1, 34), 48, 64} <= levels(lambda case: case.K)
    assert levels(lambda case: case.H) >= set(range(1, 18)) <= levels(lambda case: case.W)
    assert levels(lambda case: case.R) >= {1, 2, 3, 5, 7, 11} <= levels(lambda case: case.S)
    assert levels(lambda case: case.N) >= {1, 2, 3, 7}
    for axis in (0, 1):
        assert levels(lambda case: case.strides[axis]) == {1, 2, 3, 4}  # noqa: B023
        assert levels(lambda case: case.dilation[axis]) == {1, 2, 3}  # noqa: B023
        for side in (0, 1):
            assert len(levels(lambda case: case.padding[axis][side])) > 5  # noqa: B023
    outputs = levels(lambda case: (case.window.P, case.strides[0])) & levels(
        lambda case: (case.window.Q, case.strides[1])
    )
    assert outputs >= {(size, stride) for size in (1, 2, 3) for stride in (1, 2, 3, 4)}


# -- batches -----------------------------------------------------------------------------------------------------------

BATCHES = [
    ConvCase(7, 14, 14, 16, 40, 3, 3, padding=ONE),  # in a batch and alone, different schedules of Winograd
    ConvCase(7, 7, 6, 20, 33, 3, 3, padding=ONE),
    ConvCase(7, 9, 9, 3, 17, 7, 7, (2, 2), ((3, 3), (3, 3))),
    ConvCase(7, 6, 5, 40, 24, 1, 1),
    ConvCase(7, 9, 8, 17, 24, 1, 1, (2, 2)),
    ConvCase(7, 11, 13, 18, 9, 3, 2, (1, 2), ((0, 1), (1, 1)), (2, 1)),
    ConvCase(7, 4, 4, 140, 100, 3, 3, padding=ONE),  # weights transformed late, for sums in registers and not
    ConvCase(7, 14, 14, 172, 172, 3, 3, padding=ONE),  # the same, of the batch in two chunks of tiles
]


@pytest.mark.parametrize("parts", ["plain", "pool", "prologue"])
@pytest.mark.parametrize("case", BATCHES, ids=str)
def test_an_image_does_not_depend_on_its_batch(isa: str, case: ConvCase, parts: str) -> None:
    rng = np.random.default_rng(0)
    x, w, bias, residual = (normal(rng, *shape) for shape in (case.x_shape, case.w_shape, (case.K,), case.y_shape))
    _, P, Q, K = case.y_shape
    y_shape = (P // 2, Q // 2, K) if parts == "pool" else (P, Q, K)
    prologue = (normal(rng, case.C), normal(rng, case.C), normal(rng, case.C), True)
    for algorithm in case.algorithms():
        packed = case.pack(w, algorithm, bias=bias)

        def run(first: int, last: int, packed: Any = packed) -> tuple[Array, Array]:
            y = np.full((last - first, *y_shape), np.nan, np.float32)
            argmax = np.full(y.shape, 255, np.uint8)
            if parts == "pool":
                _core.conv2d_forward(x[first:last], packed, y, relu=True, pool=True, argmax=argmax)
            elif parts == "prologue":
                _core.conv2d_forward(x[first:last], packed, y, prologue=prologue)
            else:
                _core.conv2d_forward(x[first:last], packed, y, residual=residual[first:last], relu=True)
            return y, argmax

        pieces = zip(*(run(first, last) for first, last in ((0, 1), (1, 3), (3, 7))), strict=True)
        for whole, piece in zip(run(0, 7), pieces, strict=True):
            assert same_bits(whole, np.concatenate(piece)), f"{isa}-{algorithm}"


def test_an_image_does_not_depend_on_the_chunks_of_a_schedule(isa: str) -> None:
    """Weights too large for a cache, and more tiles than one chunk of any schedule holds."""
    case = ConvCase(9, 14, 14, 244, 240, 3, 3, padding=ONE)
    rng = np.random.default_rng(0)
    x, w = normal(rng, *case.x_shape), normal(rng, *case.w_shape)
    packed = case.pack(w, "winograd")
    blocks = packed.statistics_blocks(case.N)
    assert blocks > 1 == packed.statistics_blocks(1)
    y, counts = np.empty(case.y_shape, np.float32), np.empty(blocks, np.int64)
    statistics = np.empty((blocks, 2, case.K), np.float32)
    _core.conv2d_forward(x, packed, y, statistics=statistics, counts=counts)
    check_statistics(y, statistics, counts)
    one = np.empty((1, *case.y_shape[1:]), np.float32)
    for image in (0, 3, 8):
        _core.conv2d_forward(x[[image]], packed, one)
        assert same_bits(y[[image]], one), image


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize("channels", [40, 128, 256])
@pytest.mark.parametrize("size", [1, 2])
def test_an_image_does_not_depend_on_pixels_done_one_by_one(
    isa: str, size: int, channels: int, strides: tuple[int, int]
) -> None:
    case = ConvCase(17, size * strides[0], size * strides[1], channels, 33, 3, 3, strides, ONE)
    rng = np.random.default_rng(0)
    x, packed = normal(rng, *case.x_shape), case.pack(normal(rng, *case.w_shape), "gemm")
    y, one = np.empty(case.y_shape, np.float32), np.empty((1, *case.y_shape[1:]), np.float32)
    _core.conv2d_forward(x, packed, y)
    for image in (0, 16):
        _core.conv2d_forward(x[[image]], packed, one)
        assert same_bits(y[[image]], one), image


@pytest.mark.parametrize("width", [2, 10, 28, 58])
@pytest.mark.parametrize("pool", [False, True])
def test_two_pixels_a_vector_have_the_bits_of_one(isa: str, width: int, pool: bool) -> None:
    """Windows on one channel are multiplied two pixels at a time where the outputs fill half a vector or less."""
    rng = np.random.default_rng(0)
    x, w, bias = normal(rng, 3, 8, width, 1), normal(rng, 5, 5, 1, 17), normal(rng, 17)
    found = []
    for K in (8, 3, 17):
        case = ConvCase(3, 8, width, 1, K, 5, 5, padding=((2, 2), (2, 2)))
        y = np.empty((3, 4, width // 2, K) if pool else case.y_shape, np.float32)
        packed = case.pack(np.ascontiguousarray(w[..., :K]), "gemm", bias=bias[:K].copy())
        _core.conv2d_forward(x, packed, y, relu=True, pool=pool)
        found.append(y)
    assert same_bits(found[0], np.ascontiguousarray(found[2][..., :8]))
    assert same_bits(found[1], np.ascontiguousarray(found[2][..., :3]))


def test_empty_batch(isa: str) -> None:
    case = ConvCase(0, 5, 4, 3, 6, 3, 3, padding=ONE)
    x, y, w = (np.ones(shape, np.float32) for shape in (case.x_shape, case.y_shape, case.w_shape))
    for algorithm in case.algorithms():
        packed = case.pack(w, algorithm)
        _core.conv2d_forward(x, packed, y)
        _core.conv2d_forward(x, packed, np.ones((0, 2, 2, 6), np.float32), pool=True)
        with pytest.raises(ValueError, match=r"^conv2d_forward: y must be \[0, 5, 4, 6\] but is \[1, 5, 4, 6\]"):
            _core.conv2d_forward(x, packed, np.ones((1, 5, 4, 6), np.float32))
    for algorithm in case.algorithms(backward_data=True):
        _core.conv2d_backward_data(y, case.pack(w, algorithm, backward_data=True), x)
    with pytest.raises(ValueError, match=r"^conv2d_backward_weights: x holds no image"):
        _core.conv2d_backward_weights(x, y, w, padding=ONE)
    assert np.all(w == 1)


# -- packed weights ----------------------------------------------------------------------------------------------------


def forward(packed: _core.PackedConv2D, x: Array) -> Array:
    y = np.full((len(x), *packed.output_size, 4), np.nan, np.float32)
    _core.conv2d_forward(x, packed, y)
    return y


@pytest.mark.parametrize("algorithm", ["gemm", "winograd"])
def test_weights_are_packed_again_when_a_version_changes(isa: str, algorithm: str) -> None:
    x, w, bias = np.ones((1, 4, 4, 2), np.float32), np.ones((3, 3, 2, 4), np.float32), np.zeros(4, np.float32)
    mean, variance = np.zeros(4, np.float32), np.ones(4, np.float32)
    versions = [np.zeros(1, np.int64), np.zeros(1, np.int64)]
    packed = _core.PackedConv2D(
        w, (4, 4), algorithm=algorithm, bias=bias, batch_norm=(None, None, mean, variance, 0.0), versions=versions
    )
    first = forward(packed, x)
    assert first == pytest.approx(np.full(first.shape, 18), rel=1e-5)
    w *= 2
    assert same_bits(forward(packed, x), first)
    versions[1] += 1
    assert forward(packed, x) == pytest.approx(np.full(first.shape, 36), rel=1e-5)
    mean += 6
    variance *= 4
    versions[0] += 1
    assert forward(packed, x) == pytest.approx(np.full(first.shape, 15), rel=1e-5)


def test_a_plain_bias_is_read_at_each_run(isa: str) -> None:
    x, bias = np.zeros((1, 2, 2, 2), np.float32), np.zeros(4, np.float32)
    packed = _core.PackedConv2D(np.ones((1, 1, 2, 4), np.float32), (2, 2), bias=bias)
    assert np.all(forward(packed, x) == 0)
    bias += 3
    assert np.all(forward(packed, x) == 3)


def test_weights_that_are_not_kept_are_read_at_each_run(isa: str) -> None:
    w, x = np.ones((3, 3, 2, 4), np.float32), np.ones((1, 5, 5, 2), np.float32)
    packed = _core.PackedConv2D(w, (5, 5), algorithm="gemm", kept=False)
    assert float(forward(packed, x).max()) == 18
    w *= 2
    assert float(forward(packed, x).max()) == 36
    with pytest.raises(ValueError, match=r"^PackedConv2D: batch_norm needs kept=True"):
        _core.PackedConv2D(w, (5, 5), batch_norm=(None, None, w[0, 0, 0], w[0, 0, 0], 1e-3), kept=False)


@pytest.mark.parametrize("algorithm", ["gemm", "winograd"])
def test_scratch_leaves_nothing_behind(isa: str, algorithm: str) -> None:
    """What a layer of NaN packed where the next one has only the zeros that fill up its channels."""
    full = ConvCase(1, 5, 5, 64, 64, 3, 3, padding=ONE)
    poison = full.pack(np.full(full.w_shape, np.nan, np.float32), algorithm, kept=False)
    for case in (ConvCase(1, 5, 5, 5, 7, 3, 3, padding=ONE), ConvCase(1, 5, 5, 21, 33, 3, 3, padding=ONE)):
        rng = np.random.default_rng(0)
        x, w, y = normal(rng, *case.x_shape), normal(rng, *case.w_shape), np.zeros(case.y_shape, np.float32)
        program = _core.Program(_core.Arena())
        program.conv2d_forward(np.ones(full.x_shape, np.float32), poison, np.zeros(full.y_shape, np.float32))
        program.conv2d_forward(x, case.pack(w, algorithm, kept=False), y)
        program.run(0, len(program))
        check_special(f"conv2d_forward[{isa}-{algorithm}-{case}]", y, expected_forward(case, x, w), algorithm)


def test_algorithms_and_the_winograd_switch(isa: str) -> None:
    large = {"input_size": (56, 56), "w_shape": (3, 3, 64, 64), "padding": ONE}
    w = np.zeros((3, 3, 64, 64), np.float32)
    assert _core.conv2d_algorithms(**large) == ["winograd", "gemm"]
    assert _core.conv2d_algorithms(**large, backward_data=True) == ["winograd", "gemm"]
    assert _core.PackedConv2D(w, (56, 56), padding=ONE).algorithm == "winograd"
    small = {"input_size": (7, 7), "w_shape": (3, 3, 64, 64), "padding": ONE, "backward_weights": True}
    assert _core.conv2d_algorithms(**small) == ["winograd", "gemm"]
    if isa != "amx":  # where products are so fast that the choice does not see the batch
        assert _core.conv2d_algorithms(**small, batch=1) == ["gemm", "winograd"]
    with pytest.raises(ValueError, match=r"^conv2d_algorithms: batch must be at least 1 but is 0"):
        _core.conv2d_algorithms(**small, batch=0)
    _core.set_winograd(False)
    assert _core.conv2d_algorithms(**large) == ["gemm", "winograd"]
    assert _core.PackedConv2D(w, (56, 56), padding=ONE).algorithm == "gemm"
    assert _core.PackedConv2D(w, (56, 56), padding=ONE, algorithm="winograd").algorithm == "winograd"
    assert sorted(_core.conv2d_algorithms(**large, strides=(2, 2))) == ["gemm", "winograd"]
    for gradient in ("backward_data", "backward_weights"):
        assert _core.conv2d_algorithms(**large, strides=(2, 2), **{gradient: True}) == ["gemm"]
    for other in ({"strides": (1, 2)}, {"strides": (2, 1)}, {"dilation": (1, 2)}, {"dilation": (2, 1)}):
        assert _core.conv2d_algorithms(**large, **other) == ["gemm"]
    assert _core.conv2d_algorithms((9, 9), (3, 2, 4, 4)) == ["gemm"]
    assert _core.conv2d_algorithms((9, 9), (2, 3, 4, 4)) == ["gemm"]


# -- the wall ----------------------------------------------------------------------------------------------------------


def forward_arguments(size: int = 4, **more: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    packed = _core.PackedConv2D(normal(rng, 3, 3, 5, 6), (size, size), padding=ONE, bias=normal(rng, 6))
    return {"x": normal(rng, 2, size, size, 5), "w": packed, "y": normal(rng, 2, size, size, 6), **more}


def test_wall_of_forward(isa: str, wall: Callable[..., None]) -> None:
    residual = np.ones((2, 4, 4, 6), np.float32)
    wall("conv2d_forward", forward_arguments(residual=residual, relu=True), {"y"}, {("y", "residual")})


def test_wall_of_forward_with_statistics(isa: str, wall: Callable[..., None]) -> None:
    blocks = forward_arguments(size=13)["w"].statistics_blocks(2)
    assert blocks > 1
    more = {"statistics": np.zeros((blocks, 2, 6), np.float32), "counts": np.zeros(blocks, np.int64)}
    more["residual"] = np.zeros((2, 13, 13, 6), np.float32)
    wall("conv2d_forward", forward_arguments(13, **more), {"y", "statistics", "counts"}, {("y", "residual")})


def test_wall_of_forward_with_pool(isa: str, wall: Callable[..., None]) -> None:
    arguments = forward_arguments(pool=True, argmax=np.zeros((2, 2, 2, 6), np.uint8))
    wall("conv2d_forward", arguments | {"y": np.zeros((2, 2, 2, 6), np.float32)}, {"y", "argmax"})


def test_wall_of_backward(isa: str, wall: Callable[..., None]) -> None:
    rng = np.random.default_rng(0)
    turned = _core.PackedConv2D(normal(rng, 3, 3, 5, 6), (4, 4), padding=ONE, backward_data=True)
    x, dy, dw = normal(rng, 2, 4, 4, 5), normal(rng, 2, 4, 4, 6), normal(rng, 3, 3, 5, 6)
    wall("conv2d_backward_data", {"dy": dy, "w": turned, "dx": x}, {"dx"})
    wall("conv2d_backward_weights", {"x": x, "dy": dy, "dw": dw, "padding": ONE}, {"dw"})
    channels = dw.reshape(-1)[:5]
    with pytest.raises(ValueError, match=r"^conv2d_backward_weights: prologue scale must be \[5\] but is \[6\]"):
        _core.conv2d_backward_weights(
            x, dy, dw, padding=ONE, prologue=(channels, np.zeros(6, np.float32), channels, True)
        )
    with pytest.raises(ValueError, match=r"^conv2d_backward_weights: dw shares memory with prologue mean"):
        _core.conv2d_backward_weights(x, dy, dw, padding=ONE, prologue=(channels, channels, channels, True))


def test_wall_of_forward_parts() -> None:
    def refused(sentence: str, **more: Any) -> None:
        with pytest.raises(ValueError, match="^conv2d_forward: " + sentence):
            _core.conv2d_forward(**forward_arguments(**more))

    blocks = forward_arguments()["w"].statistics_blocks(2)
    statistics, counts = np.zeros((blocks, 2, 6), np.float32), np.zeros(blocks, np.int64)
    small = np.zeros((2, 2, 2, 6), np.float32)
    refused(r"w has 5 input channels but x has 3 \(x is \[2, 4, 4, 3\]", x=np.zeros((2, 4, 4, 3), np.float32))
    refused(r"x must be \[2, 4, 4, 5\] but is \[2, 4, 5, 5\]", x=np.zeros((2, 4, 5, 5), np.float32))
    refused("x must be C-contiguous", x=np.zeros((2, 4, 4, 5), np.float32)[:, ::-1])
    refused("argmax needs pool", argmax=np.zeros((2, 4, 4, 6), np.uint8))
    refused("pool goes with neither", y=small, pool=True, residual=small)
    refused("pool goes with neither", y=small, pool=True, statistics=statistics, counts=counts)
    refused("statistics and counts come together", statistics=statistics)
    refused("statistics and counts come together", counts=counts)
    refused("statistics are those of the plain", statistics=statistics, counts=counts, relu=True)
    channels = np.zeros(5, np.float32)
    refused(r"prologue scale must be \[5\] but is \[6\]", prologue=(channels, np.zeros(6, np.float32), channels, True))
    y = np.zeros((2, 4, 4, 6), np.float32)
    refused("y shares memory with prologue mean", y=y, prologue=(y.reshape(-1)[:5], channels, channels, True))
    with pytest.raises(TypeError, match=r"^conv2d_forward: prologue mean must be float32"):
        _core.conv2d_forward(**forward_arguments(prologue=(np.zeros(5), channels, channels, True)))


def test_wall_between_passes_and_sets() -> None:
    w = np.zeros((3, 3, 5, 6), np.float32)
    x, y = np.zeros((1, 4, 4, 5), np.float32), np.zeros((1, 4, 4, 6), np.float32)
    forward_weights = _core.PackedConv2D(w, (4, 4), padding=ONE)
    backward_weights = _core.PackedConv2D(w, (4, 4), padding=ONE, backward_data=True)
    with pytest.raises(ValueError, match=r"^conv2d_forward: w is packed for backward-data"):
        _core.conv2d_forward(x, backward_weights, y)
    with pytest.raises(ValueError, match=r"^conv2d_backward_data: w is packed for the forward pass"):
        _core.conv2d_backward_data(y, forward_weights, x)
    here = _core.isa()
    for other in _core.isas():
        if other != here:
            _core.set_isa(other)
            with pytest.raises(ValueError, match=rf"^conv2d_forward: w was packed for the instruction set {here}"):
                _core.conv2d_forward(x, forward_weights, y)
            with pytest.raises(ValueError, match=r"^conv2d_backward_data: w was packed for the instruction set"):
                _core.conv2d_backward_data(y, backward_weights, x)


BAD_GEOMETRY = [
    ({"strides": (0, 1)}, "strides along the height must be 1 or more"),
    ({"strides": (1, -1)}, "strides along the width must be 1 or more"),
    ({"strides": (2**31, 1)}, "strides along the height"),
    ({"strides": (1, 2**62)}, "strides along the width"),
    ({"dilation": (0, 1)}, "dilation along the height must be 1 or more"),
    ({"dilation": (1, 2**31)}, "dilation along the width"),
    ({"dilation": (2**62, 1)}, "dilation along the height"),
    ({"dilation": (1, 5)}, "the window covers 11 along the width but the padded input has only 10"),
    ({"padding": ((-1, 0), (0, 0))}, "padding along the height must be 0 or more"),
    ({"padding": ((0, -1), (0, 0))}, "padding along the height must be 0 or more"),
    ({"padding": ((0, 0), (-1, 0))}, "padding along the width must be 0 or more"),
    ({"padding": ((0, 0), (0, -(2**62)))}, "padding along the width"),
    ({"padding": ((2**31, 0), (0, 0))}, "padding along the height"),
    ({"padding": ((0, 0), (0, 2**62))}, "padding along the width"),
    ({"padding": ((2**31 - 1, 2**31 - 1), (2**31 - 1, 2**31 - 1))}, "too large"),
]


@pytest.mark.parametrize(("wrong", "sentence"), BAD_GEOMETRY)
def test_wall_of_geometry(wrong: dict[str, Any], sentence: str) -> None:
    w, x = np.zeros((3, 3, 5, 6), np.float32), np.zeros((1, 10, 10, 5), np.float32)
    with pytest.raises(ValueError, match=f"^PackedConv2D: .*{sentence}"):
        _core.PackedConv2D(w, (10, 10), **wrong)
    with pytest.raises(ValueError, match=f"^conv2d_algorithms: .*{sentence}"):
        _core.conv2d_algorithms((10, 10), w.shape, **wrong)
    with pytest.raises(ValueError, match=f"^conv2d_backward_weights: .*{sentence}"):
        _core.conv2d_backward_weights(x, np.zeros((1, 8, 8, 6), np.float32), w, **wrong)


@pytest.mark.parametrize("size", [0, -1, 2**31, 2**62])
def test_wall_of_the_input_size(size: int) -> None:
    w = np.zeros((1, 1, 5, 6), np.float32)
    for bad in ((size, 4), (4, size)):
        with pytest.raises(ValueError, match=r"^PackedConv2D: input size along the (height|width) must be 1 or more"):
            _core.PackedConv2D(w, bad)
        with pytest.raises(ValueError, match=r"^conv2d_algorithms: input size along the (height|width)"):
            _core.conv2d_algorithms(bad, w.shape)


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("size", [0, -1, 2**31, 2**62])
def test_wall_of_the_window(position: int, size: int) -> None:
    w_shape = tuple(size if i == position else n for i, n in enumerate((3, 3, 5, 6)))
    if size == 2**31 and position >= 2:
        return  # so many channels are legal: nothing is allocated before an array of that size is given
    with pytest.raises(ValueError, match=r"^conv2d_algorithms: "):
        _core.conv2d_algorithms((10, 10), w_shape)


def test_wall_of_packing() -> None:
    w, ones, zeros = np.ones((3, 3, 5, 6), np.float32), np.ones(6, np.float32), np.zeros(6, np.float32)

    def refused(error: type[Exception], sentence: str, w: Any = w, **more: Any) -> None:
        with pytest.raises(error, match="^PackedConv2D: " + sentence):
            _core.PackedConv2D(w, (10, 10), **more)

    refused(TypeError, "w must be float32", w=w.astype(np.float64))
    refused(ValueError, r"w must have rank 4 \[R,S,C,K\]", w=w[0])
    refused(ValueError, "w must be C-contiguous", w=w[:, ::-1])
    refused(ValueError, "w must have at least one input and output channel", w=np.ones((3, 3, 0, 6), np.float32))
    refused(ValueError, "window along the height must be 1 or more", w=np.ones((0, 3, 5, 6), np.float32))
    refused(ValueError, r"bias must be \[6\] but is \[5\]", bias=np.ones(5, np.float32))
    refused(TypeError, "bias must be float32", bias=np.ones(6))
    refused(ValueError, r"gamma must be \[6\]", batch_norm=(np.ones(5, np.float32), None, zeros, ones, 1e-3))
    refused(ValueError, r"beta must be \[6\]", batch_norm=(None, np.ones(5, np.float32), zeros, ones, 1e-3))
    refused(ValueError, r"moving_mean must be \[6\]", batch_norm=(None, None, np.ones(5, np.float32), ones, 1e-3))
    refused(TypeError, "moving_variance must be float32", batch_norm=(None, None, zeros, np.ones(6), 1e-3))
    refused(ValueError, "bias and batch_norm belong to the forward pass", bias=ones, backward_data=True)
    refused(ValueError, "bias and batch_norm", batch_norm=(None, None, zeros, ones, 1e-3), backward_data=True)
    refused(TypeError, "versions must be int64", versions=[np.zeros(1, np.int32)])
    refused(ValueError, r"versions must be \[1\]", versions=[np.zeros(2, np.int64)])
    refused(ValueError, "algorithm must be None, 'gemm' or 'winograd' but is 'fft'", algorithm="fft")
    refused(ValueError, "algorithm 'winograd' needs a 3x3 window", algorithm="winograd", strides=(2, 1))


@pytest.mark.parametrize("batch", [-1, 2**62])
def test_wall_of_statistics_blocks(batch: int) -> None:
    for algorithm in ("gemm", "winograd"):
        packed = _core.PackedConv2D(np.ones((3, 3, 5, 6), np.float32), (10, 10), algorithm=algorithm)
        with pytest.raises(ValueError, match=r"^PackedConv2D.statistics_blocks: "):
            packed.statistics_blocks(batch)
