"""The example programs run, on pictures made here."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastcnn import load_model

EXAMPLES = Path(__file__).parents[1] / "examples"

pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the examples are not here")


def read(path: Path) -> np.ndarray:
    """Return the array of such a file."""
    data = gzip.decompress(path.read_bytes())
    sizes = np.frombuffer(data, ">u4", data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(sizes)


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments], capture_output=True, text=True, timeout=300
    )


def example(name: str, *arguments: str) -> str:
    done = run(name, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_fashion_mnist(fashion_source: Path, tmp_path: Path) -> None:
    out = example("fashion_mnist.py", "--source", str(fashion_source), "--out", str(tmp_path), "--labels", "1", "8")
    assert out.splitlines() == [
        f"{tmp_path}/data: 24 pictures of 2 classes",
        f"{tmp_path}/test: 8 pictures of 2 classes",
    ]
    assert len(list((tmp_path / "data" / "1-trouser").glob("*.png"))) == 12


def test_plain_and_residual(fashion_source: Path, tmp_path: Path) -> None:
    arguments = [
        "--source",
        str(fashion_source),
        "--out",
        str(tmp_path),
        "--depths",
        "8",
        "--epochs",
        "1",
        "--pictures",
        "100",
    ]
    out = example("plain_and_residual.py", *arguments)
    assert [line.split()[0] for line in out.splitlines() if line.startswith(("plain8 ", "residual8 "))] == [
        "plain8",
        "residual8",
    ]
    found = json.loads((tmp_path / "plain8.json").read_text())
    assert len(found["losses"]) == 1
    assert len(found["norms"]["before"]) == len(found["norms"]["after"]) == 8
    assert (tmp_path / "depths.png").stat().st_size > 10_000
    before = (tmp_path / "plain8.json").stat().st_mtime_ns
    example("plain_and_residual.py", *arguments)  # nothing is trained again
    assert (tmp_path / "plain8.json").stat().st_mtime_ns == before
    refused = run("plain_and_residual.py", *arguments[:-1], "90")
    assert refused.returncode == 1
    assert f"{tmp_path / 'plain8.json'}: was made with" in refused.stderr
    assert (tmp_path / "plain8.json").stat().st_mtime_ns == before
    refused = run("plain_and_residual.py", *arguments[:-1], "121")
    assert "--pictures: " in refused.stderr
    assert "has 120 for training, got 121" in refused.stderr


def test_vgg_two_classes(fashion_source: Path, tmp_path: Path) -> None:
    arguments = ["--source", str(fashion_source), "--out", str(tmp_path), "--epochs", "1", "--per-class", "12"]
    out = example("vgg_two_classes.py", *arguments, "--model", "cifar-resnet20", "--rates", "0.001", "1e-9")
    assert len([line for line in out.splitlines() if line.startswith("test: accuracy")]) == 2
    assert (tmp_path / "cifar-resnet20-1e-09.safetensors").exists()


def test_fashion_mnist_recipe(fashion_source: Path, tmp_path: Path) -> None:
    arguments = ["--source", str(fashion_source), "--out", str(tmp_path), "--width", "4"]
    out = example("fashion_mnist_recipe.py", *arguments, "--minutes", "0.02").splitlines()
    assert "epochs fit into 0.02 minutes" in out[0]
    figures = re.fullmatch(
        r"trained \d+ s; test accuracy ([01]\.\d{4}), averaged with the mirrored pictures [01]\.\d{4}", out[-1]
    )
    assert figures is not None
    x, y = (read(fashion_source / f"t10k-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1"))
    pictures = x[..., None]
    accuracy = load_model(tmp_path / "model.safetensors").evaluate(pictures, y, return_dict=True)["accuracy"]
    assert float(figures[1]) == pytest.approx(accuracy, abs=1e-4)
    assert {path.name for path in tmp_path.iterdir()} == {
        "model.safetensors",
        "history.csv",
        "curves.png",
        "confusion.png",
    }
