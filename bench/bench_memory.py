"""Planned bytes against the measured growth of resident memory, each case in a process of its own.

python bench/bench_memory.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from fastcnn import applications

CASES = [
    ("ResNet50", 16, "train"),
    ("VGG16", 8, "train"),
    ("ResNet50", 1, "predict"),
    ("ResNet50", 32, "predict"),
    ("VGG16", 1, "predict"),
]


def resident() -> int:
    """Return this process's resident bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def grown(use: Callable[[], Any]) -> tuple[Any, int]:
    """Return what `use` returns and by how many bytes it made this process grow.

    What any first use loads, such as the engine itself and its threads, comes first and does not count.
    """
    x, y = np.ones((1, 64, 64, 3), np.float32), np.zeros(1, np.int64)
    small = applications.ResNet18(weights=None, input_shape=(64, 64, 3), classes=2)
    small.compile("adam", "sparse_categorical_crossentropy")
    small.train_on_batch(x, y)
    small.predict_on_batch(x)
    before = resident()
    return use(), resident() - before


def measure(name: str, batch: int, mode: str) -> None:
    x = np.ones((batch, 224, 224, 3), np.float32)
    y = np.zeros(batch, np.int64)

    def use() -> Any:
        model = getattr(applications, name)(weights=None)
        if mode == "train":
            model.compile("adam", "sparse_categorical_crossentropy")
        for _ in range(2):
            model.train_on_batch(x, y) if mode == "train" else model.predict_on_batch(x)
        return model

    model, measured = grown(use)
    plan = model.memory_plan(batch, training=mode == "train")
    print(
        f"{name:10} batch {batch:2d} {mode:8} planned {plan.total / 2**20:8.1f} MiB,"
        f" measured {measured / 2**20:8.1f} MiB, measured/planned {measured / plan.total:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs=3, metavar=("MODEL", "BATCH", "MODE"), help="only this one, in this process")
    case = parser.parse_args().case
    if case:
        measure(case[0], int(case[1]), case[2])
        return
    for name, batch, mode in CASES:
        subprocess.run([sys.executable, __file__, "--case", name, str(batch), mode], check=True)


if __name__ == "__main__":
    main()
