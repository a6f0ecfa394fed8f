"""Every kind of damage to a model file is detected by its hash."""

from __future__ import annotations

import hashlib
import random
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors as reference
import safetensors.numpy as reference_numpy
from safetensors_files import assert_same, put, raw

from fastcnn.formats import ModelFileError
from fastcnn.formats.safetensors import read, read_header, read_metadata, write


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
