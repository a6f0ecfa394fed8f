"""Pictures a second that engines read from folders, resize and, if asked, change at random; called in turn in one run.

Engines are the `peers/*_loader.py`, the pictures come from `pictures.py`:

    python bench/bench_loader.py --pictures pictures --json loaders.jsonl \\
        --peer fastcnn=python --peer keras=keras/bin/python --peer torch=torch/bin/python

A call is an epoch: from asking for its first batch until the last has come, with one value of each looked at. An engine
that has several ways to spread its work is run in each of them, and its best counts. Outputs must agree
before anything is timed; an engine that disagrees or fails gets FAIL and no number, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "peers"))

import contest
import numpy as np
from loader import MODES, Pictures
from seeded import Array

CASES = ("jpeg:224", "jpeg:64", "png:32")
# gray levels: of a picture's mean, since decoders round and torchvision smooths; of all of them, changed at random
TOLERANCES = {"plain": 4.0, "augmented": 25.0}


def judge(values: Array, reference: Array, mode: str) -> tuple[float, str]:
    """Returns the largest difference in gray levels and, if it is too large, what is wrong."""
    if values.shape != reference.shape:
        return float("inf"), f"outputs are {values.shape}, not {reference.shape}"
    if not np.array_equal(values[:, -1], reference[:, -1]):
        return float("inf"), "the classes differ"
    means = [x[:, :-1] if mode == "plain" else x[:, :-1].mean(axis=0) for x in (values, reference)]
    error = float(np.abs(means[0] - means[1]).max())
    return error, "" if error <= TOLERANCES[mode] else f"outputs differ by {error:.1f} gray levels"


def variants(spec: contest.Spec, mode: str, threads: int) -> list[contest.Spec]:
    """Returns the engine in each of the ways it has for this mode, unless one is chosen already."""
    ways: tuple[str, ...] = ("",)
    if spec.engine == "torch":
        ways = tuple(str(workers) for workers in range(threads + 1))
    elif spec.engine == "keras" and mode == "augmented":
        ways = ("next", "threads", "processes")
    if spec.variant or ways == ("",):
        return [spec]
    return [replace(spec, label=f"{spec.engine}:{way}") for way in ways]


def best(results: Sequence[contest.Result], pictures: int) -> str:
    """Returns a line with each engine's best way: pictures a second, and fastcnn's number over it."""
    chosen: dict[str, contest.Result] = {}
    for result in sorted((r for r in results if not r.failure), key=lambda r: r.median):
        chosen.setdefault(result.label.partition(":")[0], result)
    ours = chosen.get(contest.OURS)
    lines = []
    for result in chosen.values():
        ratio = "" if ours is None or result is ours else f" ({result.median / ours.median:.2f} x)"
        lines.append(f"{result.label} {pictures / result.median:.0f}{ratio}")
    return "  pictures a second: " + ", ".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    contest.add_arguments(parser, rounds=7, repeats=1, warmup=0)
    parser.add_argument("--pictures", type=Path, required=True, help="directory written by pictures.py")
    parser.add_argument("--case", nargs="+", default=CASES, metavar="FOLDER:SIZE", help=f"default: {' '.join(CASES)}")
    parser.add_argument("--mode", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--batch", type=int, default=32)
    return parser


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    given = contest.checked_specs(parser, options)
    about = contest.settings(options)
    failed = False
    for case in options.case:
        folder, size = case.split(":")
        count = sum(path.is_file() for path in (options.pictures / folder).glob("*/*"))
        for mode in options.mode:
            specs = [way for spec in given for way in variants(spec, mode, options.threads)]
            work = Pictures(batch=options.batch, size=int(size), threads=options.threads, mode=mode, folder=folder)
            results = contest.compare(specs, work, "loader", options.pictures, judge, options, first=1)
            title = f"{folder} {mode} size {size} batch {options.batch} threads {options.threads}, {count} pictures"
            print(contest.table(title, count, results), best(results, count), sep="\n", flush=True)
            if options.json:
                contest.record(options.json, work, results, about)
            failed |= any(result.failure for result in results)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
