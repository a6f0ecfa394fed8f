"""Runs a course of `bench_convergence.py` in PyTorch and prints its result as JSON. Needs torch.

python bench/peers/torch_course.py FOLDER --model resnet50 --size 64 --classes 10 --seed 0 --steps 300 --batch 32
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from course import Course, result
from protocol import LEARNING_RATE
from torch import nn
from torch_models import build
from torch_names import keras_location, torch_layout
from torch_vectors import KerasAdam


def with_weights(model: nn.Module, name: str, course: Course) -> nn.Module:
    """Fills a model with the first weights of a course; raises KeyError for one that is not there."""
    weights = course.weights()
    for entry, tensor in model.state_dict().items():
        if not entry.endswith("num_batches_tracked"):
            values = weights.pop(keras_location(entry, name))
            tensor.copy_(torch.from_numpy(torch_layout(entry, values, tuple(tensor.shape), name)))
    if weights:
        raise ValueError(f"torch_course: {name} has no place for {sorted(weights)}")
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--classes", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    course = Course(options.folder, options.seed, options.steps, options.batch)
    model = with_weights(build(options.model, options.size, options.classes, seed=None), options.model, course)
    optimizer = KerasAdam(list(model.parameters()), LEARNING_RATE[options.model])
    losses = []
    for rate, (x, y) in zip(course.rates(LEARNING_RATE[options.model]), course.batches(), strict=True):
        optimizer.learning_rate = rate
        model.zero_grad()
        loss = nn.functional.cross_entropy(model(_nchw(x)), torch.from_numpy(y))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    right = count = 0
    with torch.inference_mode():
        for x, y in course.held_out():
            right += int((model(_nchw(x)).argmax(1).numpy() == y).sum())
            count += len(y)
    print(json.dumps(result(losses, right, count) | {"version": torch.__version__}))


def _nchw(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


if __name__ == "__main__":
    main()
