"""`fastcnn train`: its options, what it foretells, and going on with an interrupted run."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import CLASSES, draw, run, small_network
from PIL import Image

from fastcnn import data, optimizers
from fastcnn.callbacks import History
from fastcnn.cli import forecast, recipe, train
from fastcnn.cli.advice import advice, is_dead
from fastcnn.data.dataset import PictureOptions
from fastcnn.data.prefetch import default_threads
from fastcnn.initializers import Constant
from fastcnn.layers import (
    Conv2D,
    Dense,
    GlobalAveragePooling2D,
    Input,
    RandomFlip,
    RandomRotation,
    RandomTranslation,
    RandomZoom,
    ReLU,
)
from fastcnn.models import Sequential, load_model


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "build_for_training", small_network)


def trained(
    capsys: pytest.CaptureFixture[str], pictures: Path, out: Path, *options: str
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """Return what the command said before, for each epoch and at the end."""
    shown, err = run(
        capsys, "train", str(pictures), "--image-size", "16", "--epochs", "2", "--json", "--out", str(out), *options
    )
    assert err == ""
    plan, *epochs, result = [json.loads(line) for line in shown.splitlines()]
    return plan, epochs, result


def bits(path: Path) -> list[bytes]:
    return [w.tobytes() for w in load_model(path).get_weights()]


def test_the_plan_says_what_training_takes(pictures, tmp_path, capsys):
    plan, epochs, _ = trained(capsys, pictures, tmp_path / "m.safetensors", "--batch-size", "8")
    model = load_model(tmp_path / "m.safetensors")
    assert plan["classes"].keys() == set(CLASSES)
    assert (plan["training"], plan["validation"]) == (24, 6)
    assert plan["parameters"] == model.count_params()
    assert plan["memory_bytes"] == model.memory_plan(8).total
    assert 0 < plan["seconds_per_epoch"] < 60
    assert len(epochs) == 2


def test_looking_ahead_changes_nothing(pictures, tmp_path, capsys, monkeypatch):
    trained(capsys, pictures, tmp_path / "a.safetensors", "--augment", "standard")
    looked = train.forecast
    calls = []

    def blind(model, *_):
        calls.append(model)
        return looked.__globals__["Forecast"](model.memory_plan(32), 1.0)

    monkeypatch.setattr(train, "forecast", blind)
    trained(capsys, pictures, tmp_path / "b.safetensors", "--augment", "standard")
    assert len(calls) == 1
    assert bits(tmp_path / "a.safetensors") == bits(tmp_path / "b.safetensors")


def compiled(size: int = 16) -> Any:
    model = small_network("small", size, 3)
    model.compile(optimizers.Adam(1e30), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def datasets(folder: Path, batch_size: int) -> Any:
    return data.image_dataset_from_directory(
        folder, image_size=16, batch_size=batch_size, seed=1, validation_split=0.2, subset="both", verbose=False
    )


def test_the_copy_is_gone_and_was_no_worse_for_its_steps(pictures, monkeypatch):
    """A rate that would break the weights in one step breaks no forecast; what it took is free for training."""
    seen: list[Any] = []
    make = forecast._twin

    def twin(model: Any) -> Any:
        made = make(model)
        before = [w.copy() for w in made.get_weights()]
        losses = [made.train_on_batch(np.ones((4, 16, 16, 3)), np.arange(4) % 3)[0] for _ in range(3)]
        assert losses[0] == losses[2]
        assert all(np.array_equal(a, b) for a, b in zip(before, made.get_weights(), strict=True))
        seen.append(weakref.ref(made))
        return made

    monkeypatch.setattr(forecast, "_twin", twin)
    model = compiled()
    before = [w.copy() for w in model.get_weights()]
    found = forecast.forecast(model, *datasets(pictures, 100))
    assert found.memory.batch == 24  # all there are
    assert [reference() for reference in seen] == [None]
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert model.optimizer.batches == 0


@pytest.mark.parametrize("batch_size", [2, 8, 100])
def test_the_forecast_counts_reading(batch_size, pictures, monkeypatch):
    read = PictureOptions.read_into

    def slowly(self: Any, path: str, y: Any) -> None:
        time.sleep(0.02)
        read(self, path, y)

    monkeypatch.setattr(PictureOptions, "read_into", slowly)
    seconds = forecast.forecast(compiled(), *datasets(pictures, batch_size)).seconds_per_epoch
    assert seconds >= 30 * 0.02 / default_threads()


def test_a_picture_that_cannot_be_read_ends_the_forecast(tmp_path):
    folder = draw(tmp_path / "data", 2)
    for path in folder.glob("*/*.png"):
        path.write_text("no picture")
    with pytest.raises(data.ImageFileError):
        forecast.forecast(compiled(), *datasets(folder, 4))


@pytest.mark.parametrize(
    ("options", "kind", "values"),
    [
        (["--optimizer", "adam"], optimizers.Adam, {"weight_decay": None, "use_ema": False}),
        (["--optimizer", "adamw", "--weight-decay", "0.05"], optimizers.AdamW, {"weight_decay": 0.05}),
        (["--optimizer", "sgd", "--ema", "0.9"], optimizers.SGD, {"nesterov": True, "momentum": 0.9, "use_ema": True}),
        (["--optimizer", "rmsprop"], optimizers.RMSprop, {}),
    ],
)
def test_optimizers(options, kind, values, pictures, tmp_path, capsys):
    trained(capsys, pictures, tmp_path / "m.safetensors", *options)
    optimizer = load_model(tmp_path / "m.safetensors").optimizer
    assert type(optimizer) is kind
    assert {name: getattr(optimizer, name) for name in values} == values


def test_warm_up_and_smoothed_labels(pictures, tmp_path, capsys):
    options = ["--warmup", "0.5", "--label-smoothing", "0.1", "--batch-size", "3", "--learning-rate", "0.01"]
    trained(capsys, pictures, tmp_path / "m.safetensors", *options)
    model = load_model(tmp_path / "m.safetensors")
    assert model.loss.label_smoothing == 0.1
    schedule = optimizers.serialize(model.optimizer)["config"]["learning_rate"]["config"]
    assert (schedule["warmup_steps"], schedule["warmup_target"], schedule["decay_steps"]) == (4, 0.01, 12)


def test_warm_up_to_a_constant_rate(pictures, tmp_path, capsys):
    options = ["--warmup", "1", "--schedule", "constant", "--batch-size", "6", "--learning-rate", "0.01"]
    trained(capsys, pictures, tmp_path / "m.safetensors", *options)
    optimizer = load_model(tmp_path / "m.safetensors").optimizer
    rates = []
    for optimizer.batches in range(9):  # 4 an epoch
        rates.append(optimizer.learning_rate)
    assert rates == pytest.approx([0, 0.0025, 0.005, 0.0075, *[0.01] * 5])


@pytest.mark.parametrize(
    ("augment", "kinds"),
    [
        ("none", []),
        ("flip", [RandomFlip]),
        ("standard", [RandomFlip, RandomTranslation, RandomRotation, RandomZoom]),
    ],
)
def test_augmentation_is_part_of_the_model(augment, kinds, pictures, tmp_path, capsys):
    trained(capsys, pictures, tmp_path / "m.safetensors", "--augment", augment)
    model = load_model(tmp_path / "m.safetensors")
    assert [type(layer) for layer in model.layers if type(layer).__name__.startswith("Random")] == kinds


def test_balanced_classes_weigh_alike(tmp_path, capsys, monkeypatch):
    folder = draw(tmp_path / "data", 6)
    for path in sorted((folder / "red").iterdir())[2:]:
        path.unlink()
    given: list[Any] = []
    original = train.Model.fit

    def fit(self: Any, *arguments: Any, **options: Any) -> Any:
        given.append(options["class_weight"])
        return original(self, *arguments, **options)

    monkeypatch.setattr(train.Model, "fit", fit)
    trained(capsys, folder, tmp_path / "m.safetensors", "--class-weight", "balanced", "--val-split", "0")
    assert given == [pytest.approx({0: 14 / 18, 1: 14 / 18, 2: 14 / 6})]


def test_fine_tuning_takes_weights_and_freezes(pictures, tmp_path, capsys):
    trained(capsys, pictures, tmp_path / "a.safetensors")
    two = draw(tmp_path / "two", 6)
    (two / "red").rename(tmp_path / "red")
    shown, err = run(
        capsys,
        *("train", str(two), "--image-size", "16", "--epochs", "1", "--out", str(tmp_path / "b.safetensors")),
        *("--weights", str(tmp_path / "a.safetensors"), "--freeze"),
    )
    assert err == ""
    assert f"\n{tmp_path}/a.safetensors: 2 of 4 weights taken; the last layer starts anew\n" in shown
    assert re.search(r"^resnet18, 122 parameters \(10 of them trained\), for", shown, re.MULTILINE)
    again = [*("--weights", str(tmp_path / "a.safetensors"))]
    plan, _, _ = trained(capsys, pictures, tmp_path / "c.safetensors", *again)
    assert (plan["weights_taken"], plan["weights"], plan["trained"]) == (4, 4, 127)
    a, b = load_model(tmp_path / "a.safetensors"), load_model(tmp_path / "b.safetensors")
    assert [x.shape for x in b.get_weights()][-1] == (2,)
    assert np.array_equal(a.get_weights()[0], b.get_weights()[0])
    assert len(b.trained_weights) == 2


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (["--freeze"], "--freeze needs --weights", 2),
        (["--warmup", "2"], "--warmup 2 must be shorter than --epochs 2", 2),
        (["--patience", "2", "--val-split", "0"], "--patience needs validation pictures", 2),
        (["--weights", "nothing.safetensors"], "nothing.safetensors: No such file", 1),
    ],
)
def test_options_that_do_not_go_together(options, message, code, pictures, tmp_path, capsys):
    out = tmp_path / "m.safetensors"
    shown, err = run(
        capsys, "train", str(pictures), "--image-size", "16", "--epochs", "2", "--out", str(out), *options, code=code
    )
    assert message in err
    assert "Epoch" not in shown
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_architecture_are_refused(pictures, tmp_path, capsys):
    model = Sequential([Input((16, 16, 3)), GlobalAveragePooling2D(), Dense(3, activation="softmax", name="head")])
    model.save(tmp_path / "other.safetensors")
    out, err = run(
        capsys,
        *("train", str(pictures), "--image-size", "16", "--out", str(tmp_path / "m.safetensors")),
        *("--weights", str(tmp_path / "other.safetensors")),
        code=1,
    )
    assert out == ""
    assert "2 of the model's 4 weights are missing or of another shape, such as conv/kernel" in err


def test_patience_ends_training_with_the_best_weights(pictures, tmp_path, capsys):
    _, epochs, _ = trained(
        capsys, pictures, tmp_path / "m.safetensors", "--patience", "1", "--epochs", "30", "--learning-rate", "2"
    )
    losses = [line["val_loss"] for line in epochs]
    assert len(losses) < 30
    assert losses[-1] >= min(losses)


def test_the_test_must_have_the_classes_trained_on(pictures, tmp_path, capsys):
    test = draw(tmp_path / "test", 1)
    (test / "red").rename(test / "white")
    out, err = run(
        capsys, "train", str(pictures), "--test", str(test), "--out", str(tmp_path / "m.safetensors"), code=1
    )
    assert out == ""
    assert f"{test}: has the classes ['white'], which the model does not know" in err
    assert "has no pictures of the model's classes ['red']" in err


# -- resume ------------------------------------------------------------------------------------------------------------

COMMAND = """
import signal, sys
sys.path.insert(0, {tests!r})
signal.signal(signal.SIGINT, signal.default_int_handler)
from commands import small_network
from fastcnn import cli
from fastcnn.cli import recipe
recipe.build_for_training = small_network
sys.exit(cli.main(sys.argv[1:]))
"""


def start(pictures: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    script = COMMAND.format(tests=str(Path(__file__).parent))
    arguments = ["train", str(pictures), "--image-size", "16", "--batch-size", "2", "--json", "--augment", "flip"]
    command = [sys.executable, "-c", script, *arguments, "--out", str(out), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_training_goes_on_bit_for_bit(signal_number, pictures, tmp_path):
    whole = start(pictures, tmp_path / "whole.safetensors", "--epochs", "12", "--ema", "0.9")
    out, err = whole.communicate(timeout=120)
    assert (whole.returncode, err) == (0, "")
    expected = [json.loads(line) for line in out.splitlines() if "epoch" in json.loads(line)]

    part = tmp_path / "part.safetensors"
    options = ["--epochs", "12", "--ema", "0.9", "--save-freq", "3"]
    cut = start(pictures, part, *options)
    assert cut.stdout is not None
    for _ in range(4):  # the plan and three epochs
        cut.stdout.readline()
    cut.send_signal(signal_number)
    _, err = cut.communicate(timeout=120)
    if signal_number == signal.SIGINT:
        assert cut.returncode == 130
        assert re.fullmatch(r"fastcnn train: interrupted; the same command with --resume goes on from .*\n", err)
    assert not part.exists()

    refused = start(pictures, part, *options)
    assert "holds an interrupted run: go on with it by --resume" in refused.communicate(timeout=120)[1]
    assert refused.returncode == 1

    resumed = start(pictures, part, *options, "--resume")
    out, err = resumed.communicate(timeout=120)
    assert (resumed.returncode, err) == (0, "")
    found = [json.loads(line) for line in out.splitlines() if "epoch" in json.loads(line)]
    assert found == expected[len(expected) - len(found) :]
    assert 0 < len(found) < 12
    assert bits(part) == bits(tmp_path / "whole.safetensors")
    for suffix in (".history.csv", ".curves.png"):
        whole_file, part_file = (p.with_suffix(suffix) for p in (tmp_path / "whole.safetensors", part))
        if suffix == ".history.csv":
            assert part_file.read_bytes() == whole_file.read_bytes()
        else:
            with Image.open(part_file) as a, Image.open(whole_file) as b:
                assert np.array_equal(np.asarray(a), np.asarray(b))
    assert not (tmp_path / "part.resume").exists()


def test_resume_without_a_backup_starts_from_the_beginning(pictures, tmp_path, capsys):
    out, err = run(
        capsys,
        *("train", str(pictures), "--image-size", "16", "--epochs", "1", "--resume"),
        *("--out", str(tmp_path / "m.safetensors")),
    )
    assert err == ""
    assert f"{tmp_path}/m.resume holds no interrupted run: training starts from the beginning" in out


def test_a_run_that_fails_before_its_first_backup_leaves_nothing(pictures, tmp_path, capsys, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("a batch that cannot be read")

    monkeypatch.setattr(train.BackupAndRestore, "on_epoch_end", fail)
    out = tmp_path / "models" / "m.safetensors"
    out.parent.mkdir()
    _, err = run(capsys, "train", str(pictures), "--image-size", "16", "--epochs", "1", "--out", str(out), code=1)
    assert "a batch that cannot be read" in err
    assert list(out.parent.iterdir()) == []


# -- advice ------------------------------------------------------------------------------------------------------------


def test_a_run_that_learned_nothing_says_so(pictures, tmp_path, capsys):
    options = ["--learning-rate", "1e-12"]
    note = trained(capsys, pictures, tmp_path / "m.safetensors", *options)[2]["note"]
    assert re.match(r"the loss never fell below 1\.09\d, that of giving every picture the same answer", note)
    out, _ = run(
        capsys,
        *("train", str(pictures), "--image-size", "16", "--epochs", "1", "--out", str(tmp_path / "n.safetensors")),
        *options,
    )
    assert f"note: {note}\n" in out


def test_a_run_that_learned_something_does_not() -> None:
    history = History()
    for counts, losses, stuck in (
        ([10, 10], [0.8, 0.69], True),
        ([10, 10], [0.8, 0.6, 0.9], False),
        ([90, 10], [0.4, 0.34], True),
        ([90, 10], [0.31], False),
        ([10, 10], [], False),
        ([10, 10], [float("nan")], True),
    ):
        history.history = {"loss": losses}
        assert (advice(history, counts) is not None) == stuck, (counts, losses)


def test_an_accuracy_above_guessing_is_something_learned() -> None:
    """Wild first steps, or smoothed labels, keep the mean loss of an epoch above that of guessing."""
    history = History()
    for counts, accuracies, stuck in (
        ([500, 500], [0.52, 0.54], True),  # guessing gives up to 0.547 once in a thousand runs
        ([500, 500], [0.52, 0.56], False),
        ([10, 10], [0.56], True),  # too few pictures to tell
        ([900, 100], [0.9], True),
        ([900, 100], [0.93], False),
        ([100] * 10, [0.3], False),
    ):
        history.history = {"loss": [3.0] * len(accuracies), "accuracy": accuracies}
        assert (advice(history, counts) is not None) == stuck, (counts, accuracies)


def test_class_weights_make_guessing_a_loss_of_equal_shares() -> None:
    history = History()
    for loss, stuck in ((0.69, True), (0.4, False)):  # the entropy of 9 : 1 is 0.325
        history.history = {"loss": [loss], "accuracy": [0.85]}
        assert (advice(history, [900, 100], weighted=True) is not None) == stuck


def test_a_dead_network_is_told_from_one_that_has_not_begun(pictures, tmp_path, monkeypatch, capsys):
    def dead(name: str, size: int, classes: int, augmentation: Any = ()) -> Sequential:
        conv = Conv2D(4, 3, bias_initializer=Constant(-1e6))  # which no picture lifts above zero
        body = [conv, ReLU(), GlobalAveragePooling2D(), Dense(classes, activation="softmax")]
        return Sequential([Input((size, size, 3)), *body], name=name)

    monkeypatch.setattr(recipe, "build_for_training", dead)
    note = trained(capsys, pictures, tmp_path / "m.safetensors")[2]["note"]
    assert "nothing of a picture reaches its output any more, and more epochs will not change that" in note


def test_only_answers_alike_to_the_last_digits_are_dead() -> None:
    def twice(*first: float, change: float = 0.0) -> Any:
        return np.array([first, (first[0] * (1 + change), *first[1:])], np.float32)

    assert is_dead(twice(0.5, 0.5))
    assert is_dead(twice(0.499, 0.501, change=1e-7))
    assert not is_dead(twice(0.5, 0.5, change=1e-4))  # a VGG16 before its first step
    assert not is_dead(twice(0.5, 0.5)[:1])
    assert not is_dead(twice(1e-9, 1.0))  # however unlike the pictures are, these look alike
    history = History()
    history.history = {"loss": [0.5]}
    assert advice(history, [1, 1], answers=lambda: pytest.fail("nobody needs to ask")) is None
