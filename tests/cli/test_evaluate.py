"""`fastcnn evaluate`, and `predict` of folders and patterns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import CLASSES, draw, run
from PIL import Image

from fastcnn import data
from fastcnn.layers import Dense, GlobalAveragePooling2D, Input
from fastcnn.losses import SparseCategoricalCrossentropy
from fastcnn.models import Sequential, load_model


def make(path: Path, classes: int, names: list[str] | None) -> None:
    model = Sequential(
        [Input((16, 16, 3)), GlobalAveragePooling2D(), Dense(classes, activation="softmax", kernel_initializer="ones")]
    )
    model.layers[-1].set_weights([np.eye(3, classes) / 20, np.zeros(classes)])
    model.class_names = names
    model.save(path)


def test_evaluate_measures_what_the_model_does(tmp_path, capsys):
    folder = draw(tmp_path / "data", 4)  # classes are blue, green, red; their channels 2, 1, 0
    make(tmp_path / "m.safetensors", 3, ["red", "green", "blue"])
    odd = folder / "red" / "0.png"
    Image.fromarray(np.full((16, 16, 3), (0, 250, 0), np.uint8)).save(odd)  # a red that is green
    out, err = run(capsys, "evaluate", str(tmp_path / "m.safetensors"), str(folder), "--json")
    assert err == ""
    found = json.loads(out)
    pictures = data.image_dataset_from_directory(
        folder, class_names=["red", "green", "blue"], image_size=16, shuffle=False, verbose=False
    )
    x, y = (np.concatenate(parts) for parts in zip(*pictures, strict=True))
    scores = load_model(tmp_path / "m.safetensors").predict(x)
    assert found["accuracy"] == np.mean(scores.argmax(1) == y) == 11 / 12
    assert found["loss"] == pytest.approx(np.mean(SparseCategoricalCrossentropy().per_sample("", y, scores)), rel=1e-6)
    assert found["confusion_matrix"] == [[3, 1, 0], [0, 4, 0], [0, 0, 4]]
    assert found["classes"] == [
        {"class": "red", "pictures": 4, "precision": 1.0, "recall": 0.75},
        {"class": "green", "pictures": 4, "precision": 0.8, "recall": 1.0},
        {"class": "blue", "pictures": 4, "precision": 1.0, "recall": 1.0},
    ]
    picture = tmp_path / "confusion.png"
    arguments = ["evaluate", str(tmp_path / "m.safetensors"), str(folder), "--confusion", str(picture)]
    lines = run(capsys, *arguments)[0].splitlines()
    assert lines[0].startswith("12 pictures: loss ")
    assert "accuracy 0.9167" in lines[0]
    assert [line.split() for line in lines[2:5]] == [
        ["red", "4", "1.0000", "0.7500"],
        ["green", "4", "0.8000", "1.0000"],
        ["blue", "4", "1.0000", "1.0000"],
    ]
    assert lines[-3].split() == ["red", "3", "1", "0"]
    with Image.open(picture) as image:
        assert min(image.size) > 100


def test_evaluate_from_a_list_and_with_more_classes(tmp_path, capsys):
    folder = draw(tmp_path / "data", 2)
    files = sorted(folder.glob("*/*.png"))
    (tmp_path / "list.csv").write_text("".join(f"{file},{file.parent.name}\n" for file in files))
    make(tmp_path / "m.safetensors", 3, ["red", "green", "blue"])
    results = [
        json.loads(run(capsys, "evaluate", str(tmp_path / "m.safetensors"), str(source), "--json")[0])
        for source in (folder, tmp_path / "list.csv")
    ]
    assert results[0] == results[1]
    assert "top_5_accuracy" not in results[0]
    for name in ("d", "e", "f"):
        (folder / name).mkdir()
        (folder / name / "x.png").write_bytes(files[0].read_bytes())
    make(tmp_path / "six.safetensors", 6, ["red", "green", "blue", "d", "e", "f"])
    found = json.loads(run(capsys, "evaluate", str(tmp_path / "six.safetensors"), str(folder), "--json")[0])
    assert found["accuracy"] == 6 / 9
    assert found["top_5_accuracy"] == 1


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        (["red", "green", "yellow"], 3, "has the classes ['blue'], which the model does not know"),
        (["red", "green", "blue", "white"], 4, "has no pictures of the model's classes ['white']"),
        (None, 4, "has 3 classes, the model has 4 outputs and no names for them"),
    ],
)
def test_evaluate_refuses_other_classes(names, classes, message, tmp_path, capsys):
    folder = draw(tmp_path / "data", 1)
    make(tmp_path / "m.safetensors", classes, names)
    assert message in run(capsys, "evaluate", str(tmp_path / "m.safetensors"), str(folder), code=1)[1]


def test_evaluate_without_names_goes_by_order(tmp_path, capsys):
    folder = draw(tmp_path / "data", 2)
    make(tmp_path / "m.safetensors", 3, None)
    found = json.loads(run(capsys, "evaluate", str(tmp_path / "m.safetensors"), str(folder), "--json")[0])
    assert [row["class"] for row in found["classes"]] == list(CLASSES)
    assert found["accuracy"] == 1 / 3  # blue and red change places


# -- predict -----------------------------------------------------------------------------------------------------------


def test_predict_finds_pictures_in_folders_and_patterns(tmp_path, capsys):
    folder = draw(tmp_path / "data", 2)
    make(tmp_path / "m.safetensors", 3, list(CLASSES))
    (folder / "red" / "notes.txt").write_text("")

    def paths(*given: str) -> list[str]:
        out, err = run(capsys, "predict", str(tmp_path / "m.safetensors"), *given, "--json")
        assert err == ""
        return [json.loads(line)["path"] for line in out.splitlines()]

    everything = sorted(str(path) for path in folder.glob("*/*.png"))
    assert paths(str(folder)) == everything
    assert paths(f"{folder}/**/*.png") == everything
    assert paths(f"{folder}/red/[0]*") == [f"{folder}/red/0.png"]
    assert paths(f"{folder}/red/1.png", str(folder / "red")) == [f"{folder}/red/1.png", f"{folder}/red/0.png"]


def test_predict_without_a_picture_is_an_error(tmp_path, capsys):
    make(tmp_path / "m.safetensors", 3, list(CLASSES))
    (tmp_path / "empty").mkdir()
    for given in (str(tmp_path / "empty"), str(tmp_path / "*.jpg")):
        out, err = run(capsys, "predict", str(tmp_path / "m.safetensors"), given, code=1)
        assert (out, err) == ("", f"fastcnn predict: {given}: no picture found\n")
