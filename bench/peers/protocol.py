"""One engine as a long-lived process: a JSON request per line on stdin, a JSON answer per line on stdout.

    {"op": "load", "model": "resnet50", "batch": 1, "size": 224, "threads": 2, "mode": "infer", "variant": ""}
        -> {"engine": "onnxruntime 1.32.0", "load_seconds": 0.4, "rss_bytes": ..., "peak_rss_bytes": ...}
    {"op": "run", "warmup": 1, "repeats": 3}
        -> {"seconds": [...], "checksum": ..., "rss_bytes": ..., "peak_rss_bytes": ...}
    {"op": "outputs", "path": "out.npy"}
        -> {"path": "out.npy", "shape": [1, 1000]}
    {"op": "quit"}
        -> {}

A request that fails is answered by {"error": "..."}. `client.py` is the other end.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TextIO, TypeVar

import numpy as np
from seeded import Array

CLASSES = 1000
MODES = ("infer", "train")
LEARNING_RATE = {"resnet18": 1e-3, "resnet50": 1e-3, "vgg16": 1e-4}  # of Adam, in "train"


@dataclass(frozen=True, kw_only=True)
class Work:
    """What every engine of a contest runs; `mode` is one of the contest's, `variant` an engine's own way to run it."""

    batch: int
    size: int  # rows and columns of an image
    threads: int
    mode: str = "infer"
    variant: str = ""


@dataclass(frozen=True, kw_only=True)
class Workload(Work):
    """A network, for inference or training."""

    model: str

    def file(self, directory: Path, suffix: str) -> Path:
        """Returns the path `export.py` gives this model's file with that suffix."""
        return directory / f"{self.model}_{self.size}{suffix}"

    def onnx(self, directory: Path) -> Path:
        """Returns the path of the ONNX file, the only one whose shapes include the batch."""
        return self.file(directory, f"_b{self.batch}.onnx")


class Engine(Protocol):
    """Work made ready from (workload, directory of what it reads)."""

    version: str

    def step(self) -> None:
        """Runs the timed call: an inference, from array to array, a training step or an epoch of pictures."""

    def outputs(self) -> Array:
        """Returns what engines must agree on.

        Of networks the last logits [N,classes], in training the losses of the first two steps, whatever ran since;
        of loaders what `loader.py` says.
        """


W = TypeVar("W", bound=Work)
EngineFactory = Callable[[W, Path], Engine]
"""Makes an engine from (workload, directory); raises ValueError for a mode or variant that it does not have."""


def require(workload: Work, engine: str, modes: tuple[str, ...], variants: tuple[str, ...] = ("",)) -> None:
    """Raises ValueError unless the workload's mode and variant are among those the engine has."""
    for name, value, known in (("mode", workload.mode, modes), ("variant", workload.variant, variants)):
        if value not in known:
            raise ValueError(f"{engine}: {name} must be one of {known}, got {value!r}")


def _memory() -> dict[str, int]:
    """Returns this process's resident set and its peak, in bytes."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {"rss_bytes": resident, "peak_rss_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


class _Server(Generic[W]):
    def __init__(self, factory: EngineFactory[W], kind: type[W], directory: Path) -> None:
        self._factory = factory
        self._kind = kind
        self._directory = directory
        self._engine: Engine | None = None

    def _loaded(self) -> Engine:
        if self._engine is None:
            raise ValueError("nothing is loaded: send a load request first")
        return self._engine

    def load(self, warmup: int = 3, **workload: Any) -> dict[str, Any]:
        self._engine = None
        begin = time.perf_counter()
        engine = self._factory(self._kind(**workload), self._directory)
        seconds = time.perf_counter() - begin
        for _ in range(warmup):
            engine.step()
        self._engine = engine
        return {"engine": engine.version, "load_seconds": seconds, **_memory()}

    def run(self, repeats: int = 1, warmup: int = 0) -> dict[str, Any]:
        engine = self._loaded()
        for _ in range(warmup):
            engine.step()
        seconds = []
        for _ in range(repeats):
            begin = time.perf_counter()
            engine.step()
            seconds.append(time.perf_counter() - begin)
        return {"seconds": seconds, "checksum": float(np.abs(engine.outputs()).sum(dtype=np.float64)), **_memory()}

    def outputs(self, path: str) -> dict[str, Any]:
        values = self._loaded().outputs()
        np.save(path, values)
        return {"path": path, "shape": list(values.shape)}


def _answer(server: _Server[Any], request: dict[str, Any]) -> dict[str, Any]:
    operations: dict[str, Callable[..., dict[str, Any]]] = {
        "load": server.load,
        "run": server.run,
        "outputs": server.outputs,
    }
    operation = request.pop("op", None)
    if operation not in operations:
        raise ValueError(f"op must be one of {sorted(operations)} or 'quit', got {operation!r}")
    return operations[operation](**request)


def _private_stdout() -> TextIO:
    """Keeps the answers' pipe for this file alone: whatever an engine prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers


def serve(factory: EngineFactory[W], kind: type[W]) -> None:
    """Answers requests until "quit" or the end of stdin; the process's only argument is --directory DIR."""
    parser = argparse.ArgumentParser(description="one engine of a contest")
    parser.add_argument("--directory", type=Path, required=True, help="of the exported models, or of the pictures")
    server = _Server(factory, kind, parser.parse_args().directory)
    answers = _private_stdout()
    for line in sys.stdin:
        try:
            request = json.loads(line)
            if request.get("op") == "quit":
                print("{}", file=answers)
                return
            answer = _answer(server, request)
        except Exception as error:  # any engine may raise anything; the other end decides
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers)
