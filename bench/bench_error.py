"""Error of whole trained networks against float64, beside that of PyTorch in float32 on the same weights and pictures.

    python bench/bench_error.py --model resnet50.safetensors vgg16.safetensors --pictures fashion/test \\
        --torch torch/bin/python --json errors.jsonl

The networks are files that `fastcnn train` wrote. PyTorch walks their graph layer by layer (`peers/torch_graph.py`) in
float64 and float32; float64 is checked against `fastcnn.reference` on two pictures first. Errors are
those of the logits, relative to the logits of all pictures: rms to their rms, maximum to their maximum. Bounds: 8 times
PyTorch's error with Winograd, 1.5 times without; another class only where float64's margin is below twice the largest
error.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastcnn
from fastcnn import reference
from fastcnn.graph import topological
from fastcnn.models import Model

BOUNDS = {True: 8.0, False: 1.5}
Array = NDArray[Any]


def logits_model(path: str) -> Model:
    """Return the network of a file without the softmax of its last layer."""
    model = fastcnn.load_model(path, compile=False)
    model.layers[-1].activation = "linear"
    return Model(model.inputs, model.outputs)


def graph(model: Model) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """Return the layers in order, each with the numbers of its inputs, and their arrays."""
    nodes = topological(model.outputs if isinstance(model.outputs, list) else [model.outputs])
    steps: list[dict[str, Any]] = []
    arrays: dict[str, Array] = {}
    for i, node in enumerate(nodes):
        layer, kind = node.layer, type(node.layer).__name__
        step: dict[str, Any] = {"kind": kind, "inputs": [nodes.index(x) for x in node.inputs]}
        if kind in ("Conv2D", "MaxPooling2D"):
            step["strides"] = layer.strides
            step["padding"] = layer.sides(node.inputs[0].sample_shape[:2])
        if kind == "MaxPooling2D":
            step["window"] = layer.pool_size
        if kind == "ZeroPadding2D":
            step["padding"] = layer.padding
        if kind == "BatchNormalization":
            step["epsilon"] = layer.epsilon
        if kind == "Rescaling":
            step["scale"], step["offset"] = layer.scale, layer.offset
        step["activation"] = getattr(layer, "activation", None)
        for weight in getattr(layer, "weights", []):
            arrays[f"{i}.{weight.name.split('/')[-1]}"] = weight.numpy()
        steps.append(step)
    return steps, arrays


def reference_logits(steps: list[dict[str, Any]], arrays: dict[str, Array], x: Array) -> Array:
    """Return the logits of a few pictures by `fastcnn.reference`, in float64."""
    values: list[Array] = []
    for i, step in enumerate(steps):
        own = {name.partition(".")[2]: value for name, value in arrays.items() if name.startswith(f"{i}.")}
        inputs = [values[j] for j in step["inputs"]]
        kind = step["kind"]
        if kind == "Conv2D":
            y = reference.conv2d_forward(inputs[0], own["kernel"], strides=step["strides"], padding=step["padding"])
            y = y + own["bias"] if "bias" in own else y
        elif kind == "BatchNormalization":
            y = (inputs[0] - own["moving_mean"]) / np.sqrt(own["moving_variance"].astype(np.float64) + step["epsilon"])
            y = y * own["gamma"] + own["beta"]
        elif kind == "MaxPooling2D":
            y = reference.max_pool_forward(inputs[0], step["window"], strides=step["strides"], padding=step["padding"])
            y = y[0] if isinstance(y, tuple) else y
        elif kind == "ZeroPadding2D":
            y = np.pad(inputs[0], ((0, 0), *step["padding"], (0, 0)))
        elif kind == "Rescaling":
            y = inputs[0] * step["scale"] + step["offset"]
        elif kind == "GlobalAveragePooling2D":
            y = inputs[0].mean((1, 2))
        elif kind == "Flatten":
            y = inputs[0].reshape(len(inputs[0]), -1)
        elif kind == "Dense":
            y = inputs[0] @ own["kernel"].astype(np.float64) + own["bias"]
        elif kind == "Add":
            y = inputs[0] + inputs[1]
        elif not inputs:
            y = x.astype(np.float64)
        elif kind in ("Dropout", "ReLU", "Activation"):
            y = inputs[0]
        else:
            raise ValueError(f"bench_error: no rule for the layer {kind}")
        if kind == "ReLU" or step["activation"] == "relu":
            y = np.maximum(y, 0)
        values.append(y)
    return values[-1]


def torch_logits(python: str, steps: list[dict[str, Any]], arrays: dict[str, Array], x: Array) -> dict[str, Array]:
    """Return PyTorch's logits in float64 and float32."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("steps.json", "arrays.npz", "logits.npz")]
        Path(paths[0]).write_text(json.dumps(steps))
        np.savez(paths[1], x=x, **arrays)
        script = Path(__file__).parent / "peers" / "torch_graph.py"
        subprocess.run([python, str(script), *paths], check=True)
        with np.load(paths[2]) as logits:
            return {name: logits[name] for name in logits.files}


def errors(logits: Array, exact: Array) -> dict[str, float]:
    """Return rms and maximum of the errors, relative, and how many pictures get another class, of these how many lie
    outside the margin."""
    wrong = logits.astype(np.float64) - exact
    ordered = np.sort(exact, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    other = logits.argmax(1) != exact.argmax(1)
    return {
        "rms": float(np.sqrt(np.mean(wrong**2)) / np.sqrt(np.mean(exact**2))),
        "max": float(np.abs(wrong).max() / np.abs(exact).max()),
        "other_class": int(other.sum()),
        "unexplained": int((other & (margin > 2 * np.abs(wrong).max())).sum()),
    }


def pictures(folder: str, size: int, count: int) -> Array:
    """Return `count` pictures of a folder, those of all classes in turn."""
    data = fastcnn.utils.image_dataset_from_directory(
        folder, image_size=(size, size), batch_size=count, shuffle=True, seed=0, verbose=False
    )
    return np.asarray(next(iter(data))[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", required=True, help="files that fastcnn train wrote")
    parser.add_argument("--pictures", required=True, help="a folder of classes")
    parser.add_argument("--torch", required=True, help="a Python that has PyTorch")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--json", type=Path, help="append one line a row")
    options = parser.parse_args()
    failed = False
    print(f"{'network':14} {'engine':28} {'rms':>9} {'max':>9} {'x torch':>14} {'class':>6} {'unexplained':>11}")
    for path in options.model:
        model = logits_model(path)
        x = pictures(options.pictures, model.input.sample_shape[0], options.count)
        steps, arrays = graph(model)
        found = torch_logits(options.torch, steps, arrays, x)
        exact = found["float64"]
        own = reference_logits(steps, arrays, x[:2])
        check = float(np.abs(own - exact[:2]).max() / np.abs(exact).max())
        if check > 1e-12:
            raise SystemExit(f"{path}: float64 differs from the reference by {check:.1e}")
        torch = errors(found["float32"], exact)
        rows = [("torch float32", torch, None)]
        for isa in fastcnn.isas():
            if isa == "avx2x16":
                continue
            for winograd in (True, False):
                fastcnn.set_isa(isa)
                fastcnn.set_winograd(winograd)
                name = f"fastcnn {isa} {'winograd' if winograd else 'direct'}"
                rows.append((name, errors(model.predict_on_batch(x), exact), BOUNDS[winograd]))
        for name, row, bound in rows:
            ratios = row["rms"] / torch["rms"], row["max"] / torch["max"]
            wrong = bound is not None and (max(ratios) > bound or row["unexplained"] > 0)
            failed |= wrong
            print(
                f"{Path(path).stem:14} {name:28} {row['rms']:9.2e} {row['max']:9.2e} {ratios[0]:6.2f} {ratios[1]:6.2f} "
                f"{row['other_class']:6d} {row['unexplained']:11d}{'  ABOVE THE BOUND' if wrong else ''}",
                flush=True,
            )
            if options.json:
                with options.json.open("a") as file:
                    line = {"network": Path(path).stem, "engine": name, "pictures": len(x), "reference": check}
                    file.write(json.dumps(line | row | {"x_torch": ratios}) + "\n")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
