"""What freezing saves: ResNet50 with only its head trained beside the whole network, in turn.

python bench/bench_freezing.py

Shown are the medians of a training step, the growth of resident memory with the planned bytes beside it (each in a
process of its own), the bytes of gradients and optimizer slots, and the backward operations in the program, those of
the head apart.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from bench_memory import grown

import fastcnn
from fastcnn import applications, layers, models

CASES = [(224, 16), (64, 32)]  # rows and columns, batch
KINDS = ("full", "head")
CLASSES = 10


def build(kind: str, size: int) -> Any:
    """Return ResNet50 with a new head, compiled; "head" trains that alone."""
    base = applications.ResNet50(include_top=False, weights=None, input_shape=(size, size, 3), pooling="avg")
    base.trainable = kind == "full"
    x = layers.Input((size, size, 3))
    return compiled(models.Model(x, layers.Dense(CLASSES, activation="softmax")(base(x))))


def compiled(model: Any) -> Any:
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def samples(size: int, batch: int) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    return random.random((batch, size, size, 3), np.float32), random.integers(0, CLASSES, batch)


def backward_steps(model: Any, batch: int) -> int:
    """Return the number of backward operations in a training program."""
    with model._lease() as workspace:
        names = workspace.program("training", batch, *model._training()).emitter.steps
    return sum("_backward" in name for name in names)


def head_backward_steps(features: int, batch: int) -> int:
    """Return the number of backward operations that the head takes by itself."""
    head = [layers.Input((features,)), layers.Dense(CLASSES, activation="softmax")]
    return backward_steps(compiled(models.Sequential(head)), batch)


def memory(kind: str, size: int, batch: int) -> None:
    x, y = samples(size, batch)

    def use() -> Any:
        model = build(kind, size)
        for _ in range(2):
            model.train_on_batch(x, y)
        return model

    model, measured = grown(use)
    plan = model.memory_plan(batch)
    below = backward_steps(model, batch) - head_backward_steps(model.layers[-2].output_shape[-1], batch)
    print(
        f"  {kind:5} memory {measured / 2**20:8.1f} MiB, planned {plan.total / 2**20:8.1f} MiB;"
        f" gradients {plan.gradients:,} bytes, optimizer {plan.optimizer:,} bytes;"
        f" backward operations below the head {below}",
        flush=True,
    )


def timed(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def compare(size: int, batch: int, rounds: int) -> None:
    x, y = samples(size, batch)
    steps: dict[str, list[float]] = {kind: [] for kind in KINDS}
    trained = {kind: build(kind, size) for kind in KINDS}
    for turn in range(rounds + 1):
        for kind, model in trained.items():
            seconds = timed(lambda model=model: model.train_on_batch(x, y))
            if turn:  # the first one makes the program
                steps[kind].append(seconds)
    full, head = (statistics.median(steps[kind]) for kind in KINDS)
    print(
        f"ResNet50 {size}x{size} batch {batch}: step {1e3 * full:.1f} ms, head alone {1e3 * head:.1f} ms"
        f" ({full / head:.2f} times as fast)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--case", nargs=2, type=int, action="append", metavar=("SIZE", "BATCH"), help="repeatable")
    parser.add_argument("--memory", choices=KINDS, help="only the memory of this kind, in this process, for one --case")
    options = parser.parse_args()
    fastcnn.set_num_threads(options.threads)
    if options.memory:
        memory(options.memory, *options.case[0])
        return
    for size, batch in options.case or CASES:
        compare(size, batch, options.rounds)
        for kind in KINDS:
            arguments = ["--threads", str(options.threads), "--case", str(size), str(batch), "--memory", kind]
            subprocess.run([sys.executable, __file__, *arguments], check=True)


if __name__ == "__main__":
    main()
