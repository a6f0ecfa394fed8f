"""Model files: which format a file has, and the error that every reader raises.

Each format is one module of this package with ``sniff``, ``read`` and ``write``. Files are data: a reader yields names,
arrays and strings, never code, and opens nothing but the file it was given.
"""

from __future__ import annotations

import importlib
import io
import os
import stat

FilePath = str | os.PathLike[str]

FORMATS = ("safetensors", "hdf5")

_HEAD_BYTES = 512
_PICKLE = "a Python pickle"

# (offset, signature, what the file is): what users often pass, so that the refusal can name it. The first match wins.
_FOREIGN = (
    (0, b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", "a PyTorch file of the legacy kind (.pth)"),
    (0, b"\x80\x02", _PICKLE),
    (0, b"\x80\x03", _PICKLE),
    (0, b"\x80\x04", _PICKLE),
    (0, b"\x80\x05", _PICKLE),
    (257, b"ustar", "a tar archive (PyTorch files of 2016 are such)"),
    (0, b"\x93NUMPY", "a single NumPy array (.npy)"),
    (0, b"GGUF", "a GGUF file"),
    (0, b"\x1f\x8b", "gzip data"),
    (0, b"version https://git-lfs", "a Git LFS pointer instead of the file itself"),
    (0, b"<", "an HTML or XML page"),
    (0, b"{", "a JSON text"),
)


class ModelFileError(ValueError):
    """A model file is damaged, hostile, of an unknown format, or unfit for the model; names the file and the reason."""


def open_regular(path: FilePath) -> io.FileIO:
    """Open a file for unbuffered reading without ever waiting: a FIFO would block an ordinary open for ever.

    Raises OSError if it cannot be opened, ModelFileError unless it is a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "a directory" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"
        raise ModelFileError(f"{os.fspath(path)}: is {kind}, a model is a regular file")
    return io.FileIO(descriptor, "rb")


def detect(path: FilePath) -> str:
    """Name the format of a model file, one of FORMATS, by its content; a ModelFileError says what else was found."""
    with open_regular(path) as file:
        head = file.read(_HEAD_BYTES)
    for name in FORMATS:
        if importlib.import_module(f"{__name__}.{name}").sniff(head):
            return name
    raise ModelFileError(f"{os.fspath(path)}: found {_describe(head)}; supported model files: {', '.join(FORMATS)}")


def _describe(head: bytes) -> str:
    if not head:
        return "an empty file"
    if head.startswith(b"PK"):
        return _describe_zip(head)
    for offset, signature, what in _FOREIGN:
        if head.startswith(signature, offset):
            return what
    return f"no model file known here (it starts with the bytes {head[:8].hex(' ')})"


def _describe_zip(head: bytes) -> str:
    """Tell zip-based formats apart by the name of the first entry (local header: u16 length at 26, name at 30)."""
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    if name.endswith(b"/data.pkl"):
        return "a PyTorch file (.pth, a zip archive)"
    if name in (b"metadata.json", b"config.json", b"model.weights.h5"):
        return "a Keras 3 model (.keras, a zip archive)"
    if name.endswith(b".npy"):
        return "a NumPy archive (.npz, a zip archive)"
    return "a zip archive"
