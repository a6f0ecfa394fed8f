"""How long a training step waits for its batch: ResNet18, 64x64, batch 32, from folders of pictures and from memory.

    python bench/bench_waiting.py --pictures pictures        # written by pictures.py

"waits" is the share of an epoch that `fit` spends between the end of a step and the beginning of the next one, the
first batch of the epoch included; "epoch" compares an epoch from the folder with one from the same pictures in memory,
where the decoding threads do not take the processors from the step. Epochs of both kinds take turns; medians are shown.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import fastcnn
from fastcnn import applications, layers, models
from fastcnn.callbacks import Callback
from fastcnn.utils import image_dataset_from_directory

SIZE, BATCH = 64, 32
BOUND = 0.05


class Stopwatch(Callback):
    """Adds up the time between steps, of one epoch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.begin = self.free = time.perf_counter()
        self.waited = self.first = 0.0
        self.steps = 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        waited = time.perf_counter() - self.free
        self.waited += waited
        if not self.steps:
            self.first = waited

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.free = time.perf_counter()
        self.steps += 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds = time.perf_counter() - self.begin


@dataclass
class Epochs:
    """What the epochs of one kind took, in seconds."""

    seconds: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    steps: int = 0

    def add(self, watch: Stopwatch) -> None:
        self.seconds.append(watch.seconds)
        self.waited.append(watch.waited)
        self.first.append(watch.first)
        self.steps = watch.steps

    @property
    def share(self) -> float:
        return statistics.median(w / s for w, s in zip(self.waited, self.seconds, strict=True))


def build(classes: int, augmented: bool) -> Any:
    """Return the network, behind random layers if asked for."""
    network = applications.ResNet18(weights=None, input_shape=(SIZE, SIZE, 3), classes=classes)
    changes = [layers.RandomFlip("horizontal"), layers.RandomRotation(0.05), layers.RandomZoom(0.1)]
    model = models.Sequential([layers.Input((SIZE, SIZE, 3)), *(changes if augmented else []), network])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def measure(folder: Path, augmented: bool, rounds: int, threads: int) -> None:
    data = image_dataset_from_directory(folder, image_size=(SIZE, SIZE), batch_size=BATCH, seed=0, verbose=False)
    read = list(data.epoch(0))
    x, y = (np.concatenate(parts) for parts in zip(*read, strict=True))
    model = build(data.num_classes, augmented)
    watch = Stopwatch()
    kinds: dict[str, tuple[Epochs, Any]] = {"folder": (Epochs(), (data,)), "memory": (Epochs(), (x, y))}
    for turn in range(rounds + 1):
        for epochs, given in kinds.values():
            batch_size = BATCH if len(given) == 2 else None
            model.fit(*given, batch_size=batch_size, epochs=1, verbose=0, callbacks=[watch])
            if turn:  # the first one warms up
                epochs.add(watch)
    folder_epochs, memory_epochs = kinds["folder"][0], kinds["memory"][0]
    seconds = [statistics.median(epochs.seconds) for epochs in (folder_epochs, memory_epochs)]
    steps = folder_epochs.steps
    verdict = "within" if folder_epochs.share <= BOUND else "beyond"
    print(
        f"{folder.name:5} {'augmented' if augmented else 'plain':10} {threads} threads:"
        f" waits {100 * folder_epochs.share:.1f} % of an epoch ({verdict} {100 * BOUND:.0f} %),"
        f" {1e3 * statistics.median(folder_epochs.first):.0f} ms of it for the first batch;"
        f" from memory {100 * memory_epochs.share:.1f} %;"
        f" step {1e3 * seconds[0] / steps:.1f} ms, from memory {1e3 * seconds[1] / steps:.1f} ms,"
        f" epoch {seconds[0] / seconds[1]:.3f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, help="directory written by pictures.py")
    parser.add_argument("--folder", nargs="+", default=["jpeg", "png"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    fastcnn.set_num_threads(options.threads)
    for folder in options.folder:
        for augmented in (False, True):
            measure(options.pictures / folder, augmented, options.rounds, options.threads)


if __name__ == "__main__":
    main()
