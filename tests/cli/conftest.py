"""Lets the tests of the command line share their helpers, and makes what they all read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from commands import draw, run_process  # found by the line above


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("pictures") / "all", 10)


@pytest.fixture(scope="session")
def model_file(pictures: Path) -> Path:
    """A model trained by the command, with its output beside it."""
    out = pictures.parent / "model.safetensors"
    command = [
        *("train", str(pictures), "--model", "resnet18", "--image-size", "32", "--epochs", "2", "--batch-size", "8"),
        *("--val-split", "0.2", "--out", str(out), "--seed", "5", "--test", str(pictures), "--learning-rate", "0.01"),
    ]
    lines = run_process(*command).stdout.splitlines()
    (pictures.parent / "train.txt").write_text("\n".join(lines))
    return out
