"""Writes the benchmark models for every engine from one set of seeded weights.

For each model and size: MODEL_SIZE.safetensors (torchvision's names), MODEL_SIZE_bBATCH.onnx (opset 17, NCHW, one file
per batch), MODEL_SIZE.ncnn.param and .bin (float32). With --peer, the engine writes the file of its own that it loads,
if it has one, runs it and is compared with PyTorch; a disagreement ends the export. Needs torch, onnx, onnxscript, pnnx
and safetensors.

    python bench/peers/export.py resnet50 resnet18 --batch 1 32 --out models --peer fastcnn=python \\
        --peer tensorflow:predict_on_batch=tensorflow/bin/python --peer onnxruntime=onnxruntime/bin/python
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import cast

import pnnx
import torch
from client import Peer, disagreement
from protocol import Workload
from safetensors.torch import save_file
from seeded import Array
from torch_models import NAMES, build

TOLERANCE = 1e-4  # of max |logit|
TOLERANCES = {"ncnn": 1e-3, "mnn": 1e-3}  # whose Winograd with large tiles is less exact


def _images(workload: Workload) -> torch.Tensor:
    return torch.from_numpy(workload.images_nchw())


def _export_onnx(model: torch.nn.Module, path: Path, images: torch.Tensor) -> None:
    with warnings.catch_warnings():
        # deprecated, but the exporter that writes opset 17 itself, without a conversion between versions
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            (images,),
            path,
            input_names=["images"],
            output_names=["logits"],
            opset_version=17,
            dynamo=False,
        )


def _export_ncnn(model: torch.nn.Module, param: Path, binary: Path, image: torch.Tensor) -> None:
    with tempfile.TemporaryDirectory() as directory:
        stem = Path(directory) / "model"
        pnnx.export(model, f"{stem}.pt", (image,), fp16=False)
        shutil.move(f"{stem}.ncnn.param", param)
        shutil.move(f"{stem}.ncnn.bin", binary)


def _logits(model: torch.nn.Module, images: torch.Tensor) -> Array:
    with torch.inference_mode():
        return cast(Array, model(images).numpy())


def _convert(label: str, python: str, workload: Workload, models: Path) -> None:
    with Peer(f"{label.partition(':')[0]}_peer", python, models) as peer:
        peer.convert(workload)


def _check(label: str, python: str, workload: Workload, models: Path, expected: Array) -> None:
    engine, _, variant = label.partition(":")
    with Peer(f"{engine}_peer", python, models) as peer:
        peer.load(replace(workload, variant=variant), warmup=1)
        error = disagreement(peer.outputs(), expected)
    what = f"{workload.model} size {workload.size} batch {workload.batch}"
    print(f"{what}: {label} differs from torch by {error:.1e} of max |logit|", flush=True)
    tolerance = TOLERANCES.get(engine, TOLERANCE)
    if error > tolerance:
        raise SystemExit(f"export: {label} disagrees with torch on {what}: {error:.1e} > {tolerance:.0e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", choices=NAMES)
    parser.add_argument("--out", type=Path, required=True, help="directory for the files")
    parser.add_argument("--size", type=int, default=224, help="rows and columns of an image")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="batch sizes of the ONNX files, besides 1")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--peer", action="append", default=[], metavar="ENGINE[:VARIANT]=PYTHON", help="convert and check (repeatable)"
    )
    options = parser.parse_args()
    peers = dict(peer.split("=", 1) for peer in options.peer)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.models:
        single = Workload(model=name, batch=1, size=options.size, threads=options.threads)
        workloads = [replace(single, batch=batch) for batch in sorted({1, *options.batch})]
        model = build(name, options.size, single.classes).eval()
        save_file(model.state_dict(), single.file(options.out, ".safetensors"))
        param, binary = single.file(options.out, ".ncnn.param"), single.file(options.out, ".ncnn.bin")
        _export_ncnn(model, param, binary, _images(single))
        for workload in workloads:
            _export_onnx(model, workload.onnx(options.out), _images(workload))
        expected = [_logits(model, _images(workload)) for workload in workloads]
        del model
        for label, python in peers.items():
            _convert(label, python, single, options.out)
            for workload, logits in zip(workloads, expected, strict=True):
                _check(label, python, workload, options.out, logits)


if __name__ == "__main__":
    main()
