"""What one busy Python thread costs: a training step and a prediction with one compute thread, alone and beside it.

python bench/bench_interpreter.py
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastcnn
from fastcnn import applications


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(name: str, call: Callable[[], Any], rounds: int) -> None:
    """Alternate calls alone and beside a thread that never leaves the interpreter; print medians and their ratio."""
    stop = threading.Event()
    busy = threading.Event()

    def spin() -> None:
        count = 0
        while not stop.is_set():
            if busy.is_set():
                count += 1
            else:
                time.sleep(0.001)

    thread = threading.Thread(target=spin)
    thread.start()
    alone, beside = [], []
    try:
        call()
        for _ in range(rounds):
            busy.clear()
            time.sleep(0.05)
            alone.append(timed(call))
            busy.set()
            time.sleep(0.05)
            beside.append(timed(call))
    finally:
        stop.set()
        thread.join()
    a, b = statistics.median(alone), statistics.median(beside)
    print(f"{name:40} alone {1e3 * a:8.1f} ms, beside {1e3 * b:8.1f} ms, ratio {b / a:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    fastcnn.set_num_threads(1)
    random = np.random.default_rng(0)

    model = applications.ResNet18(weights=None, input_shape=(64, 64, 3), classes=10)
    model.compile("adam", "sparse_categorical_crossentropy")
    x = random.random((32, 64, 64, 3), np.float32)
    y = random.integers(0, 10, 32)
    compare("ResNet18 64x64 batch 32, training step", lambda: model.train_on_batch(x, y), rounds)

    large = applications.ResNet50(weights=None)
    image = random.random((1, 224, 224, 3), np.float32)
    compare("ResNet50 224x224 batch 1, predict", lambda: large.predict_on_batch(image), rounds)


if __name__ == "__main__":
    main()
