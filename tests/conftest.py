"""Fixtures for tests of the engine: every instruction set, several thread counts, guarded outputs, the wall."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[Any]
THREADS = (1, 2, 3)
GUARD = 64  # bytes around an output that nobody may touch
PATTERN = 0xA5


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that names the fixture isa once per instruction set of this build and CPU."""
    if "isa" in metafunc.fixturenames:
        from fastcnn import _core

        metafunc.parametrize("isa", _core.isas(), indirect=True)


@pytest.fixture
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Switch to one instruction set, and back afterwards."""
    from fastcnn import _core

    before = _core.isa()
    _core.set_isa(request.param)
    assert _core.isa() == request.param
    yield request.param
    _core.set_isa(before)


@pytest.fixture(params=THREADS)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Switch to a number of threads, and back afterwards."""
    from fastcnn import _core

    before = _core.num_threads()
    _core.set_num_threads(request.param)
    assert _core.num_threads() == request.param
    yield request.param
    _core.set_num_threads(before)


@pytest.fixture
def on_threads() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Return a function that calls its argument with 1, 2 and 3 threads, wants equal bits, and returns the result.

    The result may be an array or a tuple of arrays; they must be new arrays at each call.
    """
    from fastcnn import _core

    before = _core.num_threads()

    def run(call: Callable[[], Any]) -> Any:
        first = None
        for count in THREADS:
            _core.set_num_threads(count)
            result = call()
            arrays = result if isinstance(result, tuple) else (result,)
            bits = [array.tobytes() for array in arrays]
            if first is None:
                first = bits
            assert bits == first, f"{count} threads and {THREADS[0]} differ"
        return result

    yield run
    _core.set_num_threads(before)


@pytest.fixture
def out() -> Iterator[Callable[..., Array]]:
    """Return a function that makes outputs [shape] full of NaN (integers: -1 or 255) or copies of the array given.

    Each lies between guards at an address that is a multiple of its item size only; a changed guard fails the test.
    """
    guarded: list[tuple[Array, int]] = []

    def make(like: Any, dtype: Any = np.float32) -> Array:
        shape, dtype = (like.shape, like.dtype) if isinstance(like, np.ndarray) else (like, np.dtype(dtype))
        size = int(np.prod(shape)) * dtype.itemsize
        memory = np.full(size + 2 * GUARD, PATTERN, np.uint8)
        start = GUARD + (-memory.ctypes.data) % dtype.itemsize
        array = memory[start : start + size].view(dtype).reshape(shape)
        array[...] = like if isinstance(like, np.ndarray) else np.nan if dtype.kind == "f" else np.array(-1).astype(dtype)
        memory[:start] = memory[start + size :] = PATTERN
        guarded.append((memory, start))
        guarded.append((memory[start + size :], GUARD - (start - GUARD)))
        return array

    yield make
    for memory, size in guarded:
        assert np.all(memory[:size] == PATTERN), "the operation wrote outside its output"


def _strided(array: Array) -> Array:
    """Return an equal array that is not C-contiguous."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


@pytest.fixture
def wall() -> Callable[..., None]:
    """Return a function that offers an operation one wrong array at a time and wants errors that name both.

    arguments are valid, keywords to arrays and options; outputs names the arrays written; shared holds the pairs
    (output, input) that may be one array.
    """
    from fastcnn import _core

    def check(op: str, arguments: Mapping[str, Any], outputs: set[str], shared: set[tuple[str, str]] = frozenset()) -> None:  # type: ignore[assignment]
        arrays = {name: value for name, value in arguments.items() if isinstance(value, np.ndarray)}
        call = getattr(_core, op)
        call(**arguments)  # the arguments are valid

        def refused(error: type[Exception], sentence: str, **wrong: Array) -> None:
            with pytest.raises(error, match=sentence):
                call(**{**arguments, **wrong})

        for name, array in arrays.items():
            named = rf"^{op}: .*\b{name}\b"
            other = np.float32 if array.dtype == np.float64 else np.float64
            refused(TypeError, named, **{name: array.astype(other)})
            refused(ValueError, named + " must be C-contiguous", **{name: _strided(array)})
            refused(ValueError, rf"^{op}: ", **{name: np.zeros((*array.shape, 2), array.dtype)})
            refused(ValueError, rf"^{op}: ", **{name: np.zeros((*array.shape[:-1], array.shape[-1] + 1), array.dtype)})
            if array.itemsize > 1:
                refused(TypeError, named, **{name: array.astype(array.dtype.newbyteorder())})
                unaligned = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
                refused(ValueError, named + " must be aligned", **{name: unaligned})
        for name in outputs:
            frozen = arrays[name].copy()
            frozen.flags.writeable = False
            refused(ValueError, rf"^{op}: {name} is read-only", **{name: frozen})
            for other_name, array in arrays.items():
                if other_name == name:
                    continue
                # one more item than both need, so that each starts one item after the other
                item = max(array.itemsize, arrays[name].itemsize)
                memory = np.zeros(max(array.nbytes, arrays[name].nbytes) + item, np.uint8)
                first = memory[: array.nbytes].view(array.dtype).reshape(array.shape)
                second = memory[item : item + arrays[name].nbytes]
                if arrays[name].nbytes > 0 and array.nbytes > item:
                    overlapping = second.view(arrays[name].dtype).reshape(arrays[name].shape)
                    pair = rf"^{op}: ({name} shares memory with {other_name}|{other_name} shares memory with {name})"
                    refused(ValueError, pair, **{name: overlapping, other_name: first})
                if array.shape == arrays[name].shape and array.dtype == arrays[name].dtype:
                    same = array.copy()
                    if (name, other_name) in shared:
                        call(**{**arguments, name: same, other_name: same})
                    elif (other_name, name) not in shared:
                        refused(ValueError, rf"^{op}: .* shares memory with ", **{name: same, other_name: same})

    return check
