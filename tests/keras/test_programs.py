"""Old Keras programs run: those of examples/keras_programs, with tiny settings."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastcnn import applications

PROGRAMS = Path(__file__).parents[2] / "examples" / "keras_programs"

pytestmark = pytest.mark.skipif(not PROGRAMS.is_dir(), reason="the examples are not here")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with data/ and test/ of two classes."""
    rng = np.random.default_rng(1)
    for part, count in (("data", 16), ("test", 6)):
        for number, name in enumerate(("bag", "trouser")):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (28, 28, 3), np.uint8)
                pixels[:, :, number] += 100
                Image.fromarray(pixels).save(tmp_path / part / name / f"{i:02}.png")
    return tmp_path


def run(name: str, cwd: Path, *settings: str) -> tuple[list[str], set[str]]:
    """Run a program; return the lines it prints and the old names it was told about, with no other warning."""
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / name), *settings],
        cwd=cwd,
        env=os.environ | {"PYTHONWARNINGS": "error,default::DeprecationWarning"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    old = re.findall(r"DeprecationWarning: (.*) is an old name", done.stderr)
    assert len(old) == len(set(old))
    return done.stdout.splitlines(), set(old)


def test_vgg16_with_a_generator(folder: Path) -> None:
    lines, old = run("vgg16_generator.py", folder, "SIZE=32", "BATCH=8", "EPOCHS=2", "STEPS=2", "UNITS=16")
    assert lines[:2] == ["Found 32 images belonging to 2 classes.", "Found 12 images belonging to 2 classes."]
    assert re.fullmatch(r".*\.png: (bag|trouser) \([01]\.\d\d\)", lines[-1])
    assert (folder / "vgg16_curves.png").stat().st_size > 5000
    assert old == {
        "layers.MaxPool2D", "Adam(lr=)", "ModelCheckpoint(period=)", "fit_generator", "'val_acc'", "'acc'"
    }  # fmt: skip


def test_functional_resnet50(folder: Path) -> None:
    lines, old = run("resnet50_functional.py", folder, "BATCH=8", "EPOCHS=1", "STEPS=2")
    assert any(line.startswith("Total params: 23,591,810") for line in lines)
    assert re.fullmatch(r"test: loss \d+\.\d{4}, accuracy [01]\.\d{4}", lines[-1])
    assert old == {"fit_generator", "evaluate_generator"}


def test_small_cnn_with_generator_and_schedule(fashion_source: Path, tmp_path: Path) -> None:
    lines, old = run(
        "small_cnn_schedule.py", tmp_path, f"SOURCE={fashion_source}", "COUNT=100", "WIDTH=4", "BATCH=16", "EPOCHS=4"
    )
    assert "rates: 0.001 0.001 0.0005 0.0003" in lines
    assert re.fullmatch(r"Test accuracy: [01]\.\d{4}", lines[-1])
    assert (tmp_path / "saved_models" / "cnn.001.h5").exists()
    assert old == {"utils.np_utils", "RMSprop(lr=)", "RMSprop(decay=)", "fit_generator", "'val_acc'", "'lr'"}


def test_transfer_learning_from_a_file(folder: Path) -> None:
    applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3)).save_weights(folder / "notop.h5")
    lines, old = run("transfer_learning.py", folder, "WEIGHTS=notop.h5", "SIZE=32", "BATCH=8", "UNITS=8", "EPOCHS=1")
    assert [line for line in lines if line.startswith("training")] == [
        "training 4 of 30 weights",
        "training 10 of 30 weights",
    ]
    assert re.fullmatch(r"test: loss \d+\.\d{4}, accuracy [01]\.\d{4}; features \(8, 1, 1, 512\)", lines[-1])
    assert old == {"RMSprop(lr=)", "SGD(lr=)", "fit_generator", "evaluate_generator", "predict_generator"}
    for path in folder.glob("*.h5"):
        path.unlink()  # 60 to 120 MB


def test_arrays_with_class_weights_and_a_table(fashion_source: Path, tmp_path: Path) -> None:
    lines, old = run(
        "class_weights_csv.py", tmp_path, f"SOURCE={fashion_source}", "COUNT=120", "WIDTH=4", "BATCH=16", "EPOCHS=3"
    )
    assert re.fullmatch(r"accuracy [01]\.\d{4}; of class 5 [01]\.\d{4}", lines[-2])
    with (tmp_path / "training.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert {"accuracy", "loss", "val_accuracy", "val_loss"} <= rows[0].keys()
    assert old == {
        "Adam(lr=)", "fit(nb_epoch=)", "ReduceLROnPlateau(epsilon=)", "'val_acc'", "predict_classes", "optimizer.lr"
    }  # fmt: skip


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / "class_weights_csv.py"), "EPOCH=3"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "EPOCH: is no setting; there are BATCH, COUNT, EPOCHS" in done.stderr
