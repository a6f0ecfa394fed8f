"""Loss curves and accuracies of whole trainings: fastcnn with Winograd, without, and PyTorch, from the same start.

    python bench/bench_convergence.py --torch peers/torch/bin/python --json convergence.jsonl
    python bench/training_charts.py convergence.jsonl --out charts

All three run a `peers/course.py`: the same first weights (fastcnn's own random ones), the same Fashion-MNIST pictures
(Debian's package `dataset-fashion-mnist`) in the same order, Adam by Keras' rule, a rate that falls linearly to zero.
For each seed the losses before the first step must agree to 1e-5, or the exit status is 1: the start was not the same.
Later ones drift apart, since Adam turns the rounding of small gradients into whole steps; what must agree then is where
they lead, which the table shows: accuracies on held-out pictures and the mean loss of the last tenth, each seed's and
their means.

Every course that is done is a line of the file --json; those that are there already are not run again. A course of 300
steps takes some two minutes on two cores: stop it and go on whenever you like, or run several with --engines at once,
for no bit depends on the number of threads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from commit import commit

sys.path.insert(0, str(Path(__file__).parent / "peers"))
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import fashion_mnist
from course import Course, result
from networks import APPLICATIONS
from protocol import LEARNING_RATE

import fastcnn
from fastcnn import _core, optimizers
from fastcnn.models import Model

ENGINES = ("fastcnn winograd", "fastcnn direct", "torch")
START_TOLERANCE = 1e-5  # of the first loss, relative
LAST = 0.1  # of the steps, over which the last loss is a mean
TEST_PICTURES = 1000
Row = dict[str, Any]


def build(options: argparse.Namespace) -> Model:
    """Return the compiled network; its random weights follow from the seed set before."""
    shape = (options.size, options.size, 3)
    model = APPLICATIONS[options.model](
        weights=None, input_shape=shape, classes=len(fashion_mnist.CLASSES), variant="torchvision"
    )
    model.compile(optimizers.Adam(LEARNING_RATE[options.model]), "sparse_categorical_crossentropy")
    return model


def resized(pictures: np.ndarray, size: int) -> np.ndarray:
    """Return pictures [N,28,28] as [N,size,size]."""
    from PIL import Image

    scaled = [Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR) for picture in pictures]
    return np.stack([np.asarray(picture) for picture in scaled])


def write_data(folder: Path, options: argparse.Namespace) -> None:
    """Write the pictures of a course, the first of the training and of the test set."""
    arrays = {}
    counts = (("", "train", options.steps * options.batch), ("test_", "t10k", options.test))
    for key, prefix, count in counts:
        x = fashion_mnist.read_idx(options.source / f"{prefix}-images-idx3-ubyte.gz")[:count]
        y = fashion_mnist.read_idx(options.source / f"{prefix}-labels-idx1-ubyte.gz")[:count]
        arrays[f"{key}x"], arrays[f"{key}y"] = resized(x, options.size), y.astype(np.int64)
    np.savez(folder / "data.npz", **arrays)


def write_weights(course: Course, options: argparse.Namespace) -> None:
    """Write the first weights of a course."""
    fastcnn.set_random_seed(course.seed)
    arrays = {
        f"{layer.name}.{position}": array
        for layer in build(options).layers
        for position, array in enumerate(layer.get_weights())
    }
    np.savez(course.weights_file, **arrays)


def run_fastcnn(course: Course, options: argparse.Namespace, winograd: bool) -> Row:
    """Run a course in this process."""
    before = _core.winograd()
    fastcnn.set_winograd(winograd)
    try:
        model = build(options)
        weights = course.weights()
        for layer in model.layers:
            if layer.weights:
                layer.set_weights([weights[layer.name, position] for position in range(len(layer.weights))])
        losses = []
        for rate, (x, y) in zip(course.rates(LEARNING_RATE[options.model]), course.batches(), strict=True):
            model.optimizer.learning_rate = rate
            losses.append(model.train_on_batch(x, y))
        right = count = 0
        for x, y in course.held_out():
            right += int((model.predict_on_batch(x).argmax(axis=1) == y).sum())
            count += len(y)
    finally:
        fastcnn.set_winograd(before)
    return result(losses, right, count) | {"version": fastcnn.__version__, "isa": _core.isa()}


def run_torch(course: Course, options: argparse.Namespace) -> Row:
    """Run a course in PyTorch's environment."""
    script = Path(__file__).parent / "peers" / "torch_course.py"
    settings: Row = {
        "model": options.model,
        "size": options.size,
        "classes": len(fashion_mnist.CLASSES),
        "seed": course.seed,
        "steps": course.steps,
        "batch": course.batch,
        "threads": options.threads,
    }
    arguments = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    command = [options.torch, str(script), str(course.folder), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    row: Row = json.loads(done.stdout)
    return row


def runners(options: argparse.Namespace) -> dict[str, Callable[[Course], Row]]:
    """Return how each engine that is asked for runs a course."""
    found: dict[str, Callable[[Course], Row]] = {
        "fastcnn winograd": lambda course: run_fastcnn(course, options, True),
        "fastcnn direct": lambda course: run_fastcnn(course, options, False),
    }
    if options.torch:
        found["torch"] = lambda course: run_torch(course, options)
    return {engine: run for engine, run in found.items() if engine in options.engines}


def done_before(path: Path | None, about: Row) -> dict[tuple[int, str], Row]:
    """Return the rows of a file, by seed and engine, that were made with the same settings."""
    if path is None or not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    same = [row for row in rows if about.items() <= row.items()]
    return {(row["seed"], row["engine"]): row for row in same}


def starts_apart(rows: list[Row]) -> list[str]:
    """Return what is wrong with the first losses of the engines of each seed."""
    wrong = []
    for seed in sorted({row["seed"] for row in rows}):
        first = {row["engine"]: row["losses"][0] for row in rows if row["seed"] == seed}
        spread = max(first.values()) - min(first.values())
        if not spread <= START_TOLERANCE * min(first.values()):
            wrong.append(f"seed {seed}: the first losses differ, {first}")
    return wrong


def last_loss(row: Row) -> float:
    """Return the mean loss of the last steps."""
    losses = row["losses"]
    return statistics.fmean(losses[-max(1, round(LAST * len(losses))) :])


def table(rows: list[Row]) -> str:
    """Return accuracies and last losses as text."""
    lines = [f"{'engine':18} {'seed':>5} {'first loss':>12} {'last tenth':>10} {'accuracy':>9}"]
    for engine in ENGINES:
        own = sorted((row for row in rows if row["engine"] == engine), key=lambda row: int(row["seed"]))
        for row in own:
            name, loss, accuracy = f"{engine:18} {row['seed']:5d}", last_loss(row), 100 * row["accuracy"]
            lines.append(f"{name} {row['losses'][0]:12.7f} {loss:10.4f} {accuracy:8.1f}%")
        if len(own) > 1:
            accuracies = [100 * row["accuracy"] for row in own]
            mean, spread = statistics.fmean(accuracies), statistics.stdev(accuracies)
            loss = statistics.fmean(map(last_loss, own))
            lines.append(f"{engine:18} {'mean':>5} {'':12} {loss:10.4f} {mean:8.1f}% +- {spread:.1f}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(APPLICATIONS), default="resnet50")
    parser.add_argument("--size", type=int, default=64, help="rows and columns of a picture")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--test", type=int, default=TEST_PICTURES, help="pictures held out")
    parser.add_argument("--source", type=Path, default=fashion_mnist.SOURCE, help="folder of the four .gz files")
    parser.add_argument("--torch", help="a Python that has PyTorch; without it fastcnn's two ways are compared")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), help="all, if not given")
    parser.add_argument("--threads", type=int, default=fastcnn.num_threads())
    parser.add_argument("--json", type=Path, help="append one line a course; those that are there are not run again")
    options = parser.parse_args()
    fastcnn.set_num_threads(options.threads)
    names = ("model", "size", "batch", "steps")
    about: Row = {"bench": "convergence"} | {name: getattr(options, name) for name in names}
    about["first_rate"] = LEARNING_RATE[options.model]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, options)
        finished = done_before(options.json, about | {"held_out": options.test})
        for seed in range(options.seeds):
            course = Course(folder, seed, options.steps, options.batch)
            write_weights(course, options)
            for engine, run in runners(options).items():
                row = finished.get((seed, engine))
                if row is None:
                    row = about | {"engine": engine, "seed": seed, "commit": commit()} | run(course)
                    if options.json:
                        with options.json.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(row) + "\n")
                print(f"{engine}, seed {seed}: accuracy {100 * row['accuracy']:.1f}%", flush=True)
                rows.append(row)
    print(f"\n{table(rows)}")
    wrong = starts_apart(rows)
    print("\n".join(wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
