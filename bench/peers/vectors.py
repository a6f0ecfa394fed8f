"""The file of PyTorch's numbers that `torch_vectors.py` writes: how tensors are sampled, and a reader in NumPy alone.

Everything exists in float64 and in float32 from several ways to compute the same step (see `torch_vectors.py`): they
show what rounding alone does. It does much: one ReLU whose input rounds to the other side of 0 can move gradients by
about a percent, and Adam turns the sign of the smallest gradients into whole steps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
SAMPLES = 64  # of each tensor, unless a file says otherwise


def sample_indices(size: int, samples: int = SAMPLES) -> NDArray[np.int64]:
    """Returns at most `samples` distinct flat indices of a tensor of that size, ascending.

    They are multiples, modulo size, of a number prime to it near size times the golden ratio: even, and on no regular
    grid of its axes.
    """
    stride = max(1, int(size * (math.sqrt(5) - 1) / 2))
    while math.gcd(stride, size) != 1:
        stride += 1
    return np.sort(np.arange(min(size, samples), dtype=np.int64) * stride % size)


@dataclass(frozen=True)
class Sample:
    """Some entries of one tensor in torch's layout.

    Flat indices, float64 values [n], float32 values [runs,n], the Euclidean norm of the whole float64 tensor, and that
    of each float32 run's error [runs].
    """

    shape: tuple[int, ...]
    index: NDArray[np.int64]
    value64: Float64
    value32: Float64
    norm64: float
    error_norm32: Float64


def pack(
    prefix: str, exact: Mapping[str, Float64], rounded: Sequence[Mapping[str, Float64]], samples: int = SAMPLES
) -> dict[str, NDArray[Any]]:
    """Returns the arrays that store a sample of each tensor, float64 and float32 runs, under keys with that prefix."""
    indices = {name: sample_indices(values.size, samples) for name, values in exact.items()}
    sampled = [
        np.concatenate([run[name].ravel()[index] for name, index in indices.items()]) for run in (exact, *rounded)
    ]
    return {
        f"{prefix}_names": np.array(list(exact)),
        f"{prefix}_shapes": np.array([json.dumps(values.shape) for values in exact.values()]),
        f"{prefix}_value64": sampled[0],
        f"{prefix}_value32": np.stack(sampled[1:]).astype(np.float32),
        f"{prefix}_norm64": np.array([np.linalg.norm(values) for values in exact.values()]),
        f"{prefix}_error_norm32": np.array(
            [[np.linalg.norm(run[name] - exact[name]) for run in rounded] for name in exact], np.float32
        ),
    }


def unpack(prefix: str, file: Mapping[str, NDArray[Any]], samples: int) -> dict[str, Sample]:
    """Returns what `pack` stored under a prefix, by name."""
    unpacked = {}
    end = 0
    for i, (name, shape) in enumerate(zip(file[f"{prefix}_names"], file[f"{prefix}_shapes"], strict=True)):
        lengths = tuple(json.loads(str(shape)))
        index = sample_indices(math.prod(lengths), samples)
        begin, end = end, end + index.size
        unpacked[str(name)] = Sample(
            lengths,
            index,
            file[f"{prefix}_value64"][begin:end],
            file[f"{prefix}_value32"][:, begin:end].astype(np.float64),
            float(file[f"{prefix}_norm64"][i]),
            file[f"{prefix}_error_norm32"][i],
        )
    return unpacked


@dataclass(frozen=True)
class Vectors:
    """One model's numbers.

    `config`: model, size, batch, classes, seed, steps, samples, learning_rate, beta_1, beta_2, epsilon, torch.
    `arrays`: each name with 64 appended, or with 32 and the float32 runs as a first axis; logits [N,classes] and loss
    of the training forward pass (dropout off, BatchNorm by batch statistics), eval_logits of inference, curve
    [steps + 1] of the loss before each step and after the last, final_logits [N,classes] after it.
    `grads`: by state_dict name.
    `batch_stats`: "<module>.mean" and "<module>.var" (biased) of each BatchNorm's input, by module name.
    """

    config: dict[str, Any]
    arrays: dict[str, Float64]
    grads: dict[str, Sample]
    batch_stats: dict[str, Sample]


def load_vectors(path: Path) -> Vectors:
    """Reads a file of `torch_vectors.py`."""
    with np.load(path, allow_pickle=False) as opened:
        file = {name: opened[name] for name in opened.files}
    arrays = {
        name: values.astype(np.float64)
        for name, values in file.items()
        if name != "config" and not name.startswith(("grads_", "batch_stats_"))
    }
    config = json.loads(str(file["config"]))
    samples = config.get("samples", SAMPLES)
    batch_stats = unpack("batch_stats", file, samples) if "batch_stats_names" in file else {}
    return Vectors(config, arrays, unpack("grads", file, samples), batch_stats)
