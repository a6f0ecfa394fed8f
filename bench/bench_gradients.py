"""Errors of gradients against float64: of every distinct layer, and of whole networks beside PyTorch's.

    python bench/bench_gradients.py --torch peers/torch/bin/python --json gradients.jsonl

Layers: backward-data, -weights and bias of every distinct convolution and dense layer of ResNet50, ResNet18 and VGG16,
batch normalisation's three gradients and those of the poolings, on random numbers, against `fastcnn.reference` in
units of u*S (`fastcnn.reference.error`), with Winograd and without. The bound is that of the algorithm: 2 sqrt(K) + 2
for a sum of K products, 2 sqrt(C) + 8 in u*S_w for Winograd, 2 sqrt(NHW) + 8 for normalisation. Pictures are 224x224,
the batch is 2: float64 takes about two minutes. The shapes are the networks' own.

Networks: one training step of ResNet50 and VGG16 (64x64, seeded weights and pictures) in float64 by PyTorch, in its
three float32 ways and by fastcnn with Winograd and without. Errors are relative to each tensor: rms to its rms, largest
to its largest element; shown are median and worst over the tensors of all seeds. One ReLU whose input rounds to the
other side of zero moves gradients by a percent and reaches every tensor below it, so the worst ones say little, and
single seeds less. Bounds, on the medians, as in `bench_error.py`: 8 times the error of PyTorch's usual way (NCHW) with
Winograd, 1.5 times without. Exit status 1 for anything above a bound.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from commit import commit
from networks import APPLICATIONS, NETWORKS

sys.path.insert(0, str(Path(__file__).parent / "peers"))

from seeded import seeded_images, seeded_labels
from torch_names import keras_location, keras_weights, torch_layout

import fastcnn
from fastcnn import _core, losses, optimizers, reference
from fastcnn.benchmark import roof
from fastcnn.benchmark.layers import Convolution, Product, Shape, distinct_layers
from fastcnn.benchmark.work import BACKWARD, Bound, works
from fastcnn.models.gradients import gradients_of

WINOGRAD_BOUND, DIRECT_BOUND = 8.0, 1.5  # times PyTorch's median error
USUAL = "torch nchw"
OUTPUTS = {"batchnorm_backward": ("dx", "dgamma", "dbeta")}
Row = dict[str, Any]


# -- layers ------------------------------------------------------------------------------------------------------------


def layer_rows(shape: Shape, batch: int) -> Iterator[Row]:
    """Yield a row for each gradient of a layer; `error` is in units of u*S, `bound` too."""
    for work in works(shape, batch, BACKWARD):
        bounds, _ = work.bounds(work.exact())
        for output in work.our_outputs:
            output.fill(np.nan)
        work.ours()
        names = OUTPUTS.get(work.operation, ("",) * len(bounds))
        for output, bound, name in zip(work.our_outputs, bounds, names, strict=True):
            yield _judged(str(shape), f"{work.operation} {name}".strip(), work.algorithm, output, bound)
    if isinstance(shape, Convolution | Product):
        yield _bias_row(shape, batch)


def _bias_row(shape: Convolution | Product, batch: int) -> Row:
    places = shape.output if isinstance(shape, Convolution) else ()
    dy = np.random.default_rng(2).standard_normal((batch, *places, shape.K), np.float32)
    db = np.full(shape.K, np.nan, np.float32)
    _core.bias_backward(dy, db)
    rows = dy.reshape(-1, shape.K).astype(np.float64)
    exact, S = reference.dense_backward_bias(rows), reference.magnitude(reference.dense_backward_bias, rows)
    return _judged(str(shape), "bias_backward", "", db, Bound(exact, S, reference.gate(len(rows)), len(rows)))


def _judged(layer: str, operation: str, algorithm: str, found: Any, bound: Bound) -> Row:
    share = bound.error(found)
    relative = np.abs(found - bound.exact).max(initial=0.0) / max(float(np.abs(bound.exact).max(initial=0.0)), 1e-300)
    return {
        "layer": layer,
        "operation": operation,
        "algorithm": algorithm,
        "error": share * bound.gate,
        "bound": bound.gate,
        "share": share,
        "relative": float(relative),
        "passed": share <= 1,
    }


def layers(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows of all distinct layers; without Winograd only those that it changes."""
    shapes = distinct_layers({name: NETWORKS[name](options.size) for name in options.layers})
    winograd: set[tuple[str, str]] = set()
    for enabled in (True, False):
        fastcnn.set_winograd(enabled)
        for shape, counts in shapes.items():
            if not enabled and not any(layer == str(shape) for layer, _ in winograd):
                continue
            for row in layer_rows(shape, options.batch):
                key = row["layer"], row["operation"]
                if row["algorithm"] == "winograd":
                    winograd.add(key)
                if enabled or key in winograd:
                    yield row | {"networks": counts, "isa": _core.isa()}
    fastcnn.set_winograd(True)


LAYER_HEADER = (
    f"{'layer':32} {'operation':30} {'algorithm':9} {'error':>9} {'bound':>8} {'share':>6} {'of largest':>10}"
)


def layer_line(row: Row) -> str:
    """Return a row of the table."""
    return (
        f"{row['layer']:32} {row['operation']:30} {row['algorithm']:9} {row['error']:9.3f} {row['bound']:8.1f}"
        f" {row['share']:6.3f} {row['relative']:10.1e}" + ("" if row["passed"] else "  FAIL")
    )


def layer_summary(rows: list[Row]) -> str:
    """Return the worst share of the bound of each operation and algorithm."""
    worst: dict[str, Row] = {}
    for row in rows:
        key = f"{row['operation']} {row['algorithm']}".strip()
        if key not in worst or row["share"] > worst[key]["share"]:
            worst[key] = row
    lines = [f"\n{len(rows)} gradients of layers, {sum(not row['passed'] for row in rows)} above their bounds; worst:"]
    lines += [
        f"  {key:40} {row['error']:9.3f} of {row['bound']:.1f} ({row['share']:.3f}), {row['layer']}"
        for key, row in worst.items()
    ]
    return "\n".join(lines)


# -- networks ----------------------------------------------------------------------------------------------------------


def own_gradients(name: str, weights: Row, options: argparse.Namespace, seed: int) -> Row:
    """Return fastcnn's gradients of one training step by torch's names and in torch's layouts."""
    shape, size = (options.network_size, options.network_size, 3), options.network_size
    make = APPLICATIONS[name]
    if name.startswith("resnet"):  # torchvision's VGG16 takes 224x224 alone, its graph is Keras'
        make = partial(make, variant="torchvision")
    model = make(weights=None, input_shape=shape, classes=options.classes, classifier_activation=None)
    for layer, arrays in keras_weights(weights, name).items():
        model.get_layer(layer).set_weights(arrays)
    model.compile(optimizers.SGD(0.0), losses.SparseCategoricalCrossentropy(from_logits=True))
    x = seeded_images(options.network_batch, size, seed)
    labels = seeded_labels(options.network_batch, options.classes)
    own = {weight: gradient.copy() for weight, gradient in gradients_of(model, x, labels)}
    gradients = {}
    for entry, values in weights.items():
        if entry.endswith(("running_mean", "running_var", "num_batches_tracked")):
            continue
        layer, position = keras_location(entry, name)
        gradient = own[model.get_layer(layer).weights[position]]
        gradients[entry] = torch_layout(entry, gradient, values.shape, name)
    return gradients


def errors(found: Row, exact: Row) -> list[tuple[float, float]]:
    """Return (rms, maximum) of the errors of each tensor, relative to its own."""
    if found.keys() != exact.keys():
        raise ValueError(f"bench_gradients: tensors of one side alone: {sorted(found.keys() ^ exact.keys())}")
    pairs = []
    for name, r in exact.items():
        wrong = found[name].astype(np.float64) - r
        if not np.isfinite(wrong).all():
            return [(math.inf, math.inf)] * len(exact)
        pairs.append((math.sqrt(np.mean(wrong**2) / np.mean(r**2)), float(np.abs(wrong).max() / np.abs(r).max())))
    return pairs


def network_errors(name: str, options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Return the errors of all tensors and seeds by engine."""
    found: dict[str, list[tuple[float, float]]] = {}
    script = Path(__file__).parent / "peers" / "torch_gradients.py"
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "gradients.npz"
            settings: Row = {
                "out": path,
                "model": name,
                "size": options.network_size,
                "batch": options.network_batch,
                "classes": options.classes,
                "seed": seed,
                "threads": options.threads,
            }
            arguments = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
            subprocess.run([options.torch, str(script), *arguments], check=True)
            groups: dict[str, Row] = {}
            with np.load(path) as file:
                for key in file.files:
                    group, _, entry = key.partition("/")
                    groups.setdefault(group, {})[entry] = file[key]
        weights, exact = groups.pop("weights"), groups.pop("float64")
        for enabled in (True, False):
            fastcnn.set_winograd(enabled)
            groups[f"fastcnn {'winograd' if enabled else 'direct'}"] = own_gradients(name, weights, options, seed)
        fastcnn.set_winograd(True)
        for group, gradients in groups.items():
            engine = group.replace("float32-", "torch ")
            found.setdefault(engine, []).extend(errors(gradients, exact))
    return found


def network_rows(name: str, found: dict[str, list[tuple[float, float]]]) -> list[Row]:
    """Return a row an engine: median and worst of the errors, and for fastcnn how many times PyTorch's median."""
    rows = []
    for engine, pairs in found.items():
        rms, largest = np.array(pairs).T
        rows.append(
            {
                "network": name,
                "engine": engine,
                "tensors": len(pairs),
                "rms_median": float(np.median(rms)),
                "rms_worst": float(rms.max()),
                "max_median": float(np.median(largest)),
                "max_worst": float(largest.max()),
            }
        )
    usual = next(row for row in rows if row["engine"] == USUAL)
    for row in rows:
        if row["engine"].startswith("torch"):
            continue
        bound = WINOGRAD_BOUND if row["engine"].endswith("winograd") else DIRECT_BOUND
        ratios = [row[key] / usual[key] for key in ("rms_median", "max_median")]
        row |= {"x_torch": ratios, "bound": bound, "passed": max(ratios) <= bound}
    return rows


def network_table(rows: list[Row]) -> str:
    """Return the rows of a network as text."""
    header = f"{'rms median':>10} {'worst':>8} {'max median':>10} {'worst':>8} {'x torch':>11} {'bound':>5}"
    lines = [f"\n{rows[0]['network']}, {rows[0]['tensors']} tensors of all seeds", f"{'engine':20} {header}"]
    for row in rows:
        line = f"{row['engine']:20} {row['rms_median']:10.2e} {row['rms_worst']:8.1e}"
        line += f" {row['max_median']:10.2e} {row['max_worst']:8.1e}"
        if "bound" in row:
            line += " {:5.2f} {:5.2f}".format(*row["x_torch"])
            line += f" {row['bound']:5.1f}" + ("" if row["passed"] else "  ABOVE THE BOUND")
        lines.append(line)
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = sorted(NETWORKS)
    parser.add_argument("--layers", nargs="*", choices=choices, default=list(NETWORKS), help="of these networks")
    parser.add_argument("--size", type=int, default=224, help="pictures of the layers' networks")
    parser.add_argument("--batch", type=int, default=2, help="of the layers")
    parser.add_argument("--networks", nargs="*", choices=choices, default=["resnet50", "vgg16"], help="as a whole")
    parser.add_argument("--torch", help="a Python that has PyTorch; without it only layers are judged")
    parser.add_argument("--network-size", type=int, default=64)
    parser.add_argument("--network-batch", type=int, default=8)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3, help="of weights and pictures (default 3)")
    parser.add_argument("--isa", nargs="+", choices=fastcnn.isas(), default=[_core.isa()], help="instruction sets")
    parser.add_argument("--threads", type=int, default=fastcnn.num_threads())
    parser.add_argument("--json", type=Path, help="append one JSON line a row")
    options = parser.parse_args()
    if options.batch < 2:
        parser.error("--batch must be at least 2: normalisation needs two values")
    fastcnn.set_num_threads(options.threads)
    failed = False
    for isa in options.isa:
        fastcnn.set_isa(isa)
        about = roof.machine() | {"commit": commit()}
        print(json.dumps(about))
        rows: list[Row] = []
        print(LAYER_HEADER)
        for row in layers(options):
            print(layer_line(row), flush=True)
            rows.append({"bench": "gradients_layers", "size": options.size, "batch": options.batch} | row)
        print(layer_summary(rows), flush=True)
        for name in options.networks if options.torch else ():
            found = network_rows(name, network_errors(name, options))
            print(network_table(found), flush=True)
            workload = {"size": options.network_size, "batch": options.network_batch, "seeds": options.seeds}
            rows += [{"bench": "gradients_networks"} | workload | row for row in found]
        failed |= not all(row.get("passed", True) for row in rows)
        if options.json:
            with options.json.open("a", encoding="utf-8") as file:
                for row in rows:
                    file.write(json.dumps(about | row) + "\n")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
