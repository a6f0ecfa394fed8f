"""What cannot be written, and what a save that fails leaves behind."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors_files import MB

from fastcnn.formats.safetensors import read_header, read_metadata, write


def deep(axes: int) -> NDArray[Any]:
    return np.zeros((1,) * axes)


BAD_WRITES: list[tuple[dict[Any, Any], dict[Any, Any], type[Exception], str]] = [
    ({"a": [1.0]}, {}, TypeError, "tensor 'a' is a list, expected a NumPy array"),
    ({"a": np.float32(1)}, {}, TypeError, "tensor 'a' is a float32, expected a NumPy array"),
    ({"a": np.zeros(1, object)}, {}, TypeError, "tensor 'a' is object, expected one of float64, float32"),
    ({"a": np.zeros(1, complex)}, {}, TypeError, "tensor 'a' is complex128"),
    ({"a": np.array(["x"])}, {}, TypeError, "tensor 'a' is <U1"),
    ({"a": np.zeros(1, [("x", "<u2")])}, {}, TypeError, r"tensor 'a' is \[\('x', '<u2'\)\]"),
    ({1: np.zeros(1)}, {}, TypeError, "1 is a int; names and metadata are strings"),
    ({"__metadata__": np.zeros(1)}, {}, ValueError, "__metadata__ cannot be the name of a tensor"),
    ({"\ud800": np.zeros(1)}, {}, ValueError, "is not valid Unicode"),
    ({"a": deep(9)}, {}, ValueError, "tensor 'a' has 9 axes, the limit is 8"),
    ({}, {"a": 1}, TypeError, "1 is a int; names and metadata are strings"),
    ({}, {1: "a"}, TypeError, "1 is a int; names and metadata are strings"),
    ({}, {"a": None}, TypeError, "None is a NoneType"),
    ({}, {"a": "\udfff"}, ValueError, "is not valid Unicode"),
    ({}, {"fastcnn.sha256": "0" * 64}, ValueError, "metadata fastcnn.sha256 is set by write itself"),
    ({}, {"fastcnn.layout": "1"}, ValueError, "metadata fastcnn.layout is set by write itself"),
    ({}, {"a": "x" * (2 << 20)}, ValueError, "is longer than 2,097,152 bytes as JSON"),
    ({}, {str(i): "x" * (2 * MB) for i in range(5)}, ValueError, "names and metadata take .* the limit is 8,388,608"),
    ({}, {str(i): "" for i in range(32_768)}, ValueError, "a reader would refuse them"),
]


@pytest.mark.parametrize(("tensors", "metadata", "kind", "reason"), BAD_WRITES)
def test_what_cannot_be_written(path: Path, tensors: Any, metadata: Any, kind: type[Exception], reason: str) -> None:
    path.write_bytes(b"old")
    with pytest.raises(kind, match=reason) as caught:
        write(path, tensors, metadata)
    assert str(caught.value).startswith("safetensors.write: ")
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


def test_the_largest_that_can_be_written_can_be_read(path: Path) -> None:
    token = 2 << 20  # with the quotes
    metadata = {"a": "x" * (token - 2), "é": "é" * (token // 2 - 1), "q": '"' * (token // 2 - 1)}
    write(path, {"a": deep(8)}, metadata)
    assert read_metadata(path) == metadata
    many = {str(i): np.zeros(0) for i in range(32_767)}
    write(path, many, {})
    assert len(read_header(path).tensors) == 32_767


def test_a_failing_save_leaves_the_old_file(path: Path, native: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() > MB:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data) or 0

    monkeypatch.setattr(os, "fdopen", lambda descriptor, mode: io.BufferedWriter(Full(descriptor, mode)))
    with pytest.raises(OSError, match=r"No space left on device: '.*model\.safetensors'"):
        write(path, {"a": np.zeros(MB)}, {})
    assert path.read_bytes() == native
    assert os.listdir(path.parent) == [path.name]
    with pytest.raises(FileNotFoundError, match=r"the directory .*absent does not exist"):
        write(path.parent / "absent" / "a", {}, {})
