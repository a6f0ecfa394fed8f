"""The header of a safetensors file: what it may say, reading it with suspicion, and composing it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastcnn.formats import ModelFileError

BFLOAT16 = np.dtype([("bfloat16", "<u2")])
"""How a bfloat16 tensor is held: NumPy has no such number type, and plain uint16 would pass for integers."""

_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": BFLOAT16,
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}

_METADATA = "__metadata__"
SHA256 = "fastcnn.sha256"
LAYOUT = "fastcnn.layout"
LAYOUT_VERSION = "1"
NO_DIGEST = b"0" * 64
_ALIGNMENT = 8

# Limits of a header. A hostile one within them costs at most 64 MB in Python objects; ResNet152 with Adam's two slots
# per weight needs 2,800 entries and 300 KB.
MAX_HEADER_BYTES = 8 << 20
_MAX_STRING_BYTES = 2 << 20
_MAX_ENTRIES = 32_768
_MAX_RANK = 8
_MAX_INT64 = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a header: dtype, shape, and its place in the data as byte offsets from the end of the header."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


def quote(text: str) -> str:
    """Show a string of a file: escaped, since it may hold control codes, and short, since it may be megabytes."""
    return repr(text if len(text) <= 80 else text[:80] + "...")


class HeaderParser:
    """A strict reader of the one JSON shape that a header has.

    A general parser is not used: it would build megabytes of nested objects before anything could be refused, accept
    NaN, and keep one of two equal keys.
    """

    _SPACE = re.compile(rb"[ \t\n\r]*+")
    _STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]++|\\.)*+"')
    _LIST = re.compile(rb"\[([-+.0-9A-Za-z, \t\n\r]{0,1000}+)\]")
    _INTEGER = re.compile(rb"0|[1-9][0-9]{0,18}")  # 19 digits hold every int64

    def __init__(self, path: str, text: bytes) -> None:
        self._path = path
        self._text = text
        self._position = 0
        self.tensors: dict[str, TensorInfo] = {}
        self.metadata: dict[str, str] = {}
        self.sha256_span = (0, 0)
        if not text.startswith(b"{"):
            self._fail("does not start with '{'")
        for name in self._keys():
            if name == _METADATA:
                self._parse_metadata()
            else:
                self.tensors[name] = self._tensor(name)
        self._skip_space()
        if self._position != len(text):
            self._fail("goes on after its closing '}'")

    def _parse_metadata(self) -> None:
        for key in self._keys():
            self.metadata[key] = self._string()
            if key == SHA256:
                end = self._position - len('"')
                self.sha256_span = (end - len(NO_DIGEST), end)

    def _tensor(self, name: str) -> TensorInfo:
        dtype: np.dtype[Any] | None = None
        shape: list[int] | None = None
        offsets: list[int] | None = None
        for key in self._keys():
            if key == "dtype":
                code = self._string()
                dtype = _DTYPES.get(code)
                if dtype is None:
                    self._fail(f"tensor {quote(name)} has dtype {quote(code)}, expected one of {', '.join(_DTYPES)}")
            elif key == "shape":
                shape = self._integers()
            elif key == "data_offsets":
                offsets = self._integers()
            else:
                self._fail(f"tensor {quote(name)} has an unknown key {quote(key)}")
        if dtype is None or shape is None or offsets is None or len(offsets) != 2:
            self._fail(f"tensor {quote(name)} lacks a dtype, a shape, or two data_offsets")
        if len(shape) > _MAX_RANK:
            self._fail(f"tensor {quote(name)} has {len(shape)} axes, the limit is {_MAX_RANK}")
        count = dtype.itemsize
        for size in shape:
            count *= size or 1  # a zero elsewhere in the shape excuses no overflow: NumPy would refuse it
        if count > _MAX_INT64:
            self._fail(f"tensor {quote(name)} of shape {shape} is beyond 2^63 bytes")
        nbytes = 0 if 0 in shape else count
        begin, end = offsets
        if end - begin != nbytes:
            self._fail(f"tensor {quote(name)} of shape {shape} takes {nbytes:,} bytes, its offsets are {offsets}")
        return TensorInfo(dtype, tuple(shape), begin, end)

    def _keys(self) -> Iterator[str]:
        """Yield the keys of an object; the caller consumes each value before it asks for the next key."""
        self._expect(b"{")
        seen: set[str] = set()
        if self._next_is(b"}"):
            return
        while True:
            key = self._string()
            if key in seen:
                self._fail(f"has the key {quote(key)} twice")
            seen.add(key)
            if len(seen) > _MAX_ENTRIES:
                self._fail(f"has more than {_MAX_ENTRIES:,} entries")
            self._expect(b":")
            yield key
            if self._next_is(b"}"):
                return
            self._expect(b",")

    def _integers(self) -> list[int]:
        self._skip_space()
        match = self._LIST.match(self._text, self._position)
        if match is None:
            self._fail("has no list of numbers where one is expected")
        numbers = []
        for token in match[1].split(b",") if match[1].strip() else []:
            if not self._INTEGER.fullmatch(token.strip()) or int(token) > _MAX_INT64:
                self._fail(f"has {quote(token.decode())} in a list, expected an integer from 0 to 2^63 - 1")
            numbers.append(int(token))
        self._position = match.end()
        return numbers

    def _string(self) -> str:
        self._skip_space()
        match = self._STRING.match(self._text, self._position, self._position + _MAX_STRING_BYTES)
        if match is None:
            self._fail(f"has no complete string of at most {_MAX_STRING_BYTES:,} bytes where one is expected")
        token = match.group()
        try:
            text = json.loads(token.decode()) if b"\\" in token else token[1:-1].decode()
            text.encode()  # \ud800 is valid JSON, half a character, and refused by other readers
        except ValueError as error:
            self._fail(f"has a string with a bad escape or encoding ({error})")
        self._position = match.end()
        return str(text)

    def _expect(self, token: bytes) -> None:
        if not self._next_is(token):
            self._fail(f"has no {token.decode()!r} where one is expected")

    def _next_is(self, token: bytes) -> bool:
        """Skip space, then consume the token if it is next."""
        self._skip_space()
        found = self._text.startswith(token, self._position)
        self._position += len(token) * found
        return found

    def _skip_space(self) -> None:
        match = self._SPACE.match(self._text, self._position)
        self._position = match.end() if match else self._position

    def _fail(self, reason: str) -> NoReturn:
        raise ModelFileError(f"{self._path}: the header {reason} (byte {self._position:,} of the header)")


def storage_dtype(name: str, array: NDArray[Any]) -> np.dtype[Any]:
    """Return an array's type in little-endian order; raise TypeError if the format has none for it."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"safetensors.write: tensor {name!r} is a {type(array).__name__}, expected a NumPy array")
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _CODES:
        raise TypeError(
            f"safetensors.write: tensor {name!r} is {array.dtype}, expected one of {', '.join(map(str, _CODES))}"
        )
    return dtype


def compose_header(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str], order: Sequence[str]) -> bytes:
    """Return the header, padded with spaces to a multiple of 8 bytes, with zeros for the hash.

    The two keys of this module come first: a damaged bit after them cannot hide them from the reader.
    """
    offsets = {}
    end = 0
    for name in order:
        begin, end = end, end + tensors[name].nbytes
        offsets[name] = begin, end
    if reserved := {SHA256, LAYOUT} & metadata.keys():
        raise ValueError(f"safetensors.write: metadata {min(reserved)} is set by write itself, leave it out")
    if _METADATA in tensors:
        raise ValueError(f"safetensors.write: {_METADATA} cannot be the name of a tensor")
    if max(len(tensors), len(metadata) + 2) >= _MAX_ENTRIES:
        raise ValueError(f"safetensors.write: {_MAX_ENTRIES:,} or more tensors or metadata, a reader would refuse them")
    pairs = [(SHA256, NO_DIGEST.decode()), (LAYOUT, LAYOUT_VERSION), *metadata.items()]
    entries = [
        _json_string(_METADATA) + b":{" + b",".join(_json_string(k) + b":" + _json_string(v) for k, v in pairs) + b"}"
    ]
    for name, array in tensors.items():
        if array.ndim > _MAX_RANK:
            raise ValueError(f"safetensors.write: tensor {name!r} has {array.ndim} axes, the limit is {_MAX_RANK}")
        info = {
            "dtype": _CODES[storage_dtype(name, array)],
            "shape": array.shape,
            "data_offsets": offsets[name],
        }
        entries.append(_json_string(name) + b":" + json.dumps(info, separators=(",", ":")).encode())
    header = b"{" + b",".join(entries) + b"}"
    header += b" " * (-len(header) % _ALIGNMENT)
    if len(header) > MAX_HEADER_BYTES:
        raise ValueError(
            f"safetensors.write: names and metadata take {len(header):,} bytes, the limit is {MAX_HEADER_BYTES:,}"
        )
    return header


def _json_string(text: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"safetensors.write: {text!r} is a {type(text).__name__}; names and metadata are strings")
    try:
        token = json.dumps(text, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"safetensors.write: {quote(text)} is not valid Unicode ({error.reason})") from error
    if len(token) > _MAX_STRING_BYTES:
        raise ValueError(f"safetensors.write: {quote(text)} is longer than {_MAX_STRING_BYTES:,} bytes as JSON")
    return token
