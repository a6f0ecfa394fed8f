"""Writes PyTorch's gradients of one training step, whole tensors, and the weights they belong to. Needs torch.

In float64 and in the three float32 ways of `torch_vectors.py`; weights, images and labels are the seeded ones:

    python bench/peers/torch_gradients.py --model resnet50 --batch 8 --seed 1 --out gradients.npz

The file has `weights/<name>` in float32, `float64/<name>` and `float32-<way>/<name>`, by names of the state_dict.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch_models import NAMES, build
from torch_vectors import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the npz file")
    parser.add_argument("--model", choices=NAMES, default="resnet50")
    parser.add_argument("--size", type=int, default=64, help="rows and columns of an image")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.steps = 0
    torch.set_num_threads(options.threads)
    state = build(options.model, options.size, options.classes, seed=options.seed).state_dict()
    arrays = {f"weights/{name}": tensor.numpy() for name, tensor in state.items()}
    runs = {
        "float64": run(options, 0.0, torch.float64),
        "float32-nchw": run(options, 0.0, torch.float32),
        "float32-channels_last": run(options, 0.0, torch.float32, layout=torch.channels_last),
        "float32-plain": run(options, 0.0, torch.float32, onednn=False),
    }
    for way, found in runs.items():
        dtype = np.float64 if way == "float64" else np.float32
        arrays |= {f"{way}/{name}": gradient.astype(dtype) for name, gradient in found.grads.items()}
    np.savez(options.out, **arrays)


if __name__ == "__main__":
    main()
