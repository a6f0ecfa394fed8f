"""Bits that must not depend on threads, on what memory held before, or on how a batch is split; prints the counts.

python tests/campaigns/determinism.py                                # half an hour
python tests/campaigns/determinism.py --isa avx2 --model resnet18

Predictions in any split of a batch; training steps, with activations kept and computed again; training in micro-batches
under a memory limit, also both ways. Each on 1, 2 and 3 threads, in memory full of NaN or once more from the start.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import fastcnn
from fastcnn import applications
from fastcnn.models.memory import training_plan

MODELS: dict[str, tuple[Callable[..., Any], int]] = {
    "vgg16": (applications.VGG16, 32),
    "resnet18": (applications.ResNet18, 33),
    "resnet50": (applications.ResNet50, 64),
    "resnet50-torchvision": (lambda **options: applications.ResNet50(variant="torchvision", **options), 40),
}
# to be trained in parts: the sum of the gradients must be smaller than what a part saves
CUT: dict[str, tuple[Callable[..., Any], int]] = {
    name: (partial(applications.cifar_resnet, 20, **options), 32)
    for name, options in (("cifar-resnet20", {}), ("cifar-plain20", {"residual": False}))
}
THREADS = (1, 2, 3)
IMAGES = 8
SPLITS = ([8], [1] * 8, [3, 5], [7, 1], [2, 2, 4], [1, 6, 1], [4, 4], [5, 1, 2])
BATCHES = (2, 5)
STEPS = 3
PARTS = (14, 4)  # samples of a batch, and of a micro-batch at most


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
    x, y = samples(name, batch)
    for threads, recompute, poisoned in itertools.product(THREADS, (False, True), (False, True)):
        fastcnn.set_num_threads(threads)
        model = compiled(name, recompute)
        losses = []
        for _ in range(STEPS):
            if poisoned:
                model._poison_arena()
            losses.append(np.float64(model.train_on_batch(x, y)))
        yield digest([*model.get_weights(), np.array(losses)])


def in_parts(name: str, batch: int, most: int) -> Iterator[str]:
    """Train on batches that a memory limit cuts into micro-batches of at most `most` samples; each way twice."""
    x, y = samples(name, STEPS * batch)
    count = -(-batch // most)
    sizes = {batch // count, -(-batch // count)}  # parts are nearly equal
    for threads, recompute, _ in itertools.product(THREADS, (False, True), range(2)):
        fastcnn.set_num_threads(threads)
        model = compiled(name, recompute)
        limit = training_plan(model, sizes, in_parts=True).total
        with warnings.catch_warnings():  # that normalisation sees micro-batches
            warnings.simplefilter("ignore", UserWarning)
            history = model.fit(x, y, batch_size=batch, verbose=0, memory_limit=limit)
        if history.micro_batches != count:
            raise RuntimeError(f"{name}: a batch of {batch} came in {history.micro_batches} parts, not {count}")
        slots = [array for _, array in sorted(model.optimizer_state().items())]
        yield digest([*model.get_weights(), *slots, np.array(history.history["loss"])])


def samples(name: str, count: int) -> tuple[Any, Any]:
    size = (MODELS | CUT)[name][1]
    random = np.random.default_rng(1)
    return random.standard_normal((count, size, size, 3)).astype(np.float32), random.integers(0, 10, count)


def compiled(name: str, recompute: bool) -> Any:
    build, size = (MODELS | CUT)[name]
    fastcnn.set_random_seed(0)
    options = {} if name in CUT else {"weights": None}
    model = build(input_shape=(size, size, 3), classes=10, **options)
    model.compile("adam", "sparse_categorical_crossentropy", recompute=recompute)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    isas = [isa for isa in fastcnn.isas() if isa != "avx2x16"]  # emulated width, for kernel tests only
    parser.add_argument("--isa", nargs="+", choices=isas, default=isas)
    parser.add_argument("--model", nargs="+", choices=[*MODELS, *CUT], default=[*MODELS, *CUT])
    options = parser.parse_args()
    total = different = 0
    for isa, name, winograd in itertools.product(options.isa, options.model, (True, False)):
        fastcnn.set_isa(isa)
        fastcnn.set_winograd(winograd)
        if name in CUT:
            rows = [(f"batch {PARTS[0]} in parts", list(in_parts(name, *PARTS)))]
        else:
            rows = [("predict", list(predictions(name)))]
            rows += [(f"train batch {batch}", list(training(name, batch))) for batch in BATCHES]
        for kind, digests in rows:
            wrong = sum(d != digests[0] for d in digests)
            total, different = total + len(digests), different + wrong
            print(
                f"{isa:8} {name:22} winograd={winograd!s:5} {kind:16} {len(digests)} runs, {wrong} differ", flush=True
            )
    print(f"{total} configurations, {different} differ")
    raise SystemExit(different > 0)


if __name__ == "__main__":
    main()
