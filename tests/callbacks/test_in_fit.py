"""Callbacks in `fit`: what is refused before the first step, what ends training, what is left on disk."""

from __future__ import annotations

import csv
import inspect
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fastcnn import callbacks, load_model, optimizers
from fastcnn.callbacks import (
    BackupAndRestore,
    Callback,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from fastcnn.errors import NonFiniteError
from fastcnn.formats import atomic
from fastcnn.layers import Dense, Flatten, Input
from fastcnn.metrics import AUC, FalsePositives
from fastcnn.models import Sequential
from fastcnn.utils import to_categorical

SIGNATURES = {
    "EarlyStopping": "monitor='val_loss', min_delta=0, patience=0, verbose=0, mode='auto', baseline=None, "
    "restore_best_weights=False, start_from_epoch=0",
    "ModelCheckpoint": "filepath, monitor='val_loss', verbose=0, save_best_only=False, save_weights_only=False, "
    "mode='auto', save_freq='epoch', initial_value_threshold=None",
    "ReduceLROnPlateau": "monitor='val_loss', factor=0.1, patience=10, verbose=0, mode='auto', min_delta=0.0001, "
    "cooldown=0, min_lr=0.0",
    "CSVLogger": "filename, separator=',', append=False",
    "LearningRateScheduler": "schedule, verbose=0",
    "TerminateOnNaN": "raise_error=False",
    "BackupAndRestore": "backup_dir, save_freq='epoch', double_checkpoint=False, delete_checkpoint=True",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_those_of_keras(name: str) -> None:
    parameters = inspect.signature(getattr(callbacks, name)).parameters.values()
    bare = [str(p.replace(annotation=inspect.Parameter.empty)) for p in parameters]
    if name == "ModelCheckpoint":
        assert bare.pop() == "period=None"  # of older Keras
    assert ", ".join(bare) == SIGNATURES[name]


def fit(model: Any, data: Any, *given: Callback, **more: Any) -> Any:
    x, y = data
    arguments = {"batch_size": 8, "epochs": 3, "verbose": 0, "validation_split": 0.2}
    return model.fit(x, y, callbacks=list(given), **arguments | more)


# -- monitors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [EarlyStopping, ReduceLROnPlateau, lambda m: ModelCheckpoint("x.safetensors", m, save_best_only=True)],
    ids=["stop", "reduce", "save"],
)
def test_a_log_that_nobody_writes_is_refused_before_the_first_step(make, build, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = build()
    with pytest.raises(
        ValueError, match=r"no log is named 'val_auc'; there are accuracy,.* loss, val_accuracy, val_loss"
    ):
        fit(model, data, make("val_auc"))
    with pytest.raises(
        ValueError, match=r"no log is named 'val_loss'; there are accuracy,.* loss; fit writes val_ logs"
    ):
        fit(model, data, make("val_loss"), validation_split=0)
    assert model.optimizer.iterations == 0
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_another_callback_may_write_is_waited_for(build, data):
    class Adds(Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["own"] = [3.0, 2.0, 2.0][epoch]

    history = fit(build(), data, Adds(), EarlyStopping("own", mode="min"))
    assert history.history["own"] == [3.0, 2.0, 2.0]
    with pytest.raises(ValueError, match="no log is named 'other'"):
        fit(build(), data, Adds(), EarlyStopping("other", mode="min"))
    with pytest.raises(ValueError, match="whether a higher or a lower 'own' is better is not known"):
        fit(build(), data, Adds(), EarlyStopping("own"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_older_and_the_newer_name_of_accuracy_find_each_other(build, data):
    for compiled, asked in (("accuracy", "val_acc"), ("acc", "val_accuracy")):
        history = fit(build(metrics=(compiled,)), data, EarlyStopping(asked, min_delta=2), epochs=9)
        assert history.epoch == [0, 1]
        assert history.history[asked] == history.history[f"val_{compiled}"]
        assert asked in history.history
        assert history.history.get("val_other") is None
    with pytest.raises(KeyError, match="val_other"):
        history.history["val_other"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_auto_knows_which_way_is_better(build, data):
    class Frozen(EarlyStopping):
        def on_train_end(self, logs: Any = None) -> None:
            rises.append(self._rises)

    rises: list[bool | None] = []
    x, y = data
    names = ("loss", "val_loss", "accuracy", "val_acc", "val_mean_squared_error", "false_positives", "auc")
    for monitor in names:
        model = build()
        own = ["accuracy", "mean_squared_error", FalsePositives(), AUC()]
        model.compile("sgd", "categorical_crossentropy", metrics=own)
        fit(model, (x, to_categorical(y, 3)), Frozen(monitor, patience=9), epochs=1)
    assert rises == [False, False, True, True, False, False, True]
    with pytest.raises(ValueError, match="mode must be one of auto, min, max, got 'lowest'"):
        EarlyStopping(mode="lowest")


def test_epochs_without_validation_do_not_count(build, data):
    waits: list[int] = []

    class Watching(EarlyStopping):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            super().on_epoch_end(epoch, logs)
            waits.append(self.wait)

    fit(build(), data, Watching(min_delta=9, patience=9), epochs=6, validation_freq=2)
    assert waits == [0, 0, 0, 1, 1, 2]


def test_the_best_weights_come_back(build, data):
    kept: dict[int, bytes] = {}

    def keep(epoch: int, logs: Any) -> None:
        kept[epoch] = b"".join(w.tobytes() for w in model.get_weights())
        logs["own"] = [1, 3, 2, 2, 2, 2][epoch]

    model = build()
    stop = EarlyStopping("own", mode="max", patience=2, restore_best_weights=True)
    history = fit(model, data, LambdaCallback(on_epoch_end=keep), stop, epochs=6)
    assert history.epoch == [0, 1, 2, 3]
    assert (stop.stopped_epoch, stop.best_epoch, stop.best) == (3, 1, 3)
    assert b"".join(w.tobytes() for w in model.get_weights()) == kept[1]


# -- rates -------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_rate_is_what_the_schedule_says(build, data):
    for schedule in (
        lambda epoch: 0.1 / (epoch + 1),
        lambda epoch, rate: 0.1 if epoch == 0 else rate * epoch / (epoch + 1),
    ):
        model = build()
        history = fit(model, data, LearningRateScheduler(schedule))
        assert history.history["learning_rate"] == pytest.approx([0.1, 0.05, 0.1 / 3], rel=1e-15)
        assert history.history["lr"] is history.history["learning_rate"]
        assert model.optimizer.learning_rate == history.history["lr"][-1]


@pytest.mark.parametrize("make", [lambda: LearningRateScheduler(lambda epoch: 0.1), lambda: ReduceLROnPlateau("loss")])
def test_an_optimizer_with_a_schedule_cannot_be_steered_twice(make, build, data):
    model = build(optimizers.SGD(optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)))
    with pytest.raises(TypeError, match="learning_rate follows a ExponentialDecay"):
        fit(model, data, make())
    assert model.optimizer.iterations == 0


@pytest.mark.parametrize("value", ["fast", None, True, -0.1, math.nan])
def test_a_schedule_must_return_a_rate(value, build, data):
    with pytest.raises(ValueError, match=r"rate|number"):
        fit(build(), data, LearningRateScheduler(lambda epoch: value))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": 1.0}, "factor must lie in"),
        ({"factor": 0}, "factor must lie in"),
        ({"patience": -1}, "patience must be a whole number of at least 0, got -1"),
        ({"cooldown": 1.5}, "cooldown must be a whole number"),
        ({"min_lr": -1}, "min_lr must be at least 0"),
    ],
)
def test_reduce_lr_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        ReduceLROnPlateau(**arguments)


# -- losses that are not finite ----------------------------------------------------------------------------------------


def test_terminate_on_nan_ends_training_with_the_weights_before(build, data, capsys):
    x, y = data
    model, twin = build(), build()
    bad = x.copy()
    bad[16:] = np.nan
    seen: list[float] = []
    watch = LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs["loss"]))
    history = model.fit(bad, y, batch_size=8, epochs=3, verbose=0, shuffle=False, callbacks=[watch, TerminateOnNaN()])
    twin.fit(x[:16], y[:16], batch_size=8, verbose=0, shuffle=False)
    assert capsys.readouterr().out == "Batch 3: the loss is nan, training ends\n"
    assert history.epoch == [0]
    assert math.isnan(history.history["loss"][0])
    assert [math.isnan(loss) for loss in seen] == [False, False, True]
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), twin.get_weights(), strict=True))
    for given in ([], [TerminateOnNaN(raise_error=True)]):
        with pytest.raises(NonFiniteError, match="the loss"):
            build().fit(bad, y, batch_size=8, verbose=0, shuffle=False, callbacks=given)


# -- files -------------------------------------------------------------------------------------------------------------


def test_checkpoints_are_models(build, data, tmp_path):
    model = build()
    path = tmp_path / "deep" / "{epoch:02d}-{val_loss:.2f}.safetensors"
    history = fit(
        model, data, ModelCheckpoint(path), ModelCheckpoint(tmp_path / "w.safetensors", save_weights_only=True)
    )
    names = [f"{epoch + 1:02d}-{loss:.2f}.safetensors" for epoch, loss in enumerate(history.history["val_loss"])]
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == names
    last = load_model(tmp_path / "deep" / names[-1])
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), last.get_weights(), strict=True))
    assert last.optimizer is not None
    assert last.optimizer.iterations == model.optimizer.iterations
    other = build(seed=8)
    other.load_weights(tmp_path / "w.safetensors")
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights(), strict=True))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["m.safetensors", "m.h5", "w.safetensors", "w.weights.h5"])
def test_a_checkpoint_of_weights_that_are_not_finite_keeps_the_good_file(name, value, data, tmp_path):
    """An epoch's last update may break the weights behind a good loss; Keras writes them over the good ones."""
    if name.endswith("h5"):
        pytest.importorskip("h5py")
    model = Sequential([Input((6, 6, 1)), Flatten(), Dense(3, activation="softmax", name="head")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    path = tmp_path / name
    seen: list[bytes] = []

    def spoil(epoch: int, logs: Any) -> None:
        if epoch == 1:
            seen.append(path.read_bytes())
            kernel, bias = model.get_weights()
            kernel[3, 1] = value
            model.set_weights([kernel, bias])

    checkpoint = ModelCheckpoint(path, save_weights_only=name.startswith("w"))
    with pytest.raises(ValueError, match=r"^save: head/kernel holds NaN or infinity; such a model is not saved"):
        fit(model, data, LambdaCallback(on_epoch_end=spoil), checkpoint, epochs=3)
    assert path.read_bytes() == seen[0]
    assert [each.name for each in tmp_path.iterdir()] == [name]
    model.load_weights(path)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_checkpoints_every_few_epochs(build, data, tmp_path):
    fit(build(), data, ModelCheckpoint(tmp_path / "{epoch}.safetensors", period=2), epochs=5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2.safetensors", "4.safetensors"]


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("{val_auc}.safetensors", ValueError, r"asks for \{val_auc\}; there are accuracy, epoch, loss"),
        ("file/x.safetensors", OSError, "file"),
        ("folder.safetensors", OSError, "folder.safetensors"),
    ],
)
def test_a_checkpoint_that_could_not_be_written_is_refused_before_the_first_step(
    path, error, message, build, data, tmp_path
):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.safetensors").mkdir()
    model = build()
    with pytest.raises(error, match=message):
        fit(model, data, ModelCheckpoint(tmp_path / path))
    if error is OSError:  # another callback's logs are no excuse
        with pytest.raises(error, match=message):
            fit(model, data, LambdaCallback(), ModelCheckpoint(tmp_path / path))
    assert model.optimizer.iterations == 0


def test_a_checkpoint_may_be_named_after_another_callbacks_log(build, data, tmp_path):
    class Adds(Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["own"] = epoch + 0.5

    fit(build(), data, Adds(), ModelCheckpoint(tmp_path / "{own:.1f}.safetensors"), epochs=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.5.safetensors", "1.5.safetensors"]


def test_backups_ask_for_room_for_two(build, data, tmp_path, monkeypatch):
    model = build()
    once = 4 * 3 * model.count_params()  # weights and Adam's two slots, at most
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda path: SimpleNamespace(free=once * 3 // 2))
    with pytest.raises(OSError, match=r"bytes are needed and .* are free"):
        fit(model, data, BackupAndRestore(tmp_path / "backup"))
    assert model.optimizer.iterations == 0


def test_checkpoint_refuses_other_formats_and_frequencies(tmp_path):
    with pytest.raises(ValueError, match=r"a model file ends in \.safetensors"):
        ModelCheckpoint(tmp_path / "x.pkl")
    for argument in ({"save_freq": 0}, {"save_freq": "batch"}, {"period": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(argument))} must be"):
            ModelCheckpoint(tmp_path / "x.safetensors", **argument)


def test_csv_has_a_row_per_epoch_and_columns_for_validation(build, data, tmp_path):
    path = tmp_path / "log.csv"
    history = fit(build(), data, CSVLogger(path), validation_freq=2)
    rows = list(csv.reader(path.read_text().splitlines()))
    assert rows[0] == ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"]
    assert [row[0] for row in rows[1:]] == ["0", "1", "2"]
    assert [float(row[2]) for row in rows[1:]] == history.history["loss"]
    assert [row[4] for row in rows[1:]] == ["NA", repr(history.history["val_loss"][0]), "NA"]
    fit(build(), data, CSVLogger(path, append=True))
    assert len(path.read_text().splitlines()) == 7
    fit(build(), data, CSVLogger(path))
    assert len(path.read_text().splitlines()) == 4
    with pytest.raises(OSError, match="nowhere"):
        fit(build(), data, CSVLogger(tmp_path / "nowhere" / "log.csv"))
    with pytest.raises(ValueError, match="separator must be one character, got ', '"):
        CSVLogger(path, ", ")


def test_hooks_with_older_names_are_called(build, data):
    class Old(Callback):
        def on_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(batch)

    seen: list[int] = []
    fit(build(), data, Old(), epochs=2)
    assert seen == [0, 1, 2, 3, 4] * 2


def test_running_fit_is_for_callbacks(build):
    with pytest.raises(RuntimeError, match="net: fit is not running"):
        build().running_fit()
