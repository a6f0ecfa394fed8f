"""Fixtures for tests of the engine: every instruction set, several thread counts, guarded outputs, the wall."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
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


@pytest.fixture(autouse=True)
def _old_names_are_told_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every test see the warnings that come once in the life of a process."""
    from fastcnn import compat

    monkeypatch.setattr(compat, "_told", set())


@pytest.fixture(scope="session")
def fashion_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files like those of Fashion-MNIST: 12 pictures of each class for training, 4 for testing."""
    folder = tmp_path_factory.mktemp("fashion")
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 120), ("t10k", 40)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = rng.integers(0, 120, (count, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 6] += 100
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes(), 1))
    return folder


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

    Each lies between guards, one item after a multiple of GUARD: no vector is aligned. A changed guard fails the test.
    """
    guards: list[Array] = []

    def make(like: Any, dtype: Any = np.float32) -> Array:
        given = isinstance(like, np.ndarray)
        shape, dtype = (like.shape, like.dtype) if given else (like, np.dtype(dtype))
        size = int(np.prod(shape)) * dtype.itemsize
        memory = np.full(size + 4 * GUARD, PATTERN, np.uint8)
        start = 2 * GUARD - memory.ctypes.data % GUARD + dtype.itemsize
        array: Array = memory[start : start + size].view(dtype).reshape(shape)
        if given:
            array[...] = like
        else:
            array[...] = np.nan if dtype.kind == "f" else np.array(-1).astype(dtype)
        guards.extend((memory[:start], memory[start + size :]))
        return array

    yield make
    for guard in guards:
        assert np.all(guard == PATTERN), "the operation wrote outside its output"


def _strided(array: Array) -> Array:
    """Return an equal array that is not C-contiguous."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def _overlapping(first: Array, second: Array) -> tuple[Array, Array]:
    """Return arrays like the two given, of more than one item, where the second starts within the first."""
    item = max(first.itemsize, second.itemsize)
    memory = np.zeros(max(first.nbytes, item + second.nbytes), np.uint8)
    return (
        memory[: first.nbytes].view(first.dtype).reshape(first.shape),
        memory[item : item + second.nbytes].view(second.dtype).reshape(second.shape),
    )


@pytest.fixture
def wall() -> Callable[..., None]:
    """Return a function that offers an operation one wrong array at a time and wants errors that name both.

    arguments are valid, keywords to arrays (of more than one item) and options; outputs names the arrays written;
    shared holds the pairs (output, input) that may be one array.
    """
    from fastcnn import _core

    def check(
        op: str,
        arguments: Mapping[str, Any],
        outputs: AbstractSet[str],
        shared: AbstractSet[tuple[str, str]] = frozenset(),
    ) -> None:
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
            array = arrays[name]
            frozen = array.copy()
            frozen.flags.writeable = False
            refused(ValueError, rf"^{op}: {name} is read-only", **{name: frozen})
            for second, other_array in arrays.items():
                if second == name:
                    continue
                both = rf"^{op}: ({name} shares memory with {second}|{second} shares memory with {name})"
                refused(ValueError, both, **dict(zip((name, second), _overlapping(array, other_array), strict=True)))
                if array.shape == other_array.shape and array.dtype == other_array.dtype:
                    same = array.copy()
                    if (name, second) in shared:
                        call(**{**arguments, name: same, second: same})
                    elif (second, name) not in shared:
                        refused(ValueError, rf"^{op}: .* shares memory with ", **{name: same, second: same})

    return check
