"""Writes the benchmark models for every engine from one set of seeded weights.

For each model and size: MODEL_SIZE.safetensors (torchvision's names), MODEL_SIZE_bBATCH.onnx (opset 17, NCHW, one file
per batch), MODEL_SIZE.ncnn.param and .bin (float32). With --peer, each file is run by its engine and compared with
PyTorch; a disagreement ends the export. Needs torch, onnx, onnxscript, pnnx and safetensors.

    python bench/peers/export.py resnet50 resnet18 vgg16 --out models \\
        --peer onnxruntime=ort/bin/python --peer ncnn=ncnn/bin/python
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import cast

import numpy as np
import pnnx
import torch
from client import Peer, disagreement
from protocol import CLASSES, Workload
from safetensors.torch import save_file
from seeded import Array, seeded_images
from torch_models import NAMES, build

TOLERANCE = {"onnxruntime": 1e-4, "ncnn": 1e-3}  # of max |logit|; ncnn's F(6x6,3x3) Winograd is the less exact one


def _images(batch: int, size: int) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(seeded_images(batch, size).transpose(0, 3, 1, 2)))


def _export_onnx(model: torch.nn.Module, path: Path, batch: int, size: int) -> None:
    with warnings.catch_warnings():
        # deprecated, but the exporter that writes opset 17 itself, without a conversion between versions
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            (_images(batch, size),),
            path,
            input_names=["images"],
            output_names=["logits"],
            opset_version=17,
            dynamo=False,
        )


def _export_ncnn(model: torch.nn.Module, param: Path, binary: Path, size: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        stem = Path(directory) / "model"
        pnnx.export(model, f"{stem}.pt", (_images(1, size),), fp16=False)
        shutil.move(f"{stem}.ncnn.param", param)
        shutil.move(f"{stem}.ncnn.bin", binary)


def _logits(model: torch.nn.Module, batch: int, size: int) -> Array:
    with torch.inference_mode():
        return cast(Array, model(_images(batch, size)).numpy())


def _check(engine: str, python: str, workload: Workload, models: Path, expected: Array) -> None:
    with Peer(f"{engine}_peer", python, models) as peer:
        peer.load(workload)
        error = disagreement(peer.outputs(), expected)
    what = f"{workload.model} size {workload.size} batch {workload.batch}"
    print(f"{what}: {engine} differs from torch by {error:.1e} of max |logit|")
    if error > TOLERANCE[engine]:
        raise SystemExit(f"export: {engine} disagrees with torch on {what}: {error:.1e} > {TOLERANCE[engine]:.0e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", choices=NAMES)
    parser.add_argument("--out", type=Path, required=True, help="directory for the files")
    parser.add_argument("--size", type=int, default=224, help="rows and columns of an image")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="batch sizes of the ONNX files")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--peer", action="append", default=[], metavar="ENGINE=PYTHON", help="check this engine's file (repeatable)"
    )
    options = parser.parse_args()
    peers = dict(peer.split("=", 1) for peer in options.peer)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.models:
        model = build(name, options.size, CLASSES).eval()
        single = Workload(model=name, batch=1, size=options.size, threads=options.threads)
        save_file(model.state_dict(), single.file(options.out, ".safetensors"))
        _export_ncnn(
            model, single.file(options.out, ".ncnn.param"), single.file(options.out, ".ncnn.bin"), options.size
        )
        for batch in options.batch:
            workload = Workload(model=name, batch=batch, size=options.size, threads=options.threads)
            _export_onnx(model, workload.onnx(options.out), batch, options.size)
            for engine, python in peers.items():
                _check(engine, python, workload, options.out, _logits(model, batch, options.size))


if __name__ == "__main__":
    main()
