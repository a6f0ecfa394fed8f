"""How time and memory of a training step grow: with the batch at 64x64, and with the picture's side at a small batch.

    python bench/bench_growth.py --json growth.jsonl                 # ResNet50 and ResNet18: a quarter of an hour
    python bench/training_charts.py growth.jsonl --out charts                 # growth.png

Each point is a process of its own, so that memory of one does not serve another: the growth of its resident memory over
two steps (`bench_memory.py` says what does not count), the bytes that `memory_plan` announces, the process's peak with
Python and all, and the median time of the steps behind them. Lines are fitted by least squares of relative errors: time
and memory are fixed + slope * images (or pixels of the batch); "off" is the largest distance of a point from its line,
as a share of the point. Memory that differs from the plan by over 10 % and 8 MiB sets the exit status to 1.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench_memory import grown
from commit import commit
from networks import APPLICATIONS

import fastcnn
from fastcnn.benchmark import network, roof
from fastcnn.benchmark.timing import repeated

MODELS = ("resnet50", "resnet18")
BATCHES = (1, 2, 4, 8, 16, 32, 64)
SIZES = (32, 64, 96, 128, 160, 192, 224, 256)
SIZE, BATCH = 64, 4  # of the points whose other number grows
CLASSES = 10
SECONDS, LEAST = 3.0, 5  # timed at each point, and steps at least
PLAN_TOLERANCE, PLAN_SLACK = 0.1, 8 << 20
Row = dict[str, Any]


def measure(model_name: str, size: int, batch: int, seconds: float) -> Row:
    """Return time and memory of training steps in this process, which should have done nothing else."""
    random = np.random.default_rng(0)
    x = random.random((batch, size, size, 3), np.float32)
    y = random.integers(0, CLASSES, batch)

    def use() -> Any:
        shape = (size, size, 3)
        model = APPLICATIONS[model_name](weights=None, input_shape=shape, classes=CLASSES, variant="torchvision")
        model.compile("adam", "sparse_categorical_crossentropy")
        for _ in range(2):
            model.train_on_batch(x, y)
        return model

    model, measured = grown(use)
    times = repeated(lambda: model.train_on_batch(x, y), seconds, LEAST)
    return {
        "seconds": statistics.median(times),
        "calls": len(times),
        "grown_bytes": measured,
        "planned_bytes": model.memory_plan(batch).total,
        "peak_bytes": network.peak_bytes(),
    }


@dataclass(frozen=True)
class Line:
    """fixed + slope * n, and the largest distance of a point from it as a share of the point."""

    fixed: float
    slope: float
    off: float

    @classmethod
    def through(cls, n: list[float], values: list[float]) -> Line:
        """Return the line with the least sum of squared relative errors."""
        x, y = np.array(n, np.float64), np.array(values, np.float64)
        (fixed, slope), *_ = np.linalg.lstsq(np.stack([np.ones(len(x)), x], axis=1) / y[:, None], np.ones(len(y)))
        return cls(float(fixed), float(slope), float(np.abs((fixed + slope * x) / y - 1).max()))


def plan_holds(row: Row) -> bool:
    """Return whether the memory that was measured is what was announced."""
    difference = abs(row["grown_bytes"] - row["planned_bytes"])
    return bool(difference <= max(PLAN_TOLERANCE * row["planned_bytes"], PLAN_SLACK))


def amount(row: Row) -> int:
    """Return what a point's line runs over: images, or pixels of the batch."""
    return int(row["batch"] if row["grows"] == "batch" else row["batch"] * row["size"] ** 2)


def lines_of(rows: list[Row]) -> dict[str, Line]:
    """Return the lines of one network's points that grow in one way, by what was measured."""
    n = [float(amount(row)) for row in rows]
    return {key: Line.through(n, [row[key] for row in rows]) for key in ("seconds", "grown_bytes", "planned_bytes")}


def table(rows: list[Row]) -> str:
    """Return points and lines as text."""
    grows, name = rows[0]["grows"], rows[0]["model"]
    fixed = f"{SIZE}x{SIZE}" if grows == "batch" else f"batch {rows[0]['batch']}"
    lines = [
        f"\n{name}, {fixed}",
        f"{grows:>6} {'ms a step':>10} {'ms an image':>12} {'MiB':>8} {'planned':>8} {'peak':>8}",
    ]
    for row in rows:
        text = f"{row[grows]:6d} {1e3 * row['seconds']:10.2f} {1e3 * row['seconds'] / row['batch']:12.3f}"
        memory = " ".join(f"{row[key] / 2**20:8.1f}" for key in ("grown_bytes", "planned_bytes", "peak_bytes"))
        lines.append(f"{text} {memory}" + ("" if plan_holds(row) else "  NOT AS PLANNED"))
    if len(rows) > 2:
        unit, per = ("image", 1) if grows == "batch" else ("1,000 pixels", 1000)
        found = lines_of(rows)
        time = found["seconds"]
        slope = f"{1e3 * time.slope * per:8.3f} ms per {unit}, off {100 * time.off:.0f}%"
        lines.append(f"time    {1e3 * time.fixed:8.2f} ms  + {slope}")
        for key, word in (("grown_bytes", "memory"), ("planned_bytes", "planned")):
            line = found[key]
            slope = f"{line.slope * per / 2**20:8.3f} MiB per {unit}, off {100 * line.off:.0f}%"
            lines.append(f"{word:7} {line.fixed / 2**20:8.2f} MiB + {slope}")
    return "\n".join(lines)


def points(options: argparse.Namespace) -> list[list[Row]]:
    """Return what is measured: for each network a row of growing batches and one of growing pictures."""
    groups = []
    for name in options.model:
        about = {"model": name}
        if options.batches:
            groups.append([about | {"grows": "batch", "size": SIZE, "batch": batch} for batch in options.batches])
        if options.sizes:
            groups.append([about | {"grows": "size", "size": size, "batch": BATCH} for size in options.sizes])
    return groups


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batches", nargs="*", type=int, default=list(BATCHES), help=f"at {SIZE}x{SIZE}")
    parser.add_argument("--sizes", nargs="*", type=int, default=list(SIZES), help=f"of pictures, at batch {BATCH}")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"timed at each point (default {SECONDS:g})")
    parser.add_argument("--threads", type=int, default=fastcnn.num_threads())
    parser.add_argument("--json", type=Path, help="append one JSON line a point")
    parser.add_argument("--point", nargs=3, metavar=("MODEL", "SIZE", "BATCH"), help="only this one, in this process")
    options = parser.parse_args()
    fastcnn.set_num_threads(options.threads)
    if options.point:
        name, size, batch = options.point
        print(json.dumps(measure(name, int(size), int(batch), options.seconds)))
        return 0
    about = {"bench": "growth"} | roof.machine() | {"commit": commit()}
    fails = False
    for group in points(options):
        rows = []
        for point in group:
            arguments = ["--point", point["model"], str(point["size"]), str(point["batch"])]
            settings = ["--threads", str(options.threads), "--seconds", str(options.seconds)]
            command = [sys.executable, __file__, *arguments, *settings]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            row: Row = about | point | json.loads(done.stdout)
            rows.append(row)
            if options.json:
                with options.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
        print(table(rows), flush=True)
        fails |= not all(map(plan_holds, rows))
    return int(fails)


if __name__ == "__main__":
    raise SystemExit(main())
