"""Bits that must not depend on threads, on what memory held before, or on how a batch is split; prints the counts.

python tests/campaigns/determinism.py
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastcnn
from fastcnn import applications

MODELS: dict[str, tuple[Callable[..., Any], int]] = {
    "vgg16": (applications.VGG16, 32),
    "resnet18": (applications.ResNet18, 33),
    "resnet50": (applications.ResNet50, 64),
    "resnet50-torchvision": (lambda **options: applications.ResNet50(variant="torchvision", **options), 40),
}
THREADS = (1, 2, 3)
IMAGES = 8
SPLITS = ([8], [1] * 8, [3, 5], [7, 1], [2, 2, 4], [1, 6, 1], [4, 4], [5, 1, 2])
BATCHES = (2, 5)
STEPS = 3


def digest(arrays: Any) -> str:
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def predictions(name: str) -> Iterator[str]:
    build, size = MODELS[name]
    fastcnn.set_random_seed(0)
    model = build(weights=None, input_shape=(size, size, 3), classes=10)
    x = np.random.default_rng(0).standard_normal((IMAGES, size, size, 3)).astype(np.float32)
    for threads, split in itertools.product(THREADS, SPLITS):
        fastcnn.set_num_threads(threads)
        parts = []
        for part in np.split(x, np.cumsum(split)[:-1]):
            model._poison_arena()
            parts.append(model.predict_on_batch(part))
        yield digest([np.concatenate(parts)])


def training(name: str, batch: int) -> Iterator[str]:
    build, size = MODELS[name]
    random = np.random.default_rng(1)
    x = random.standard_normal((batch, size, size, 3)).astype(np.float32)
    y = random.integers(0, 10, batch)
    for threads, poisoned in itertools.product(THREADS, (False, True)):
        fastcnn.set_num_threads(threads)
        fastcnn.set_random_seed(0)
        model = build(weights=None, input_shape=(size, size, 3), classes=10)
        model.compile("adam", "sparse_categorical_crossentropy")
        losses = []
        for _ in range(STEPS):
            if poisoned:
                model._poison_arena()
            losses.append(np.float64(model.train_on_batch(x, y)))
        yield digest([*model.get_weights(), np.array(losses)])


def main() -> None:
    total = different = 0
    for isa, name, winograd in itertools.product(fastcnn.isas(), MODELS, (True, False)):
        if isa == "avx2x16":
            continue  # emulated width, for kernel tests only
        fastcnn.set_isa(isa)
        fastcnn.set_winograd(winograd)
        rows = [("predict", list(predictions(name)))]
        rows += [(f"train batch {batch}", list(training(name, batch))) for batch in BATCHES]
        for kind, digests in rows:
            wrong = sum(d != digests[0] for d in digests)
            total, different = total + len(digests), different + wrong
            print(
                f"{isa:8} {name:22} winograd={winograd!s:5} {kind:14} {len(digests)} runs, {wrong} differ", flush=True
            )
    print(f"{total} configurations, {different} differ")
    raise SystemExit(different > 0)


if __name__ == "__main__":
    main()
