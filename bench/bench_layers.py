"""Time of every distinct convolution and dense layer inside whole networks, as a share of the machine's measured peak.

The layers come from the model's own inference program, in which they run one after the other with cold weights, as they
do for a user. Winograd layers show two shares: of the arithmetic of direct convolution, and of what is multiplied.

    python bench/bench_layers.py --model resnet50 vgg16 --batch 1 --threads 2
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from roof import machine, peak_gflops

import fastcnn
from fastcnn import _core, applications
from fastcnn.layers.conv import FusedConv2D
from fastcnn.layers.dense import Dense

MODELS = {
    "resnet50": lambda size: applications.ResNet50(weights=None, input_shape=(size, size, 3), variant="torchvision"),
    "resnet18": lambda size: applications.ResNet18(weights=None, input_shape=(size, size, 3), variant="torchvision"),
    "vgg16": lambda size: applications.VGG16(weights=None, input_shape=(size, size, 3)),
}
FLOPS_PER_MAC = 2


def step_layers(model: Any, batch: int) -> tuple[Any, list[Any]]:
    """Return the model's inference program for a batch and the graph nodes behind it, in order."""
    recipe = model._inference()
    with model._pool.lease() as workspace:
        return workspace.program("inference", batch, recipe), list(recipe.nodes)


def work(node: Any, batch: int) -> Iterator[tuple[str, str, int, int]]:
    """Yield (operation, shape, direct flops, executed flops) if the node is a convolution or dense layer."""
    step = node.layer
    x = node.inputs[-1].sample_shape if node.inputs else ()
    layer = getattr(step, "layer", step)
    if isinstance(step, FusedConv2D):
        H, W, C = x
        R, S = layer.kernel_size
        packed = _core.PackedConv2D(
            np.zeros((R, S, C, layer.filters), np.float32), (H, W), strides=layer.strides, padding=step._padding(x)
        )
        P, Q = packed.output_size
        direct = executed = FLOPS_PER_MAC * batch * P * Q * layer.filters * C * R * S
        if packed.algorithm == "winograd":
            executed = FLOPS_PER_MAC * batch * math.ceil(P / 4) * math.ceil(Q / 4) * 36 * C * layer.filters
        shape = f"{H}x{W}x{C} -> {layer.filters}, {R}x{S} s{layer.strides[0]} {packed.algorithm}"
        yield "conv2d_forward", shape, direct, executed
    elif isinstance(layer, Dense):
        flops = FLOPS_PER_MAC * batch * math.prod(layer.kernel.shape)
        yield "dense_forward", f"{layer.kernel.shape[0]} -> {layer.kernel.shape[1]}", flops, flops


def measure(name: str, size: int, batch: int, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each distinct layer, and one for everything else."""
    model = MODELS[name](size)
    x = np.random.default_rng(0).standard_normal((batch, size, size, 3)).astype(np.float32)
    model.predict_on_batch(x)
    program, nodes = step_layers(model, batch)
    emitter = program.emitter
    seconds = np.median([emitter.profile() for _ in range(rounds)], axis=0)
    layers = [row for node in nodes for row in work(node, batch)]
    rows: dict[str, dict[str, Any]] = {}
    rest = 0.0
    for step, time in zip(emitter.steps, seconds, strict=True):
        if layers and layers[0][0] == step:
            _, shape, direct, executed = layers.pop(0)
            row = rows.setdefault(shape, {"model": name, "layer": shape, "count": 0, "seconds": 0.0})
            row["count"] += 1
            row["seconds"] += float(time)
            row["direct"], row["executed"] = direct, executed
        else:
            rest += float(time)
    if layers:
        raise RuntimeError(f"{name}: {len(layers)} layers have no step in the program")
    return [*rows.values(), {"model": name, "layer": "everything else", "count": 0, "seconds": rest}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=sorted(MODELS), default=["resnet50", "vgg16"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=224, help="picture size in pixels")
    parser.add_argument("--threads", type=int, default=fastcnn.num_threads())
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path, help="append one JSON line a row to this file")
    arguments = parser.parse_args()
    fastcnn.set_num_threads(arguments.threads)
    peak = peak_gflops()
    info = machine() | {"peak_gflops": round(peak, 1), "batch": arguments.batch, "size": arguments.size}
    print(json.dumps(info))
    for name in arguments.model:
        rows = measure(name, arguments.size, arguments.batch, arguments.rounds)
        total = sum(row["seconds"] for row in rows)
        print(f"\n{name}: {1e3 * total:.2f} ms")
        print(f"{'layer':48} {'count':>5} {'ms each':>8} {'GFLOP/s':>8} {'of peak':>8} {'executed':>8}")
        for row in rows:
            if row["count"]:
                each = row["seconds"] / row["count"]
                row["gflops"] = row["direct"] / each / 1e9
                row["share"] = row["gflops"] / peak
                row["executed_share"] = row["executed"] / each / 1e9 / peak
                print(
                    f"{row['layer']:48} {row['count']:5d} {1e3 * each:8.3f} {row['gflops']:8.1f}"
                    f" {100 * row['share']:7.1f}% {100 * row['executed_share']:7.1f}%"
                )
            else:
                print(f"{row['layer']:48} {'':5} {1e3 * row['seconds']:8.3f}")
        if arguments.json:
            with arguments.json.open("a", encoding="utf-8") as file:
                for row in rows:
                    file.write(json.dumps(info | row) + "\n")


if __name__ == "__main__":
    main()
