"""bench_layers.py: every layer of a network has its row, and the table is one of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fastcnn.benchmark.roof import Roof

BENCH = Path(__file__).resolve().parents[1] / "bench"
if not BENCH.is_dir():
    pytest.skip("needs bench/ of the source tree", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import bench_layers  # noqa: E402


def test_every_layer_is_measured_inside_its_network() -> None:
    rows = bench_layers.measure("resnet18", 32, 1, 1, Roof(100.0, 10.0))
    assert sum(row["count"] for row in rows if row.get("operation") == "conv2d_forward") == 20
    assert sum(row["count"] for row in rows if row.get("operation") == "dense_forward") == 1
    assert all(row["seconds"] > 0 for row in rows if row["count"])
    lines = bench_layers.table(rows).splitlines()
    assert any(line.startswith("32x32x3 -> 64, 7x7 s2") for line in lines)
