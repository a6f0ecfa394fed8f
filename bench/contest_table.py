"""Runs every network in every engine, each in its variants, and prints tables of the best of each engine.

Engines stand in one folder, each in an environment ENVIRONMENTS/<engine>/bin/python (fastcnn in this one), beside the
allocator of the setting "tcmalloc"; models are those of `peers/export.py`. `bench/README.md` says how to prepare both.

    python bench/contest_table.py --environments peers --models models --json results.jsonl

As in `compare_peers.py`, outputs must agree before anything is timed, and engines are called in turn. A process runs
one network in one variant: its peak memory includes loading. All of it takes about 20 minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from compare_peers import wrong  # puts peers/ on the path

import contest  # isort: skip
from protocol import Workload  # isort: skip

ENGINES = ("torch", "tensorflow", "onnxruntime", "openvino", "ncnn", "mnn")
MAINSTREAM = ENGINES[:4]
TCMALLOC = "tcmalloc/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4"


@dataclass(frozen=True)
class Run:
    """A network, how often it is called and in which ways of the engines that have several."""

    model: str
    batch: int
    rounds: int
    repeats: int
    ways: tuple[str, ...]
    size: int = 224


# Left out is what never was its engine's fastest way in a full run: PyTorch without tcmalloc or eager in NCHW,
# TensorFlow without oneDNN, Keras' model called directly.
SINGLE = ("fastcnn", "onnxruntime", "openvino", "ncnn", "mnn")
TORCH = ("torch:channels_last@tcmalloc", "torch:compile@tcmalloc")
TENSORFLOW = ("tensorflow:predict_on_batch", "tensorflow:frozen@tcmalloc")
NETWORK = (*SINGLE, *TORCH, *TENSORFLOW, "tensorflow:function", "tensorflow:jit", "mnn:small_winograd")
BATCH = (*NETWORK, "openvino:streams")
VGG = (*SINGLE, *TORCH, *TENSORFLOW)  # a frozen VGG16 alone takes 8 GB while it is loaded
LENET = (*NETWORK, "torch@tcmalloc", "fastcnn:predict", "tensorflow:predict")
RUNS = (
    Run("resnet50", 1, 10, 3, NETWORK),
    Run("resnet50", 32, 3, 1, BATCH),
    Run("vgg16", 1, 6, 3, VGG),
    Run("vgg16", 8, 3, 1, (*VGG, "openvino:streams")),
    Run("resnet18", 1, 10, 5, NETWORK),
    Run("resnet18", 32, 3, 2, BATCH),
    Run("resnet50", 1, 10, 10, NETWORK, 64),
    Run("resnet50", 32, 5, 2, BATCH, 64),
    Run("lenet", 1, 10, 100, LENET, 28),
)


def _spec(label: str, environments: Path) -> contest.Spec:
    setting = label.partition("@")[2]
    environment = {
        "": {},
        "tcmalloc": {"LD_PRELOAD": str(environments / TCMALLOC)},
    }[setting]
    spec = contest.Spec(label, sys.executable, environment)
    if spec.engine == contest.OURS:
        return spec
    return contest.Spec(label, str(environments / spec.engine / "bin/python"), environment)


def _best(results: Sequence[contest.Result], environments: Path) -> dict[str, contest.Result]:
    """Returns the fastest way of each engine."""
    best: dict[str, contest.Result] = {}
    for result in sorted((r for r in results if not r.failure), key=lambda r: r.median):
        best.setdefault(_spec(result.label, environments).engine, result)
    return best


def _row(name: str, best: Mapping[str, contest.Result]) -> tuple[str, str]:
    """Returns a network's lines in the tables of times and of memory."""
    ours = best[contest.OURS].median if contest.OURS in best else float("nan")
    times, memory = [name], [name]
    for engine in (contest.OURS, *ENGINES):
        result = best.get(engine)
        way = result.label.removeprefix(engine).lstrip(":") if result else ""
        times.append(f"{1e3 * result.median:.4g} ({result.median / ours:.2f}) {way}".strip() if result else "-")
        memory.append(f"{result.peak_rss_bytes / 2**20:.0f}" if result else "-")
    for group in (ENGINES, MAINSTREAM):
        medians = [best[engine].median for engine in group if engine in best]
        times.append(f"{min(medians) / ours:.2f}" if medians else "-")
    return f"| {' | '.join(times)} |", f"| {' | '.join(memory)} |"


def tables(rows: Sequence[tuple[str, str]]) -> str:
    """Returns the two tables in Markdown."""
    head = f"| network, batch, size | {' | '.join((contest.OURS, *ENGINES))} |"
    rule = "| --- |" + " ---: |" * (1 + len(ENGINES))
    times = [head + " best of six | best of four |", rule + " ---: | ---: |", *(row[0] for row in rows)]
    memory = [head, rule, *(row[1] for row in rows)]
    explained = [
        "\nMedian ms a call (ratio to fastcnn) of each engine's fastest way; the best of all and of the first four:\n",
        "\nPeak MiB of these processes, loading included:\n",
    ]
    return "\n".join([explained[0], *times, explained[1], *memory])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, required=True, help="directory of one environment per engine")
    parser.add_argument("--models", type=Path, required=True, help="directory written by export.py")
    parser.add_argument("--model", nargs="+", help="these networks alone")
    parser.add_argument("--batch", type=int, nargs="+", help="these batches alone")
    parser.add_argument("--size", type=int, nargs="+", help="these sizes alone")
    parser.add_argument("--engine", nargs="+", help="these engines alone, beside fastcnn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="in place of each network's own number")
    parser.add_argument("--repeats", type=int, help="timed calls in a round, likewise")
    parser.add_argument("--warmup", type=int, default=1, help="untimed calls before them")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds between engines")
    parser.add_argument("--json", type=Path, help="append one line per network and way")
    return parser


def main() -> int:
    options = _parser().parse_args()
    rows: list[tuple[str, str]] = []
    failed = False
    rounds, repeats = options.rounds, options.repeats
    options.reference = contest.OURS
    options.environments = options.environments.absolute()
    if not (options.environments / TCMALLOC).exists():  # the loader would only warn
        raise SystemExit(f"contest_table: {options.environments / TCMALLOC} does not exist")
    for run in RUNS:
        asked = ((run.model, options.model), (run.batch, options.batch), (run.size, options.size))
        if any(wanted and value not in wanted for value, wanted in asked):
            continue
        begin = time.monotonic()
        options.rounds, options.repeats = rounds or run.rounds, repeats or run.repeats
        specs = [_spec(label, options.environments) for label in run.ways]
        if options.engine:
            specs = [spec for spec in specs if spec.engine in (contest.OURS, *options.engine)]
        workload = Workload(model=run.model, batch=run.batch, size=run.size, threads=options.threads)
        results = contest.compare(specs, workload, "peer", options.models, wrong, options)
        print(contest.table(workload.title, run.batch, results))
        print(f"  took {time.monotonic() - begin:.0f} s", flush=True)
        rows.append(_row(f"{run.model}, {run.batch}, {run.size}", _best(results, options.environments)))
        if options.json:
            contest.record(options.json, workload, results, contest.settings(options))
        failed |= any(result.failure for result in results)
    print(tables(rows))
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
