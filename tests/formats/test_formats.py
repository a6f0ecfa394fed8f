"""Recognising model files by content, and opening only regular files."""

from __future__ import annotations

import gzip
import os
import pickle
import signal
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fastcnn.formats import FORMATS, ModelFileError, detect, open_regular, safetensors


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """Turn a hang into a failure."""

    def expire(number: int, frame: object) -> None:
        raise AssertionError("still waiting after 10 seconds")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_detects_each_supported_format_whatever_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    safetensors.write(path, {"a": np.zeros(3, np.float32)}, {})
    assert detect(path) == "safetensors"
    assert detect(str(path)) == "safetensors"
    assert FORMATS == ("safetensors", "hdf5")


def test_a_damaged_length_is_left_to_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\xff" * 8 + b"{}")
    assert detect(path) == "safetensors"
    with pytest.raises(ModelFileError, match="the limit is 8,388,608"):
        safetensors.read(path)


def _zip(*names: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"\x80\x02}.")

    return make


def _bytes(content: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(content)

    return make


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "pickle")


def _npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))


def _npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


# The first of the five pickles of a legacy file, protocol 2: the magic number 0x1950A86A20F9469CFC6C.
_LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickle.dumps(1001, protocol=2)

FOREIGN: list[tuple[str, Callable[[Path], None], str]] = [
    ("torch", _zip("resnet/data.pkl", "resnet/data/0", "resnet/version"), r"a PyTorch file \(\.pth, a zip archive\)"),
    ("torch-legacy", _bytes(_LEGACY), r"a PyTorch file of the legacy kind \(\.pth\)"),
    ("keras3", _zip("metadata.json", "config.json", "model.weights.h5"), r"a Keras 3 model \(\.keras, a zip archive\)"),
    ("npz", _npz, r"a NumPy archive \(\.npz, a zip archive\)"),
    ("npy", _npy, r"a single NumPy array \(\.npy\)"),
    ("zip", _zip("readme.txt"), "a zip archive"),
    ("zip-empty", _zip(), "a zip archive"),
    ("pickle-2", _bytes(pickle.dumps({}, protocol=2)), "a Python pickle"),
    ("pickle-5", _bytes(pickle.dumps({}, protocol=5)), "a Python pickle"),
    ("tar", _tar, "a tar archive"),
    ("gzip", _bytes(gzip.compress(b"x")), "gzip data"),
    ("gguf", _bytes(b"GGUF\x03\0\0\0"), "a GGUF file"),
    ("lfs", _bytes(b"version https://git-lfs.github.com/spec/v1\n"), "a Git LFS pointer instead of the file itself"),
    ("html", _bytes(b"<!DOCTYPE html><html>Not found</html>"), "an HTML or XML page"),
    ("json", _bytes(b'{"class_name": "Sequential"}'), "a JSON text"),
    ("empty", _bytes(b""), "an empty file"),
    ("other", _bytes(b"\x01\x02 etc"), r"no model file known here \(it starts with the bytes 01 02 20 65 74 63\)"),
    ("one-byte", _bytes(b"P"), "no model file known here"),
]


@pytest.mark.parametrize(("make", "found"), [row[1:] for row in FOREIGN], ids=[row[0] for row in FOREIGN])
def test_refuses_other_formats_by_name(tmp_path: Path, make: Callable[[Path], None], found: str) -> None:
    path = tmp_path / "model.safetensors"
    make(path)
    with pytest.raises(
        ModelFileError, match=f"model.safetensors: found {found}.*; supported model files: safetensors, hdf5"
    ):
        detect(path)


@pytest.mark.parametrize("function", [detect, open_regular, safetensors.read, safetensors.read_metadata])
def test_only_regular_files_are_opened_and_nothing_waits(tmp_path: Path, function: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ModelFileError, match="fifo: is a pipe, a model is a regular file"):
        function(tmp_path / "fifo")
    with pytest.raises(ModelFileError, match="is a directory"):
        function(tmp_path)
    with pytest.raises(ModelFileError, match="/dev/zero: is a device or socket"):
        function(Path("/dev/zero"))
    with pytest.raises(FileNotFoundError, match="absent"):
        function(tmp_path / "absent")


def test_refusing_a_pipe_leaks_no_descriptor(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with pytest.raises(ModelFileError):
            open_regular(tmp_path / "fifo")
    assert len(os.listdir("/proc/self/fd")) == before
