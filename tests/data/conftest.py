"""A small picture folder for the tests of fastcnn.data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes `{class: count}` PNG pictures, each of one colour given by its number."""

    def make(classes: dict[str, int], size: tuple[int, int] = (5, 4), name: str = "pictures") -> Path:
        root = tmp_path / name
        number = 0
        for folder, count in classes.items():
            (root / folder).mkdir(parents=True)
            for i in range(count):
                number += 1
                pixels = np.full((*size, 3), number, dtype=np.uint8)
                Image.fromarray(pixels).save(root / folder / f"{i:03d}.png")
        return root

    return make
