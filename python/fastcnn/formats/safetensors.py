"""safetensors, the native model file.

A file is the header's length in bytes (u64, little endian), the header, and the tensors' bytes in C order, little
endian. The header is JSON, ``{name: {"dtype": code, "shape": [...], "data_offsets": [begin, end]}, "__metadata__":
{key: string}}``; offsets count from its end (https://github.com/huggingface/safetensors).

What a model file of fastcnn holds, as composed by ``fastcnn.models.saving`` and only transported here:

- tensors ``<layer>/<variable>`` (``conv1_conv/kernel``) and, in a checkpoint, the optimizer's ``optimizer/<slot>``;
- metadata ``fastcnn.version``; ``fastcnn.config``, the model's configuration as JSON; ``fastcnn.training``, JSON of
  the compile configuration, step, epoch and seed; ``fastcnn.isa``; ``format`` where another library asks for it;
- two metadata keys owned by this module, added by ``write`` and left out of what the readers return:
  ``fastcnn.sha256``, the SHA-256 of the whole file with these 64 digits read as zeros, and ``fastcnn.layout``, the
  version of this list. A file with either must satisfy the hash, so that no damaged bit goes unseen. Files of other
  programs have neither, and only their structure is checked.

The reader trusts nothing: one strict pass over the header, which is refused unless it describes each byte after it
exactly once, before any tensor is allocated. Tensors are read straight into arrays of their own; the peak is the
file's size plus at most 64 MB.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastcnn.formats import FilePath, ModelFileError, open_regular
from fastcnn.formats.atomic import atomic_open
from fastcnn.formats.safetensors_header import (
    BFLOAT16,
    LAYOUT,
    LAYOUT_VERSION,
    MAX_HEADER_BYTES,
    NO_DIGEST,
    SHA256,
    HeaderParser,
    TensorInfo,
    compose_header,
    quote,
    storage_dtype,
)

__all__ = [
    "BFLOAT16",
    "Header",
    "ModelFile",
    "TensorInfo",
    "read",
    "read_header",
    "read_metadata",
    "sniff",
    "to_float32",
    "write",
]

_LENGTH_BYTES = 8
_CHUNK_BYTES = 1 << 20  # hashed while in the cache
_LISTED = 10  # entries per kind in a mismatch report


@dataclass(frozen=True)
class Header:
    """What a file says about itself: tensors in the header's order, metadata, and the hash it claims, if any."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    sha256: str | None


@dataclass(frozen=True)
class ModelFile:
    """The content of a file: arrays in the header's order, metadata, and the verified hash, None in foreign files."""

    tensors: dict[str, NDArray[Any]]
    metadata: dict[str, str]
    sha256: str | None


def sniff(head: bytes) -> bool:
    """Tell from a file's first bytes whether it is meant as safetensors."""
    return head[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{"


def read_header(path: FilePath) -> Header:
    """Read and check the header alone: the tensors' bytes, and so the hash, are not looked at.

    Raises ModelFileError for a malformed file, OSError for one that cannot be read.
    """
    with open_regular(path) as file:
        return _Reader(file, path).header


def read_metadata(path: FilePath) -> dict[str, str]:
    """Return the metadata without reading the tensors; raises as read_header does."""
    return read_header(path).metadata


def read(
    path: FilePath,
    expected: Mapping[str, Sequence[int]] | None = None,
    into: Callable[[], Mapping[str, NDArray[Any]]] = dict,
) -> ModelFile:
    """Read a file into memory of its own; bfloat16 tensors come as BFLOAT16, see to_float32.

    expected maps each tensor's name to its shape; any difference is reported, all in one error, before tensors are
    allocated. Then `into` is called: a tensor of the shape and type of the array that it gives under the tensor's name
    is read there, and that array is returned; after an error it may hold anything. Raises ModelFileError for a
    malformed, damaged or unexpected file, OSError for one that cannot be read.
    """
    with open_regular(path) as file:
        reader = _Reader(file, path)
        if expected is not None:
            _check_expected(path, reader.header.tensors, expected)
        return reader.read_tensors(into())


def write(path: FilePath, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write a file atomically, with its hash; float, integer, bool and BFLOAT16 arrays of any layout and byte order.

    Raises TypeError and ValueError for what the format cannot hold, before anything is written; OSError with path.
    """
    # Wider types first: with a header of a multiple of 8 bytes each tensor is aligned for readers that map the file.
    order = sorted(tensors, key=lambda name: -storage_dtype(name, tensors[name]).itemsize)
    header = compose_header(tensors, metadata, order)
    start = len(header).to_bytes(_LENGTH_BYTES, "little") + header
    digest = hashlib.sha256(start)
    with atomic_open(path) as file:
        file.write(start)
        for name in order:
            array = np.asarray(tensors[name], dtype=storage_dtype(name, tensors[name]), order="C")
            data = _bytes_of(array)
            for begin in range(0, len(data), _CHUNK_BYTES):
                chunk = data[begin : begin + _CHUNK_BYTES]
                digest.update(chunk)
                file.write(chunk)
        file.seek(start.index(NO_DIGEST))
        file.write(digest.hexdigest().encode())


def to_float32(name: str, array: NDArray[Any]) -> NDArray[np.float32]:
    """Return a weight as float32: itself if it is one, float16, BFLOAT16 and float64 converted with a warning.

    Raises ModelFileError for other types and for finite float64 numbers beyond float32's range.
    """
    dtype = array.dtype.newbyteorder("=")
    if dtype == np.float32:
        return array.astype(np.float32, copy=False)
    if dtype == BFLOAT16:
        converted = _bfloat16_to_float32(array)
    elif dtype in (np.float16, np.float64):
        with np.errstate(all="ignore"):
            converted = array.astype(np.float32)
        lost = np.isinf(converted) & np.isfinite(array)
        if lost.any():
            value = float(array[lost][0])
            raise ModelFileError(f"weight {quote(name)} holds {value:g}, beyond the range of float32 (3.40282e+38)")
    else:
        raise ModelFileError(f"weight {quote(name)} is {array.dtype}, expected float32, float16, bfloat16 or float64")
    kind = "bfloat16" if dtype == BFLOAT16 else str(dtype)
    # Without the name, so that Python's default filter shows it once and not once per weight.
    warnings.warn(f"{kind} weights are converted to float32", stacklevel=2)
    return converted


def _bfloat16_to_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """Widen: a bfloat16 is the upper half of a float32."""
    bits = array["bfloat16"].astype(np.uint32)
    bits <<= 16
    return bits.view(np.float32)


def _bytes_of(array: NDArray[Any]) -> memoryview:
    """View a C-contiguous array as bytes."""
    return array.reshape(-1).view(np.uint8).data


class _Reader:
    """An open file whose header has been read and checked."""

    def __init__(self, file: io.FileIO, path: FilePath) -> None:
        self._file = file
        self._path = os.fspath(path)
        self._digest = None
        available = os.fstat(file.fileno()).st_size - _LENGTH_BYTES
        if available < len("{}"):
            self._fail("is empty or too short for a safetensors header")
        start = self._take(_LENGTH_BYTES)
        length = int.from_bytes(start, "little")
        if length > MAX_HEADER_BYTES:
            self._fail(f"the header is said to take {length:,} bytes, the limit is {MAX_HEADER_BYTES:,}")
        if length > available:
            self._fail(f"the header is said to take {length:,} bytes but only {available:,} follow")
        text = self._take(length)
        parser = HeaderParser(self._path, text)
        self._check_coverage(parser.tensors, available - length)
        sha256 = parser.metadata.pop(SHA256, None)
        layout = parser.metadata.pop(LAYOUT, None)
        if layout is not None and sha256 is None:
            self._fail(f"has {LAYOUT} but no {SHA256}: the file is damaged or was changed by another program")
        if layout not in (None, LAYOUT_VERSION):
            self._fail(f"has {LAYOUT} {quote(layout)}, this version of fastcnn reads {LAYOUT_VERSION!r}")
        if sha256 is not None:
            begin, end = parser.sha256_span
            if not re.fullmatch("[0-9a-f]{64}", sha256) or text[begin:end] != sha256.encode():
                self._fail(f"{SHA256} is not a SHA-256 of 64 lower-case hexadecimal digits")
            self._digest = hashlib.sha256(start)
            for part in (text[:begin], NO_DIGEST, text[end:]):
                self._digest.update(part)
        self.header = Header(parser.tensors, parser.metadata, sha256)

    def read_tensors(self, into: Mapping[str, NDArray[Any]]) -> ModelFile:
        arrays = {}
        for name, info in _by_position(self.header.tensors):
            array = into.get(name)
            if array is None or array.shape != info.shape or array.dtype != info.dtype:
                array = np.empty(info.shape, info.dtype)
            data = _bytes_of(array)
            self._fill(data)
            # NumPy computes wrongly with a bool that is neither 0 nor 1.
            if info.dtype == np.bool_ and array.size and np.asarray(data).max() > 1:
                self._fail(f"tensor {quote(name)} is BOOL but holds a byte other than 0 and 1")
            arrays[name] = array
        if self._digest is not None and self._digest.hexdigest() != self.header.sha256:
            self._fail(
                "the content does not match its hash: the file is damaged, or another program changed it and kept "
                f"{SHA256} and {LAYOUT} in the metadata"
            )
        tensors = {name: arrays[name] for name in self.header.tensors}
        return ModelFile(tensors, self.header.metadata, self.header.sha256)

    def _check_coverage(self, tensors: Mapping[str, TensorInfo], size: int) -> None:
        """Require that the tensors follow one another without hole or overlap from byte 0 to the end of the file."""
        position = 0
        for name, info in _by_position(tensors):
            if info.begin != position:
                what = "leaves a hole before" if info.begin > position else "overlaps the tensor before"
                self._fail(f"tensor {quote(name)} {what}: it begins at byte {info.begin:,}, expected {position:,}")
            position = info.end
        if position != size:
            self._fail(f"the tensors take {position:,} bytes but {size:,} follow the header")

    def _take(self, size: int) -> bytes:
        data = bytearray(size)
        self._fill(memoryview(data))
        return bytes(data)

    def _fill(self, data: memoryview) -> None:
        position = 0
        while position < len(data):
            try:
                count = self._file.readinto(data[position : position + _CHUNK_BYTES])
            except OSError as error:
                raise OSError(error.errno, error.strerror, self._path) from error
            if not count:
                self._fail("became shorter while it was read")
            if self._digest is not None:
                self._digest.update(data[position : position + count])
            position += count

    def _fail(self, reason: str) -> NoReturn:
        raise ModelFileError(f"{self._path}: {reason}")


def _by_position(tensors: Mapping[str, TensorInfo]) -> list[tuple[str, TensorInfo]]:
    return sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end))


def _check_expected(path: FilePath, tensors: Mapping[str, TensorInfo], expected: Mapping[str, Sequence[int]]) -> None:
    """Collect every difference in names and shapes into one ModelFileError."""
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    reports = [
        [f"missing: {quote(name)}{_nearest(name, unexpected)}" for name in missing],
        [f"unexpected: {quote(name)}" for name in unexpected],
        [
            f"of another shape: {quote(name)} is {list(tensors[name].shape)} in the file, expected {list(shape)}"
            for name, shape in expected.items()
            if name in tensors and tensors[name].shape != tuple(shape)
        ],
    ]
    if any(reports):
        lines = []
        for report in reports:
            lines += report[:_LISTED]
            if len(report) > _LISTED:
                lines.append(f"and {len(report) - _LISTED:,} more {report[0].partition(':')[0]}")
        raise ModelFileError(f"{os.fspath(path)}: the tensors do not fit the model\n  " + "\n  ".join(lines))


def _nearest(name: str, candidates: list[str]) -> str:
    short = [candidate for candidate in candidates[:1000] if len(candidate) < 100]  # the search is quadratic
    near = difflib.get_close_matches(name, short, n=1)
    return f" (nearest in the file: {quote(near[0])})" if near else ""
