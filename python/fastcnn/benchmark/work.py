"""One operation of one layer three ways: fastcnn's kernel, float32 NumPy, the float64 reference; their results judged.

The kernel runs as the only step of a program, on arrays of the engine's memory. Weights are packed beforehand in the
forward pass, as in inference, and anew at every call in the backward passes, as in training. Bounds are those of the
tests: an error of at most `gate` in units of u*S, see `fastcnn.reference.error`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn import _core, reference
from fastcnn.benchmark import numpy32
from fastcnn.benchmark.layers import Convolution, GlobalPooling, Normalization, Pooling, Product, Shape

Array = NDArray[Any]

FORWARD = "forward"
BACKWARD = "backward"


@dataclass(frozen=True)
class Bound:
    """What a result may differ from `exact` by: `gate` in units of u*S; S None means not at all."""

    exact: Array
    S: Array | None = None
    gate: float = 0.0
    terms: int = 0

    def error(self, y: Array) -> float:
        """Return the largest error of y as a share of what is allowed; above 1 is wrong."""
        if self.S is None:
            return 0.0 if np.array_equal(y, self.exact) else math.inf
        return float(reference.error_units(y, self.exact, self.S, self.terms).max(initial=0.0)) / self.gate


@dataclass
class Work:
    """One operation to be timed. `flops` are those of the direct formula, 0 where moving bytes is all the work.

    `ours` and `numpy` fill `outputs` of their own from the same inputs; `exact` makes the reference's result.
    """

    operation: str
    algorithm: str
    flops: int
    nbytes: int  # each input and output once
    ours: Callable[[], None]
    our_outputs: list[Array]
    numpy: Callable[[], None]
    numpy_outputs: list[Array]
    exact: Callable[[], object]
    bounds: Callable[[object], tuple[list[Bound], list[Bound]]]  # of `exact`'s result: ours, NumPy's

    def errors(self, exact: object) -> tuple[float, float]:
        """Run fastcnn and NumPy, and return their largest errors as shares of what is allowed."""
        ours, numpys = self.bounds(exact)
        for call, outputs in ((self.ours, self.our_outputs), (self.numpy, self.numpy_outputs)):
            for output in outputs:
                output.fill(np.nan)
            call()
        pairs = ((self.our_outputs, ours), (self.numpy_outputs, numpys))
        first, second = (max(b.error(y) for y, b in zip(*pair, strict=True)) for pair in pairs)
        return first, second


def works(shape: Shape, batch: int, direction: str) -> Iterator[Work]:
    """Yield the operations of a layer in one direction ("forward" or "backward"), each with arrays of its own."""
    makers: dict[tuple[type, str], Callable[[Any, int], Iterator[Work]]] = {
        (Convolution, FORWARD): _conv2d_forward,
        (Convolution, BACKWARD): _conv2d_backward,
        (Pooling, FORWARD): _pool_forward,
        (Pooling, BACKWARD): _pool_backward,
        (GlobalPooling, FORWARD): _global_forward,
        (GlobalPooling, BACKWARD): _global_backward,
        (Normalization, FORWARD): _batchnorm_forward,
        (Normalization, BACKWARD): _batchnorm_backward,
        (Product, FORWARD): _dense_forward,
        (Product, BACKWARD): _dense_backward,
    }
    return makers[type(shape), direction](shape, batch)


def _memory(*shape: int, dtype: Any = np.float32) -> Array:
    """Return an array of the engine's memory, as programs have it."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    array: Array = _core.Arena(size).bytes()[:size].view(dtype).reshape(shape)
    return array


def _normal(*shape: int, seed: int = 0) -> Array:
    array = _memory(*shape)
    np.random.default_rng(seed).standard_normal(shape, np.float32, out=array)
    return array


def _nbytes(*arrays: Array) -> int:
    return sum(array.nbytes for array in arrays)


def _program(append: Callable[[_core.Program], None], *versions: NDArray[np.int64]) -> Callable[[], None]:
    """Return a call that runs a program; it raises the versions first, so that weights are packed anew."""
    program = _core.Program()
    append(program)

    def call() -> None:
        for version in versions:
            version += 1
        program.run()

    return call


# -- convolution -------------------------------------------------------------------------------------------------------


def _packed(shape: Convolution, w: Array, backward_data: bool, versions: list[NDArray[np.int64]]) -> Any:
    return _core.PackedConv2D(
        w,
        (shape.H, shape.W),
        strides=shape.strides,
        padding=shape.padding,
        backward_data=backward_data,
        versions=versions,
    )


def _conv2d_arrays(shape: Convolution, batch: int) -> tuple[Array, Array, tuple[int, ...]]:
    x = _normal(batch, shape.H, shape.W, shape.C)
    w = _normal(shape.R, shape.S, shape.C, shape.K, seed=1)
    return x, w, (batch, *shape.output, shape.K)


def _products(
    exact: Array, magnitude: Callable[[], Array], terms: int, winograd: tuple[Array, int] | None
) -> tuple[list[Bound], list[Bound]]:
    """Return the bounds of sums of `terms` products; of Winograd's with S_w over that many channels or tiles."""
    direct = Bound(exact, magnitude(), reference.gate(terms), terms)
    ours = Bound(exact, winograd[0], reference.winograd_gate(winograd[1]), terms) if winograd else direct
    return [ours], [direct]


def _conv2d_forward(shape: Convolution, batch: int) -> Iterator[Work]:
    x, w, y_shape = _conv2d_arrays(shape, batch)
    options: Any = {"strides": shape.strides, "padding": shape.padding}
    packed, y, z = _packed(shape, w, False, []), _memory(*y_shape), _memory(*y_shape)
    x64, w64 = x.astype(np.float64), w.astype(np.float64)

    def bounds(exact: Any) -> tuple[list[Bound], list[Bound]]:
        winograd = None
        if packed.algorithm == "winograd":
            S = reference.conv2d_winograd_forward(x64, w64, shape.padding, shape.strides, absolute=True)
            winograd = S, shape.C * math.prod(shape.strides)
        terms = shape.R * shape.S * shape.C
        return _products(exact, lambda: reference.conv2d_magnitude(x64, w64, **options), terms, winograd)

    yield Work(
        "conv2d_forward",
        packed.algorithm,
        2 * batch * shape.macs,
        _nbytes(x, w, y),
        _program(lambda program: program.conv2d_forward(x, packed, y)),
        [y],
        numpy32.conv2d_forward(x, w, z, shape.strides, shape.padding),
        [z],
        lambda: reference.conv2d_forward(x64, w64, **options),
        bounds,
    )


def _conv2d_backward(shape: Convolution, batch: int) -> Iterator[Work]:
    """Yield backward-data, unless x is a picture, and backward-weights."""
    x, w, y_shape = _conv2d_arrays(shape, batch)
    dy = _normal(*y_shape, seed=2)
    x64, w64, dy64 = (array.astype(np.float64) for array in (x, w, dy))
    options: Any = {"strides": shape.strides, "padding": shape.padding}
    if shape.C > 3:
        version = np.zeros(1, np.int64)
        packed, dx, dz = _packed(shape, w, True, [version]), _memory(*x.shape), _memory(*x.shape)

        def bounds(exact: Any) -> tuple[list[Bound], list[Bound]]:
            winograd = None
            if packed.algorithm == "winograd":
                S = reference.conv2d_winograd_backward_data(dy64, w64, x.shape, shape.padding, absolute=True)
                winograd = S, shape.K

            def magnitude() -> Array:
                return reference.magnitude(reference.conv2d_backward_data, dy64, w64, x.shape, **options)

            return _products(exact, magnitude, shape.R * shape.S * shape.K, winograd)

        yield Work(
            "conv2d_backward_data",
            packed.algorithm,
            2 * batch * shape.macs,
            _nbytes(dy, w, dx),
            _program(lambda program: program.conv2d_backward_data(dy, packed, dx), version),
            [dx],
            numpy32.conv2d_backward_data(dy, w, dz, shape.strides, shape.padding),
            [dz],
            lambda: reference.conv2d_backward_data(dy64, w64, x.shape, **options),
            bounds,
        )
        del dx, dz
    dw, dv = _memory(*w.shape), _memory(*w.shape)

    algorithm = _core.conv2d_algorithms((shape.H, shape.W), w.shape, backward_weights=True, batch=batch, **options)[0]

    def weights_bounds(exact: Any) -> tuple[list[Bound], list[Bound]]:
        winograd = None
        if algorithm == "winograd":
            S = reference.conv2d_winograd_backward_weights(x64, dy64, shape.padding, absolute=True)
            winograd = S, batch * -(-y_shape[1] // 4) * -(-y_shape[2] // 4)

        def magnitude() -> Array:
            return reference.magnitude(reference.conv2d_backward_weights, x64, dy64, w.shape, **options)

        return _products(exact, magnitude, math.prod(y_shape[:3]), winograd)

    yield Work(
        "conv2d_backward_weights",
        algorithm,
        2 * batch * shape.macs,
        _nbytes(x, dy, dw),
        _program(lambda program: program.conv2d_backward_weights(x, dy, dw, **options)),
        [dw],
        numpy32.conv2d_backward_weights(x, dy, dv, shape.strides, shape.padding),
        [dv],
        lambda: reference.conv2d_backward_weights(x64, dy64, w.shape, **options),
        weights_bounds,
    )


# -- pooling -----------------------------------------------------------------------------------------------------------


def _pool_forward(shape: Pooling, batch: int) -> Iterator[Work]:
    x = _normal(batch, shape.H, shape.W, shape.C)
    y_shape = (batch, *shape.output, shape.C)
    y, z, x64 = _memory(*y_shape), _memory(*y_shape), x.astype(np.float64)
    window = (shape.pool, shape.strides, shape.padding)
    options: Any = {"pool_size": shape.pool, "strides": shape.strides, "padding": shape.padding}
    if shape.kind == "max":
        yield Work(
            "max_pool2d_forward",
            "",
            0,
            _nbytes(x, y),
            _program(lambda program: program.max_pool2d_forward(x, y, **options)),
            [y],
            numpy32.max_pool2d_forward(x, z, *window),
            [z],
            lambda: reference.max_pool_forward(x64, *window)[0],
            lambda exact: ([Bound(exact)], [Bound(exact)]),  # type: ignore[arg-type]
        )
    else:
        yield Work(
            "average_pool2d_forward",
            "",
            0,
            _nbytes(x, y),
            _program(lambda program: program.average_pool2d_forward(x, y, **options)),
            [y],
            numpy32.average_pool2d_forward(x, z, *window),
            [z],
            lambda: reference.average_pool_forward(x64, *window),
            lambda exact: _sums(exact, reference.average_pool_forward(np.abs(x64), *window), math.prod(shape.pool)),
        )


def _sums(exact: Any, S: Array, terms: int) -> tuple[list[Bound], list[Bound]]:
    bound = Bound(exact, S, reference.gate(terms), terms)
    return [bound], [bound]


def _pool_backward(shape: Pooling, batch: int) -> Iterator[Work]:
    x = _normal(batch, shape.H, shape.W, shape.C)
    dy = _normal(batch, *shape.output, shape.C, seed=1)
    dx, dz, dy64 = _memory(*x.shape), _memory(*x.shape), dy.astype(np.float64)
    window = (shape.pool, shape.strides, shape.padding)
    options: Any = {"pool_size": shape.pool, "strides": shape.strides, "padding": shape.padding}
    terms = math.prod(shape.pool)
    if shape.kind == "max":
        argmax = _memory(*dy.shape, dtype=np.uint8)
        np.copyto(argmax, reference.max_pool_forward(x, *window)[1], casting="unsafe")
        places = argmax.astype(np.int64)
        yield Work(
            "max_pool2d_backward",
            "",
            0,
            _nbytes(dy, argmax, dx),
            _program(lambda program: program.max_pool2d_backward(dy, argmax, dx, **options)),
            [dx],
            numpy32.max_pool2d_backward(dy, argmax, dz, *window),
            [dz],
            lambda: reference.max_pool_backward(dy64, places, x.shape, *window),
            lambda exact: _sums(exact, reference.max_pool_backward(np.abs(dy64), places, x.shape, *window), terms),
        )
    else:
        yield Work(
            "average_pool2d_backward",
            "",
            0,
            _nbytes(dy, dx),
            _program(lambda program: program.average_pool2d_backward(dy, dx, **options)),
            [dx],
            numpy32.average_pool2d_backward(dy, dz, *window),
            [dz],
            lambda: reference.average_pool_backward(dy64, x.shape, *window),
            lambda exact: _sums(exact, reference.average_pool_backward(np.abs(dy64), x.shape, *window), terms),
        )


def _global_forward(shape: GlobalPooling, batch: int) -> Iterator[Work]:
    x = _normal(batch, shape.H, shape.W, shape.C)
    y, z, x64 = _memory(batch, shape.C), _memory(batch, shape.C), x.astype(np.float64)
    yield Work(
        "global_average_pool2d_forward",
        "",
        0,
        _nbytes(x, y),
        _program(lambda program: program.global_average_pool2d_forward(x, y)),
        [y],
        numpy32.global_average_pool2d_forward(x, z),
        [z],
        lambda: reference.global_average_pool_forward(x64),
        lambda exact: _sums(exact, reference.global_average_pool_forward(np.abs(x64)), shape.H * shape.W),
    )


def _global_backward(shape: GlobalPooling, batch: int) -> Iterator[Work]:
    x_shape = (batch, shape.H, shape.W, shape.C)
    dy = _normal(batch, shape.C)
    dx, dz, dy64 = _memory(*x_shape), _memory(*x_shape), dy.astype(np.float64)
    yield Work(
        "global_average_pool2d_backward",
        "",
        0,
        _nbytes(dy, dx),
        _program(lambda program: program.global_average_pool2d_backward(dy, dx)),
        [dx],
        numpy32.global_average_pool2d_backward(dy, dz),
        [dz],
        lambda: reference.global_average_pool_backward(dy64, x_shape),
        lambda exact: _sums(exact, reference.global_average_pool_backward(np.abs(dy64), x_shape), 1),
    )


# -- batch normalisation -----------------------------------------------------------------------------------------------


def _batchnorm_forward(shape: Normalization, batch: int) -> Iterator[Work]:
    """Yield the training pass: statistics, their merge and the normalisation, three steps."""
    C = shape.C
    x, gamma, beta = _normal(batch, shape.H, shape.W, C), _normal(C, seed=1), _normal(C, seed=2)
    y, z, x64 = _memory(*x.shape), _memory(*x.shape), x.astype(np.float64)
    rows = batch * shape.H * shape.W
    blocks = _core.batchnorm_blocks(rows, C)
    statistics, counts = _memory(blocks, 2, C), _memory(blocks, dtype=np.int64)
    mean, inv_std = _memory(C), _memory(C)

    def append(program: _core.Program) -> None:
        program.batchnorm_statistics(x, statistics, counts)
        program.batchnorm_merge(statistics, counts, mean, inv_std, epsilon=shape.epsilon)
        program.batchnorm_forward(x, mean, inv_std, y, gamma=gamma, beta=beta)

    def bounds(exact: Any) -> tuple[list[Bound], list[Bound]]:
        S = reference.batchnorm_forward_magnitude(x64, gamma, beta, shape.epsilon)
        bound = Bound(exact, S, reference.batchnorm_gate(rows))
        return [bound], [bound]

    yield Work(
        "batchnorm_forward",
        "",
        0,
        _nbytes(x, y),
        _program(append),
        [y],
        numpy32.batchnorm_forward(x, gamma, beta, z, shape.epsilon),
        [z],
        lambda: reference.batchnorm_forward(x64, gamma, beta, shape.epsilon)[0],
        bounds,
    )


def _batchnorm_backward(shape: Normalization, batch: int) -> Iterator[Work]:
    C = shape.C
    x, dy, gamma = _normal(batch, shape.H, shape.W, C), _normal(batch, shape.H, shape.W, C, seed=1), _normal(C, seed=2)
    x64, dy64 = x.astype(np.float64), dy.astype(np.float64)
    mean64, variance64 = reference.batchnorm_statistics(x64)
    mean, inv_std = mean64.astype(np.float32), (1 / np.sqrt(variance64 + shape.epsilon)).astype(np.float32)
    dx, dgamma, dbeta = ours = [_memory(*x.shape), _memory(C), _memory(C)]
    numpys = [_memory(*x.shape), _memory(C), _memory(C)]
    _, cache = reference.batchnorm_forward(x64, gamma, np.zeros(C), shape.epsilon)

    def append(program: _core.Program) -> None:
        program.batchnorm_backward(x, dy, mean, inv_std, gamma=gamma, dx=dx, dgamma=dgamma, dbeta=dbeta)

    def bounds(exact: Any) -> tuple[list[Bound], list[Bound]]:
        S = reference.batchnorm_backward_magnitude(dy64, x64, gamma, shape.epsilon)
        gate = reference.batchnorm_gate(batch * shape.H * shape.W)
        both = [Bound(r, s, gate) for r, s in zip(exact, S, strict=True)]
        return both, both

    yield Work(
        "batchnorm_backward",
        "",
        0,
        _nbytes(x, dy, dx),
        _program(append),
        list(ours),
        numpy32.batchnorm_backward(x, dy, mean, inv_std, gamma, *numpys),
        numpys,
        lambda: reference.batchnorm_backward(dy64, cache),
        bounds,
    )


# -- dense layers ------------------------------------------------------------------------------------------------------


def _dense_forward(shape: Product, batch: int) -> Iterator[Work]:
    x, w = _normal(batch, shape.C), _normal(shape.C, shape.K, seed=1)
    y, z = _memory(batch, shape.K), _memory(batch, shape.K)
    x64, w64 = x.astype(np.float64), w.astype(np.float64)
    yield _product(
        "dense_forward",
        (x, w, y),
        _program(lambda program: program.dense_forward(x, w, y)),
        numpy32.dense_forward(x, w, z),
        z,
        (reference.dense_forward, x64, w64),
        shape.C,
    )


def _dense_backward(shape: Product, batch: int) -> Iterator[Work]:
    x, w, dy = _normal(batch, shape.C), _normal(shape.C, shape.K, seed=1), _normal(batch, shape.K, seed=2)
    dx, dz = _memory(batch, shape.C), _memory(batch, shape.C)
    x64, dy64 = x.astype(np.float64), dy.astype(np.float64)
    yield _product(
        "dense_backward_data",
        (dy, w, dx),
        _program(lambda program: program.dense_backward_data(dy, w, dx)),
        numpy32.dense_backward_data(dy, w, dz),
        dz,
        (reference.dense_backward_data, dy64, w.astype(np.float64)),
        shape.K,
    )
    dw, dv = _memory(shape.C, shape.K), _memory(shape.C, shape.K)
    yield _product(
        "dense_backward_weights",
        (x, dy, dw),
        _program(lambda program: program.dense_backward_weights(x, dy, dw)),
        numpy32.dense_backward_weights(x, dy, dv),
        dv,
        (reference.dense_backward_weights, x64, dy64),
        batch,
    )


def _product(
    operation: str,
    arrays: tuple[Array, Array, Array],
    ours: Callable[[], None],
    numpy: Callable[[], None],
    numpy_output: Array,
    exact: tuple[Callable[..., Array], Array, Array],
    terms: int,
) -> Work:
    """Return the work of a matrix product; arrays are its two factors and fastcnn's output."""
    call, a, b = exact
    flops = 2 * terms * arrays[2].size
    return Work(
        operation,
        "gemm",
        flops,
        _nbytes(*arrays),
        ours,
        [arrays[2]],
        numpy,
        [numpy_output],
        lambda: call(a, b),
        lambda r: _sums(r, reference.magnitude(call, a, b), terms),
    )
