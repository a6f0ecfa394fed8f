"""Model files for the tests of formats, which share their helpers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy as reference_numpy

from fastcnn.formats.safetensors import write

sys.path.insert(0, str(Path(__file__).parent))
from safetensors_files import random_array  # isort: skip


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
