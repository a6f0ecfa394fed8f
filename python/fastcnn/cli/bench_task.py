"""One measurement of `fastcnn bench` in a process of its own: memory is counted from nothing, NumPy's threads are set.

The task is a JSON object, the only argument; the answers are JSON lines, the last {"error": "..."} if it failed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from fastcnn import config
from fastcnn.benchmark import network, roof
from fastcnn.benchmark.against_numpy import compare
from fastcnn.benchmark.layers import Convolution, Normalization, Pooling, Product, Shape, distinct_layers
from fastcnn.benchmark.roof import Roof
from fastcnn.cli.architectures import build
from fastcnn.models import Model

CLASSES = 1000
NORM_BATCH = 8  # of batch normalisation against NumPy
_LARGEST_DENSE = 1 << 24  # weights: the float64 reference needs sixteen bytes for each


def model_of(name: str, size: int) -> Model:
    """Return an architecture with random weights; raises ValueError for a size that it cannot take."""
    return build(name, size, CLASSES, "torchvision" if name.startswith("resnet") else "keras")


def a_handful(models: dict[str, Model]) -> dict[Shape, dict[str, int]]:
    """Return the heaviest layer of each kind: a convolution per window, a pooling, a normalisation, a dense layer."""
    heaviest: dict[object, tuple[int, Shape, dict[str, int]]] = {}
    for shape, counts in distinct_layers(models).items():
        key: object = type(shape)
        if isinstance(shape, Convolution):
            key, weight = (shape.R, shape.S), shape.macs * max(counts.values())
        elif isinstance(shape, Product):
            weight = shape.C * shape.K
            if weight > _LARGEST_DENSE:
                continue
        else:
            weight = shape.H * shape.W * shape.C
            if isinstance(shape, Pooling) and shape.kind != "max":
                continue
        if key not in heaviest or heaviest[key][0] < weight:
            heaviest[key] = weight, shape, counts
    return {shape: counts for _, shape, counts in heaviest.values()}


def measure(task: str, *, seconds: float, **options: Any) -> Iterator[dict[str, Any]]:
    """Yield the results of one measurement."""
    if task == "machine":
        yield roof.machine() | asdict(roof.measured())
    elif task == "layers":
        models = {name: model_of(name, options["size"]) for name in options["models"]}
        for shape, counts in a_handful(models).items():
            batch = max(NORM_BATCH, options["batch"]) if isinstance(shape, Normalization) else options["batch"]
            roofs = Roof(**options["roof"])
            for row in compare(shape, counts, batch, "forward", roofs, seconds=seconds / 60):
                rate, unit = row.rate
                found: dict[str, Any] = {"rate": rate, "unit": unit, "passed": row.passed, "faster": row.faster}
                yield asdict(row) | found
    else:
        run = network.inference if task == "inference" else network.training
        model = model_of(options["model"], options["size"])
        yield asdict(run(model, options["batch"], seconds)) | {"model": options["model"], "size": options["size"]}


def main() -> None:
    """Do the task of the command line."""
    options = json.loads(sys.argv[1])
    config.set_num_threads(options.pop("threads"))
    try:
        for row in measure(**options):
            print(json.dumps(row), flush=True)
    except (ArithmeticError, MemoryError, OSError, RuntimeError, ValueError) as error:
        print(json.dumps({"error": str(error) or type(error).__name__}))
    except KeyboardInterrupt:
        sys.exit(130)  # the command that started this process says so
