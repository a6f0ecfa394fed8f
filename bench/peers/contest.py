"""A contest of engines: one process each, called in turn round by round, their medians beside each other.

`compare_peers.py` and `bench_loader.py` say what the engines do and when their outputs agree.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from client import Peer, PeerError
from protocol import Work
from seeded import Array

OURS = "fastcnn"
Judge = Callable[[Array, Array, str], tuple[float, str]]
"""Takes outputs, the reference engine's and the mode; returns the disagreement and what is wrong, if anything."""


@dataclass(frozen=True)
class Spec:
    """An engine to run: label, its Python and its additions to the environment.

    A label is ENGINE[:VARIANT][@SETTING], whose setting only tells apart what differs in the environment.
    """

    label: str
    python: str
    environment: Mapping[str, str]

    @property
    def engine(self) -> str:
        return self._parts[0]

    @property
    def variant(self) -> str:
        return self._parts[2]

    @property
    def _parts(self) -> tuple[str, str, str]:
        return self.label.partition("@")[0].partition(":")


@dataclass
class Result:
    """What one engine did on one workload; `failure` explains a missing number."""

    label: str
    version: str = ""
    load_seconds: float = 0.0
    disagreement: float = 0.0
    seconds: list[float] = field(default_factory=list)
    peak_rss_bytes: int = 0
    failure: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def _command(*arguments: str) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, cwd=Path(__file__).parent, env=environment)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def machine() -> dict[str, Any]:
    """Returns CPU model, usable CPUs, caches, system and the commit under test ("" where a command is missing)."""
    cpu = dict(line.split(":", 1) for line in _command("lscpu").splitlines() if ":" in line)
    commit = _command("git", "rev-parse", "HEAD")
    return {
        "cpu": cpu.get("Model name", "").strip(),
        "cpus": len(os.sched_getaffinity(0)),
        "caches": {name: cpu[name].strip() for name in ("L1d cache", "L2 cache", "L3 cache") if name in cpu},
        "system": platform.platform(),
        "load_average": os.getloadavg()[0],  # near 0 at the start, or the numbers are not worth keeping
        "commit": commit + ("-dirty" if commit and _command("git", "status", "--porcelain") else ""),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _prepare(
    peers: Mapping[str, Peer], specs: Sequence[Spec], workload: Work, reference: str, judge: Judge, first: int
) -> dict[str, Result]:
    """Loads the workload in every engine and compares the outputs with the reference engine's."""
    results = {spec.label: Result(spec.label) for spec in specs}
    outputs: dict[str, Array] = {}
    for spec in specs:
        result = results[spec.label]
        try:
            answer = peers[spec.label].load(replace(workload, variant=spec.variant), first)
            outputs[spec.label] = peers[spec.label].outputs()
        except PeerError as error:
            result.failure = str(error)
            continue
        result.version, result.load_seconds = answer["engine"], answer["load_seconds"]
        result.peak_rss_bytes = answer["peak_rss_bytes"]
    for label, values in outputs.items():
        if reference in outputs:
            results[label].disagreement, results[label].failure = judge(values, outputs[reference], workload.mode)
        else:
            results[label].failure = f"reference {reference} has no outputs"
    return results


def _round(peer: Peer, result: Result, options: argparse.Namespace) -> None:
    try:
        answer = peer.run(options.repeats, options.warmup)
    except PeerError as error:
        result.failure = str(error)
        return
    result.seconds += answer["seconds"]
    result.peak_rss_bytes = answer["peak_rss_bytes"]
    time.sleep(options.pause)


def compare(
    specs: Sequence[Spec],
    workload: Work,
    kind: str,
    directory: Path,
    judge: Judge,
    options: argparse.Namespace,
    first: int = 3,
) -> list[Result]:
    """Runs one workload in all engines, in turn; returns a result for each, in the order given.

    Engines are the scripts `<engine>_<kind>.py` of this folder, which read from `directory`; each makes `first` untimed
    calls when it is loaded.
    """
    with contextlib.ExitStack() as stack:
        peers = {}
        for spec in specs:
            peer = Peer(f"{spec.engine}_{kind}", spec.python, directory, spec.environment)
            peers[spec.label] = stack.enter_context(peer)
        results = _prepare(peers, specs, workload, options.reference, judge, first)
        time.sleep(options.pause)
        for _ in range(options.rounds):
            for label, result in results.items():
                if not result.failure:
                    _round(peers[label], result, options)
    return list(results.values())


def _ours(results: Sequence[Result]) -> float | None:
    return next((result.median for result in results if result.label == OURS and not result.failure), None)


def table(title: str, images: int, results: Sequence[Result]) -> str:
    """Returns the results of calls on `images` pictures, fastest median first; "ratio" is to fastcnn's median."""
    ours = _ours(results)
    columns = ("median ms", "min ms", "p90 ms", "img/s", "ratio", "peak MiB", "differs")
    lines = [title, f"  {'engine':<29}" + "".join(f"{column:>10}" for column in columns)]
    for result in sorted((r for r in results if not r.failure), key=lambda r: r.median):
        p90 = sorted(result.seconds)[int(0.9 * len(result.seconds))]
        ratio = f"{result.median / ours:.2f}" if ours else "-"
        times = "".join(f"{1e3 * seconds:>10.3f}" for seconds in (result.median, min(result.seconds), p90))
        rest = f"{ratio:>10}{result.peak_rss_bytes / 2**20:>10.0f}{result.disagreement:>10.1e}"
        lines.append(f"  {result.label:<29}{times}{images / result.median:>10.2f}{rest}")
    lines += [f"  {result.label:<29}{'FAIL':>10}  {result.failure}" for result in results if result.failure]
    return "\n".join(lines)


def record(path: Path, workload: Work, results: Sequence[Result], about: Mapping[str, Any]) -> None:
    """Appends one line of JSON per engine, whose label tells the variant."""
    ours = _ours(results)
    with path.open("a") as file:
        for result in results:
            row = {"workload": asdict(workload), **asdict(result), **about}
            if not result.failure:
                row["median"] = result.median
                row["ratio"] = result.median / ours if ours else None
            file.write(json.dumps(row) + "\n")


def _specs(options: argparse.Namespace) -> list[Spec]:
    environments: dict[str, dict[str, str]] = {}
    for item in options.env:
        label, name, value = item.split("=", 2)
        environments.setdefault(label, {})[name] = value
    pairs = [item.split("=", 1) for item in options.peer]
    return [Spec(label, python, environments.get(label, {})) for label, python in pairs]


def add_arguments(parser: argparse.ArgumentParser, *, rounds: int, repeats: int, warmup: int) -> None:
    """Adds what every contest asks for; the numbers are defaults."""
    parser.add_argument(
        "--peer", action="append", required=True, metavar="ENGINE[:VARIANT][@SETTING]=PYTHON", help="repeatable"
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="LABEL=NAME=VALUE",
        help="environment of that engine alone, for example LD_PRELOAD of an allocator (repeatable)",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--reference", help="label of the engine the others must agree with (default: the first)")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--repeats", type=int, default=repeats, help="timed calls of an engine in a round")
    parser.add_argument("--warmup", type=int, default=warmup, help="untimed calls before them")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds between engines")
    parser.add_argument("--json", type=Path, help="append one line per engine and workload")


def checked_specs(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[Spec]:
    """Returns the engines asked for and settles the reference; ends the program if their labels make no sense."""
    specs = _specs(options)
    labels = [spec.label for spec in specs]
    options.reference = options.reference or labels[0]
    if options.reference not in labels or len(set(labels)) < len(labels):
        parser.error(f"labels must differ and include the reference {options.reference!r}, got {labels}")
    return specs


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the machine and how often things were called, for `record`."""
    return {**machine(), "rounds": options.rounds, "repeats": options.repeats, "warmup": options.warmup}
