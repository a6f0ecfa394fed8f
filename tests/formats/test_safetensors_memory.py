"""What reading and writing a model file takes in memory, hostile ones included."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors_files import MB, META, entry, raw

from fastcnn.formats import ModelFileError
from fastcnn.formats.safetensors import read, write


def peak(path: Path, expected: dict[str, tuple[int, ...]] | None = None) -> int:
    """Return the peak of Python's and NumPy's allocations while a file is read or refused."""
    tracemalloc.start()
    try:
        read(path, expected)
    except ModelFileError:
        pass
    finally:
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return size


def test_reading_takes_the_size_of_the_file(path: Path) -> None:
    write(path, {"a": np.zeros(5 * MB, np.float32), "b": np.zeros((2, MB), np.int32), "c": np.zeros(MB, bool)}, {})
    assert peak(path) < path.stat().st_size + 1 * MB


def test_writing_takes_no_memory(path: Path) -> None:
    tensors = {"a": np.zeros(5 * MB, np.float32)}
    tracemalloc.start()
    write(path, tensors, {})
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size < 1 * MB


def test_unexpected_sizes_are_not_allocated(path: Path) -> None:
    path.write_bytes(raw({"a": entry([2**30], 0, 2**32)}))
    os.truncate(path, path.stat().st_size + 2**32)  # a sparse file: a few bytes on disk
    assert peak(path, {"a": (10,)}) < 1 * MB


HUGE = 8 << 20
EXPENSIVE: dict[str, Any] = {
    "strings": {META: {"abcd"[i]: "😀" + "x" * ((2 << 20) - 10) for i in range(3)}},
    "metadata": {META: {str(i): "x" * 200 for i in range(32_000)}},
    "tensors": {f"é{i}": entry([257] * 7 + [0], 0, 0, "U8") for i in range(8_000)},  # a quarter of the limit
    "escapes": b'{"__metadata__":{"a":"' + b"\\u0100" * ((2 << 20) // 6 - 1) + b'"}}',
    "open escapes": b'{"' + b"\\n" * (HUGE // 2 - 1),
    "space": b"{" + b" " * (HUGE - 2) + b"}",
    "numbers": b'{"a":{"dtype":"U8","shape":[' + b"1," * (HUGE // 2 - 50),
}


@pytest.mark.parametrize("what", EXPENSIVE)
def test_no_header_costs_more_than_64_mb(path: Path, what: str) -> None:
    path.write_bytes(raw(EXPENSIVE[what]))
    assert path.stat().st_size > 0.5 * MB
    assert peak(path) < (64 * MB if what != "tensors" else 16 * MB)
