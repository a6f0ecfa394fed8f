"""Writes PyTorch's logits, loss, gradients and Adam training curve of one model to a small npz file.

One run is in float64; the float32 ones are NCHW, channels_last, and NCHW without oneDNN, so that their spread shows the
effect of rounding. Weights, images and labels come from `seeded.py`, so another program can make the same ones;
`vectors.py` reads the file.

    python bench/peers/torch_vectors.py --model resnet50 --batch 8 --out torch_resnet50_64.npz
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from protocol import LEARNING_RATE
from seeded import seeded_images, seeded_labels
from torch import Tensor, nn
from torch_models import NAMES, build
from vectors import SAMPLES, Float64, pack

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7  # Keras' defaults


class KerasAdam:
    """Keras' rule w -= lr*sqrt(1-b2^t)/(1-b1^t) * m/(sqrt(v)+eps): torch's own Adam adds eps after correcting v."""

    def __init__(self, parameters: list[nn.Parameter], learning_rate: float) -> None:
        self._slots = [(w, torch.zeros_like(w), torch.zeros_like(w)) for w in parameters]
        self.learning_rate = learning_rate
        self._step = 0

    def step(self) -> None:
        self._step += 1
        rate = self.learning_rate * math.sqrt(1 - BETA_2**self._step) / (1 - BETA_1**self._step)
        with torch.no_grad():
            for w, m, v in self._slots:
                assert w.grad is not None
                m.mul_(BETA_1).add_(w.grad, alpha=1 - BETA_1)
                v.mul_(BETA_2).addcmul_(w.grad, w.grad, value=1 - BETA_2)
                w.sub_(rate * m / (v.sqrt() + EPSILON))


@dataclass(frozen=True)
class Run:
    """What one precision gives, as float64."""

    arrays: dict[str, Float64]
    grads: dict[str, Float64]
    batch_stats: dict[str, Float64]


def _numpy(tensor: Tensor) -> Float64:
    return tensor.detach().double().numpy().copy()


@contextmanager
def _batch_statistics(model: nn.Module) -> Iterator[dict[str, Float64]]:
    """Collects mean and biased variance of what enters each BatchNorm."""
    found: dict[str, Float64] = {}

    def hook(name: str) -> Any:
        def collect(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            variance, mean = torch.var_mean(inputs[0].detach(), dim=(0, 2, 3), correction=0)
            found[f"{name}.mean"], found[f"{name}.var"] = _numpy(mean), _numpy(variance)

        return collect

    handles = [
        module.register_forward_pre_hook(hook(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def run(
    options: argparse.Namespace,
    learning_rate: float,
    dtype: torch.dtype,
    layout: torch.memory_format = torch.contiguous_format,
    onednn: bool = True,
) -> Run:
    """Runs inference, one gradient and the training curve from the seeded weights in one precision and layout."""
    with torch.backends.mkldnn.flags(enabled=onednn):
        return _run(options, learning_rate, dtype, layout)


def _run(options: argparse.Namespace, learning_rate: float, dtype: torch.dtype, layout: torch.memory_format) -> Run:
    model = build(options.model, options.size, options.classes, seed=options.seed).to(dtype)
    model.to(memory_format=layout)  # type: ignore[call-overload]  # torch's stub lacks it
    images = seeded_images(options.batch, options.size, options.seed).transpose(0, 3, 1, 2)
    x = torch.from_numpy(np.ascontiguousarray(images)).to(dtype).contiguous(memory_format=layout)
    target = torch.from_numpy(seeded_labels(options.batch, options.classes))
    with torch.no_grad():
        arrays = {"eval_logits": _numpy(model.eval()(x))}
    model.train()
    optimizer = KerasAdam(list(model.parameters()), learning_rate)
    curve = []
    for step in range(options.steps + 1):
        model.zero_grad()
        with _batch_statistics(model) as statistics:
            logits = model(x)
        loss = nn.functional.cross_entropy(logits, target)
        loss.backward()  # type: ignore[no-untyped-call]
        curve.append(_numpy(loss))
        if step == 0:
            arrays |= {"logits": _numpy(logits), "loss": _numpy(loss)}
            grads = {name: _numpy(w.grad) for name, w in model.named_parameters() if w.grad is not None}
            batch_stats = statistics
        if step < options.steps:
            optimizer.step()
    return Run(arrays | {"curve": np.array(curve), "final_logits": _numpy(logits)}, grads, batch_stats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the npz file")
    parser.add_argument("--model", choices=NAMES, default="resnet50")
    parser.add_argument("--size", type=int, default=64, help="rows and columns of an image")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20, help="Adam steps of the training curve")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="entries kept of each tensor")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    learning_rate = LEARNING_RATE.get(options.model, 1e-3)
    exact = run(options, learning_rate, torch.float64)
    rounded = [
        run(options, learning_rate, torch.float32),
        run(options, learning_rate, torch.float32, layout=torch.channels_last),
        run(options, learning_rate, torch.float32, onednn=False),
    ]
    config = {key: vars(options)[key] for key in ("model", "size", "batch", "classes", "seed", "steps", "samples")}
    config |= {
        "learning_rate": learning_rate,
        "beta_1": BETA_1,
        "beta_2": BETA_2,
        "epsilon": EPSILON,
        "torch": torch.__version__,
    }
    arrays: dict[str, Any] = {"config": np.array(json.dumps(config))}
    for name, values in exact.arrays.items():
        arrays[f"{name}64"] = values
        arrays[f"{name}32"] = np.stack([each.arrays[name] for each in rounded]).astype(np.float32)
    arrays |= pack("grads", exact.grads, [each.grads for each in rounded], options.samples)
    if exact.batch_stats:
        arrays |= pack("batch_stats", exact.batch_stats, [each.batch_stats for each in rounded], options.samples)
    np.savez_compressed(options.out, **arrays)
    print(f"{options.out}: {options.out.stat().st_size} bytes")
    last = ", ".join(f"{each.arrays['curve'][-1]:.6f}" for each in rounded)
    print(f"loss {exact.arrays['curve'][0]:.6f} -> {exact.arrays['curve'][-1]:.6f} in float64, -> {last} in float32")


if __name__ == "__main__":
    main()
