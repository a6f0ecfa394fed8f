"""Time of every distinct convolution and dense layer inside whole networks, as a share of the machine's measured roofs.

The layers come from the model's own inference program, in which they run one after the other with cold weights, as they
do for a user. Winograd layers show two shares of the peak: by the arithmetic of direct convolution, and by what is
multiplied. The roof of a layer is min(peak, memory bandwidth * intensity), where intensity is direct arithmetic over
the bytes of x, weights and y, each once. Winograd multiplies less, and layers may find x in a cache: both can be above
100 % "of roof". Other steps are listed one by one if they take more than 1 % of the whole.

    python bench/bench_layers.py --model resnet50 vgg16 resnet18 --batch 1 --threads 2 --json layers.jsonl
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from commit import commit
from networks import NETWORKS

import fastcnn
from fastcnn import _core
from fastcnn.benchmark import roof
from fastcnn.benchmark.roof import Roof
from fastcnn.layers.conv import FusedConv2D
from fastcnn.layers.dense import FusedDense

FLOPS_PER_MAC = 2
FLOAT = 4  # bytes
LISTED = 0.01  # of the whole, from which on a step that is no layer has a row of its own


def program_of(model: Any, batch: int) -> tuple[Any, list[Any]]:
    """Return the model's inference program for a batch and the graph nodes behind it, in order."""
    recipe = model._inference()
    with model._pool.lease() as workspace:
        return workspace.program("inference", batch, recipe), list(recipe.nodes)


def work(node: Any, batch: int) -> Iterator[dict[str, Any]]:
    """Yield operation, layer, direct and executed flops and bytes if the node is a convolution or dense layer."""
    step = node.layer
    x = node.inputs[-1].sample_shape if node.inputs else ()
    if isinstance(step, FusedConv2D):
        layer = step.layer
        H, W, C = x
        R, S = layer.kernel_size
        packed = _core.PackedConv2D(
            np.zeros((R, S, C, layer.filters), np.float32), (H, W), strides=layer.strides, padding=step.padding(x)
        )
        P, Q = packed.output_size
        direct = FLOPS_PER_MAC * batch * P * Q * layer.filters * C * R * S
        executed = FLOPS_PER_MAC * batch * packed.products * layer.filters * C
        stride = f" s{layer.strides[0]}" if layer.strides[0] > 1 else ""
        pool = " pooled" if step.pool else ""
        yield {
            "operation": "conv2d_forward",
            "layer": f"{H}x{W}x{C} -> {layer.filters}, {R}x{S}{stride} {packed.algorithm}{pool}",
            "algorithm": packed.algorithm,
            "direct": direct,
            "executed": executed,
            "nbytes": FLOAT * (R * S * C * layer.filters + batch * (math.prod(x) + math.prod(node.sample_shape))),
        }
    elif isinstance(step, FusedDense):
        C, K = step.layer.kernel.shape
        flops = FLOPS_PER_MAC * batch * C * K
        yield {
            "operation": "dense_forward",
            "layer": f"{C} -> {K}",
            "algorithm": "gemm",
            "direct": flops,
            "executed": flops,
            "nbytes": FLOAT * (C * K + batch * (C + K)),
        }


def measure(name: str, size: int, batch: int, rounds: int, roofs: Roof) -> list[dict[str, Any]]:
    """Return a row for each distinct layer, one for each other step that takes long, and one for the rest."""
    model = NETWORKS[name](size)
    x = np.random.default_rng(0).standard_normal((batch, size, size, 3)).astype(np.float32)
    model.predict_on_batch(x)
    program, nodes = program_of(model, batch)
    emitter = program.emitter

    def once() -> list[float]:
        program.x[...] = x  # whose memory the last run gave to a later step
        return emitter.profile()

    seconds = [float(time) for time in np.median([once() for _ in range(rounds)], axis=0)]
    layers = [row for node in nodes for row in work(node, batch)]
    rows: dict[str, dict[str, Any]] = {}
    rest: dict[str, dict[str, Any]] = {}
    for step, time in zip(emitter.steps, seconds, strict=True):
        known = bool(layers) and layers[0]["operation"] == step
        about = layers.pop(0) if known else {"operation": step, "layer": step}
        row = (rows if known else rest).setdefault(about["layer"], {"model": name, "count": 0, "seconds": 0.0} | about)
        row["count"] += 1
        row["seconds"] += time
    if layers:
        raise RuntimeError(f"{name}: {len(layers)} layers have no step in the program")
    for row in rows.values():
        rate = row["direct"] * row["count"] / row["seconds"] / 1e9
        row["intensity"] = row["direct"] / row["nbytes"]
        row["gflops"] = rate
        row["share"] = rate / roofs.gflops
        row["executed_share"] = row["share"] * row["executed"] / row["direct"]
        row["roof_share"] = rate / roofs.attainable(row["intensity"])
        row["bound"] = "peak" if roofs.gbytes * row["intensity"] > roofs.gflops else "memory"
    total = sum(seconds)
    long = [row for row in rest.values() if row["seconds"] > LISTED * total]
    short = sum(row["seconds"] for row in rest.values() if row not in long)
    return [*rows.values(), *long, {"model": name, "layer": "everything else", "count": 0, "seconds": short}]


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows of a network as text."""
    total = sum(row["seconds"] for row in rows)
    columns = f"{'count':>5} {'ms each':>8} {'of all':>6} {'GFLOP/s':>8} {'of peak':>8} {'executed':>8}"
    lines = [
        f"\n{rows[0]['model']}: {1e3 * total:.2f} ms",
        f"{'layer':44} {columns} {'GB/s':>6} {'roof':>6} {'of roof':>8}",
    ]
    for row in rows:
        each = row["seconds"] / max(row["count"], 1)
        line = f"{row['layer']:44} {row['count'] or '':>5} {1e3 * each:8.3f} {100 * row['seconds'] / total:5.1f}%"
        if "direct" in row:
            line += (
                f" {row['gflops']:8.1f} {100 * row['share']:7.1f}% {100 * row['executed_share']:7.1f}%"
                f" {row['nbytes'] / each / 1e9:6.1f} {row['bound']:>6} {100 * row['roof_share']:7.1f}%"
            )
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=sorted(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=224, help="picture size in pixels")
    parser.add_argument("--threads", type=int, default=fastcnn.num_threads())
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path, help="append one JSON line a row to this file")
    arguments = parser.parse_args()
    fastcnn.set_num_threads(arguments.threads)
    roofs = roof.measured()
    about = roof.machine() | {"commit": commit(), "batch": arguments.batch, "size": arguments.size}
    about |= {"roof": asdict(roofs)}
    print(json.dumps(about))
    for name in arguments.model:
        rows = measure(name, arguments.size, arguments.batch, arguments.rounds, roofs)
        print(table(rows), flush=True)
        if arguments.json:
            with arguments.json.open("a", encoding="utf-8") as file:
                for row in rows:
                    file.write(json.dumps({"bench": "layers"} | about | row) + "\n")
    print(f"\n{roof.steadiness(roofs)}")


if __name__ == "__main__":
    main()
