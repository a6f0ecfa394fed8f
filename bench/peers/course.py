"""A course of training that several engines run alike: the same first weights, pictures, order and learning rate.

A folder holds `data.npz` (pictures [N,H,W] of bytes, labels) and, for each seed, `weights-<seed>.npz` in Keras' names
and layouts, "<layer>.<position in its get_weights()>". NumPy alone, for it is read in the engines' environments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PREDICTED = 100  # pictures at a time

Array = NDArray[np.float32]
Labels = NDArray[np.int64]


def prepared(pictures: NDArray[np.uint8]) -> Array:
    """Returns grey pictures [N,H,W] of bytes as [N,H,W,3] of -1..1."""
    grey = pictures.astype(np.float32) / np.float32(127.5) - np.float32(1)
    return np.repeat(grey[..., None], 3, axis=3)


@dataclass(frozen=True)
class Course:
    """Where a course lies, and how many of its steps are taken with how many pictures each."""

    folder: Path
    seed: int
    steps: int
    batch: int

    def batches(self) -> Iterator[tuple[Array, Labels]]:
        """Yields x [batch,H,W,3] and y of every step: all pictures in an order of the seed, again where they end."""
        with np.load(self.folder / "data.npz") as data:
            x, y = data["x"], data["y"]
        if len(x) < self.batch:
            raise ValueError(f"course: {len(x)} pictures are fewer than a batch of {self.batch}")
        random = np.random.Generator(np.random.Philox(key=self.seed))
        order: Labels = np.zeros(0, np.int64)
        for _ in range(self.steps):
            if len(order) < self.batch:
                order = random.permutation(len(x))
            rows, order = order[: self.batch], order[self.batch :]
            yield prepared(x[rows]), y[rows]

    def rates(self, first: float) -> list[float]:
        """Returns the learning rate of every step: it falls linearly, or accuracies would be those of the last step."""
        return [first * (1 - step / self.steps) for step in range(self.steps)]

    def held_out(self) -> Iterator[tuple[Array, Labels]]:
        """Yields the pictures that are not trained on, and their labels."""
        with np.load(self.folder / "data.npz") as data:
            x, y = data["test_x"], data["test_y"]
        for begin in range(0, len(x), PREDICTED):
            part = slice(begin, begin + PREDICTED)
            yield prepared(x[part]), y[part]

    def weights(self) -> dict[tuple[str, int], Array]:
        """Returns the first weights by layer and position."""
        with np.load(self.weights_file) as file:
            names = (name.rpartition(".") for name in file.files)
            return {(layer, int(position)): file[f"{layer}.{position}"] for layer, _, position in names}

    @property
    def weights_file(self) -> Path:
        """The file of the first weights."""
        return self.folder / f"weights-{self.seed}.npz"


def result(losses: Sequence[float], right: int, count: int) -> dict[str, Any]:
    """Returns what a course reports: the loss before each step, and the accuracy on what was held out."""
    return {"losses": [float(loss) for loss in losses], "accuracy": right / count, "held_out": count}
