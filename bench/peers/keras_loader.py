"""Keras 3 on TensorFlow: `image_dataset_from_directory` and the older ImageDataGenerator.

Needs tensorflow-cpu, keras, pillow and scipy. "plain" is Keras' own tf.data pipeline, which decodes in parallel and
prefetches as it sees fit, on `threads` threads. "augmented" comes in three variants, as `fit` would run them: "next"
asks for one batch after the other, "threads" and "processes" have `threads` workers.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before the import

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras.src.legacy.preprocessing.image import ImageDataGenerator
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter
from loader import GENERATOR, MODES, Loader, Pictures, flow_options
from protocol import require, serve


class KerasLoader(Loader):
    version = f"keras {keras.__version__} tensorflow {tf.__version__}"

    def __init__(self, work: Pictures, directory: Path) -> None:
        super().__init__()
        variants = ("",) if work.mode == "plain" else ("next", "threads", "processes")
        require(work, "keras", MODES, variants)
        folder = str(directory / work.folder)
        if work.mode == "plain":
            tf.config.threading.set_intra_op_parallelism_threads(work.threads)
            tf.config.threading.set_inter_op_parallelism_threads(work.threads)
            self.whole = 255.0
            options = tf.data.Options()
            options.threading.private_threadpool_size = work.threads
            dataset = keras.utils.image_dataset_from_directory(
                folder, image_size=(work.size, work.size), batch_size=work.batch, shuffle=False
            )
            self._dataset: Iterable[tuple[Any, Any]] | None = dataset.with_options(options)
            return
        iterator = ImageDataGenerator(**GENERATOR).flow_from_directory(folder, **flow_options(work))
        iterator.workers = 1 if work.variant == "next" else work.threads
        iterator.use_multiprocessing = work.variant == "processes"
        self._dataset = None
        self._adapter = PyDatasetAdapter(iterator)

    def batches(self) -> Iterable[tuple[Any, Any]]:
        batches: Iterable[tuple[Any, Any]] = (
            self._adapter.get_numpy_iterator() if self._dataset is None else self._dataset
        )
        return batches


if __name__ == "__main__":
    serve(KerasLoader, Pictures)
