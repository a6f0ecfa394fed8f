"""Corner cases of convolution and their verdicts, against the float64 reference and in exact integer arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from verdict import Array, Deck, Expected, Verdict, call, each_isa, same_bits, windows_2x2

from fastcnn import _core, reference
from fastcnn.reference.window import VALID, Padding, Pair, Window

Judge = Callable[..., dict[str, Any]]  # returns the fields of a verdict
Out = Callable[..., Array]  # shape or array -> an output full of NaN, or a copy
OnThreads = Callable[[Callable[[], Any]], Any]  # calls its argument with 1, 2, 3 threads and wants equal bits

COST = 3_000_000  # multiply-adds of a generated case: the reference, not the kernel, takes the time
EPSILON = 1.001e-5


@dataclass(frozen=True)
class ConvCase:
    """One shape; `seed` makes its data and chooses the parts of the epilogue that it uses."""

    N: int
    H: int
    W: int
    C: int
    K: int
    R: int
    S: int
    strides: Pair = (1, 1)
    padding: Padding = VALID
    dilation: Pair = (1, 1)
    seed: int = 0

    def __str__(self) -> str:
        (top, bottom), (left, right) = self.padding
        name = f"N{self.N}H{self.H}W{self.W}C{self.C}K{self.K}R{self.R}S{self.S}"
        if self.strides != (1, 1):
            name += f"-stride{self.strides[0]}x{self.strides[1]}"
        if self.padding != VALID:
            name += f"-pad{top}.{bottom}.{left}.{right}"
        if self.dilation != (1, 1):
            name += f"-dilation{self.dilation[0]}x{self.dilation[1]}"
        return f"{name}-seed{self.seed}"

    @property
    def options(self) -> dict[str, Any]:
        return {"strides": self.strides, "padding": self.padding, "dilation": self.dilation}

    @cached_property
    def window(self) -> Window:
        return Window.over("case", (self.H, self.W), (self.R, self.S), self.strides, self.padding, self.dilation)

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return self.N, self.H, self.W, self.C

    @property
    def w_shape(self) -> tuple[int, int, int, int]:
        return self.R, self.S, self.C, self.K

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        return self.N, self.window.P, self.window.Q, self.K

    @property
    def winograd(self) -> bool:
        """Whether both gradients can be computed by Winograd."""
        return (self.R, self.S) == (3, 3) and self.strides == self.dilation == (1, 1)

    @property
    def winograd_forward(self) -> bool:
        return (self.R, self.S) == (3, 3) and self.strides in ((1, 1), (2, 2)) and self.dilation == (1, 1)

    def algorithms(self, backward_data: bool = False) -> list[str]:
        """Return the algorithms that can compute this, " batched" appended where that is another program."""
        found = _core.conv2d_algorithms((self.H, self.W), self.w_shape, backward_data=backward_data, **self.options)
        pixels = self.H * self.W if backward_data else self.window.P * self.window.Q
        differ = {"gemm": pixels < 16, "winograd": self.winograd and 36 * self.C * self.K * 4 > 4 << 20}
        return [*found, *(f"{algorithm} batched" for algorithm in found if differ[algorithm])]

    def gradient_algorithms(self) -> list[str]:
        """Return the algorithms that can compute the gradient of the weights."""
        return _core.conv2d_algorithms((self.H, self.W), self.w_shape, backward_weights=True, **self.options)

    def pack(self, w: Array, algorithm: str, **keywords: Any) -> _core.PackedConv2D:
        name, _, batched = algorithm.partition(" ")
        return _core.PackedConv2D(
            w, (self.H, self.W), algorithm=name, batched=bool(batched), **self.options, **keywords
        )


def corner_cases(seed: int) -> Iterator[ConvCase]:
    """Yield shapes without end; a third are 3x3 with unit steps, a third have 1 to 3 output rows and columns."""
    rng = np.random.default_rng(seed)
    channels, images = Deck(rng, [*range(1, 34), 48, 64]), Deck(rng, (1, 2, 3, 7))
    outputs, sizes = Deck(rng, (1, 2, 3)), Deck(rng, range(1, 18))
    windows, steps, gaps = Deck(rng, (1, 2, 3, 5, 7, 11)), Deck(rng, (1, 2, 3, 4)), Deck(rng, (1, 2, 3))
    # before and after, of the pixels that the window reaches: none, one, half, all but one, all, more
    pads = Deck(rng, [(a, b) for a in range(6) for b in range(6)])

    def axis(kind: int) -> tuple[int, int, int, Pair, int]:
        """Return size, window, stride, padding and dilation of rows or columns."""
        window, stride, gap = (3, 1, 1) if kind == 0 else (windows.deal(), steps.deal(), gaps.deal())
        reach = (window - 1) * gap + 1
        before, after = ((0, 1, reach // 2, reach - 1, reach, reach + 2)[level] for level in pads.deal())
        size = sizes.deal()
        if kind == 1:
            total = (outputs.deal() - 1) * stride + reach + int(rng.integers(stride))
            before = min(before, total - 1)
            after = min(after, total - 1 - before)
            size = total - before - after
        missing = reach - size - before - after
        if missing > 0 and rng.integers(2):
            size += missing
        elif missing > 0:
            after += missing
        return size, window, stride, (before, after), gap

    for index in range(1 << 40):
        H, R, stride_h, pad_h, gap_h = axis(index % 3)
        W, S, stride_w, pad_w, gap_w = axis(index % 3)
        case = ConvCase(
            images.deal(),
            *(H, W, channels.deal(), channels.deal(), R, S),
            strides=(stride_h, stride_w),
            padding=(pad_h, pad_w),
            dilation=(gap_h, gap_w),
            seed=seed * 1_000_003 + index,
        )
        pixel = case.window.P * case.window.Q * R * S
        while case.N * pixel * case.C * case.K > COST:
            if case.N > 1:
                case = replace(case, N=case.N // 2)
            elif case.C > case.K:
                case = replace(case, C=case.C // 2)
            else:
                case = replace(case, K=case.K // 2)
        yield case


# What the generator is too small for or meets too seldom: every block, group, chunk, part and schedule of the kernels.
ONE = ((1, 1), (1, 1))
LARGE_SHAPES = [
    ConvCase(1, 1, 1, 1, 1, 1, 1),
    ConvCase(1, 1, 1, 16, 33, 3, 3, padding=ONE),
    ConvCase(2, 17, 17, 3, 64, 7, 7, (2, 2), ((3, 3), (3, 3))),  # a stem
    ConvCase(1, 20, 20, 40, 70, 1, 1),  # several blocks and groups of panels of a pointwise product
    ConvCase(2, 15, 13, 33, 48, 1, 1, (2, 2)),
    ConvCase(1, 14, 16, 48, 530, 3, 3, (2, 2), ONE),  # several column blocks of the weights' gradient
    ConvCase(2, 6, 7, 177, 170, 3, 3, padding=ONE),  # Winograd's weights transformed late
    ConvCase(1, 9, 9, 290, 20, 3, 3, padding=ONE),  # several row blocks of the weights' gradient
    ConvCase(3, 24, 24, 17, 19, 3, 3, padding=ONE),  # several parts of the weights' gradient; Winograd's outer schedule
    ConvCase(7, 14, 14, 16, 40, 3, 3, padding=ONE),  # several chunks of tiles
    ConvCase(1, 6, 6, 260, 260, 3, 3, padding=ONE),  # Winograd's inner schedule for its large weights
    ConvCase(1, 3, 5, 16, 1030, 3, 3, padding=ONE),  # groups of four panels
    ConvCase(1, 34, 33, 16, 16, 3, 3, padding=((2, 2), (0, 1))),  # several chunks in one image
    ConvCase(1, 30, 9, 20, 24, 5, 3, (1, 3), ((2, 1), (0, 2)), (2, 1)),
    ConvCase(2, 12, 31, 18, 34, 3, 3, (3, 2), ((1, 0), (2, 1)), (1, 2)),
    ConvCase(1, 40, 36, 3, 16, 5, 5, padding=((2, 2), (2, 2))),
    ConvCase(70, 2, 2, 40, 70, 3, 3, padding=ONE),  # many images of few pixels: one by one
    ConvCase(37, 4, 4, 64, 33, 3, 3, (2, 2), ((0, 1), (0, 1))),
    ConvCase(300, 1, 2, 33, 40, 3, 3, padding=ONE),  # several blocks of images
    ConvCase(34, 8, 8, 72, 66, 3, 3, padding=ONE),  # several column and row blocks, the last group nearly empty
    ConvCase(33, 4, 3, 64, 64, 3, 3, padding=ONE),
    ConvCase(2, 22, 19, 3, 70, 5, 5, (2, 2), ((2, 1), (0, 2)), (1, 2)),  # windows joined for the weights' gradient
    ConvCase(9, 14, 14, 200, 170, 3, 3, padding=ONE),  # Winograd's outer schedule on tile registers, large weights
    ConvCase(5, 40, 38, 70, 65, 3, 3, padding=ONE),  # several chunks of Winograd's gradient of the weights, apart
    ConvCase(13, 15, 17, 300, 290, 3, 3, padding=ONE),  # and shared
    ConvCase(1, 4, 3, 140, 100, 3, 3, padding=ONE),  # one tile, and three, of late weights in registers
    ConvCase(3, 4, 4, 140, 100, 3, 3, padding=ONE),
    ConvCase(17, 2, 2, 128, 40, 3, 3, padding=ONE),  # pixel by pixel for the weights of inference too
    ConvCase(16, 3, 4, 128, 33, 3, 3, (2, 2), ONE),
    ConvCase(2, 21, 18, 290, 170, 3, 3, padding=ONE),  # nested tiles of late weights: every corner of a chunk
    ConvCase(2, 37, 30, 40, 70, 3, 3, (2, 2), ((0, 1), (1, 1))),  # Winograd with strides of 2
    ConvCase(11, 28, 27, 130, 100, 3, 3, (2, 2), ONE),  # several chunks of it
]
LARGE_CASES = [replace(case, seed=seed) for seed, case in enumerate(LARGE_SHAPES)]


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


def integers(rng: np.random.Generator, *shape: int) -> Array:
    return rng.integers(-3, 4, shape).astype(np.float32)


def expected_forward(case: ConvCase, x: Array, w: Array) -> Expected:
    r = reference.conv2d_forward(x, w, **case.options)
    S = reference.conv2d_magnitude(x, w, **case.options)
    S_w = None
    if case.winograd_forward:
        S_w = reference.conv2d_winograd_forward(x, w, case.padding, case.strides, absolute=True)
    return Expected(r, S, case.R * case.S * case.C, S_w, case.C * case.strides[0] * case.strides[1])


def expected_backward_data(case: ConvCase, dy: Array, w: Array) -> Expected:
    r = reference.conv2d_backward_data(dy, w, case.x_shape, **case.options)
    S = reference.magnitude(reference.conv2d_backward_data, dy, w, case.x_shape, **case.options)
    S_w = winograd_backward_magnitude(case, dy, w) if case.winograd else None
    return Expected(r, S, case.R * case.S * case.K, S_w, case.K)


def winograd_backward_magnitude(case: ConvCase, dy: Array, w: Array) -> Array:
    """Return S_w of backward-data: tiles over dy, shifted by 2 - padding, which may cut rows off.

    Whole tiles at the edge also read what lies beyond the image's size in dy.
    """
    turned = w[::-1, ::-1].swapaxes(2, 3)

    def magnitude(sizes: Pair) -> Array:
        shifted = dy
        for axis, (before, _), size in zip((1, 2), case.padding, sizes, strict=True):
            shifted = np.delete(shifted, np.arange(max(before - 2, 0)), axis)
            widths = [(0, 0)] * 4
            widths[axis] = (max(2 - before, 0), size + 2)
            shifted = np.take(np.pad(shifted, widths), np.arange(size + 2), axis)
        return reference.conv2d_winograd_forward(shifted, turned, absolute=True)[:, : case.H, : case.W]

    return np.maximum(magnitude((-(-case.H // 4) * 4, -(-case.W // 4) * 4)), magnitude((case.H, case.W)))


def expected_backward_weights(case: ConvCase, x: Array, dy: Array) -> Expected:
    r = reference.conv2d_backward_weights(x, dy, case.w_shape, **case.options)
    S = reference.magnitude(reference.conv2d_backward_weights, x, dy, case.w_shape, **case.options)
    S_w = reference.conv2d_winograd_backward_weights(x, dy, case.padding, absolute=True) if case.winograd else None
    tiles = case.N * -(-case.window.P // 4) * -(-case.window.Q // 4)
    return Expected(r, S, case.N * case.window.P * case.window.Q, S_w, tiles)


class ConvData:
    """The arrays of a case and what they must give, computed once for all instruction sets and algorithms."""

    def __init__(self, case: ConvCase) -> None:
        rng = np.random.default_rng(case.seed)
        self.case = case
        self.bits = rng.integers(0, 2, 5).astype(bool)
        draw = (lambda *shape: np.abs(normal(rng, *shape))) if rng.integers(3) == 0 else (lambda *s: normal(rng, *s))
        self.x, self.w, self.dy = draw(*case.x_shape), draw(*case.w_shape), draw(*case.y_shape)
        self.bias, self.residual = normal(rng, case.K), normal(rng, *case.y_shape)
        self.before_x, self.before_w = normal(rng, *case.x_shape), normal(rng, *case.w_shape)
        # Sixteenths: x' = (x - mean) * scale + shift has no rounding error, whatever is fused.
        self.coarse = np.round(self.x * 16) / np.float32(16)
        self.prologue = (
            np.round(normal(rng, case.C) * 16) / np.float32(16),
            rng.choice(np.array([-1, 0.5, 1, 2], np.float32), case.C),
            np.round(normal(rng, case.C) * 16) / np.float32(16),
            bool(rng.integers(2)),
        )
        self.gamma, self.beta, self.mean = normal(rng, case.K), normal(rng, case.K), normal(rng, case.K)
        self.variance = (normal(rng, case.K) ** 2 + 0.01).astype(np.float32)

    @cached_property
    def plain(self) -> Expected:
        return expected_forward(self.case, self.x, self.w)

    @cached_property
    def normalised_x(self) -> Array:
        mean, scale, shift, relu = self.prologue
        x = (self.coarse.astype(np.float64) - mean) * scale + shift
        return reference.relu_forward(x) if relu else x

    @cached_property
    def normalised(self) -> Expected:
        return expected_forward(self.case, self.normalised_x, self.w)

    @cached_property
    def folded(self) -> Expected:
        scale = self.gamma / np.sqrt(self.variance.astype(np.float64) + EPSILON)
        scaled = self.plain.scaled(scale).plus(self.beta)
        return scaled.plus((self.bias - self.mean.astype(np.float64)) * scale)

    @cached_property
    def data(self) -> Expected:
        return expected_backward_data(self.case, self.dy, self.w)

    @cached_property
    def weights(self) -> Expected:
        return expected_backward_weights(self.case, self.x, self.dy)

    @cached_property
    def normalised_weights(self) -> Expected:
        return expected_backward_weights(self.case, self.normalised_x, self.dy)


def judge_conv(case: ConvCase, out: Out, on_threads: OnThreads) -> Iterator[Verdict]:
    """Yield a verdict for every operation, algorithm and instruction set; the bits of all thread counts are equal."""
    data = ConvData(case)
    variants = [forward_in_place, forward_statistics, forward_pool, forward_prologue, forward_batch_norm]
    forward = [forward_epilogue, *(variants if case in LARGE_CASES else [variants[case.seed % len(variants)]])]
    for isa in each_isa():
        for op, backward, judges in (
            ("conv2d_forward", False, forward),
            ("conv2d_backward_data", True, [backward_data]),
        ):
            for algorithm in case.algorithms(backward):
                for judge in judges:
                    yield from row(op, algorithm, isa, str(case), judge, data, algorithm, out, on_threads)
        judges = [backward_weights, backward_weights_prologue]
        for algorithm in case.gradient_algorithms():
            for judge in judges if case in LARGE_CASES else [judges[case.seed % 2]]:
                arguments = judge, data, algorithm, out, on_threads
                yield from row("conv2d_backward_weights", algorithm, isa, str(case), *arguments)


def row(op: str, algorithm: str, isa: str, case: str, judge: Judge, *arguments: Any) -> Iterator[Verdict]:
    """Yield the verdict of one judge, whose failed assertions are problems of the row."""
    try:
        yield Verdict(op, algorithm, isa, case, **judge(*arguments))
    except AssertionError as error:
        yield Verdict(op, algorithm, isa, case, problem=f"{judge.__name__}: {str(error).splitlines()[0]}")


def forward_epilogue(data: ConvData, algorithm: str, out: Out, on_threads: OnThreads) -> dict[str, Any]:
    with_bias, with_residual, with_relu = (bool(bit) for bit in data.bits[:3])
    packed = data.case.pack(data.w, algorithm, bias=data.bias if with_bias else None)
    residual = data.residual if with_residual else None

    def run() -> Array:
        y = out(data.case.y_shape)
        call("conv2d_forward", data.x, packed, y, residual=residual, relu=with_relu)
        return y

    expected = data.plain.plus(data.bias) if with_bias else data.plain
    expected = expected.plus(data.residual) if with_residual else expected
    return (expected.relu() if with_relu else expected).judge(on_threads(run), algorithm)


def forward_in_place(data: ConvData, algorithm: str, out: Out, on_threads: OnThreads) -> dict[str, Any]:
    packed = data.case.pack(data.w, algorithm, bias=data.bias)

    def run() -> Array:
        y = out(data.residual)
        call("conv2d_forward", data.x, packed, y, residual=y, relu=True)
        return y

    return data.plain.plus(data.bias).plus(data.residual).relu().judge(on_threads(run), algorithm)


def forward_statistics(data: ConvData, algorithm: str, out: Out, on_threads: OnThreads) -> dict[str, Any]:
    packed = data.case.pack(data.w, algorithm, bias=data.bias)
    blocks = packed.statistics_blocks(data.case.N)

    def run() -> tuple[Array, Array, Array]:
        y, statistics = out(data.case.y_shape), out((blocks, 2, data.case.K))
        counts = out((blocks,), np.int64)
        call("conv2d_forward", data.x, packed, y, statistics=statistics, counts=counts)
        return y, statistics, counts

    y, statistics, counts = on_threads(run)
    check_statistics(y, statistics, counts)
    return data.plain.plus(data.bias).judge(y, algorithm)


def check_special(row: str, y: Array, expected: Expected, algorithm: str) -> None:
    """Direct sums are the reference's NaN and Inf, place by place; Winograd may spread them over a tile."""
    if algorithm.startswith("winograd"):
        assert expected.S_w is not None
        assert np.all(~np.isfinite(y) | np.isfinite(expected.r)), f"{row}: a special value is lost"
        clean = np.isfinite(expected.S_w)
        assert np.all(np.isfinite(y[clean])), f"{row}: a special value leaves its tile"
        arrays = {name: getattr(expected, name)[clean] for name in ("r", "S", "S_w")}
        y, expected = y[clean], replace(expected, **arrays)
    verdict = expected.judge(y, algorithm)
    assert verdict["units"] <= verdict["gate"], row


def check_statistics(y: Array, statistics: Array, counts: Array) -> None:
    """Assert that the merged block statistics are mean and squared deviations of y, as float64 sees it."""
    values = y.reshape(-1, y.shape[-1]).astype(np.float64)
    n = len(values)
    assert counts.min() > 0, f"counts are {counts}"
    assert counts.sum() == n, f"counts {counts} of {n} pixels"
    means, squares, weights = statistics[:, 0].astype(np.float64), statistics[:, 1].astype(np.float64), counts[:, None]
    mean = (means * weights).sum(0) / n
    square = squares.sum(0) + ((means - mean) ** 2 * weights).sum(0)
    r_mean = values.mean(0)
    r_square = ((values - r_mean) ** 2).sum(0)
    gate = reference.batchnorm_gate(n)
    units = reference.error_units(mean, r_mean, np.abs(values).mean(0)).max()
    assert units <= gate, f"mean: error {units:.4g}, gate {gate:.4g}"
    # Each block's mean is stored in float32, off by up to u*|mean|: what that does to the spread between the blocks.
    off, between = reference.UNIT_ROUNDOFF * np.abs(r_mean), ((means - mean) ** 2 * weights).sum(0)
    allowed = gate * reference.UNIT_ROUNDOFF * r_square + n * off**2 + 2 * off * np.sqrt(n * between)
    worst = np.abs(square - r_square) / np.maximum(allowed, np.finfo(np.float64).tiny)
    assert worst.max() <= 1, f"squared deviations: {worst.max():.4g} times the error allowed"


def forward_pool(data: ConvData, algorithm: str, out: Out, on_threads: OnThreads) -> dict[str, Any]:
    packed = data.case.pack(data.w, algorithm, bias=data.bias)
    N, P, Q, K = data.case.y_shape
    with_relu = bool(data.bits[0])

    def run() -> tuple[Array, Array]:
        y, argmax = out((N, P // 2, Q // 2, K)), out((N, P // 2, Q // 2, K), np.uint8)
        call("conv2d_forward", data.x, packed, y, relu=with_relu, pool=True, argmax=argmax)
        alone = out(y.shape)
        call("conv2d_forward", data.x, packed, alone, relu=with_relu, pool=True)
        assert same_bits(alone, y), "argmax changes the maxima"
        return y, argmax

    y, argmax = on_threads(run)
    whole = out(data.case.y_shape)
    call("conv2d_forward", data.x, packed, whole)
    candidates = windows_2x2(whole)
    best = candidates.max(axis=3)
    plain = data.plain.plus(data.bias)
    expected = (plain.relu() if with_relu else plain).pooled()
    assert argmax.max(initial=0) < 4, "places beyond the window"
    if algorithm == "gemm batched" and P * Q <= 4:  # sums of single pixels leave out padding, so they round otherwise
        at = np.take_along_axis(windows_2x2(plain.r), argmax[:, :, :, None].astype(np.int64), axis=3)[:, :, :, 0]
        places = replace(plain.pooled(), r=at).judge(best, algorithm)
        assert places["units"] <= 2 * places["gate"], "places of the maxima differ"
        return expected.judge(y, algorithm)
    assert same_bits(y, reference.relu_forward(best).astype(np.float32) if with_relu else best), "maxima differ"
    if algorithm.startswith("gemm"):
        assert np.array_equal(argmax, candidates.argmax(axis=3)), "places of the maxima differ"
    else:  # the place is that of the maximum before the bias, of which sums with the bias may tie
        at = np.take_along_axis(candidates, argmax[:, :, :, None].astype(np.int64), axis=3)[:, :, :, 0]
        assert np.array_equal(at, best), "places of the maxima differ"
    return expected.judge(y, algorithm)


def forward_prologue(data: ConvData, algorithm: str, out: Out, on_threads: OnThreads) -> dict[str, Any]:
    packed = data.case.pack(data.w, algorithm)

    def run() -> Array:
        y = out(data.case.y_shape)
        call("conv2d_forward", data.coarse, packed, y, prologue=data.prologue)
        return y

    return data.normalised.judge(on_threads(run), algorithm)


def forward_batch_norm(data: ConvData, algorithm: str, out: Out, on_threads: OnThreads) -> dict[str, Any]:
    batch_norm = (data.gamma, data.beta, data.mean, data.variance, EPSILON)
    packed = data.case.pack(data.w, algorithm, bias=data.bias, batch_norm=batch_norm)

    def run() -> Array:
        y = out(data.case.y_shape)
        call("conv2d_forward", data.x, packed, y, relu=True)
        return y

    return data.folded.relu().judge(on_threads(run), algorithm)


def backward_data(data: ConvData, algorithm: str, out: Out, on_threads: OnThreads) -> dict[str, Any]:
    packed = data.case.pack(data.w, algorithm, backward_data=True)
    accumulate = bool(data.bits[3])

    def run() -> Array:
        dx = out(data.before_x) if accumulate else out(data.case.x_shape)
        call("conv2d_backward_data", data.dy, packed, dx, accumulate=accumulate)
        return dx

    expected = data.data.plus(data.before_x) if accumulate else data.data
    return expected.judge(on_threads(run), algorithm)


def backward_weights(data: ConvData, algorithm: str, out: Out, on_threads: OnThreads) -> dict[str, Any]:
    options = {"accumulate": bool(data.bits[4]), "algorithm": algorithm, **data.case.options}

    def run() -> Array:
        dw = out(data.before_w) if options["accumulate"] else out(data.case.w_shape)
        call("conv2d_backward_weights", data.x, data.dy, dw, **options)
        return dw

    expected = data.weights.plus(data.before_w) if options["accumulate"] else data.weights
    return expected.judge(on_threads(run), algorithm)


def backward_weights_prologue(data: ConvData, algorithm: str, out: Out, on_threads: OnThreads) -> dict[str, Any]:
    options = {"algorithm": algorithm, "prologue": data.prologue, **data.case.options}

    def run() -> Array:
        dw = out(data.case.w_shape)
        call("conv2d_backward_weights", data.coarse, data.dy, dw, **options)
        return dw

    return data.normalised_weights.judge(on_threads(run), algorithm)


def judge_conv_exact(case: ConvCase, out: Out) -> Iterator[Verdict]:
    """Yield verdicts on small integers, where every order of summation is exact: bits, and the adjoint identities.

    <conv(x, w), g> = <x, backward_data(g, w)> = <w, backward_weights(x, g)> needs no reference at all.
    """
    rng = np.random.default_rng(case.seed)
    x, w, g = integers(rng, *case.x_shape), integers(rng, *case.w_shape), integers(rng, *case.y_shape)
    bias, residual = integers(rng, case.K), integers(rng, *case.y_shape)
    before_x, before_w = integers(rng, *case.x_shape), integers(rng, *case.w_shape)
    r = reference.conv2d_forward(x, w, **case.options)
    r_data = reference.conv2d_backward_data(g, w, case.x_shape, **case.options)
    r_weights = reference.conv2d_backward_weights(x, g, case.w_shape, **case.options)
    for isa in each_isa():
        y, added = out(case.y_shape), out(residual)
        call("conv2d_forward", x, case.pack(w, "gemm"), y)
        call("conv2d_forward", x, case.pack(w, "gemm", bias=bias), added, residual=added)
        dx, more_dx = out(case.x_shape), out(before_x)
        turned = case.pack(w, "gemm", backward_data=True)
        call("conv2d_backward_data", g, turned, dx)
        call("conv2d_backward_data", g, turned, more_dx, accumulate=True)
        dw, more_dw = out(case.w_shape), out(before_w)
        call("conv2d_backward_weights", x, g, dw, algorithm="gemm", **case.options)
        call("conv2d_backward_weights", x, g, more_dw, accumulate=True, algorithm="gemm", **case.options)
        products = [np.vdot(a.astype(np.float64), b) for a, b in ((y, g), (dx, x), (dw, w))]
        for op, results in {
            "conv2d_forward": [(y, r), (added, r + bias + residual)],
            "conv2d_backward_data": [(dx, r_data), (more_dx, r_data + before_x)],
            "conv2d_backward_weights": [(dw, r_weights), (more_dw, r_weights + before_w)],
        }.items():
            exact = all(np.array_equal(found, wanted) for found, wanted in results)
            yield Verdict(op, "gemm", isa, str(case), problem="" if exact else "integers are not exact")
        equal = products[0] == products[1] == products[2]
        problem = "" if equal else f"<y, g>, <x, dx>, <w, dw> are {products}"
        yield Verdict("conv2d adjoint", "gemm", isa, str(case), problem=problem)
