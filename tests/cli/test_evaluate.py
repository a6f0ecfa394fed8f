"""`fastcnn evaluate`, and `predict` of folders and patterns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import CLASSES, draw, run
from PIL import Image

from fastcnn import data
from fastcnn.layers import Conv2D, Dense, GlobalAveragePooling2D, Input
from fastcnn.losses import BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy
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
    assert found["pictures"] == 12
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
    assert lines[-4].split() == ["red", "3", "1", "0"]
    assert lines[-1] == f"saved {picture}"
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
        (None, 4, "has 3 classes, the model knows 4 and no names for them"),
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


def test_predict_takes_each_picture_once_and_what_patterns_match(tmp_path, capsys, monkeypatch):
    folder = draw(tmp_path / "data", 1)
    (folder / "red" / "notes.txt").write_text("")
    (folder / "red" / ".hidden.png").write_text("")
    (folder / "red" / "[0].PNG").write_bytes((folder / "red" / "0.png").read_bytes())
    (folder / "red" / "deep" / "deeper").mkdir(parents=True)
    (folder / "green" / "0.png").rename(folder / "red" / "deep" / "deeper" / "1.png")
    (folder / "red" / "loop").symlink_to(folder, target_is_directory=True)
    make(tmp_path / "m.safetensors", 3, list(CLASSES))
    monkeypatch.chdir(tmp_path)

    def paths(*given: str, code: int = 0) -> list[str]:
        out, _ = run(capsys, "predict", "m.safetensors", *given, "--json", code=code)
        return [json.loads(line)["path"] for line in out.splitlines()]

    red = ["data/red/0.png", "data/red/[0].PNG", "data/red/deep/deeper/1.png"]
    assert paths("data") == ["data/blue/0.png", *red]
    assert paths("./data/red/0.png", "data/red", str(folder)) == ["./data/red/0.png", *red[1:], f"{folder}/blue/0.png"]
    assert paths("data/red/[0].PNG") == ["data/red/[0].PNG"]  # a file of that name comes before the pattern
    assert paths("data/r*") == red  # a folder that matches stands for its pictures
    assert sorted(paths("data/**")) == ["data/blue/0.png", *red]  # through the loop nothing comes twice
    assert paths("data/**/*.txt", "data/blue", code=1) == ["data/blue/0.png"]


def test_predict_names_what_is_no_picture_and_goes_on(tmp_path, capsys):
    make(tmp_path / "m.safetensors", 3, list(CLASSES))
    folder = draw(tmp_path / "data", 1)
    (tmp_path / "empty").mkdir()
    (folder / "red" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "red" / "text.png").write_text("no picture")
    given = [str(tmp_path / "empty"), str(tmp_path / "*.jpg"), str(folder / "red"), str(folder / "blue")]
    out, err = run(capsys, "predict", str(tmp_path / "m.safetensors"), *given, code=1)
    assert [line.split(": ")[0] for line in out.splitlines()] == [f"{folder}/red/0.png", f"{folder}/blue/0.png"]
    *missing, text = err.splitlines()
    assert missing == [
        f"fastcnn predict: folder {given[0]!r}: no picture in it",
        f"fastcnn predict: pattern {given[1]!r}: no picture matches it",
        f"fastcnn predict: picture '{folder}/red/gone.png': dangling symbolic link",
    ]
    assert text.startswith(f"fastcnn predict: picture '{folder}/red/text.png'")


# -- other outputs than a softmax --------------------------------------------------------------------------------------


def make_of(path: Path, head: Dense, weights: list[np.ndarray], names: list[str] | None, loss: object) -> None:
    model = Sequential([Input((16, 16, 3)), GlobalAveragePooling2D(), head])
    head.set_weights(weights)
    model.class_names = names
    if loss is not None:
        model.compile("adam", loss)
    model.save(path)


@pytest.mark.parametrize(
    ("activation", "loss"),
    [("sigmoid", "binary_crossentropy"), ("sigmoid", None), (None, BinaryCrossentropy(from_logits=True))],
)
def test_one_output_tells_two_classes_apart(activation, loss, tmp_path, capsys):
    folder = draw(tmp_path / "data", 3)
    (folder / "green").rename(tmp_path / "green")  # left are blue, channel 2, and red, channel 0
    path, head = tmp_path / "m.safetensors", Dense(1, activation=activation)
    make_of(path, head, [np.array([[1], [0], [-1]]) / 50, np.array([0.2])], ["blue", "red"], loss)
    found = json.loads(run(capsys, "evaluate", str(path), str(folder), "--json")[0])
    assert found["confusion_matrix"] == [[3, 0], [0, 3]]
    assert found["accuracy"] == 1
    assert 0 < found["loss"] < 0.2
    if activation:
        lines = run(capsys, "predict", str(path), str(folder), "--json")[0].splitlines()
        for line in map(json.loads, lines):
            assert line["label"] == Path(line["path"]).parent.name
            assert line["score"] > 0.9
            assert sum(score for _, score in line["top"]) == pytest.approx(1)


@pytest.mark.parametrize(
    "loss",
    [SparseCategoricalCrossentropy(from_logits=True), CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)],
)
def test_evaluate_uses_the_loss_of_the_model(loss, tmp_path, capsys):
    folder = draw(tmp_path / "data", 2)
    path = tmp_path / "m.safetensors"
    make_of(path, Dense(3), [np.eye(3) / 50, np.zeros(3)], ["red", "green", "blue"], loss)
    found = json.loads(run(capsys, "evaluate", str(path), str(folder), "--batch-size", "4", "--json")[0])
    pictures = data.image_dataset_from_directory(
        folder, class_names=["red", "green", "blue"], image_size=16, shuffle=False, verbose=False
    )
    x, y = (np.concatenate(parts) for parts in zip(*pictures, strict=True))
    labels = np.eye(3)[y] if isinstance(loss, CategoricalCrossentropy) else y
    assert found["loss"] == pytest.approx(loss(labels, load_model(path).predict(x)), rel=1e-5)
    assert found["accuracy"] == 1


def test_evaluate_refuses_what_it_cannot_measure(tmp_path, capsys):
    folder = draw(tmp_path / "data", 1)
    path = tmp_path / "m.safetensors"
    make_of(path, Dense(3), [np.eye(3), np.zeros(3)], None, None)  # logits, and no loss that says so
    assert "from_logits" in run(capsys, "evaluate", str(path), str(folder), code=1)[1]
    Sequential([Input((16, 16, 3)), Conv2D(2, 3)]).save(path)
    assert "not one value per class" in run(capsys, "evaluate", str(path), str(folder), code=1)[1]
    assert "not one value per class" in run(capsys, "predict", str(path), str(folder), code=1)[1]
    make(path, 3, None)
    picture = tmp_path / "no" / "confusion.png"
    out, err = run(capsys, "evaluate", str(path), str(folder), "--confusion", str(picture), code=1)
    assert (out, str(picture) in err) == ("", True)


def test_evaluate_names_all_that_differs(tmp_path, capsys):
    folder = draw(tmp_path / "data", 1)
    make(tmp_path / "m.safetensors", 3, ["red", "green", "yellow"])
    err = run(capsys, "evaluate", str(tmp_path / "m.safetensors"), str(folder), code=1)[1]
    assert "has the classes ['blue'], which the model does not know" in err
    assert "has no pictures of the model's classes ['yellow']" in err
