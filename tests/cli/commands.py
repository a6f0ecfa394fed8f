"""Pictures, a network that takes no time, and two ways to run a command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastcnn import cli
from fastcnn.layers import Conv2D, Dense, GlobalAveragePooling2D, Input, Layer, Rescaling
from fastcnn.models import Model, Sequential

CLASSES = ("blue", "green", "red")


def draw(folder: Path, count: int) -> Path:
    """Make pictures whose colour is their class."""
    random = np.random.default_rng(1)
    for channel, name in enumerate(reversed(CLASSES)):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 100, (40, 36, 3), dtype=np.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def small_network(name: str, size: int, classes: int, augmentation: Sequence[Layer] = ()) -> Model:
    """Return a network that takes no time, for tests of what is around it."""
    layers: list[Any] = [
        Input((size, size, 3)),
        *augmentation,
        Rescaling(1 / 127.5, offset=-1),
        Conv2D(4, 3, strides=2, name="conv"),
    ]
    return Sequential([*layers, GlobalAveragePooling2D(), Dense(classes, activation="softmax", name="head")], name=name)


def run_process(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "fastcnn", *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code, done.stderr
    return done


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    assert cli.main(arguments) == code
    captured = capsys.readouterr()
    return captured.out, captured.err
