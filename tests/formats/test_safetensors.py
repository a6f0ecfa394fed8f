"""The native model file: both directions against the reference package, every kind of damage, and hostile headers."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import random
import re
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors as reference
import safetensors.numpy as reference_numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastcnn.formats import ModelFileError, safetensors
from fastcnn.formats.safetensors import BFLOAT16, read, read_header, read_metadata, to_float32, write

MB = 1_000_000
CODES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": BFLOAT16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def random_array(code: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
    """Return an array of random bits: every NaN, infinity and denormal may occur."""
    dtype = np.dtype(CODES[code])
    bits = rng.integers(0, 2 if code == "BOOL" else 256, (*shape, dtype.itemsize), dtype=np.uint8)
    return bits.view(dtype).reshape(shape)


def all_types() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(1)
    tensors = {}
    for code in reversed(CODES):
        for shape in ((), (1,), (0,), (3, 0, 2), (3,), (3, 1, 5)):
            tensors[f"layer_{code.lower()}/{len(tensors)}"] = random_array(code, shape, rng)
    return tensors


def raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """Return a file of this header, taken as it is if it is bytes, with a lie about its length if one is given."""
    text = header if isinstance(header, bytes) else json.dumps(header, ensure_ascii=False).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def put(path: Path, data: bytes) -> None:
    """Replace a file's content in place: some file systems sync one that was emptied first, which makes loops slow."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.pwrite(descriptor, data, 0)
    os.ftruncate(descriptor, len(data))
    os.close(descriptor)


def entry(shape: Any, begin: Any, end: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def assert_same(got: dict[str, NDArray[Any]], expected: dict[str, NDArray[Any]]) -> None:
    """Compare names, types, shapes and bits."""
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].dtype == array.dtype, name
        assert got[name].shape == array.shape, name
        assert got[name].tobytes() == array.tobytes(), name


def flat(data: bytes) -> dict[str, tuple[str, list[int], bytes]]:
    """Return what the reference reader makes of a file."""
    return {name: (x["dtype"], list(x["shape"]), bytes(x["data"])) for name, x in reference.deserialize(data)}


def flatten(tensors: dict[str, NDArray[Any]]) -> dict[str, tuple[str, list[int], bytes]]:
    codes = {np.dtype(dtype): code for code, dtype in CODES.items()}
    return {name: (codes[x.dtype], list(x.shape), x.tobytes()) for name, x in tensors.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.fixture
def foreign() -> bytes:
    """A file of another program: no hash, so that damage can get past everything but the structure checks."""
    rng = np.random.default_rng(2)
    tensors = {"conv/kernel": random_array("F32", (3, 3, 1, 2), rng), "bn/gamma": random_array("F16", (5,), rng)}
    tensors |= {"step": random_array("I64", (), rng), "mask": random_array("BOOL", (3,), rng)}
    return bytes(reference_numpy.save(tensors, {"format": "pt", "note": 'q"\\\né'}))


@pytest.fixture
def native(path: Path) -> bytes:
    rng = np.random.default_rng(3)
    tensors = {"conv/kernel": random_array("F32", (3, 3, 1, 2), rng), "optimizer/step": np.array(7)}
    write(path, tensors, {"fastcnn.version": "1.0", "fastcnn.config": '{"layers": ["conv", "a\\"b"]}'})
    return path.read_bytes()


# ---- round trips


def test_own_round_trip(path: Path) -> None:
    tensors = all_types()
    metadata = {"fastcnn.config": '{"name": "é\\n"}', "format": "pt", "": "", "new\nline": "\x00\x1f\x7f\u2028😀"}
    write(path, tensors, metadata)
    model = read(path)
    assert_same(model.tensors, tensors)
    assert list(model.tensors) == list(tensors)
    assert list(model.metadata.items()) == list(metadata.items())
    assert read_metadata(path) == metadata
    for array in model.tensors.values():
        assert array.flags.writeable
        assert array.flags.aligned
        assert array.flags.c_contiguous
        assert array.base is None  # memory of its own, so that one kept tensor does not keep the file


def test_the_reference_reads_ours(path: Path) -> None:
    tensors = all_types()
    write(path, tensors, {"note": "é"})
    assert flat(path.read_bytes()) == flatten(tensors)
    plain = {name: array for name, array in tensors.items() if array.dtype != BFLOAT16}
    write(path, plain, {"note": "é"})
    assert_same(reference_numpy.load_file(path), plain)
    with reference.safe_open(path, "np") as file:
        assert file.metadata()["note"] == "é"


def test_ours_reads_the_reference(path: Path) -> None:
    tensors = {name: array for name, array in all_types().items() if array.dtype != BFLOAT16}
    reference_numpy.save_file(tensors, path, {"note": "é"})
    model = read(path)
    assert_same(model.tensors, tensors)
    assert model.metadata == {"note": "é"}
    assert model.sha256 is None
    reference_numpy.save_file(tensors, path)
    assert read(path).metadata == {}


def test_any_legal_spelling_of_the_header(path: Path) -> None:
    header = b"""{ "b" : {"data_offsets":[0,3],\t"shape":[ 3 ],"dtype":"U8"},
        "\\u0061\\ud83d\\ude00\xc3\xa9\\"\\\\\\/" :{"dtype":"\\u0046\\u00332", "shape" : [ ] , "data_offsets":[3,\n7]},
        "__metadata__":{"k":"\\n\xf0\x9f\x98\x80"}, "e":{"dtype":"BF16","shape":[2,0],"data_offsets":[0,0]}}  \r\n"""
    path.write_bytes(raw(header, b"\1\2\3" + np.float32(1.5).tobytes()))
    model = read(path)
    assert list(model.tensors) == ["b", 'a😀é"\\/', "e"]
    assert model.tensors["b"].tolist() == [1, 2, 3]
    assert model.tensors['a😀é"\\/'] == np.float32(1.5)  # at an odd offset in the file
    assert model.tensors['a😀é"\\/'].flags.aligned
    assert model.metadata == {"k": "\n😀"}
    assert flat(path.read_bytes()) == flatten(model.tensors)


def test_strings_that_look_like_the_place_of_the_hash(path: Path) -> None:
    zeros = "0" * 64
    write(path, {zeros: np.zeros(64, np.uint8) + ord("0")}, {zeros: zeros, "a": f'"fastcnn.sha256":"{zeros}"'})
    model = read(path)
    assert model.tensors[zeros].tobytes() == zeros.encode()
    assert model.metadata[zeros] == zeros


def test_a_file_without_tensors(path: Path) -> None:
    write(path, {}, {})
    assert read(path).tensors == {}
    path.write_bytes(raw(b"{}"))
    assert read(path).tensors == {}


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    names=st.lists(st.text(max_size=6).filter(lambda name: name != "__metadata__"), unique=True, max_size=5),
    metadata=st.dictionaries(st.text(max_size=6), st.text(max_size=12), max_size=4),
    data=st.data(),
)
def test_round_trips_of_any_names(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], metadata: dict[str, str], data: st.DataObject
) -> None:
    rng = np.random.default_rng(4)
    shapes = st.lists(st.integers(0, 3), max_size=4).map(tuple)
    codes = st.sampled_from(sorted(CODES))
    tensors = {name: random_array(data.draw(codes), data.draw(shapes), rng) for name in names}
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    write(path, tensors, metadata)
    model = read(path)
    assert_same(model.tensors, tensors)
    assert model.metadata == metadata
    assert flat(path.read_bytes()) == flatten(tensors)


def test_any_layout_and_byte_order_is_written(path: Path, tmp_path: Path) -> None:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    mapped = np.memmap(tmp_path / "mapped", np.float32, "w+", shape=(4, 6))
    mapped[:] = base
    frozen = base.copy()
    frozen.flags.writeable = False
    tensors = {
        "fortran": np.asfortranarray(base),
        "reversed": base[::-1, ::-2],
        "broadcast": np.broadcast_to(base[0], (3, 6)),
        "transposed": base.T,
        "big endian": base.astype(">f4"),
        "big endian bfloat16": np.array([1, 2], ">u2").view([("bfloat16", ">u2")]),
        "frozen": frozen,
        "mapped": mapped,
    }
    write(path, tensors, {})
    got = read(path).tensors
    for name, array in tensors.items():
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        assert got[name].tobytes() == little.tobytes(), name
        assert got[name].shape == array.shape
    assert got["big endian bfloat16"].dtype == BFLOAT16


def test_the_same_content_makes_the_same_file(path: Path, native: bytes) -> None:
    model = read(path)
    write(path, model.tensors, model.metadata)
    assert path.read_bytes() == native


def test_tensors_are_aligned_in_the_file(path: Path) -> None:
    write(path, all_types(), {})
    start = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    for info in read_header(path).tensors.values():
        assert (start + info.begin) % max(info.dtype.itemsize, 1) == 0


def test_the_header_alone(path: Path) -> None:
    write(path, {"b": np.zeros((2, 3), np.float16), "a": np.zeros(4, np.float64)}, {"k": "v"})
    header = read_header(path)
    assert {name: (info.dtype, info.shape) for name, info in header.tensors.items()} == {
        "b": (np.dtype(np.float16), (2, 3)),
        "a": (np.dtype(np.float64), (4,)),
    }
    assert (header.tensors["a"].begin, header.tensors["a"].end) == (0, 32)
    assert header.metadata == {"k": "v"}
    damaged = path.read_bytes()[:-1] + b"\xff"
    path.write_bytes(damaged)
    assert read_header(path) == header  # the hash needs the tensors
    with pytest.raises(ModelFileError, match="does not match its hash"):
        read(path)


# ---- the hash


def test_the_hash_can_be_recomputed(path: Path, native: bytes) -> None:
    digest = re.search(rb'"fastcnn.sha256":"([0-9a-f]{64})"', native)
    assert digest is not None
    assert hashlib.sha256(native.replace(digest[1], b"0" * 64)).hexdigest() == digest[1].decode()
    assert read(path).sha256 == read_header(path).sha256 == digest[1].decode()


def assert_refused(path: Path, data: bytes) -> None:
    put(path, data)
    with pytest.raises(ModelFileError, match=re.escape(str(path))):
        read(path)


def flip(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_every_single_bit_flip_is_detected(path: Path, native: bytes) -> None:
    for bit in range(8 * len(native)):
        assert_refused(path, flip(native, bit))
    assert 8 * len(native) > 2000


def test_every_single_bit_flip_is_detected_without_any_metadata(path: Path) -> None:
    write(path, {"a": np.zeros(2, np.uint8)}, {})
    data = path.read_bytes()
    for bit in range(8 * len(data)):
        assert_refused(path, flip(data, bit))


def test_every_truncation_and_extension_is_detected(path: Path, native: bytes, foreign: bytes) -> None:
    for data in (native, foreign):
        for size in range(len(data)):
            assert_refused(path, data[:size])
        for tail in (b"\0", b" ", b"\0" * 8, data):
            assert_refused(path, data + tail)


def test_random_damage_is_detected(path: Path, native: bytes) -> None:
    rng = random.Random(5)
    for _ in range(1000):
        damaged = bytearray(native)
        begin = rng.randrange(len(damaged))
        size = rng.randrange(1, 64)
        damaged[begin : begin + size] = rng.choice([rng.randbytes(size), b"\0" * size, b""])
        if damaged != native:
            assert_refused(path, bytes(damaged))


def test_swapped_blocks_are_detected(path: Path) -> None:
    write(path, {"a": np.arange(8, dtype=np.float32)}, {})
    data = path.read_bytes()
    assert_refused(path, data[:-8] + data[-4:] + data[-8:-4])


def test_a_file_changed_by_another_program(path: Path, native: bytes) -> None:
    with reference.safe_open(path, "np") as file:
        metadata = file.metadata()
    tensors = reference_numpy.load(native)
    tensors["conv/kernel"] = tensors["conv/kernel"] + 1
    reference_numpy.save_file(tensors, path, metadata)
    with pytest.raises(ModelFileError, match=r"does not match its hash: .* kept fastcnn\.sha256 and fastcnn\.layout"):
        read(path)
    del metadata["fastcnn.sha256"]
    reference_numpy.save_file(tensors, path, metadata)
    with pytest.raises(ModelFileError, match=r"has fastcnn\.layout but no fastcnn\.sha256"):
        read(path)
    del metadata["fastcnn.layout"]
    reference_numpy.save_file(tensors, path, metadata)
    assert_same(read(path).tensors, tensors)


def test_a_newer_layout_is_named(path: Path, native: bytes) -> None:
    path.write_bytes(native.replace(b'"fastcnn.layout":"1"', b'"fastcnn.layout":"2"'))
    for function in (read, read_metadata):
        with pytest.raises(ModelFileError, match=r"has fastcnn\.layout '2', this version of fastcnn reads '1'"):
            function(path)


@pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "é" * 64, '\\"' * 32])
def test_a_malformed_hash(path: Path, digest: str) -> None:
    path.write_bytes(raw({"__metadata__": {"fastcnn.sha256": digest}}))
    with pytest.raises(ModelFileError, match=r"fastcnn\.sha256 is not a SHA-256"):
        read(path)


def test_an_escaped_hash_is_refused(path: Path) -> None:
    path.write_bytes(raw(b'{"__metadata__":{"fastcnn.sha256":"\\u0061' + b"b" * 63 + b'"}}'))
    with pytest.raises(ModelFileError, match=r"fastcnn\.sha256 is not a SHA-256"):
        read(path)


# ---- hostile files

FOUR = entry([1], 0, 4)
META = "__metadata__"
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


# ---- memory


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


# ---- names and shapes asked for


def test_expected_names_and_shapes(path: Path) -> None:
    write(path, {"a/kernel": np.zeros((3, 3)), "a/bias": np.zeros(3), "s": np.zeros(())}, {})
    expected = {"a/bias": [3], "s": (), "a/kernel": (3, 3)}
    assert read(path, expected).tensors.keys() == expected.keys()
    with pytest.raises(ModelFileError) as caught:
        read(path, {"a/kernel": (3, 4), "a/biases": (3,), "zzz": (), "s": (1,)})
    assert str(caught.value).splitlines() == [
        f"{path}: the tensors do not fit the model",
        "  missing: 'a/biases' (nearest in the file: 'a/bias')",
        "  missing: 'zzz'",
        "  unexpected: 'a/bias'",
        "  of another shape: 'a/kernel' is [3, 3] in the file, expected [3, 4]",
        "  of another shape: 's' is [] in the file, expected [1]",
    ]


def test_a_long_report_is_cut(path: Path) -> None:
    path.write_bytes(raw({"n" * 10_000 + str(i): entry([0], 0, 0) for i in range(100)}))
    with pytest.raises(ModelFileError) as caught:
        read(path, {f"m{i}": (1,) for i in range(5000)})
    lines = str(caught.value).splitlines()
    assert lines[11] == "  and 4,990 more missing"
    assert lines[-1] == "  and 90 more unexpected"
    assert len(lines) == 23
    assert all(len(line) < 200 for line in lines)


# ---- to_float32


def test_float32_is_kept_bit_for_bit() -> None:
    array = random_array("F32", (1000,), np.random.default_rng(7))
    assert to_float32("a", array) is array
    swapped = to_float32("a", array.astype(">f4"))
    assert swapped.dtype == np.float32
    assert np.array_equal(swapped, array, equal_nan=True)


@pytest.mark.parametrize(("dtype", "name"), [("<f2", "float16"), (">f2", "float16"), ("<f8", "float64")])
def test_other_floats_are_converted_with_a_warning(dtype: str, name: str) -> None:
    array = np.array([1.5, -0.0, np.inf, -np.inf, np.nan, 65504, 6e-8], dtype)
    with pytest.warns(UserWarning, match=f"{name} weights are converted to float32"):
        got = to_float32("a", array)
    assert got.dtype == np.float32
    assert np.array_equal(got, array.astype(np.float32), equal_nan=True)
    assert np.signbit(got[1])


def test_every_bfloat16_is_the_upper_half_of_a_float32() -> None:
    bits = np.arange(65536, dtype=np.uint16)
    with pytest.warns(UserWarning, match="bfloat16 weights are converted to float32"):
        got = to_float32("a", bits.view(BFLOAT16).reshape(256, 256))
    assert got.shape == (256, 256)
    assert np.array_equal(got.ravel().view(np.uint32), bits.astype(np.uint32) << 16)
    with pytest.warns(UserWarning, match="bfloat16"):
        scalar = to_float32("a", np.array(0x3FC0, np.uint16).view(BFLOAT16))
    assert scalar.shape == ()
    assert scalar == 1.5


def test_the_warning_is_shown_once_for_many_weights() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for number in range(10):
            to_float32(f"layer{number}", np.zeros(3, np.float16))
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize("value", [1e39, -1e300])
def test_float64_beyond_the_range_is_refused(value: float) -> None:
    with pytest.raises(ModelFileError, match=re.escape(f"weight 'fc/bias' holds {value:g}, beyond the range")):
        to_float32("fc/bias", np.array([1.0, value]))
    with pytest.raises(ModelFileError, match="beyond the range"):
        to_float32("fc/bias", np.array(value))


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.bool_, np.complex64, object])
def test_other_weights_are_refused(dtype: type) -> None:
    with pytest.raises(ModelFileError, match=r"weight 'fc/bias' is .*, expected float32, float16, bfloat16 or float64"):
        to_float32("fc/bias", np.zeros(3, dtype))


# ---- writing


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
