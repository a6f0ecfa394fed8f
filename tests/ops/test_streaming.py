"""Results too large for caches are written past them where their memory is aligned: that changes no bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastcnn import _core

Array = np.ndarray[Any, Any]
PIXELS, K = (1, 129, 128), 128  # a little more than 8 MiB
VECTOR = 64  # bytes of the widest


def memory(shape: tuple[int, ...], aligned: bool) -> Array:
    """Return an array full of NaN that begins at a multiple of VECTOR bytes, or not."""
    size = int(np.prod(shape)) * 4
    buffer = np.full(size + 2 * VECTOR, 255, np.uint8)
    start = -buffer.ctypes.data % VECTOR + (0 if aligned else 4)
    array: Array = buffer[start : start + size].view(np.float32).reshape(shape)
    return array


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def same_where_it_lies(run: Callable[[Callable[[tuple[int, ...]], Array]], dict[str, Array]]) -> None:
    """Check that `run`, which makes its outputs by the function it is given, returns the same bits for both places."""
    plain, streamed = (run(lambda shape, aligned=aligned: memory(shape, aligned)) for aligned in (False, True))
    for name, array in plain.items():
        assert not np.any(np.isnan(array)), name
        assert array.tobytes() == streamed[name].tobytes(), name


@pytest.mark.parametrize("statistics", [False, True])
@pytest.mark.parametrize("C", [8, 200])  # one chain of sums, and several
def test_convolution(isa: str, C: int, statistics: bool) -> None:
    x, w, bias = normal(*PIXELS, C), normal(1, 1, C, K), normal(K, seed=1)
    packed = _core.PackedConv2D(w, PIXELS[1:], bias=None if statistics else bias)

    def run(make: Callable[[tuple[int, ...]], Array]) -> dict[str, Array]:
        y = make((*PIXELS, K))
        if not statistics:
            _core.conv2d_forward(x, packed, y, relu=True)
            return {"y": y}
        blocks = packed.statistics_blocks(1)
        slots, counts = np.full((blocks, 2, K), np.nan, np.float32), np.zeros(blocks, np.int64)
        _core.conv2d_forward(x, packed, y, statistics=slots, counts=counts)
        return {"y": y, "statistics": slots, "counts": counts}

    same_where_it_lies(run)


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])  # the second leaves pixels that no tap reaches
def test_gradient_of_the_data(isa: str, strides: tuple[int, int]) -> None:
    w, padding = normal(1, 1, K, 24), ((0, 0), (0, 0))
    packed = _core.PackedConv2D(w, PIXELS[1:], strides=strides, padding=padding, backward_data=True)
    dy = normal(1, *packed.output_size, 24)

    def run(make: Callable[[tuple[int, ...]], Array]) -> dict[str, Array]:
        dx = make((*PIXELS, K))
        _core.conv2d_backward_data(dy, packed, dx)
        return {"dx": dx}

    same_where_it_lies(run)


def test_batch_normalisation(isa: str) -> None:
    x, dy = normal(*PIXELS, K), normal(*PIXELS, K, seed=1)
    mean, inv_std = normal(K, seed=2), np.abs(normal(K, seed=3))

    def run(make: Callable[[tuple[int, ...]], Array]) -> dict[str, Array]:
        y, dx, dresidual = (make(x.shape) for _ in range(3))
        _core.batchnorm_forward(x, mean, inv_std, y, relu=True)
        _core.batchnorm_backward(x, dy, mean, inv_std, y=y, dx=dx, dresidual=dresidual)
        return {"y": y, "dx": dx, "dresidual": dresidual}

    same_where_it_lies(run)
