"""The asking end of `protocol.py`: starts one engine's process and talks to it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np
from protocol import Work
from seeded import Array


class PeerError(RuntimeError):
    """An engine answered a request with an error, or ended."""


class Peer:
    """A running engine, the script of that name beside this file; a `with` statement ends the process."""

    def __init__(self, engine: str, python: str, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        script = Path(__file__).parent / f"{engine}.py"
        if not script.exists():
            raise ValueError(f"Peer: no engine {engine!r}: {script.name} does not exist")
        self._engine = engine
        answers, end = os.pipe()
        self._process = subprocess.Popen(
            [python, str(script), "--directory", str(directory), "--answers", str(end)],
            stdin=subprocess.PIPE,
            stdout=2,  # whatever an engine prints goes to stderr
            pass_fds=(end,),
            text=True,
            bufsize=1,
            env={**os.environ, **(environment or {})},
        )
        os.close(end)
        self._answers = os.fdopen(answers)

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it may have ended earlier
            self._process.stdin.close()  # the server's loop ends with its input
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()

    def _ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
            line = self._answers.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(f"{self._engine}: {op}: the process ended (exit status {self._process.wait()})")
        answer = cast(dict[str, Any], json.loads(line))
        if "error" in answer:
            raise PeerError(f"{self._engine}: {op}: {answer['error']}")
        return answer

    def convert(self, workload: Work) -> None:
        """Lets the engine write the file of its own that it loads, if it has one, from those of `export.py`."""
        self._ask("convert", **asdict(workload))

    def load(self, workload: Work, warmup: int = 3) -> dict[str, Any]:
        """Makes the model ready and warms it up; returns engine (name, version), load_seconds and memory in bytes."""
        return self._ask("load", warmup=warmup, **asdict(workload))

    def run(self, repeats: int, warmup: int = 0) -> dict[str, Any]:
        """Returns seconds (one per timed call), checksum, rss_bytes and peak_rss_bytes."""
        return self._ask("run", repeats=repeats, warmup=warmup)

    def outputs(self) -> Array:
        """Returns the engine's last outputs, as `protocol.Engine.outputs`."""
        with tempfile.TemporaryDirectory() as directory:
            answer = self._ask("outputs", path=str(Path(directory) / "outputs.npy"))
            return cast(Array, np.load(answer["path"]))


def disagreement(values: Array, reference: Array) -> float:
    """Returns max |values - reference| / max |reference|; infinity where that means nothing."""
    comparable = values.shape == reference.shape and reference.any()
    if not (comparable and np.isfinite(values).all() and np.isfinite(reference).all()):
        return float("inf")
    return float(np.abs(values - reference).max() / np.abs(reference).max())
