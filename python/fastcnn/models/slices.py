"""Inference of a large batch in slices: the activations of a slice stay in the cache from one layer to the next.

A slice reads all weights again, so it must be large enough for that to be little beside its activations. No bit depends
on where a batch is cut.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn.layers.base import Array
from fastcnn.models.workspace import Workspace
from fastcnn.program import BoundProgram, Recipe

CACHED = 26 << 20  # bytes of a slice's largest activation: 8 pictures of 224x224 in ResNet50


def longest(recipe: Recipe, weight_bytes: int) -> int:
    """Return how many samples a slice has at most."""
    activations = [4 * math.prod(node.sample_shape) for node in recipe.nodes]
    return max(1, CACHED // max(1, *activations), math.ceil(weight_bytes / max(1, sum(activations))))


def cut(recipe: Recipe, size: int) -> list[slice]:
    """Return the slices of a batch, of nearly equal size."""
    count = math.ceil(size / recipe.slice_size)
    return [slice(size * i // count, size * (i + 1) // count) for i in range(count)]


def programs(workspace: Workspace, recipe: Recipe, size: int) -> list[BoundProgram]:
    """Return the programs for a batch, one for each size of its slices, the largest first."""
    sizes = {rows.stop - rows.start for rows in cut(recipe, size)}
    return [workspace.program("inference", n, recipe) for n in sorted(sizes, reverse=True)]


def predict(workspace: Workspace, recipe: Recipe, x: NDArray[Any]) -> list[Array]:
    """Return the outputs for samples x."""
    if len(x) <= recipe.slice_size:
        return workspace.program("inference", len(x), recipe).predict(x)
    outputs = [np.empty((len(x), *node.sample_shape), np.float32) for node in recipe.outputs]
    for rows in cut(recipe, len(x)):
        parts = workspace.program("inference", rows.stop - rows.start, recipe).predict(x[rows])
        for output, part in zip(outputs, parts, strict=True):
            output[rows] = part
    return outputs
