"""`fastcnn bench`: how fast this machine is, networks on it, and some of their layers against NumPy."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastcnn import config
from fastcnn.benchmark.environment import numpy_environment
from fastcnn.cli.architectures import NAMES
from fastcnn.cli.arguments import positive, whole
from fastcnn.cli.bench_task import model_of
from fastcnn.models.interrupts import Interrupts

HELP = "time networks, a training step and layers against NumPy on this machine (under a minute)"

MODELS = ("resnet50", "vgg16", "resnet18")
TRAINING_BATCH = 32
TRAINING_SIZE = 64  # pixels, at most

Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--model",
        nargs="+",
        choices=NAMES,
        default=list(MODELS),
        metavar="NAME",
        help=f"architectures with random weights, the first is also trained (default {' '.join(MODELS)})",
    )
    parser.add_argument("--threads", type=whole(1), metavar="N", help=f"default {config.num_threads()}")
    parser.add_argument("--batch", type=whole(1), default=1, metavar="N", help="pictures of a prediction (default 1)")
    parser.add_argument("--size", type=whole(1), default=224, metavar="N", help="pixels (default 224)")
    parser.add_argument(
        "--seconds", type=positive, default=3.0, metavar="S", help="of calls in each measurement (default 3)"
    )


def run(options: argparse.Namespace) -> int:
    """Print the tables; return 1 if a layer's result is wrong."""
    threads = options.threads or config.num_threads()
    names = list(dict.fromkeys(options.model))
    training_size = min(options.size, TRAINING_SIZE)
    with config.threads(threads):  # that many are possible
        pass
    for name in names:
        model_of(name, options.size)
    model_of(names[0], training_size)

    common: Row = {"threads": threads, "seconds": options.seconds}
    report = _Report(options.json, len(names) + 3)
    with report:
        (machine,) = report.rows("machine", common | {"task": "machine"})
        report.text(_machine_lines(machine))
        roof = {"gflops": machine["gflops"], "gbytes": machine["gbytes"]}
        report.text(["", f"{f'prediction, batch {options.batch}':<28}{_NETWORK_COLUMNS}"])
        for name in names:
            task: Row = {"task": "inference", "model": name, "batch": options.batch, "size": options.size}
            report.text([_network_line(row) for row in report.rows("inference", common | task, machine)])
        report.text(["", f"{f'training step, batch {TRAINING_BATCH}':<28}{_NETWORK_COLUMNS}"])
        task = {"task": "training", "model": names[0], "batch": TRAINING_BATCH, "size": training_size}
        report.text([_network_line(row) for row in report.rows("training", common | task, machine)])
        report.text(["", _LAYER_HEADER])
        task = {"task": "layers", "models": names, "batch": options.batch, "size": options.size, "roof": roof}
        wrong = 0
        for row in report.rows("layer", common | task):
            report.text([_layer_line(row)])
            wrong += not row["passed"]
        report.text(["", *_NOTES])
    return 1 if wrong else 0


# -- measurements, each in a process -----------------------------------------------------------------------------------


class _Report:
    """Prints rows as they come, as text or JSON, and shows on a terminal what is being measured."""

    def __init__(self, as_json: bool, steps: int) -> None:
        from tqdm import tqdm

        self._json = as_json
        # on stderr, and on a terminal alone: None
        self._bar = tqdm(total=steps, desc="machine", disable=None, leave=False, bar_format="{desc}: {n}/{total} {bar}")

    def __enter__(self) -> _Report:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def rows(self, kind: str, task: Mapping[str, Any], machine: Mapping[str, Any] | None = None) -> Iterator[Row]:
        """Yield the rows of a measurement, printed if they are wanted as JSON."""
        self._bar.set_description_str(" ".join([kind, *([task["model"]] if "model" in task else [])]))
        for row in _measure(task):
            if machine is not None:
                row |= _rates(row, machine)
            if self._json:
                self._print(json.dumps({"kind": kind} | row))
            yield row
        self._bar.update()

    def text(self, lines: Sequence[str]) -> None:
        """Print lines unless JSON is wanted."""
        if not self._json:
            self._print("\n".join(lines))

    def _print(self, text: str) -> None:
        self._bar.clear()
        print(text, flush=True)
        self._bar.refresh()


def _measure(task: Mapping[str, Any]) -> Iterator[Row]:
    """Yield what a measurement finds in a process of its own; raises RuntimeError if it fails."""
    command = [sys.executable, "-c", "from fastcnn.cli.bench_task import main; main()", json.dumps(task)]
    environment = numpy_environment(task["threads"])
    process: subprocess.Popen[str] | None = None
    try:
        with Interrupts() as interrupts, interrupts.held():  # or a process would be started that nobody ends
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        for line in process.stdout:
            row = json.loads(line)
            if "error" in row:
                raise RuntimeError(f"{task['task']}: {row['error']}")
            yield row
        if process.wait():
            raise RuntimeError(f"{task['task']}: the process that measured it ended with {process.returncode}")
    finally:
        if process is not None:
            process.kill()
            with process:  # waits, and closes the pipe
                pass


def _rates(row: Row, machine: Mapping[str, Any]) -> Row:
    gflops = row["flops"] / row["seconds"] / 1e9
    return {"images_per_second": row["batch"] / row["seconds"], "gflops": gflops, "share": gflops / machine["gflops"]}


# -- tables ------------------------------------------------------------------------------------------------------------

_NETWORK_COLUMNS = "".join(f"{name:>12}" for name in ("ms", "pictures/s", "peak MiB", "GFLOP/s", "of peak"))
_LAYER_HEADER = f"{'layer':<27}{'operation':<22}{'fastcnn ms':>11}{'NumPy ms':>9}{'ratio':>8}{'rate':>15}{'of roof':>8}"
_NOTES = (
    "GFLOP/s count direct convolution; Winograd multiplies less and can be above the peak. A layer's roof",
    "is the peak or, if less, what memory allows; one that fits into a cache can be above.",
    "NumPy is float32 with as many threads: im2col and BLAS, strided maxima, whole-array normalisation.",
)


def _machine_lines(machine: Row) -> list[str]:
    return [
        f"{machine['cpu']}, {machine['cpus']} CPUs",
        f"threads: {machine['threads']}; instruction set: {machine['isa']}; fastcnn {machine['fastcnn']}, "
        f"NumPy {machine['numpy']}, Python {machine['python']}",
        f"measured: {machine['gflops']:.0f} GFLOP/s on registers, {machine['gbytes']:.1f} GB/s from memory",
    ]


def _network_line(row: Row) -> str:
    label = f"{row['model']} {row['size']}x{row['size']}"
    return (
        f"{label:<28}{1e3 * row['seconds']:12.2f}{row['images_per_second']:12.1f}"
        f"{row['peak_bytes'] / 2**20:12.0f}{row['gflops']:12.0f}{100 * row['share']:10.0f} %"
    )


def _layer_line(row: Row) -> str:
    rate = f"{row['rate']:.1f} {row['unit']}"
    ratio = f"{row['numpy_seconds'] / row['seconds']:.2f} x" if row["passed"] else "FAIL"
    operation = row["operation"].removesuffix("_forward").replace("global_average_pool2d", "global_average")
    operation += f" x{row['batch']}" if row["batch"] > 1 else ""
    return (
        f"{row['layer']:<27}{operation:<22}{1e3 * row['seconds']:11.3f}{1e3 * row['numpy_seconds']:9.3f}{ratio:>8}"
        f"{rate:>15}{100 * row['roof_share']:6.0f} %"
    )
