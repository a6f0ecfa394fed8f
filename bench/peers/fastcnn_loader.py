"""fastcnn's `image_dataset_from_directory` and `ImageDataGenerator.flow_from_directory`. Needs fastcnn."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from loader import GENERATOR, MODES, Loader, Pictures, flow_options
from protocol import require, serve

import fastcnn
from fastcnn.preprocessing.image import ImageDataGenerator


class FastcnnLoader(Loader):
    version = f"fastcnn {fastcnn.__version__}"

    def __init__(self, work: Pictures, directory: Path) -> None:
        super().__init__()
        self._epochs = itertools.count()
        require(work, "fastcnn", MODES)
        folder = directory / work.folder
        if work.mode == "plain":
            self.whole = 255.0
            self._data: Any = fastcnn.utils.image_dataset_from_directory(
                folder,
                image_size=(work.size, work.size),
                batch_size=work.batch,
                shuffle=False,
                num_threads=work.threads,
            )
            return
        self._data = ImageDataGenerator(**GENERATOR).flow_from_directory(folder, **flow_options(work))
        self._data.num_threads = work.threads

    def batches(self) -> Iterable[tuple[Any, Any]]:
        batches: Iterable[tuple[Any, Any]] = self._data.epoch(next(self._epochs))
        return batches


if __name__ == "__main__":
    serve(FastcnnLoader, Pictures)
