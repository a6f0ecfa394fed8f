"""What a training run will take, before it starts: memory as planned, time as measured on a copy of the model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fastcnn import data
from fastcnn.models import Model
from fastcnn.models.model import MemoryPlan

_WARM, _TIMED = 1, 3  # batches


@dataclass(frozen=True)
class Forecast:
    """The plan of a model's memory, and seconds an epoch with its validation takes."""

    memory: MemoryPlan
    seconds_per_epoch: float


def forecast(model: Model, training: data.ImageDataset, validation: data.ImageDataset | None) -> Forecast:
    """Measure a few steps on real pictures, their reading included; the model itself is left as it is.

    The copy has the same weights' shapes and its own memory, which is given back before training takes as much.
    """
    copy = type(model).from_config(model.get_config())
    config = model.get_compile_config()
    assert config is not None
    copy.compile_from_config(config)
    seconds = _step(copy.train_on_batch, training) * len(training)
    if validation is not None:
        seconds += _step(copy.test_on_batch, validation) * len(validation)
    return Forecast(model.memory_plan(training.batch_size), seconds)


def _step(run: Callable[..., Any], pictures: data.ImageDataset) -> float:
    """Return the seconds of a batch, the first, which makes the program, left out if there are others."""
    ends = [time.perf_counter()]
    for x, y in islice(pictures.epoch(0), _WARM + _TIMED):
        run(x, y)
        ends.append(time.perf_counter())
    first = _WARM if len(ends) > _WARM + 1 else 0
    return (ends[-1] - ends[first]) / (len(ends) - 1 - first)
