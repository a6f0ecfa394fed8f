from __future__ import annotations

import builtins
import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastcnn import plots, utils
from fastcnn.callbacks import History
from fastcnn.layers import Add, Conv2D, Dense, Flatten, Input
from fastcnn.models import Model, Sequential

LOGS = {"accuracy": [0.2, 0.5], "loss": [2.0, 1.0], "val_accuracy": [0.3, 0.4], "val_loss": [1.9, 1.5]}


def test_history_draws_training_and_validation_together(tmp_path: Path) -> None:
    history = History()
    history.history = LOGS
    figure = plots.history(history, tmp_path / "curves.png")
    assert [axes.get_title() for axes in figure.axes] == ["accuracy", "loss"]
    lines = figure.axes[1].get_lines()
    assert [line.get_label() for line in lines] == ["training", "validation"]
    assert list(lines[1].get_ydata()) == [1.9, 1.5]
    assert list(lines[0].get_xdata()) == [1, 2]
    with Image.open(tmp_path / "curves.png") as image:
        assert image.format == "PNG"


def test_history_takes_a_dict() -> None:
    assert len(plots.history({"loss": [1.0]}).axes) == 1


def test_history_needs_an_epoch() -> None:
    with pytest.raises(ValueError, match=r"plots\.history: the history is empty"):
        plots.history(History())


def test_missing_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'pip install "fastcnn\[plot\]"'):
        plots.history({"loss": [1.0]})


def test_contact_sheet(tmp_path: Path) -> None:
    pictures = np.zeros((5, 20, 30, 3), np.float32)
    pictures[4] = [300, 128.4, -5]
    sheet = plots.contact_sheet(pictures, ["a"] * 5, tmp_path / "sheet.png", good=[True] * 4 + [False], columns=3)
    assert sheet.size == (3 * 34 + 4, 2 * 36 + 4)
    assert sheet.getpixel((4 + 34, 4 + 36)) == (255, 128, 0)  # the fifth picture: second row, second column
    assert sheet.getpixel((4, 4)) == (0, 0, 0)
    assert sheet.getpixel((0, 0)) == (255, 255, 255)
    colours = {colour for _, colour in sheet.crop((38, 60, 68, 72)).getcolors() or []}
    assert any(red > 150 and green < 100 for red, green, _ in colours)  # its caption
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size == sheet.size


def test_captions_are_cut_to_the_picture() -> None:
    pictures = np.zeros((2, 20, 30, 3), np.uint8)
    sheet = plots.contact_sheet(pictures, ["a caption that is far too long", ""])
    assert (np.asarray(sheet)[24:36, 34:38] == 255).all()  # between the two


@pytest.mark.parametrize(
    ("shape", "captions", "columns", "message"),
    [
        ((2, 8, 8, 1), ["a", "b"], 8, r"pictures must be \[N, H, W, 3\] and not empty, got \[2, 8, 8, 1\]"),
        ((0, 8, 8, 3), [], 8, r"got \[0, 8, 8, 3\]"),
        ((2, 8, 8, 3), ["a"], 8, "2 pictures need as many captions, got 1"),
        ((1, 8, 8, 3), ["a"], 0, "columns must be at least 1, got 0"),
    ],
)
def test_contact_sheet_refuses(shape: tuple[int, ...], captions: list[str], columns: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.contact_sheet(np.zeros(shape), captions, columns=columns)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_picture_that_cannot_be_finished_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    path = tmp_path / f"sheet.{ending}"
    pictures = np.zeros((2, 8, 8, 3), np.uint8)
    plots.contact_sheet(pictures, ["a", "b"], path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        plots.contact_sheet(pictures + 9, ["c", "d"], path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_model_is_drawn_with_a_box_for_each_call(tmp_path: Path) -> None:
    x = Input((8, 8, 3), name="x")
    conv = Conv2D(3, 3, padding="same", activation="relu", name="conv")
    y = Add(name="sum")([conv(conv(x)), x])
    model = Model(x, Dense(2, name="fc")(Flatten(name="flat")(y)))
    figure = plots.plot_model(model, tmp_path / "model.png", show_shapes=True, show_layer_names=True)
    labels = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    assert len(labels) == 6
    assert "conv (Conv2D)\n(None, 8, 8, 3) -> (None, 8, 8, 3)" in labels
    assert len([text for text in figure.axes[0].texts if not text.get_text()]) == 6  # the arrows
    with Image.open(tmp_path / "model.png") as image:
        assert image.format == "PNG"
    sideways = utils.plot_model(
        model, None, rankdir="LR", show_layer_activations=True, show_trainable=True, show_dtype=True
    )
    assert "Conv2D\nactivation: relu\ntrainable\nfloat32" in [text.get_text() for text in sideways.axes[0].texts]
    with pytest.raises(ValueError, match="rankdir must be 'TB' or 'LR', got 'BT'"):
        plots.plot_model(model, None, rankdir="BT")
    with pytest.raises(ValueError, match="expand_nested is not supported yet"):
        plots.plot_model(model, None, expand_nested=True)
    with pytest.raises(ValueError, match="has no layers yet"):
        plots.plot_model(Sequential(), None)
