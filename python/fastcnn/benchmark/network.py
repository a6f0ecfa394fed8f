"""Whole networks timed: predictions and training steps on random numbers, and the memory that they take."""

from __future__ import annotations

import resource
import statistics
from dataclasses import dataclass

import numpy as np

from fastcnn.benchmark.layers import Convolution, Product, distinct_layers
from fastcnn.benchmark.timing import repeated
from fastcnn.models import Model
from fastcnn.optimizers import Adam

_LEAST = 5  # timed calls


@dataclass(frozen=True)
class Result:
    """The median time of a call, its arithmetic by direct convolution, and this process's largest memory so far."""

    batch: int
    calls: int
    seconds: float
    flops: int
    peak_bytes: int


def inference(model: Model, batch: int, seconds: float) -> Result:
    """Time predict_on_batch on `batch` samples for about that many seconds."""
    x = _samples(model, batch)
    model.predict_on_batch(x)  # packs the weights
    times = repeated(lambda: model.predict_on_batch(x), seconds, _LEAST)
    return Result(batch, len(times), statistics.median(times), batch * flops(model), peak_bytes())


def training(model: Model, batch: int, seconds: float) -> Result:
    """Time train_on_batch with Adam on `batch` samples; the model is compiled, with a learning rate of 0."""
    x = _samples(model, batch)
    y = np.arange(batch) % model.output_shape[-1]
    model.compile(optimizer=Adam(0.0), loss="sparse_categorical_crossentropy")
    model.train_on_batch(x, y)
    times = repeated(lambda: model.train_on_batch(x, y), seconds, _LEAST)
    return Result(batch, len(times), statistics.median(times), 3 * batch * flops(model), peak_bytes())


def flops(model: Model) -> int:
    """Return the arithmetic of one sample's prediction in convolutions and dense layers, by the direct formula."""
    total = 0
    for layer, counts in distinct_layers({"model": model}).items():
        if isinstance(layer, Convolution | Product):
            macs = layer.macs if isinstance(layer, Convolution) else layer.C * layer.K
            total += 2 * macs * counts["model"]
    return total


def peak_bytes() -> int:
    """Return the largest resident memory of this process since it began its program."""
    try:
        # ru_maxrss also knows of the process that started this one
        with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
            return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _samples(model: Model, batch: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal((batch, *model.input.sample_shape), np.float32)
