"""Arrays and files for the tests of the native model file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import safetensors as reference
from numpy.typing import NDArray

from fastcnn.formats.safetensors import BFLOAT16

MB = 1_000_000
META = "__metadata__"
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
