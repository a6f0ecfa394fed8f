"""What the engines of `bench_loader.py` share: the work, and how an epoch is read and looked at.

Pictures come in the order of the sorted files, so that engines can be compared. Outputs are, for mode "plain", each
picture's mean per channel and its class number, [N, C+1]; for "augmented", whose pictures each engine changes by random
numbers of its own, the means over all pictures and the class numbers, [N, C+1] with N equal means. Gray levels 0..255.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from protocol import Work
from seeded import Array

MODES = ("plain", "augmented")
ROTATION, SHIFT, SHEAR, ZOOM = 15, 0.1, 10, 0.2  # degrees, share of the size, degrees, 1-z..1+z; besides, half flipped


# the same changes in the words of an ImageDataGenerator
GENERATOR = {
    "rotation_range": ROTATION,
    "width_shift_range": SHIFT,
    "height_shift_range": SHIFT,
    "shear_range": SHEAR,
    "zoom_range": ZOOM,
    "horizontal_flip": True,
    "rescale": 1 / 255,
}


@dataclass(frozen=True, kw_only=True)
class Pictures(Work):
    """An epoch of the pictures below `folder`, at `size` x `size`: class folders of picture files."""

    folder: str


def flow_options(work: Pictures) -> dict[str, Any]:
    """Returns what a generator's flow_from_directory is asked for, the folder aside."""
    size = (work.size, work.size)
    return {
        "target_size": size,
        "batch_size": work.batch,
        "class_mode": "sparse",
        "shuffle": False,
        "interpolation": "bilinear",
    }


class Loader:
    """An engine's way to read the pictures; a subclass says how."""

    channels_first = False
    whole = 1.0  # the value of white that stands for 255

    def __init__(self) -> None:
        self._outputs: Array | None = None

    def batches(self) -> Iterable[tuple[Any, Any]]:
        """Returns the batches of an epoch: pictures and class numbers, in whatever the engine gives to its networks."""
        raise NotImplementedError

    def step(self) -> None:
        """Reads an epoch and looks at one value of each batch."""
        for x, _ in self.batches():
            float(x[-1, -1, -1, -1])

    def outputs(self) -> Array:
        """Returns what must agree, from an epoch of its own."""
        if self._outputs is None:
            self._outputs = self._summary()
        return self._outputs

    def _summary(self) -> Array:
        means, labels = [], []
        for x, y in self.batches():
            axes = (2, 3) if self.channels_first else (1, 2)
            means.append(np.asarray(x).mean(axis=axes, dtype=np.float64) * (255 / self.whole))
            labels.append(np.asarray(y).reshape(-1, 1))
        return np.concatenate([np.concatenate(means), np.concatenate(labels)], axis=1).astype(np.float32)
