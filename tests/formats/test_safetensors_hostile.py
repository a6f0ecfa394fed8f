"""Hostile headers and mutated files: refused with a reason, or read as the reference package does."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors_files import META, assert_same, entry, flat, flatten, put, raw

from fastcnn.formats import ModelFileError, safetensors
from fastcnn.formats.safetensors import read, write

FOUR = entry([1], 0, 4)
ATTACKS: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "is empty or too short"),
    "length only": (b"\2" + b"\0" * 7, "is empty or too short"),
    "length zero": (raw(b"", b"{}"), "does not start with '{'"),
    "length beyond the file": (raw({}, length=3), "said to take 3 bytes but only 2 follow"),
    "length of 2^63": (raw({}, length=2**63), "9,223,372,036,854,775,808 bytes, the limit is 8,388,608"),
    "length of 2^64 - 1": (raw({}, length=2**64 - 1), "the limit is"),
    "length wraps around": (raw({}, length=2**64 - 8), "the limit is"),
    "length too short": (raw({"a": FOUR}, b"\0" * 4, length=20), "the header has no"),
    "length into the data": (raw({"a": FOUR}, b"\0" * 4, length=len(json.dumps({"a": FOUR})) + 2), "goes on after"),
    "header of 8 MB + 1": (raw(b"{}" + b" " * ((8 << 20) - 1)), "the limit is 8,388,608"),
    "header starts with a space": (raw(b" {}"), "does not start with '{'"),
    "header is a list": (raw([]), "does not start with '{'"),
    "header is a number": (raw(b"12"), "does not start with '{'"),
    "header is null": (raw(b"null"), "does not start with '{'"),
    "byte order mark": (raw(b"\xef\xbb\xbf{}"), "does not start with '{'"),
    "UTF-16": (raw("{}".encode("utf-16-le")), "has no complete string"),
    "invalid UTF-8": (raw(b'{"\xff":' + json.dumps(FOUR).encode() + b"}", b"\0" * 4), "bad escape or encoding"),
    "overlong UTF-8": (raw(b'{"__metadata__":{"a":"\xc0\xaf"}}'), "bad escape or encoding"),
    "surrogate as UTF-8": (raw(b'{"__metadata__":{"a":"\xed\xa0\x80"}}'), "bad escape or encoding"),
    "escaped half character": (raw(b'{"__metadata__":{"a":"\\ud800"}}'), "bad escape or encoding"),
    "unknown escape": (raw(b'{"__metadata__":{"a":"\\x41"}}'), "bad escape or encoding"),
    "control code in a string": (raw(b'{"__metadata__":{"a":"\n"}}'), "has no complete string"),
    "escaped control code": (raw(b'{"__metadata__":{"a":"\\\n"}}'), "has no complete string"),
    "open string": (raw(b'{"a'), "has no complete string"),
    "open object": (raw(b'{"__metadata__":{}'), "has no ','"),
    "open list": (raw(b'{"a":{"dtype":"F32","shape":[1'), "has no list of numbers"),
    "no colon": (raw(b'{"a"}'), "has no ':'"),
    "single quotes": (raw(b"{'a':{}}"), "has no complete string"),
    "trailing comma": (raw(b'{"__metadata__":{},}'), "has no complete string"),
    "trailing comma in a list": (raw(b'{"a":{"dtype":"F32","shape":[1,],"data_offsets":[0,4]}}', b"\0" * 4), "''"),
    "comment": (raw(b"{/**/}"), "has no complete string"),
    "text after the header": (raw(b"{} x"), "goes on after its closing"),
    "NUL after the header": (raw(b"{}\0"), "goes on after its closing"),
    "two headers": (raw(b"{}{}"), "goes on after its closing"),
    "deep lists": (raw(b'{"a":' + b"[" * 100_000), "has no '{'"),
    "deep objects": (raw(b'{"a":' * 100_000), "unknown key 'a'"),
    "deep shape": (raw({"a": entry([[1]], 0, 4)}, b"\0" * 4), "has no list of numbers"),
    "NaN": (raw(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', b"\0" * 4), "'NaN' in a list"),
    "Infinity": (raw(b'{"a":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,4]}}', b"\0" * 4), "'Infinity'"),
    "fraction": (raw({"a": entry([1.0], 0, 4)}, b"\0" * 4), "has '1.0' in a list"),
    "exponent": (raw(b'{"a":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}}', b"\0" * 4), "has '1e0' in a list"),
    "bool for an integer": (raw({"a": entry([True], 0, 4)}, b"\0" * 4), "has 'true' in a list"),
    "null for an integer": (raw({"a": entry([None], 0, 4)}, b"\0" * 4), "has 'null' in a list"),
    "string for an integer": (raw({"a": entry(["1"], 0, 4)}, b"\0" * 4), "has no list of numbers"),
    "hexadecimal": (raw(b'{"a":{"dtype":"F32","shape":[0x1],"data_offsets":[0,4]}}', b"\0" * 4), "'0x1' in a list"),
    "leading zero": (raw(b'{"a":{"dtype":"F32","shape":[01],"data_offsets":[0,4]}}', b"\0" * 4), "'01' in a list"),
    "plus sign": (raw(b'{"a":{"dtype":"F32","shape":[+1],"data_offsets":[0,4]}}', b"\0" * 4), "has '.1' in a list"),
    "digits apart": (raw(b'{"a":{"dtype":"F32","shape":[1 1],"data_offsets":[0,4]}}', b"\0" * 4), "has '1 1' in a"),
    "other digits": (raw(b'{"a":{"dtype":"F32","shape":[\xd9\xa1],"data_offsets":[0,4]}}', b"\0" * 4), "has no list"),
    "negative size": (raw({"a": entry([-1], 0, 4)}, b"\0" * 4), "has '-1' in a list"),
    "two negative sizes": (raw({"a": entry([-1, -1], 0, 4)}, b"\0" * 4), "has '-1' in a list"),
    "minus zero": (raw(b'{"a":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}'), "has '-0' in a list"),
    "negative offset": (raw({"a": entry([1], -4, 0)}, b"\0" * 4), "has '-4' in a list"),
    "shape of 2^63": (raw({"a": entry([2**63], 0, 4)}, b"\0" * 4), "expected an integer from 0 to 2.63 - 1"),
    "shape of 2^64 + 1": (raw({"a": entry([2**64 + 1], 0, 4)}, b"\0" * 4), "expected an integer from 0 to"),
    "shape of a million digits": (raw(b'{"a":{"shape":[' + b"1" * 10**6 + b"]}}"), "has no list of numbers"),
    "bytes wrap to 4": (raw({"a": entry([2**62 + 1], 0, 4)}, b"\0" * 4), "beyond 2.63 bytes"),
    "bytes wrap to 0": (raw({"a": entry([2**32, 2**32], 0, 0)}), "beyond 2.63 bytes"),
    "overflow hidden by a zero": (raw({"a": entry([0, 2**62, 2**62], 0, 0)}), "beyond 2.63 bytes"),
    "zero after an overflow": (raw({"a": entry([2**62, 2**62, 0], 0, 0)}), "beyond 2.63 bytes"),
    "nine axes": (raw({"a": entry([1] * 9, 0, 4)}, b"\0" * 4), "has 9 axes, the limit is 8"),
    "no shape": (raw({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, b"\0" * 4), "lacks a dtype, a shape, or two"),
    "no dtype": (raw({"a": {"shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4), "lacks a dtype, a shape, or two"),
    "no offsets": (raw({"a": {"dtype": "F32", "shape": [1]}}, b"\0" * 4), "lacks a dtype, a shape, or two"),
    "one offset": (raw({"a": {"dtype": "F32", "shape": [], "data_offsets": [4]}}, b"\0" * 4), "or two data_offsets"),
    "three offsets": (raw({"a": {**FOUR, "data_offsets": [0, 4, 4]}}, b"\0" * 4), "or two data_offsets"),
    "offsets reversed": (raw({"a": entry([1], 4, 0)}, b"\0" * 4), r"takes 4 bytes, its offsets are \[4, 0\]"),
    "offsets too small": (raw({"a": entry([2], 0, 4)}, b"\0" * 4), "takes 8 bytes"),
    "offsets too large": (raw({"a": entry([1], 0, 8)}, b"\0" * 8), "takes 4 bytes"),
    "offsets beyond the file": (raw({"a": entry([2], 0, 8)}, b"\0" * 4), "take 8 bytes but 4 follow the header"),
    "offsets near 2^63": (raw({"a": entry([1], 2**63 - 5, 2**63 - 1)}), "leaves a hole"),
    "offsets beyond 2^63": (raw({"a": entry([1], 2**63 - 1, 2**63 + 3)}), "expected an integer"),
    "overlap": (raw({"a": FOUR, "b": entry([1], 2, 6)}, b"\0" * 6), "'b' overlaps the tensor before"),
    "same bytes twice": (raw({"a": FOUR, "b": FOUR}, b"\0" * 4), "'b' overlaps the tensor before"),
    "one inside the other": (raw({"a": entry([4], 0, 16), "b": entry([1], 4, 8)}, b"\0" * 16), "'b' overlaps"),
    "empty tensor inside another": (raw({"a": entry([2], 0, 8), "b": entry([0], 4, 4)}, b"\0" * 8), "'b' overlaps"),
    "hole": (raw({"a": FOUR, "b": entry([1], 8, 12)}, b"\0" * 12), "'b' leaves a hole before: it begins at byte 8"),
    "hole at the start": (raw({"a": entry([1], 4, 8)}, b"\0" * 8), "'a' leaves a hole before"),
    "trailing bytes": (raw({"a": FOUR}, b"\0" * 5), "take 4 bytes but 5 follow the header"),
    "data without tensors": (raw({}, b"\0" * 4), "take 0 bytes but 4 follow the header"),
    "duplicate tensor": (
        raw(b'{"a":%s,"a":%s}' % ((json.dumps(FOUR).encode(),) * 2), b"\0" * 4),
        "has the key 'a' twice",
    ),
    "duplicate in disguise": (
        raw(b'{"a":%s,"\\u0061":%s}' % ((json.dumps(FOUR).encode(),) * 2), b"\0" * 4),
        "has the key 'a' twice",
    ),
    "duplicate key of a tensor": (
        raw(b'{"a":{"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,4]}}', b"\0" * 4),
        "has the key 'shape' twice",
    ),
    "duplicate metadata": (raw(b'{"__metadata__":{"a":"1","a":"2"}}'), "has the key 'a' twice"),
    "two metadata": (raw(b'{"__metadata__":{},"__metadata__":{}}'), "has the key '__metadata__' twice"),
    "unknown key": (raw({"a": {**FOUR, "path": "/etc/passwd"}}, b"\0" * 4), "has an unknown key 'path'"),
    "entry is a list": (raw({"a": []}), "has no '{'"),
    "entry is a string": (raw({"a": "F32"}), "has no '{'"),
    "dtype is a number": (raw({"a": entry([1], 0, 4, 32)}, b"\0" * 4), "has no complete string"),
    "dtype unknown": (raw({"a": entry([1], 0, 4, "F128")}, b"\0" * 4), "has dtype 'F128', expected one of F64, F32"),
    "dtype unsupported": (raw({"a": entry([4], 0, 4, "F8_E4M3")}, b"\0" * 4), "'F8_E4M3', expected one of F64"),
    "dtype in lower case": (raw({"a": entry([1], 0, 4, "f32")}, b"\0" * 4), "has dtype 'f32'"),
    "bool of 2": (raw({"a": entry([2], 0, 2, "BOOL")}, b"\1\2"), "is BOOL but holds a byte other than 0 and 1"),
    "metadata is a list": (raw({META: []}), "has no '{'"),
    "metadata is null": (raw({META: None}), "has no '{'"),
    "metadata is a tensor": (raw({META: FOUR}, b"\0" * 4), "has no complete string"),
    "metadata holds a number": (raw({META: {"a": 1}}), "has no complete string"),
    "metadata holds an object": (raw({META: {"a": {}}}), "has no complete string"),
    "string of 2 MB": (raw({META: {"a": "x" * (2 << 20)}}), "no complete string of at most 2,097,152 bytes"),
    "32,769 metadata": (raw({META: {str(i): "" for i in range(32_769)}}), "has more than 32,768 entries"),
    "32,769 tensors": (raw({str(i): entry([0], 0, 0) for i in range(32_769)}), "has more than 32,768 entries"),
    "escape codes in a name": (raw({"\x1b[2J" * 100: entry([2], 0, 4)}, b"\0" * 4), r"tensor '\\x1b\[2J"),
}


@pytest.mark.parametrize(("data", "reason"), ATTACKS.values(), ids=ATTACKS.keys())
def test_attacks(path: Path, data: bytes, reason: str) -> None:
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=reason) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message) < 1000
    assert message.isprintable()


def test_a_file_that_shrinks_while_it_is_read(path: Path) -> None:
    write(path, {"a": np.zeros(100_000, np.float32)}, {})

    class Shrinking(dict[str, tuple[int, ...]]):
        """Consulted between header and tensors."""

        def __iter__(self) -> Iterator[str]:
            os.truncate(path, 200_000)
            return super().__iter__()

    with pytest.raises(ModelFileError, match="became shorter while it was read"):
        read(path, Shrinking(a=(100_000,)))


def test_errors_of_the_file_system_name_the_file(path: Path, native: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(safetensors, "open_regular", Broken)
    with pytest.raises(OSError, match=r"Input/output error: '.*model\.safetensors'") as caught:
        read(path)
    assert caught.value.errno == errno.EIO


def test_short_reads_are_completed(path: Path, native: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            return super().readinto(memoryview(buffer)[:3]) or 0

    expected = read(path)
    monkeypatch.setattr(safetensors, "open_regular", Slow)
    assert_same(read(path).tensors, expected.tensors)


TOKENS = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"0", b"1", b"-1", b"4", b"8", b"9" * 19, b"1e9", b"NaN"]
TOKENS += [b"true", b"null", b'"dtype"', b'"shape"', b'"F64"', b'"F32"', b'"BF16"', b'"BOOL"', b'"data_offsets"']
TOKENS += [b'"__metadata__"', b'"fastcnn.sha256"', b'"fastcnn.layout"', b"\xff", b"\xc3\xa9", b" ", b"\n", b"\0"]


def mutate(rng: random.Random, data: bytes) -> bytes:
    """Damage a file, mostly its header, and mostly such that the length of the header still fits."""
    size = int.from_bytes(data[:8], "little")
    header, body = bytearray(data[8 : 8 + size]), bytearray(data[8 + size :])
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        tokens = list(re.finditer(rb'"[^"]*"|[0-9]+|[][{},:]', bytes(header)))
        first, second = (
            sorted(rng.sample(tokens, 2), key=lambda token: token.start()) if len(tokens) > 1 else (None,) * 2
        )
        kind = rng.randrange(7)
        if kind == 0 and first:
            header[first.start() : first.end()] = rng.choice(TOKENS)
        elif kind == 1 and first and second:
            header[second.start() : second.end()] = first.group()
        elif kind == 2 and first and second:
            header[second.start() : second.start()] = header[first.start() : second.start()]
        elif kind == 3 and first and second:
            del header[first.start() : second.start()]
        elif kind == 4 and header:
            header[rng.randrange(len(header))] = rng.randrange(256)
        elif kind == 5:
            body[rng.randrange(len(body) + 1) :] = rng.randbytes(rng.randrange(9))  # shorter, longer, or replaced
        elif first and first.group().isdigit():
            number = max(0, int(first.group()) + rng.choice([-8, -4, -1, 1, 4, 8, 2**31, 2**62, 2**63]))
            header[first.start() : first.end()] = str(number).encode()
    if rng.random() < 0.1:
        size = rng.choice([0, 1, len(header) + rng.randrange(-9, 9), 2 ** rng.randrange(64)])
        return raw(bytes(header), bytes(body), max(size, 0))
    return raw(bytes(header), bytes(body))


def test_mutations_are_refused_or_read_as_the_reference_does(path: Path, foreign: bytes, native: bytes) -> None:
    rng = random.Random(6)
    accepted = 0
    for number in range(5000):
        data = mutate(rng, foreign if number % 4 else native)
        put(path, data)
        try:
            model = read(path)
        except ModelFileError:
            pass
        else:
            accepted += 1
            assert flat(data) == flatten(model.tensors)
    assert accepted > 50  # otherwise the mutations are too crude to test anything behind the first checks
