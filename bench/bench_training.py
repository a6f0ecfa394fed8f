"""Where a training step spends its time: each phase, and with --layers each layer, inside real training steps.

    python bench/bench_training.py --json training.jsonl                  # the four presets: some minutes
    python bench/bench_training.py --case resnet50 64 32 --layers
    python bench/training_charts.py training.jsonl --out charts                    # training.png

A step is `train_on_batch` with Adam. Every second one runs its program with each step timed on its own, the others run
as they are; shown are medians of both. What is timed must add up: the phases, the copy of the data among them, to the
median of the untouched steps within 5 %, or the exit status is 1 (the rest is Python: labels, metrics, checks). Before
anything is timed the arithmetic noted step by step is compared with what the graph says.

GFLOP/s are by the arithmetic of direct convolution, GB/s by the bytes of all arrays of a step, once each or twice where
it reads and writes them. The roof is min(peak, memory x intensity) as in `bench_layers.py`: Winograd multiplies less,
and arrays may still lie in a cache, so both can be above 100 %. Batch statistics come out of the convolution's
own pass where they can: the forward convolutions carry them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from commit import commit
from networks import NETWORKS
from recorded import FLOAT, RecordedEmitter, Work, training_program

import fastcnn
from fastcnn import optimizers
from fastcnn.benchmark import network, roof
from fastcnn.benchmark.roof import Roof
from fastcnn.benchmark.timing import seconds_of
from fastcnn.models.batches import Batch

PRESETS = [("resnet50", 224, 16), ("resnet50", 64, 32), ("vgg16", 224, 8), ("resnet18", 64, 64)]  # size, batch
TOLERANCE = 0.05  # of the wall time of a step, which the phases may differ by in sum
LISTED = 0.001  # of a step, from which on a layer has a line
FORWARD, DATA_GRADIENT, WEIGHT_GRADIENT = "conv forward", "conv backward-data", "conv backward-weights"
DENSE, OTHER, UPDATE, DATA = "dense", "pooling and other", "optimizer", "data"
PREFIXES = {  # of operations, the first that fits
    "conv2d_forward": FORWARD,
    "conv2d_backward_data": DATA_GRADIENT,
    "conv2d_backward_weights": WEIGHT_GRADIENT,
    "batchnorm_backward": "norm backward",
    "batchnorm_": "norm forward",
    "dense_": DENSE,
    "softmax_cross_entropy": "loss",
    "sigmoid_cross_entropy": "loss",
    "categorical_cross_entropy": "loss",
    "binary_cross_entropy": "loss",
    "squared_error": "loss",
}
PHASES = [*dict.fromkeys(PREFIXES.values()), OTHER, UPDATE, DATA]
Row = dict[str, Any]


def phase_of(work: Work, updates: bool) -> str:
    """Return the phase of a step; `updates` says that it stands behind the backward run."""
    if updates or work.operation.endswith("_step"):
        return UPDATE
    if work.operation == "bias_backward":  # of a map or of a vector
        return WEIGHT_GRADIENT if "x" in work.layer else DENSE
    return next((phase for prefix, phase in PREFIXES.items() if work.operation.startswith(prefix)), OTHER)


def check_arithmetic(works: list[Work], model: Any, batch: int) -> None:
    """Raise RuntimeError unless the forward run has the arithmetic of the graph and the weights' gradients as much."""
    expected = batch * network.flops(model)
    for operations in (
        ("conv2d_forward", "dense_forward"),
        ("conv2d_backward_weights", "dense_backward_weights", "dense_adam_step"),
    ):
        found = sum(work.flops for work in works if work.operation in operations)
        if found != expected:
            raise RuntimeError(f"{', '.join(operations)} have {found} operations, the graph has {expected}")


@contextmanager
def timed_feeding(times: list[float]) -> Iterator[None]:
    """Within the block, note how long each copy of samples into the program takes."""
    write: Callable[[Batch, Any], None] = Batch.write

    def timed(batch: Batch, out: Any) -> None:
        times.append(seconds_of(lambda: write(batch, out)))

    with mock.patch.object(Batch, "write", timed):
        yield


def measure(name: str, size: int, batch: int, rounds: int) -> tuple[list[tuple[str, Work, float]], float, float, float]:
    """Return each step's phase, work and median time, and the medians of data copy, timed and untouched step."""
    model = NETWORKS[name](size)
    model.compile(optimizers.Adam(1e-4), "sparse_categorical_crossentropy")
    program = training_program(model, batch)
    emitter = program.emitter
    assert isinstance(emitter, RecordedEmitter)
    check_arithmetic(emitter.works, model, batch)
    random = np.random.default_rng(0)
    x = random.random((batch, size, size, 3), np.float32)
    y = random.integers(0, model.output_shape[-1], batch)
    for _ in range(2):
        model.train_on_batch(x, y)
    steps, copies, timed, untouched = [], [], [], []
    for _ in range(rounds):
        untouched.append(seconds_of(lambda: model.train_on_batch(x, y)))
        emitter.seconds = np.zeros(len(emitter))
        with timed_feeding(copies):
            timed.append(seconds_of(lambda: model.train_on_batch(x, y)))
        steps.append(emitter.seconds)
        emitter.seconds = None
    each = np.median(steps, axis=0)
    phases = [phase_of(work, i >= program.backward_end) for i, work in enumerate(emitter.works)]
    found = [(phase, work, float(seconds)) for phase, work, seconds in zip(phases, emitter.works, each, strict=True)]
    return found, *(statistics.median(times) for times in (copies, timed, untouched))


def rated(row: Row, wall: float, roofs: Roof) -> Row:
    """Return a row with its shares and rates."""
    seconds, flops, nbytes = row["seconds"], row["flops"], row["nbytes"]
    return row | {
        "share": seconds / wall,
        "gflops": flops / seconds / 1e9,
        "gbytes": nbytes / seconds / 1e9,
        "intensity": flops / nbytes if nbytes else 0.0,
        "bound": "peak" if flops * roofs.gbytes > nbytes * roofs.gflops else "memory",
        "roof_share": roofs.seconds(flops, nbytes) / seconds,
    }


def summed(found: list[tuple[str, Work, float]], key: Callable[[str, Work], Row]) -> list[Row]:
    """Return rows of what has the same key: count, time, arithmetic and bytes in sum."""
    rows: dict[tuple[Any, ...], Row] = {}
    for phase, work, seconds in found:
        about = key(phase, work)
        row = rows.setdefault(tuple(about.values()), about | {"count": 0, "seconds": 0.0, "flops": 0, "nbytes": 0})
        row["count"] += 1
        row["seconds"] += seconds
        row["flops"] += work.flops
        row["nbytes"] += work.nbytes
    return list(rows.values())


def phases(name: str, size: int, batch: int, rounds: int, roofs: Roof) -> tuple[list[Row], list[Row], Row]:
    """Return the rows of the phases, those of the layers, and that of the whole step."""
    steps, copy, timed, untouched = measure(name, size, batch, rounds)
    found = [*steps, (DATA, Work("write", f"{size}x{size}x3", "", 0, 2 * FLOAT * batch * size * size * 3), copy)]
    by_phase = {row["phase"]: row for row in summed(found, lambda phase, work: {"phase": phase})}
    ordered = [rated(by_phase[phase], untouched, roofs) for phase in PHASES if phase in by_phase]
    layers = summed(
        found,
        lambda phase, work: {
            "phase": phase,
            "operation": work.operation,
            "layer": work.layer,
            "algorithm": work.algorithm,
        },
    )
    layers = sorted((rated(row, untouched, roofs) for row in layers), key=lambda row: -float(row["seconds"]))
    total = sum(row["seconds"] for row in ordered)
    step = {
        "seconds": untouched,
        "timed_seconds": timed,
        "phases_seconds": total,
        "adds_up": abs(total - untouched) <= TOLERANCE * untouched,
    }
    return ordered, layers, step


def rates(row: Row) -> str:
    """Return the numbers of a row as text."""
    gflops = f"{row['gflops']:8.1f}" if row["flops"] else f"{'':8}"
    return (
        f"{1e3 * row['seconds']:9.2f} {100 * row['share']:5.1f}% {gflops} {row['gbytes']:7.1f}"
        f" {row['bound']:>7} {100 * row['roof_share']:6.0f}%"
    )


def table(title: str, rows: list[Row], step: Row) -> str:
    """Return the phases as text."""
    lines = [f"\n{title}", f"{'phase':22} {'ms':>9} {'share':>6} {'GFLOP/s':>8} {'GB/s':>7} {'roof':>7} {'of it':>7}"]
    lines += [f"{row['phase']:22} {rates(row)}" for row in rows]
    difference = step["phases_seconds"] / step["seconds"] - 1
    lines.append(
        f"{'sum, and whole step':22} {1e3 * step['phases_seconds']:9.2f} of {1e3 * step['seconds']:.2f} ms"
        f" ({100 * difference:+.1f}%, step by step {1e3 * step['timed_seconds']:.2f} ms)"
        + ("" if step["adds_up"] else "  DOES NOT ADD UP")
    )
    return "\n".join(lines)


def layer_table(rows: list[Row]) -> str:
    """Return as text the layers that take time worth a line, the longest first."""
    columns = f"{'count':>5} {'ms':>9} {'share':>6} {'GFLOP/s':>8} {'GB/s':>7} {'roof':>7} {'of it':>7}"
    lines = [f"{'phase':22} {'operation':30} {'layer':34} {columns}"]
    for row in (row for row in rows if row["share"] >= LISTED):
        layer = f"{row['layer']} {row['algorithm']}".strip()
        lines.append(f"{row['phase']:22} {row['operation']:30} {layer:34} {row['count']:5d} {rates(row)}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs=3, action="append", metavar=("MODEL", "SIZE", "BATCH"), help="repeatable")
    parser.add_argument("--layers", action="store_true", help="list the layers too")
    parser.add_argument("--rounds", type=int, default=10, help="steps of each kind (default 10)")
    parser.add_argument("--threads", type=int, default=fastcnn.num_threads())
    parser.add_argument("--json", type=Path, help="append one JSON line a row to this file")
    options = parser.parse_args()
    cases = [(name, int(size), int(batch)) for name, size, batch in options.case or PRESETS]
    for name, _, _ in cases:
        if name not in NETWORKS:
            parser.error(f"argument --case: the model must be one of {', '.join(NETWORKS)}, got {name}")
    fastcnn.set_num_threads(options.threads)
    roofs = roof.measured()
    about = roof.machine() | {"commit": commit(), "roof": asdict(roofs)}
    print(json.dumps(about))
    fails = False
    for name, size, batch in cases:
        rows, layers, step = phases(name, size, batch, options.rounds, roofs)
        print(table(f"{name}, {size}x{size}, batch {batch}, Adam", rows, step), flush=True)
        if options.layers:
            print(layer_table(layers), flush=True)
        fails |= not step["adds_up"]
        if options.json:
            workload = about | {"model": name, "size": size, "batch": batch}
            kinds = (("training", rows), ("training_layers", layers), ("training_step", [step]))
            with options.json.open("a", encoding="utf-8") as file:
                for kind, group in kinds:
                    for row in group:
                        file.write(json.dumps({"bench": kind} | workload | row) + "\n")
        time.sleep(0.1)
    print(f"\n{roof.steadiness(roofs)}")
    return int(fails)


if __name__ == "__main__":
    raise SystemExit(main())
