"""Prediction in use: overhead of a call, memory over many calls, several Python threads, and the way to a first answer.

    python bench/bench_predict.py --json predict.jsonl

Bounds: a network of 300 parameters answers `predict` in 0.1 ms; resident memory grows by at most 1 MiB over 10,000
calls; four threads that share a ResNet50 get the bits of one, and at least 0.95 of its pictures a second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastcnn
from fastcnn import applications
from fastcnn.layers import Activation, Conv2D, Dense, Flatten, Input, MaxPooling2D
from fastcnn.models import Model

COLD = """
import sys, time
start = time.perf_counter()
import fastcnn
imported = time.perf_counter()
model = fastcnn.load_model(sys.argv[1], compile=False)
loaded = time.perf_counter()
import numpy as np
x = np.ones((1, *model.input.sample_shape), np.float32)
model.predict_on_batch(x)
first = time.perf_counter()
model.predict_on_batch(x)
second = time.perf_counter()
print(imported - start, loaded - imported, first - loaded, second - first)
"""


def small() -> Model:
    """Return a network of 300 parameters."""
    x = Input((8, 8, 1))
    y = Flatten()(MaxPooling2D()(Conv2D(4, 3, padding="same", activation="relu")(x)))
    return Model(x, Activation("softmax")(Dense(4)(y)))


def lenet() -> Model:
    """Return LeNet for 28x28 grey pictures."""
    x = Input((28, 28, 1))
    y = MaxPooling2D()(Conv2D(6, 5, padding="same", activation="relu")(x))
    y = Flatten()(MaxPooling2D()(Conv2D(16, 5, activation="relu")(y)))
    return Model(x, Dense(10)(Dense(84, activation="relu")(Dense(120, activation="relu")(y))))


def resident() -> int:
    """Return the resident memory of this process in KiB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0])


def microseconds(call: Callable[[], Any], rounds: int = 9, repeats: int = 300) -> float:
    """Return the median over rounds of a call's mean time."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        times.append((time.perf_counter() - start) / repeats)
    return 1e6 * statistics.median(times)


def picture(model: Model, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((1, *model.input.sample_shape), np.float32)


def calls() -> list[dict[str, Any]]:
    """Time one call of small networks."""
    rows = []
    for name, model in (("300 parameters", small()), ("LeNet", lenet())):
        x = picture(model)
        for method in ("predict_on_batch", "predict"):
            call = getattr(model, method)
            call(x)
            rows.append({"what": f"{name}, {method}", "microseconds": microseconds(lambda call=call, x=x: call(x))})
    return rows


def flat(count: int) -> list[dict[str, Any]]:
    """Follow resident memory over many calls of one size and over changing sizes."""
    model = applications.ResNet18(weights=None, input_shape=(32, 32, 3), classes=10)
    x = np.random.default_rng(0).random((64, 32, 32, 3), np.float32)
    rows = []
    for what, sizes in (("one size", [1]), ("sizes 1 to 64 in turn", [1 + 37 * i % 64 for i in range(64)])):
        for i in range(300):
            model.predict(x[: sizes[i % len(sizes)]], verbose=0)
        before = resident()
        for i in range(count):
            model.predict(x[: sizes[i % len(sizes)]], verbose=0)
        rows.append({"what": f"{count:,} predict calls, {what}", "grown_kib": resident() - before})
    return rows


def threads(count: int, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Compare Python threads that share a model with one: bits, and pictures a second."""
    model = applications.ResNet50(weights=None, variant="torchvision")
    xs = [picture(model, seed) for seed in range(count)]
    serial = [model.predict_on_batch(x) for x in xs]
    differ = 0

    def work(i: int, until: float, done: list[int]) -> None:
        nonlocal differ
        while time.perf_counter() < until:
            y = model.predict_on_batch(xs[i])
            done[i] += 1
            differ += not np.array_equal(y, serial[i])

    def rate(workers: int) -> float:
        done = [0] * count
        start = time.perf_counter()
        group = [threading.Thread(target=work, args=(i, start + seconds, done)) for i in range(workers)]
        for thread in group:
            thread.start()
        for thread in group:
            thread.join()
        return sum(done) / (time.perf_counter() - start)

    rate(count)
    rates = [(rate(1), rate(count)) for _ in range(rounds)]
    one, many = (statistics.median(column) for column in zip(*rates, strict=True))
    ratio = statistics.median(b / a for a, b in rates)
    return [
        {
            "what": f"{count} threads, ResNet50",
            "one_per_second": one,
            "all_per_second": many,
            "ratio": ratio,
            "answers_that_differ": differ,
        }
    ]


def cold(rounds: int) -> list[dict[str, Any]]:
    """Time a fresh process to its first answers."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "resnet50.safetensors")
        applications.ResNet50(weights=None, variant="torchvision").save(path)
        parts, whole = [], []
        for _ in range(rounds):
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", COLD, path], capture_output=True, text=True, check=True)
            whole.append(time.perf_counter() - start)
            parts.append([float(word) for word in done.stdout.split()])
    names = ("import_ms", "load_ms", "first_predict_ms", "second_predict_ms")
    medians = {
        name: 1e3 * statistics.median(column) for name, column in zip(names, zip(*parts, strict=True), strict=True)
    }
    return [{"what": "ResNet50 in a fresh process", **medians, "process_ms": 1e3 * statistics.median(whole)}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=3, help="of each round of the threads")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="append one line a row")
    options = parser.parse_args()
    rows = [
        *calls(),
        *flat(options.calls),
        *threads(4, options.seconds, options.rounds),
        *cold(options.rounds),
    ]
    for row in rows:
        numbers = ", ".join(f"{name} {value:.5g}" for name, value in row.items() if name != "what")
        print(f"{row['what']}: {numbers}")
        if options.json:
            with options.json.open("a") as file:
                file.write(json.dumps({"fastcnn": fastcnn.__version__, "isa": fastcnn.isa(), **row}) + "\n")


if __name__ == "__main__":
    main()
