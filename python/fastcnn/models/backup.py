"""Backups of a running `fit`: all that decides what the next batch does, in one safetensors file.

Weights and slots are tensors, as in a model file; of the callbacks and metrics the arrays are tensors too, the rest is
JSON in the metadata. Floats survive JSON exactly (it writes the shortest decimal that reads back the same).
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastcnn import _core, random
from fastcnn._version import __version__
from fastcnn.callbacks import Callback
from fastcnn.formats import FilePath, ModelFileError, safetensors
from fastcnn.models.saving import metadata_json, weight_shapes

if TYPE_CHECKING:
    from fastcnn.models.fit import FitRun
    from fastcnn.models.training import Trainer

_KEY = "fastcnn.backup"
_WEIGHTS, _OPTIMIZER, _CALLBACKS, _METRICS = "weights/", "optimizer/", "callbacks/", "metrics/"
_ARRAY = {"array": True}  # stands in JSON for a value that is a tensor


def size(run: FitRun) -> int:
    """Return about how many bytes a backup takes."""
    arrays = _tensors(run.model).values()
    return sum(array.nbytes for array in arrays)


def save(run: FitRun, path: FilePath) -> None:
    """Write where a run stands, whole or not at all; raises OSError."""
    model, optimizer = run.model, run.model.optimizer
    assert optimizer is not None
    tensors = _tensors(model)
    record = {
        "version": __version__,
        "isa": _core.isa(),
        "winograd": _core.winograd(),
        "seed": random.get_seed(),
        "micro_batches": model._training()[1].most_parts,
        "progress": asdict(run.progress),
        "stopped": model.stop_training,
        "learning_rate": optimizer.learning_rate,
        "identity": _identity(run),
        "metrics": _split(run.means.get_state(), _METRICS, tensors),
        "callbacks": {
            name: _split(callback.get_state(), f"{_CALLBACKS}{name}/", tensors)
            for name, callback in _named(run.hooks.callbacks)
        },
    }
    safetensors.write(path, tensors, {_KEY: json.dumps(record)})


def restore(run: FitRun, path: FilePath) -> None:
    """Put a run where a backup was made.

    Raises ModelFileError for a file that is damaged or no backup, OSError, and ValueError for a backup of another
    model, optimizer or data, before anything has changed.
    """
    model, optimizer = run.model, run.model.optimizer
    assert optimizer is not None
    name = os.fsdecode(path)
    header = safetensors.read_header(path)
    record = metadata_json(path, header.metadata, _KEY)
    if not record:
        raise ModelFileError(f"{name}: is no backup of a training run ({_KEY} is missing)")
    try:
        _check_identity(name, record["identity"], _identity(run))
        own = _tensors(model)
        arrays = {key for key in header.tensors if key.startswith((_CALLBACKS, _METRICS))}
        expected = {key: array.shape for key, array in own.items()}
        tensors = safetensors.read(path, expected | {key: header.tensors[key].shape for key in arrays}).tensors
        states = {name: _joined(state, f"{_CALLBACKS}{name}/", tensors) for name, state in record["callbacks"].items()}
        metrics = _joined(record["metrics"], _METRICS, tensors)
        progress = {field: record["progress"][field] for field in asdict(run.progress)}
        seed, rate, stopped = record["seed"], record["learning_rate"], record["stopped"]
        isa, winograd = record["isa"], record["winograd"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{name}: the backup is incomplete: {error!r}") from error
    if (isa, winograd) != (_core.isa(), _core.winograd()):
        warnings.warn(
            f"{name}: the backup was made with {isa} (Winograd {winograd}), this process runs {_core.isa()} (Winograd "
            f"{_core.winograd()}): training goes on, but its last bits will differ",
            stacklevel=2,
        )
    _assign(model, tensors)
    micro_batches = record.get("micro_batches", 1)
    if not run.parts.limit.number(micro_batches):
        warnings.warn(
            f"{name}: the backup was made with batches in {micro_batches} micro-batches, this run has another number: "
            "training goes on, but its last bits will differ, and more where batch normalisation is trained",
            stacklevel=2,
        )
    if optimizer.learning_rate != rate:
        optimizer.learning_rate = rate
    if not progress["trained"] and progress["steps"]:
        run.means.set_state(metrics)
    random.restore_seed(seed)
    for field, value in progress.items():
        setattr(run.progress, field, value)
    for key, callback in _named(run.hooks.callbacks):
        if key in states:
            callback.set_state(states[key])
    if lost := [key for key, state in states.items() if state and key not in dict(_named(run.hooks.callbacks))]:
        warnings.warn(f"{name}: the backup has the state of {', '.join(lost)}, which this run lacks", stacklevel=2)
    model.stop_training = stopped


def _tensors(model: Trainer) -> dict[str, NDArray[Any]]:
    weights = {_WEIGHTS + parameter.path: parameter.value for parameter in model.weights}
    return weights | {_OPTIMIZER + name: array for name, array in model.optimizer_state().items()}


def _assign(model: Trainer, tensors: Mapping[str, NDArray[Any]]) -> None:
    for parameter in model.weights:
        parameter.assign(tensors[_WEIGHTS + parameter.path])
    state = {name: tensors[_OPTIMIZER + name] for name in model.optimizer_state()}
    model.load_optimizer_state(state)


def _identity(run: FitRun) -> dict[str, Any]:
    """Return what a resumed run must have in common with the interrupted one, in JSON's types."""
    compiled = run.model.get_compile_config() or {}
    optimizer = json.loads(json.dumps(compiled.get("optimizer")))
    rate = optimizer["config"].get("learning_rate")
    if not isinstance(rate, dict):  # a number, which callbacks change
        del optimizer["config"]["learning_rate"]
    found = {
        "model": {"weights": {name: list(shape) for name, shape in weight_shapes(run.model).items()}},
        "optimizer": optimizer,
        "loss": compiled.get("loss"),
        "metrics": [compiled.get("metrics"), compiled.get("weighted_metrics")],
        "trained": run.model.trained_layers(),
        "data": run.source.identity(),
    }
    with suppress(ValueError):  # layers made of functions have no configuration
        found["model"] |= run.model.get_config()
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def _check_identity(name: str, stored: Any, own: Any) -> None:
    differences = list(_differences(stored, own, ""))
    if differences:
        shown = "; ".join(differences[:3]) + ("; ..." if len(differences) > 3 else "")
        raise ValueError(
            f"{name}: the backup is of another run: {shown}. Give fit what the interrupted one had, with the same seed "
            "(set_random_seed) before the model is built, or remove the backup"
        )


def _differences(stored: Any, own: Any, where: str) -> Iterator[str]:
    """Yield a line for each place where two JSON values differ."""
    if isinstance(stored, dict) and isinstance(own, dict):
        for key in sorted({*stored, *own}):
            yield from _differences(stored.get(key), own.get(key), f"{where}.{key}" if where else key)
    elif isinstance(stored, list) and isinstance(own, list) and len(stored) == len(own):
        for i, pair in enumerate(zip(stored, own, strict=True)):
            yield from _differences(*pair, f"{where}[{i}]")
    elif stored != own:
        yield f"{where} was {_short(stored)}, now {_short(own)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _named(callbacks: list[Callback]) -> Iterator[tuple[str, Callback]]:
    """Yield callbacks with names that stay the same when others are added: their class, numbered from the second on."""
    seen: dict[str, int] = {}
    for callback in callbacks:
        kind = type(callback).__name__
        seen[kind] = seen.get(kind, 0) + 1
        yield (kind if seen[kind] == 1 else f"{kind}{seen[kind]}"), callback


def _split(state: Mapping[str, Any], prefix: str, tensors: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Return a state without its arrays, which become tensors."""
    plain: dict[str, Any] = {}
    for key, value in state.items():
        if isinstance(value, np.ndarray):
            tensors[prefix + key] = value
        plain[key] = _ARRAY if isinstance(value, np.ndarray) else value
    return plain


def _joined(plain: Mapping[str, Any], prefix: str, tensors: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    return {key: tensors[prefix + key] if value == _ARRAY else value for key, value in plain.items()}
