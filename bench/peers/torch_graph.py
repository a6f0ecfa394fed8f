"""Walks a graph of `bench_error.py` in float64 and float32: torch_graph.py STEPS ARRAYS LOGITS. Needs torch."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

PICTURES = 20  # at a time


def pad(x: Tensor, padding: list[list[int]], value: float = 0.0) -> Tensor:
    """Returns x[N,C,H,W] with rows and columns around."""
    (top, bottom), (left, right) = padding
    return nn.functional.pad(x, (left, right, top, bottom), value=value)


def forward(steps: list[dict[str, Any]], arrays: dict[str, Tensor], x: Tensor) -> Tensor:
    values: list[Tensor] = []
    for i, step in enumerate(steps):
        own = {name.partition(".")[2]: value for name, value in arrays.items() if name.startswith(f"{i}.")}
        inputs = [values[j] for j in step["inputs"]]
        kind = step["kind"]
        y = inputs[0] if inputs else x
        if kind == "Conv2D":
            kernel = own["kernel"].permute(3, 2, 0, 1)
            y = nn.functional.conv2d(pad(y, step["padding"]), kernel, own.get("bias"), tuple(step["strides"]))
        elif kind == "BatchNormalization":
            y = nn.functional.batch_norm(
                y, own["moving_mean"], own["moving_variance"], own["gamma"], own["beta"], eps=step["epsilon"]
            )
        elif kind == "MaxPooling2D":
            padded = pad(y, step["padding"], float("-inf"))
            y = nn.functional.max_pool2d(padded, tuple(step["window"]), tuple(step["strides"]))
        elif kind == "ZeroPadding2D":
            y = pad(y, step["padding"])
        elif kind == "Rescaling":
            y = y * step["scale"] + step["offset"]
        elif kind == "GlobalAveragePooling2D":
            y = y.mean((2, 3))
        elif kind == "Flatten":
            y = y.permute(0, 2, 3, 1).flatten(1)
        elif kind == "Dense":
            y = y @ own["kernel"] + own["bias"]
        elif kind == "Add":
            y = inputs[0] + inputs[1]
        if kind == "ReLU" or step["activation"] == "relu":
            y = y.relu()
        values.append(y)
    return values[-1]


def main() -> None:
    steps = json.loads(Path(sys.argv[1]).read_text())
    with np.load(sys.argv[2]) as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    x = arrays.pop("x").permute(0, 3, 1, 2).contiguous()
    logits = {}
    with torch.inference_mode():
        for name, dtype in (("float64", torch.float64), ("float32", torch.float32)):
            typed = {key: value.to(dtype) for key, value in arrays.items()}
            parts = [forward(steps, typed, part.to(dtype)) for part in x.split(PICTURES)]
            logits[name] = torch.cat(parts).numpy()
    np.savez(sys.argv[3], **logits)


if __name__ == "__main__":
    main()
