"""What a training run will take, before it starts: memory as planned, time as measured on a copy of the model.

The copy is thrown away, so that training afterwards is the same to the bit as without. The model itself has touched
little of its memory by then, so that the process does not need twice as much.
"""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastcnn.data import ImageDataset
from fastcnn.models import Model
from fastcnn.models.memory import MemoryPlan

_WARM, _TIMED = 1, 2  # batches


@dataclass(frozen=True)
class Forecast:
    """The plan of a model's memory, and seconds an epoch with its validation takes."""

    memory: MemoryPlan
    seconds_per_epoch: float


def forecast(model: Model, training: ImageDataset, validation: ImageDataset | None) -> Forecast:
    """Measure a few steps on real pictures, their reading included; the model itself is left as it is.

    Raises ImageFileError for a picture that cannot be read.
    """
    memory = model.memory_plan(min(training.batch_size, len(training.file_paths)))
    twin = _twin(model)
    seconds = _epoch(twin.train_on_batch, training)
    if validation is not None:
        seconds += _epoch(twin.test_on_batch, validation)
    twin.release_workspace()
    del twin
    gc.collect()  # parts of a model refer to each other in circles, and their memory is wanted now
    return Forecast(memory, seconds)


def _twin(model: Model) -> Model:
    """Return a model of the same layers, compiled alike, with weights of its own that its steps leave as they are."""
    twin = type(model).from_config(model.get_config())
    config = copy.deepcopy(model.get_compile_config())
    assert config is not None
    config["optimizer"]["config"]["learning_rate"] = 0.0  # what a rate makes of the weights is not for here to judge
    twin.compile_from_config(config)
    return twin


def _epoch(step: Callable[..., Any], pictures: ImageDataset) -> float:
    """Return the seconds of an epoch: reading its pictures plus steps on them, both measured on its first batches.

    Reading and computing want the same processors, so that their times add up although they overlap.
    """
    count = len(pictures.file_paths)
    size = min(pictures.batch_size, count)
    chosen = pictures.order(0)[: min(_WARM + _TIMED, count // size) * size]
    first = copy.copy(pictures)
    assert pictures.labels is not None
    first.file_paths, first.labels = [pictures.file_paths[i] for i in chosen], pictures.labels[chosen]
    first.shuffle, first.skipped = False, {}
    began = time.perf_counter()
    batches: list[Any] = list(first.epoch(0))
    reading = (time.perf_counter() - began) / len(chosen)
    step(*batches[0])  # makes the program, which is no part of an epoch
    timed = batches[_WARM:] or batches
    began = time.perf_counter()
    for x, y in timed:
        step(x, y)
    computing = (time.perf_counter() - began) / sum(len(x) for x, _ in timed)
    return (reading + computing) * count
