"""The native model file: both directions against the reference package, names and shapes asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors as reference
import safetensors.numpy as reference_numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors_files import CODES, all_types, assert_same, entry, flat, flatten, random_array, raw

from fastcnn.formats import ModelFileError
from fastcnn.formats.safetensors import BFLOAT16, read, read_header, read_metadata, write


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
