"""Batch normalisation against the float64 reference, on every instruction set, channel tail and thread count."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcnn import _core, reference

Array = NDArray[Any]
NAN, INF = np.nan, np.inf
EPSILON = 1e-3
U = reference.UNIT_ROUNDOFF

IMAGES = [(2, 3, 5), (1100,)]  # x without its channels; the second has three blocks of rows


def channels() -> list[int]:
    lanes = _core.lanes()
    return sorted({1, lanes - 1, lanes, lanes + 1, 33})


def shapes() -> list[tuple[int, ...]]:
    """Return every image with every channel tail, many channels, and sizes that keep all threads busy."""
    tails = [(*image, C) for image in IMAGES for C in channels()]
    return [*tails, (2, 1), (1, 1, 2, 3), (3, 511), (70, 513), (3, 28, 29, 24), (2, 5, 7, 600)]


def normal(*shape: int, seed: int = 0, mean: float = 0.0, std: float = 1.0) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * std + mean).astype(np.float32)


def rows_of(x: Array) -> int:
    return int(np.prod(x.shape[:-1]))


def statistics(x: Array, out: Callable[..., Array]) -> tuple[Array, Array]:
    blocks = _core.batchnorm_blocks(rows_of(x), x.shape[-1])
    slots, counts = out((blocks, 2, x.shape[-1])), out((blocks,), np.int64)
    _core.batchnorm_statistics(x, slots, counts)
    return slots, counts


def units(y: Array, r: Array, S: Array) -> float:
    return float(np.max(reference.error_units(y, r, S), initial=0))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (3.0, 0.1), (1e4, 1e-2), (-1e-3, 1e-6)])
def test_statistics_and_merge(
    isa: str, out: Callable[..., Array], on_threads: Callable[..., Any], mean: float, std: float
) -> None:
    for shape in shapes():
        x = normal(*shape, mean=mean, std=std)
        C = shape[-1]
        old_mean, old_variance = normal(C, seed=1), np.abs(normal(C, seed=2))

        def run(x: Array = x, C: int = C, old: tuple[Array, Array] = (old_mean, old_variance)) -> tuple[Array, ...]:
            slots, counts = statistics(x, out)
            assert counts.sum() == rows_of(x)
            got_mean, inv_std, moving_mean, moving_variance = out((C,)), out((C,)), out(old[0]), out(old[1])
            _core.batchnorm_merge(
                slots,
                counts,
                got_mean,
                inv_std,
                epsilon=1e-12,
                momentum=0.9,
                moving_mean=moving_mean,
                moving_variance=moving_variance,
            )
            return got_mean, inv_std, moving_mean, moving_variance

        got_mean, inv_std, moving_mean, moving_variance = on_threads(run)
        gate = reference.batchnorm_gate(rows_of(x))
        r_mean, r_variance = reference.batchnorm_statistics(x)
        absolute, _ = reference.batchnorm_statistics(np.abs(x))
        # means of blocks are rounded to float32, thus off by U*absolute: 2*(x - mean) times that, and its square
        variance_S = r_variance + absolute * np.sqrt(r_variance) + U * absolute**2
        assert units(got_mean, r_mean, absolute) <= gate
        r_inv_std = 1 / np.sqrt(r_variance + 1e-12)
        assert units(inv_std, r_inv_std, r_inv_std + 0.5 * r_inv_std**3 * variance_S) <= gate
        r = reference.batchnorm_moving_average(old_mean, r_mean, 0.9)
        assert units(moving_mean, r, np.abs(old_mean) + absolute) <= gate
        r = reference.batchnorm_moving_average(old_variance, r_variance, 0.9)
        assert units(moving_variance, r, old_variance + variance_S) <= gate


def test_variance_of_values_far_from_zero(isa: str, out: Callable[..., Array]) -> None:
    # one block, whose squares are of exact differences; several, whose means are rounded to float32
    for rows, gate in [(512, reference.batchnorm_gate(512) * U), (4096, 2e-3)]:
        x = normal(rows, 33, mean=1e4, std=1e-2)
        slots, counts = statistics(x, out)
        mean, inv_std = out((33,)), out((33,))
        _core.batchnorm_merge(slots, counts, mean, inv_std, epsilon=0.0)
        _, variance = reference.batchnorm_statistics(x)
        assert np.all(np.abs(inv_std * np.sqrt(variance) - 1) <= gate)
        squares = np.mean(x**2, axis=0) - np.mean(x, axis=0) ** 2  # the formula that must not be used
        assert np.any(np.abs(squares / variance - 1) > 1)


def test_constant_channels_have_no_variance(isa: str, out: Callable[..., Array]) -> None:
    x = np.tile(np.array([0.1, -7.3, 1e30, 0, 1e-40], np.float32), (3001, 1))
    slots, counts = statistics(x, out)
    mean, inv_std = out((5,)), out((5,))
    _core.batchnorm_merge(slots, counts, mean, inv_std, epsilon=EPSILON)
    assert np.array_equal(mean, x[0])
    assert np.array_equal(inv_std, np.full(5, 1 / np.sqrt(EPSILON), np.float32))


def test_merge_of_uneven_and_empty_blocks(isa: str, out: Callable[..., Array], on_threads: Callable[..., Any]) -> None:
    counts = np.array([0, 5, 0, 1, 144, 0, 7, 0], np.int64)
    for C in [*channels(), 700]:
        blocks = [normal(int(count), C, seed=i) + i for i, count in enumerate(counts)]
        slots = np.full((len(counts), 2, C), NAN, np.float32)  # what an empty block holds must not matter
        for slot, block in zip(slots, blocks, strict=True):
            if len(block):
                slot[0] = block.mean(axis=0)
                slot[1] = ((block.astype(np.float64) - slot[0]) ** 2).sum(axis=0)
        x = np.concatenate(blocks)

        def run(slots: Array = slots, C: int = C) -> tuple[Array, Array]:
            mean, inv_std = out((C,)), out((C,))
            _core.batchnorm_merge(slots, counts, mean, inv_std, epsilon=EPSILON)
            return mean, inv_std

        mean, inv_std = on_threads(run)
        r_mean, r_variance = reference.batchnorm_statistics(x)
        gate = reference.batchnorm_gate(len(x))
        assert units(mean, r_mean, reference.batchnorm_statistics(np.abs(x))[0]) <= gate
        r = 1 / np.sqrt(r_variance + EPSILON)
        assert units(inv_std, r, r) <= gate


def test_merge_of_one_row_gives_back_its_statistics(isa: str, out: Callable[..., Array]) -> None:
    slots = np.stack([normal(33), np.abs(normal(33, seed=1))])[None]
    mean, inv_std = out((33,)), out((33,))
    _core.batchnorm_merge(slots, np.ones(1, np.int64), mean, inv_std, epsilon=EPSILON)
    assert np.array_equal(mean, slots[0, 0])
    r = 1 / np.sqrt(slots[0, 1].astype(np.float64) + EPSILON)
    assert np.all(reference.error_ulps(inv_std, r) <= 0.5)


@pytest.mark.parametrize(("with_residual", "relu"), list(product([False, True], repeat=2)))
def test_forward_and_inference(
    isa: str, out: Callable[..., Array], on_threads: Callable[..., Any], with_residual: bool, relu: bool
) -> None:
    for index, shape in enumerate(shapes()):
        x, C = normal(*shape), shape[-1]
        mean, variance = normal(C, seed=1), np.abs(normal(C, seed=2))
        inv_std = (1 / np.sqrt(variance.astype(np.float64) + EPSILON)).astype(np.float32)
        gamma = normal(C, seed=3) if index % 2 else None
        beta = normal(C, seed=4) if index % 3 else None
        residual = normal(*shape, seed=5) if with_residual else None

        def run(
            x: Array = x,
            residual: Array | None = residual,
            vectors: tuple[Array, ...] = (mean, inv_std, variance),
            affine: Any = {"gamma": gamma, "beta": beta, "relu": relu},  # noqa: B006
        ) -> tuple[Array, Array]:
            mean, inv_std, variance = vectors
            y, inference, in_place = out(x.shape), out(x.shape), out(x)
            _core.batchnorm_forward(x, mean, inv_std, y, residual=residual, **affine)
            _core.batchnorm_forward(in_place, mean, inv_std, in_place, residual=residual, **affine)
            assert in_place.tobytes() == y.tobytes()
            _core.batchnorm_inference(x, mean, variance, inference, epsilon=EPSILON, residual=residual, **affine)
            if residual is not None:
                in_residual = out(residual)
                _core.batchnorm_forward(x, mean, inv_std, in_residual, residual=in_residual, **affine)
                assert in_residual.tobytes() == y.tobytes()
            return y, inference

        y, inference = on_threads(run)
        scale = np.ones(C) if gamma is None else gamma
        shift = np.zeros(C) if beta is None else beta
        more = np.zeros(1) if residual is None else residual.astype(np.float64)
        r = reference.batchnorm_inference(x, scale, shift, mean, variance, EPSILON) + more
        factor = np.abs(scale) / np.sqrt(variance.astype(np.float64) + EPSILON)
        S = factor * np.abs(x.astype(np.float64) - mean) + np.abs(shift) + np.abs(more)
        if relu:
            r = reference.relu_forward(r)
        roundings = 4 + with_residual  # scale, x - mean, product, sum
        assert units(inference, r, S) <= roundings
        assert units(y, r, S) <= roundings + 1  # inv_std


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1e4, 1e-2)])
def test_training_forward(
    isa: str, out: Callable[..., Array], on_threads: Callable[..., Any], mean: float, std: float
) -> None:
    for shape in shapes():
        x, C = normal(*shape, mean=mean, std=std), shape[-1]
        gamma, beta = normal(C, seed=3), normal(C, seed=4)

        def run(x: Array = x, C: int = C, gamma: Array = gamma, beta: Array = beta) -> Array:
            slots, counts = statistics(x, out)
            batch_mean, inv_std, y = out((C,)), out((C,)), out(x.shape)
            _core.batchnorm_merge(slots, counts, batch_mean, inv_std, epsilon=EPSILON)
            _core.batchnorm_forward(x, batch_mean, inv_std, y, gamma=gamma, beta=beta)
            return y

        r, _ = reference.batchnorm_forward(x, gamma, beta, EPSILON)
        S = reference.batchnorm_forward_magnitude(x, gamma, beta, EPSILON)
        assert units(on_threads(run), r, S) <= reference.batchnorm_gate(rows_of(x))


class Backward:
    """One backward pass: its arrays, and the reference's gradients of x, residual, gamma and beta with their S."""

    def __init__(self, shape: tuple[int, ...], relu: bool, affine: bool, frozen: bool) -> None:
        C = shape[-1]
        self.x, self.dy = normal(*shape, mean=0.5), normal(*shape, seed=1)
        self.gamma = normal(C, seed=2) if affine else None
        self.y = reference.relu_forward(normal(*shape, seed=3)).astype(np.float32) if relu else None
        self.old_dx, self.old_residual = normal(*shape, seed=4), normal(*shape, seed=5)
        gamma = np.ones(C) if self.gamma is None else self.gamma.astype(np.float64)
        if frozen:
            mean, variance = normal(C, seed=6).astype(np.float64), np.abs(normal(C, seed=7)).astype(np.float64)
        else:
            mean, variance = reference.batchnorm_statistics(self.x)
        self.mean = mean.astype(np.float32)
        self.inv_std = (1 / np.sqrt(variance + EPSILON)).astype(np.float32)
        g = self.dy.astype(np.float64) if self.y is None else reference.relu_backward(self.dy, self.y)
        self.g = g
        self.frozen = frozen
        if frozen:
            mean, gamma = self.mean.astype(np.float64), gamma
            self.r = reference.batchnorm_inference_backward(g, self.x, gamma, mean, variance, EPSILON)
            self.S = (
                np.abs(self.r[0]),
                (np.abs(g) * (np.abs(self.x) + np.abs(mean)) / np.sqrt(variance + EPSILON)).reshape(-1, C).sum(axis=0),
                np.abs(g).reshape(-1, C).sum(axis=0),
            )
        else:
            _, cache = reference.batchnorm_forward(self.x, gamma, np.zeros(C), EPSILON)
            self.r = reference.batchnorm_backward_alt(g, cache)
            self.S = reference.batchnorm_backward_magnitude(g, self.x, gamma, EPSILON)

    def run(self, **options: Any) -> None:
        _core.batchnorm_backward(
            self.x,
            options.pop("dy", self.dy),
            self.mean,
            self.inv_std,
            y=self.y,
            gamma=self.gamma,
            frozen=self.frozen,
            **options,
        )


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_backward(
    isa: str, out: Callable[..., Array], on_threads: Callable[..., Any], relu: bool, frozen: bool
) -> None:
    for index, shape in enumerate(shapes()):
        b = Backward(shape, relu, affine=index % 3 > 0, frozen=frozen)
        C = shape[-1]

        def run(b: Backward = b, C: int = C) -> tuple[Array, ...]:
            dx, dgamma, dbeta = out(b.x.shape), out((C,)), out((C,))
            b.run(dx=dx, dgamma=dgamma, dbeta=dbeta)
            in_place, g, g_gamma = out(b.dy), out(b.x.shape), out((C,))
            b.run(dy=in_place, dx=in_place, dresidual=g, dgamma=g_gamma)
            assert in_place.tobytes() == dx.tobytes()
            assert np.array_equal(g, b.g)
            assert g_gamma.tobytes() == dgamma.tobytes()
            added, added_g = out(b.old_dx), out(b.old_residual)
            b.run(dx=added, accumulate=True, dresidual=added_g, accumulate_residual=True)
            assert np.array_equal(added_g, b.old_residual + b.g.astype(np.float32))
            return dx, dgamma, dbeta, added

        dx, dgamma, dbeta, added = on_threads(run)
        gate = reference.batchnorm_gate(rows_of(b.x))
        assert units(dx, b.r[0], b.S[0]) <= gate
        assert units(dgamma, b.r[1], b.S[1]) <= gate
        assert units(dbeta, b.r[2], b.S[2]) <= gate
        assert units(added, b.old_dx + b.r[0], np.abs(b.old_dx) + b.S[0]) <= gate


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_a_relu_made_again_from_x_is_the_one_that_was(
    isa: str, out: Callable[..., Array], affine: bool, frozen: bool
) -> None:
    for shape in shapes():
        b, C = Backward(shape, relu=False, affine=affine, frozen=frozen), shape[-1]
        beta = normal(C, seed=8) if affine else None
        b.y = out(shape)
        _core.batchnorm_forward(b.x, b.mean, b.inv_std, b.y, gamma=b.gamma, beta=beta, relu=True)
        found = []
        for again in (False, True):
            gradients = {"dx": out(shape), "dresidual": out(shape), "dgamma": out((C,)), "dbeta": out((C,))}
            b.y = None if again else b.y
            b.run(beta=beta, relu=again, **gradients)
            found.append({name: gradient.tobytes() for name, gradient in gradients.items()})
        assert found[0] == found[1]


@pytest.mark.parametrize("affine", [False, True])
def test_scale_is_what_the_forward_run_multiplies_by(isa: str, out: Callable[..., Array], affine: bool) -> None:
    for C in channels():
        slots, counts = statistics(normal(6, C), out)
        gamma, mean, inv_std, scale = normal(C, seed=2) if affine else None, out((C,)), out((C,)), out((C,))
        _core.batchnorm_merge(slots, counts, mean, inv_std, epsilon=EPSILON, gamma=gamma, scale=scale)
        assert np.array_equal(scale, inv_std if gamma is None else gamma * inv_std)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_backward_of_any_wanted_gradients(isa: str, out: Callable[..., Array], relu: bool, frozen: bool) -> None:
    shape = (2, 17, 16, 33)
    b = Backward(shape, relu, affine=True, frozen=frozen)
    outputs: dict[str, tuple[int, ...]] = {"dx": shape, "dresidual": shape, "dgamma": (33,), "dbeta": (33,)}
    everything = {name: out(size) for name, size in outputs.items()}
    b.run(**everything)
    for chosen in product([False, True], repeat=4):
        wanted = {name: out(outputs[name]) for name, take in zip(outputs, chosen, strict=True) if take}
        if wanted:
            b.run(**wanted)
            for name, array in wanted.items():
                assert array.tobytes() == everything[name].tobytes()


def test_no_rows(isa: str, out: Callable[..., Array]) -> None:
    x, vector = np.zeros((0, 4, 4, 9), np.float32), np.ones(9, np.float32)
    _core.batchnorm_forward(x, vector, vector, out(x.shape))
    _core.batchnorm_inference(x, vector, vector, out(x.shape), epsilon=EPSILON)
    dgamma, dbeta = out((9,)), out((9,))
    _core.batchnorm_backward(x, x, vector, vector, dx=out(x.shape), dgamma=dgamma, dbeta=dbeta)
    assert np.all(dgamma == 0)
    assert np.all(dbeta == 0)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_non_finite_values_stay_in_their_channel_and_nothing_hides(
    isa: str, out: Callable[..., Array], value: float
) -> None:
    for C in range(1, 34):
        for c in {0, C // 2, C - 1}:
            x = normal(6, C)
            x[3, c] = value
            slots, counts = statistics(x, out)
            mean, inv_std, y, dx, inference = out((C,)), out((C,)), out(x.shape), out(x.shape), out(x.shape)
            _core.batchnorm_merge(slots, counts, mean, inv_std, epsilon=EPSILON)
            _core.batchnorm_forward(x, mean, inv_std, y, relu=True)
            _core.batchnorm_backward(x, np.ones_like(x), mean, inv_std, dx=dx)
            others = np.arange(C) != c
            for array in (mean, inv_std, y, dx):
                assert np.all(np.isfinite(array[..., others]))
                assert not np.any(np.isfinite(array[..., c]))
            zero, one = np.zeros(C, np.float32), np.ones(C, np.float32)
            _core.batchnorm_inference(x, zero, one, inference, epsilon=0.0, relu=True)
            assert np.array_equal(inference, reference.relu_forward(x), equal_nan=True)


X = normal(2, 3, 3, 5)
TWO_BLOCKS = normal(600, 5)
VECTOR = normal(5)
WALL: dict[str, tuple[dict[str, Any], set[str], set[tuple[str, str]]]] = {
    "batchnorm_statistics": (
        {"x": TWO_BLOCKS, "statistics": np.zeros((2, 2, 5), np.float32), "counts": np.zeros(2, np.int64)},
        {"statistics", "counts"},
        set(),
    ),
    "batchnorm_merge": (
        {
            "statistics": np.ones((5, 2, 5), np.float32),
            "counts": np.ones(5, np.int64),
            "epsilon": EPSILON,
            **{name: VECTOR.copy() for name in ("mean", "inv_std", "gamma", "scale", "moving_mean", "moving_variance")},
        },
        {"mean", "inv_std", "scale", "moving_mean", "moving_variance"},
        set(),
    ),
    "batchnorm_forward": (
        {
            "x": X,
            "y": X.copy(),
            "residual": X.copy(),
            **{name: VECTOR.copy() for name in ("mean", "inv_std", "gamma", "beta")},
        },
        {"y"},
        {("y", "x"), ("y", "residual")},
    ),
    "batchnorm_inference": (
        {
            "x": X,
            "y": X.copy(),
            "residual": X.copy(),
            "epsilon": EPSILON,
            **{name: np.abs(VECTOR) for name in ("moving_mean", "moving_variance", "gamma", "beta")},
        },
        {"y"},
        {("y", "x"), ("y", "residual")},
    ),
    "batchnorm_backward": (
        {
            **{name: X.copy() for name in ("x", "dy", "y", "dx", "dresidual")},
            **{name: VECTOR.copy() for name in ("mean", "inv_std", "gamma", "beta", "dgamma", "dbeta")},
        },
        {"dx", "dresidual", "dgamma", "dbeta"},
        {("dx", "dy")},
    ),
}


@pytest.mark.parametrize("op", WALL)
def test_wall(op: str, wall: Callable[..., None]) -> None:
    wall(op, *WALL[op])


def test_wall_of_one_value_per_channel() -> None:
    with pytest.raises(
        ValueError, match=r"^batchnorm_statistics: x must have at least 2 values per channel but has 1 "
    ):
        _core.batchnorm_statistics(normal(1, 1, 1, 4), np.zeros((1, 2, 4), np.float32), np.zeros(1, np.int64))


def test_wall_of_rank_and_channels() -> None:
    with pytest.raises(ValueError, match=r"^batchnorm_forward: x must be \[N, ..., C\] but is \[5\]"):
        _core.batchnorm_forward(VECTOR, VECTOR, VECTOR, VECTOR)
    empty = np.zeros((2, 0), np.float32)
    with pytest.raises(ValueError, match=r"^batchnorm_forward: x has no channels"):
        _core.batchnorm_forward(empty, empty[0], empty[0], empty)


@pytest.mark.parametrize("value", [-1e-3, NAN])
def test_wall_of_numbers(value: float) -> None:
    for op in ("batchnorm_merge", "batchnorm_inference"):
        with pytest.raises(ValueError, match=f"^{op}: epsilon must be 0 or more but is"):
            getattr(_core, op)(**{**WALL[op][0], "epsilon": value})
    with pytest.raises(ValueError, match=r"^batchnorm_merge: momentum must be within 0 to 1 but is"):
        _core.batchnorm_merge(**{**WALL["batchnorm_merge"][0], "momentum": value})


def test_wall_of_backward() -> None:
    vectors: Any = {"mean": VECTOR, "inv_std": VECTOR}
    with pytest.raises(ValueError, match=r"^batchnorm_backward: one of dx, dresidual, dgamma and dbeta must be given"):
        _core.batchnorm_backward(X, X.copy(), **vectors)
    with pytest.raises(ValueError, match=r"^batchnorm_backward: y is the ReLU's output, relu asks to make it again"):
        _core.batchnorm_backward(X, X.copy(), **vectors, y=X.copy(), relu=True, dx=X.copy())
    dy = X.copy()
    with pytest.raises(ValueError, match=r"^batchnorm_backward: dx shares memory with dy"):
        _core.batchnorm_backward(X, dy, **vectors, dx=dy, accumulate=True)


def test_wall_of_blocks() -> None:
    assert _core.batchnorm_blocks(0, 3) == 0
    with pytest.raises(ValueError, match=r"^batchnorm_blocks: rows must be 0 or more but is -1"):
        _core.batchnorm_blocks(-1, 3)
    with pytest.raises(ValueError, match=r"^batchnorm_blocks: channels must be 1 or more but is 0"):
        _core.batchnorm_blocks(3, 0)
    with pytest.raises(ValueError, match=r"^batchnorm_blocks: the sizes are too large"):
        _core.batchnorm_blocks(2**62, 2**62)
