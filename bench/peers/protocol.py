"""One engine as a long-lived process: a JSON request per line on stdin, a JSON answer per line on stdout.

With --answers FD the answers go to that file descriptor instead, since some engines print while they are imported.

    {"op": "convert", "model": "resnet50", "batch": 1, "size": 224, "threads": 2}
        -> {}, once the engine has written the file of its own that it loads, if it has one
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
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from seeded import Array, seeded_images

MODES = ("infer", "train")
LEARNING_RATE = {"resnet18": 1e-3, "resnet50": 1e-3, "vgg16": 1e-4, "lenet": 1e-3}  # of Adam, in "train"


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

    @property
    def title(self) -> str:
        return f"{self.model} {self.mode} batch {self.batch} size {self.size} threads {self.threads}"

    @property
    def classes(self) -> int:
        return 10 if self.model == "lenet" else 1000

    @property
    def channels(self) -> int:
        return 1 if self.model == "lenet" else 3

    def images(self) -> Array:
        """Returns the input [batch,size,size,channels]."""
        return seeded_images(self.batch, self.size, channels=self.channels)

    def images_nchw(self) -> Array:
        """Returns the input [batch,channels,size,size]."""
        return np.ascontiguousarray(self.images().transpose(0, 3, 1, 2))

    def file(self, directory: Path, suffix: str) -> Path:
        """Returns the path `export.py` gives this model's file with that suffix."""
        return directory / f"{self.model}_{self.size}{suffix}"

    def onnx(self, directory: Path) -> Path:
        """Returns the path of the ONNX file, the only one whose shapes include the batch."""
        return self.file(directory, f"_b{self.batch}.onnx")


class Engine(Protocol):
    """Work made ready from (workload, directory of what it reads).

    A static method `convert(workload, directory)`, where there is one, writes the file that the engine reads.
    """

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
    """Returns this process's resident set and its peak, in bytes; getrusage's peak would include the parent's."""
    status = Path("/proc/self/status").read_text()
    names = {"rss_bytes": "VmRSS", "peak_rss_bytes": "VmHWM"}
    return {name: 1024 * int(re.findall(rf"{line}:\s*(\d+) kB", status)[0]) for name, line in names.items()}


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

    def convert(self, **workload: Any) -> dict[str, Any]:
        if convert := getattr(self._factory, "convert", None):
            convert(self._kind(**workload), self._directory)
        return {}

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
        "convert": server.convert,
        "load": server.load,
        "run": server.run,
        "outputs": server.outputs,
    }
    operation = request.pop("op", None)
    if operation not in operations:
        raise ValueError(f"op must be one of {sorted(operations)} or 'quit', got {operation!r}")
    return operations[operation](**request)


def serve(factory: EngineFactory[W], kind: type[W]) -> None:
    """Answers requests until "quit" or the end of stdin; arguments are --directory DIR and --answers FD."""
    parser = argparse.ArgumentParser(description="one engine of a contest")
    parser.add_argument("--directory", type=Path, required=True, help="of the exported models, or of the pictures")
    parser.add_argument("--answers", type=int, default=1, help="file descriptor that the answers go to")
    options = parser.parse_args()
    server = _Server(factory, kind, options.directory)
    answers = os.fdopen(options.answers, "w", buffering=1)
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
