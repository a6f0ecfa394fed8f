"""Whether this installation computes what it should on this machine: the engine against float64, threads, files.

A sample of what the tests of the source tree look at in full, for users who have the package alone.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn import _core, config, reference

Array = NDArray[np.float32]

_TEST_ISA = "avx2x16"  # sixteen lanes without AVX-512: for the tests of its loops
_CONVOLUTIONS = (  # x, w, stride, padding
    ((2, 13, 14, 32), (3, 3, 32, 48), 1, 1),
    ((2, 9, 9, 64), (1, 1, 64, 40), 1, 0),
    ((1, 23, 21, 3), (7, 7, 3, 64), 2, 3),
    ((2, 12, 12, 24), (3, 3, 24, 32), 2, 1),
)


_SOFTMAX_ULPS = 4


@dataclass(frozen=True)
class Check:
    """What was looked at, whether it is right, and the figure behind it."""

    name: str
    passed: bool
    detail: str


def run() -> Iterator[Check]:
    """Yield the checks one by one; instruction set and threads are as before at the end."""
    for isa in config.isas():
        if isa == _TEST_ISA:
            continue
        with _on(isa):
            for name, operation in _OPERATIONS.items():
                yield _compared(f"{isa} {name}", operation)
    yield _guarded("the same bits on any number of threads", _threads)
    yield _guarded("a saved model opens with the same bits", _files)
    yield _guarded("a damaged file is refused", _damage)


@contextmanager
def _on(isa: str) -> Iterator[None]:
    before = _core.isa()
    _core.set_isa(isa)
    try:
        yield
    finally:
        _core.set_isa(before)


def _guarded(name: str, check: Callable[[], tuple[bool, str]]) -> Check:
    """Return a check; what it raises is a failure like any other."""
    try:
        return Check(name, *check())
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {error}")


def _compared(name: str, operation: Callable[[], float]) -> Check:
    """Return a check of an operation that returns its worst error as a share of the bound."""

    def judge() -> tuple[bool, str]:
        share = operation()
        return share <= 1, f"{share:.2f} of the bound"

    return _guarded(name, judge)


# -- operations against the float64 reference --------------------------------------------------------------------------


def _normal(*shape: int) -> Array:
    values: Array = np.random.default_rng(len(shape) + sum(shape)).standard_normal(shape).astype(np.float32)
    return values


def _share(y: Array, r: Any, S: Any, gate: float) -> float:
    return float(reference.error_units(y, r, S).max()) / gate


def _convolutions() -> Iterator[tuple[Array, Array, dict[str, Any]]]:
    for x_shape, w_shape, stride, pad in _CONVOLUTIONS:
        options = {"strides": (stride, stride), "padding": ((pad, pad), (pad, pad))}
        yield _normal(*x_shape), _normal(*w_shape), options


def _conv2d_forward() -> float:
    worst = 0.0
    for x, w, options in _convolutions():
        r = reference.conv2d_forward(x, w, **options)
        for algorithm in _core.conv2d_algorithms(x.shape[1:3], w.shape, **options):
            y = np.empty(r.shape, np.float32)
            _core.conv2d_forward(x, _core.PackedConv2D(w, x.shape[1:3], algorithm=algorithm, **options), y)
            if algorithm == "winograd":
                S = reference.conv2d_winograd_forward(x, w, options["padding"], absolute=True)
                gate = reference.winograd_gate(w.shape[2])
            else:
                S = reference.conv2d_magnitude(x, w, **options)
                gate = reference.gate(w[..., 0].size)
            worst = max(worst, _share(y, r, S, gate))
    return worst


def _conv2d_backward() -> float:
    worst = 0.0
    for x, w, options in _convolutions():
        y = reference.conv2d_forward(x, w, **options)
        dy = _normal(*y.shape)
        dx, dw = np.empty_like(x), np.empty_like(w)
        packed = _core.PackedConv2D(w, x.shape[1:3], backward_data=True, algorithm="gemm", **options)
        _core.conv2d_backward_data(dy, packed, dx)
        _core.conv2d_backward_weights(x, dy, dw, **options)
        r = reference.conv2d_backward_data(dy, w, x.shape, **options)
        S = reference.magnitude(reference.conv2d_backward_data, dy, w, x.shape, **options)
        worst = max(worst, _share(dx, r, S, reference.gate(w[:, :, 0].size)))
        r = reference.conv2d_backward_weights(x, dy, w.shape, **options)
        S = reference.magnitude(reference.conv2d_backward_weights, x, dy, w.shape, **options)
        worst = max(worst, _share(dw, r, S, reference.gate(dy[..., 0].size)))
    return worst


def _dense() -> float:
    x, w = _normal(5, 301), _normal(301, 70)
    y = np.empty((5, 70), np.float32)
    _core.dense_forward(x, w, y)
    r = reference.dense_forward(x, w)
    return _share(y, r, reference.magnitude(reference.dense_forward, x, w), reference.gate(301))


def _max_pooling() -> float:
    x = _normal(2, 11, 13, 20)
    window, strides, padding = (3, 3), (2, 2), ((1, 1), (1, 1))
    r = reference.max_pool_forward(x, window, strides, padding)[0]
    y = np.empty(r.shape, np.float32)
    _core.max_pool2d_forward(x, y, pool_size=window, strides=strides, padding=padding)
    return 0.0 if np.array_equal(y, r) else np.inf  # no arithmetic, no error


def _batch_normalization() -> float:
    x, dy, gamma, beta = _normal(3, 7, 7, 24), _normal(3, 7, 7, 24), _normal(24), _normal(24)
    rows = x[..., 0].size
    blocks = _core.batchnorm_blocks(rows, 24)
    statistics, counts = np.empty((blocks, 2, 24), np.float32), np.empty(blocks, np.int64)
    mean, inv_std, y, dx = (np.empty(shape, np.float32) for shape in ((24,), (24,), x.shape, x.shape))
    _core.batchnorm_statistics(x, statistics, counts)
    _core.batchnorm_merge(statistics, counts, mean, inv_std, epsilon=1e-3)
    _core.batchnorm_forward(x, mean, inv_std, y, gamma=gamma, beta=beta)
    _core.batchnorm_backward(x, dy, mean, inv_std, gamma=gamma, dx=dx)
    r, cache = reference.batchnorm_forward(x, gamma, beta, 1e-3)
    gate = reference.batchnorm_gate(rows)
    forward = _share(y, r, reference.batchnorm_forward_magnitude(x, gamma, beta, 1e-3), gate)
    S = reference.batchnorm_backward_magnitude(dy, x, gamma, 1e-3)[0]
    return max(forward, _share(dx, reference.batchnorm_backward(dy, cache)[0], S, gate))


def _softmax() -> float:
    x = _normal(6, 10) * 4
    y = np.empty_like(x)
    _core.softmax_forward(x, y)
    r = reference.softmax_forward(x)
    return float(reference.error_ulps(y, r).max()) / _SOFTMAX_ULPS


_OPERATIONS: dict[str, Callable[[], float]] = {
    "convolution forward": _conv2d_forward,
    "convolution backward": _conv2d_backward,
    "dense": _dense,
    "max pooling": _max_pooling,
    "batch normalisation, forward and backward": _batch_normalization,
    "softmax": _softmax,
}


# -- the whole ---------------------------------------------------------------------------------------------------------


def _model() -> Any:
    """Return a small network of all common layers, trained for a few steps; always the same one."""
    from fastcnn import layers
    from fastcnn.models import Sequential

    model = Sequential(
        [
            layers.Input((12, 12, 3), name="pictures"),
            layers.Conv2D(16, 3, padding="same", use_bias=False, kernel_initializer=_initializer(), name="conv1"),
            layers.BatchNormalization(name="bn"),
            layers.ReLU(name="relu"),
            layers.MaxPooling2D(2, name="pool"),
            layers.Conv2D(24, 1, strides=2, activation="relu", kernel_initializer=_initializer(), name="conv2"),
            layers.GlobalAveragePooling2D(name="mean"),
            layers.Dense(4, activation="softmax", kernel_initializer=_initializer(), name="head"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    for _ in range(3):
        model.train_on_batch(_normal(8, 12, 12, 3), np.arange(8) % 4)
    return model


def _initializer() -> Any:
    from fastcnn import initializers

    return initializers.GlorotUniform(seed=1)


def _bits(model: Any) -> bytes:
    return b"".join(weight.tobytes() for weight in model.get_weights())


def _threads() -> tuple[bool, str]:
    counts = range(1, min(4, os.cpu_count() or 1) + 1)
    found = []
    for count in counts:
        with config.threads(count):
            model = _model()
            found.append(_bits(model) + model.predict(_normal(8, 12, 12, 3), verbose=0).tobytes())
    return all(bits == found[0] for bits in found), f"1 to {counts[-1]} threads, three training steps"


def _files() -> tuple[bool, str]:
    from fastcnn.models import load_model

    model = _model()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model.save(path)
        return _bits(load_model(path)) == _bits(model), f"{path.stat().st_size:,} bytes"


def _damage() -> tuple[bool, str]:
    from fastcnn.formats import ModelFileError
    from fastcnn.models import load_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        _model().save(path)
        content = bytearray(path.read_bytes())
        content[-5] ^= 16
        path.write_bytes(content)
        try:
            load_model(path)
        except ModelFileError as error:
            return True, str(error).replace(f"{path}: ", "")
        return False, "it was loaded"
