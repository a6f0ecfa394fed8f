"""BackupAndRestore: an interrupted run that goes on ends as if nothing had happened, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastcnn import config, optimizers
from fastcnn.callbacks import (
    BackupAndRestore,
    Callback,
    CSVLogger,
    EarlyStopping,
    History,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
)
from fastcnn.formats import ModelFileError
from fastcnn.metrics import AUC, Precision
from fastcnn.models import Model
from fastcnn.preprocessing.image import ImageDataGenerator
from fastcnn.utils import image_dataset_from_directory, to_categorical

EPOCHS = 4


def outcome(model: Model, history: History) -> tuple[bytes, dict[str, list[float]], list[int], dict[str, bytes]]:
    """Return all that a run leaves."""
    slots = {name: array.tobytes() for name, array in model.optimizer_state().items()}
    return b"".join(w.tobytes() for w in model.get_weights()), dict(history.history), history.epoch, slots


def options(folder: Path, x: Any, y: Any, **more: Any) -> dict[str, Any]:
    return {"x": x, "y": y, "batch_size": 8, "epochs": EPOCHS, "verbose": 0, "validation_split": 0.2} | more


def callbacks(folder: Path) -> list[Callback]:
    """Callbacks that all decide by what they have seen."""
    folder.mkdir(exist_ok=True)
    return [
        ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=0.05),
        EarlyStopping("val_loss", patience=3, restore_best_weights=True),
        CSVLogger(folder / "log.csv"),
        ModelCheckpoint(folder / "{epoch}.safetensors", "val_loss", save_best_only=True),
    ]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


OPTIMIZERS = {
    "adam": lambda: optimizers.Adam(0.01, amsgrad=True),
    "ema": lambda: optimizers.SGD(0.1, momentum=0.9, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=7),
    "accumulated": lambda: optimizers.RMSprop(0.01, gradient_accumulation_steps=3, clipnorm=0.5),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("frequency", ["epoch", 1, 3])
def test_a_run_cut_anywhere_ends_as_if_it_were_not(kind, frequency, data, build, crash, tmp_path):
    x, y = data
    whole = build(OPTIMIZERS[kind]())
    expected = outcome(whole, whole.fit(**options(tmp_path, x, y), callbacks=callbacks(tmp_path / "whole")))
    steps = 5 * EPOCHS
    for cut in range(1, steps, 4):
        folder = tmp_path / str(cut)
        backup = folder / "backup"
        model = build(OPTIMIZERS[kind]())
        with pytest.raises(ZeroDivisionError):
            model.fit(
                **options(folder, x, y),
                callbacks=[crash(cut), *callbacks(folder), BackupAndRestore(backup, save_freq=frequency)],
            )
        again = build(OPTIMIZERS[kind]())  # as a new process would
        with config.threads(1 + cut % 3):
            history = again.fit(
                **options(folder, x, y), callbacks=[*callbacks(folder), BackupAndRestore(backup, save_freq=frequency)]
            )
        assert outcome(again, history) == expected
        assert files(folder) == files(tmp_path / "whole")
        assert not backup.exists()


def test_a_cut_run_can_be_cut_again(data, build, crash, tmp_path):
    x, y = data
    whole = build()
    expected = outcome(whole, whole.fit(**options(tmp_path, x, y)))
    for _ in range(6):
        model = build()
        with pytest.raises(ZeroDivisionError):
            model.fit(
                **options(tmp_path, x, y), callbacks=[crash(3), BackupAndRestore(tmp_path / "backup", save_freq=1)]
            )
    last = build()
    history = last.fit(**options(tmp_path, x, y), callbacks=[BackupAndRestore(tmp_path / "backup", save_freq=1)])
    assert outcome(last, history) == expected


def test_ctrl_c_backs_up_and_the_next_fit_goes_on(data, build, ctrl_c, tmp_path):
    x, y = data
    whole = build(optimizers.SGD(0.1, use_ema=True))
    expected = outcome(whole, whole.fit(**options(tmp_path, x, y)))
    model = build(optimizers.SGD(0.1, use_ema=True))
    # the interrupt comes at the end of batch 8, in epoch 2
    first = model.fit(**options(tmp_path, x, y), callbacks=[ctrl_c(8), BackupAndRestore(tmp_path / "backup")])
    assert first.interrupted
    assert first.epoch == [0]
    assert first.history["loss"] == expected[1]["loss"][:1]
    second = model.fit(**options(tmp_path, x, y), callbacks=[BackupAndRestore(tmp_path / "backup")])
    assert not second.interrupted
    assert outcome(model, second) == expected


@pytest.mark.parametrize(
    "metrics", [["acc"], [AUC(name="area"), Precision(0.33, name="precision")], ["accuracy", "mean_squared_error"]]
)
def test_running_means_of_metrics_go_on(metrics, data, build, crash, tmp_path):
    x, y = data
    y = to_categorical(y, 3)

    def made() -> Model:
        model = build()
        fresh = [m if isinstance(m, str) else type(m).from_config(m.get_config()) for m in metrics]
        model.compile(optimizers.Adam(0.01), "categorical_crossentropy", metrics=fresh)
        return model

    whole = made()
    expected = outcome(whole, whole.fit(**options(tmp_path, x, y)))
    with pytest.raises(ZeroDivisionError):
        made().fit(**options(tmp_path, x, y), callbacks=[crash(8), BackupAndRestore(tmp_path / "backup", save_freq=1)])
    again = made()
    history = again.fit(**options(tmp_path, x, y), callbacks=[BackupAndRestore(tmp_path / "backup", save_freq=1)])
    assert outcome(again, history) == expected


class Indexed:
    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return -(-len(self.x) // 8)

    def __getitem__(self, i: int) -> Any:
        return self.x[8 * i : 8 * i + 8], self.y[8 * i : 8 * i + 8]


class Repeatable:
    """Batches by iteration, of unknown number."""

    def __init__(self, x: Any, y: Any) -> None:
        self.indexed = Indexed(x, y)

    def __iter__(self) -> Any:
        return (self.indexed[i] for i in range(len(self.indexed)))


class Counted(Repeatable):
    """The same with their number."""

    def __len__(self) -> int:
        return len(self.indexed)


def generator(x: Any, y: Any) -> Any:
    while True:
        yield from Repeatable(x, y)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    for name in "abc":
        (root / name).mkdir()
        for i in range(13):
            Image.fromarray(rng.integers(0, 256, (6, 6), np.uint8)).save(root / name / f"{i}.png")
    return root


SOURCES: dict[str, Any] = {
    "dataset": lambda x, y, folder: image_dataset_from_directory(
        folder, image_size=(6, 6), color_mode="grayscale", batch_size=8, seed=2, verbose=False
    ),
    "flow": lambda x, y, folder: ImageDataGenerator(rotation_range=20, horizontal_flip=True).flow(
        x, y, batch_size=8, seed=4
    ),
    "flow_from_directory": lambda x, y, folder: ImageDataGenerator(rescale=1 / 255, zoom_range=0.2).flow_from_directory(
        folder, target_size=(6, 6), color_mode="grayscale", class_mode="sparse", batch_size=8, seed=4
    ),
    "indexed": lambda x, y, folder: Indexed(x, y),
    "repeatable": lambda x, y, folder: Repeatable(x, y),
    "counted": lambda x, y, folder: Counted(x, y),
    "generator": lambda x, y, folder: generator(x, y),
}


@pytest.mark.parametrize("steps", [None, 4])
@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_of_batches_goes_on_where_it_was(kind, steps, data, build, folder, crash, tmp_path):
    if steps is None and kind in ("repeatable", "generator"):
        pytest.skip("needs steps_per_epoch")
    x, y = data
    more = {"epochs": EPOCHS, "steps_per_epoch": steps, "verbose": 0}
    whole = build()
    expected = outcome(whole, whole.fit(SOURCES[kind](x, y, folder), **more))
    for cut in (2, 7, 9):
        backup = tmp_path / str(cut)
        with pytest.raises(ZeroDivisionError):
            build().fit(
                SOURCES[kind](x, y, folder), **more, callbacks=[crash(cut), BackupAndRestore(backup, save_freq=1)]
            )
        again = build()
        history = again.fit(SOURCES[kind](x, y, folder), **more, callbacks=[BackupAndRestore(backup, save_freq=1)])
        assert outcome(again, history) == expected, cut


def test_pictures_that_are_skipped_do_not_shift_the_place(build, folder, crash, tmp_path):
    broken = tmp_path / "pictures"
    for name in "abc":
        (broken / name).mkdir(parents=True)
        for path in (folder / name).iterdir():
            (broken / name / path.name).write_bytes(path.read_bytes())
    for path in sorted((broken / "a").iterdir())[:8]:
        path.write_bytes(b"no picture")

    def made() -> Any:
        return image_dataset_from_directory(
            broken, image_size=(6, 6), color_mode="grayscale", batch_size=1, seed=2, verbose=False, on_error="skip"
        )

    whole = build()
    expected = outcome(whole, whole.fit(made(), epochs=2, verbose=0))
    with pytest.raises(ZeroDivisionError):
        build().fit(made(), epochs=2, verbose=0, callbacks=[crash(20), BackupAndRestore(tmp_path / "b", save_freq=1)])
    again = build()
    history = again.fit(made(), epochs=2, verbose=0, callbacks=[BackupAndRestore(tmp_path / "b", save_freq=1)])
    assert outcome(again, history) == expected


def test_a_compounding_schedule_is_not_applied_twice(data, build, crash, tmp_path):
    x, y = data

    def halving() -> Callback:
        return LearningRateScheduler(lambda epoch, rate: rate / 2)

    whole = build()
    expected = outcome(whole, whole.fit(**options(tmp_path, x, y), callbacks=[halving()]))
    assert expected[1]["learning_rate"] == [0.01 / 2**i for i in range(1, EPOCHS + 1)]
    with pytest.raises(ZeroDivisionError):
        build().fit(
            **options(tmp_path, x, y), callbacks=[crash(8), halving(), BackupAndRestore(tmp_path / "b", save_freq=1)]
        )
    again = build()
    history = again.fit(**options(tmp_path, x, y), callbacks=[halving(), BackupAndRestore(tmp_path / "b", save_freq=1)])
    assert outcome(again, history) == expected


def test_a_run_killed_after_early_stopping_does_not_train_on(data, build, crash, tmp_path):
    x, y = data

    class Last(Callback):
        last = True

        def on_train_end(self, logs: Any = None) -> None:
            raise RuntimeError("killed")

    def stopping() -> list[Callback]:
        return [EarlyStopping("loss", min_delta=10, patience=1)]

    whole = build()
    expected = outcome(whole, whole.fit(**options(tmp_path, x, y), callbacks=stopping()))
    assert expected[2] == [0, 1]
    with pytest.raises(RuntimeError, match="killed"):
        build().fit(**options(tmp_path, x, y), callbacks=[*stopping(), Last(), BackupAndRestore(tmp_path / "b")])
    again = build()
    history = again.fit(**options(tmp_path, x, y), callbacks=[*stopping(), BackupAndRestore(tmp_path / "b")])
    assert outcome(again, history) == expected


def test_a_run_killed_after_its_last_epoch_still_takes_the_average(data, build, tmp_path):
    x, y = data

    class Last(Callback):
        def on_train_end(self, logs: Any = None) -> None:
            raise RuntimeError("killed")

    def made() -> Model:
        return build(optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9))

    whole = made()
    expected = outcome(whole, whole.fit(**options(tmp_path, x, y)))
    with pytest.raises(RuntimeError, match="killed"):
        made().fit(**options(tmp_path, x, y), callbacks=[Last(), BackupAndRestore(tmp_path / "b")])
    again = made()
    history = again.fit(**options(tmp_path, x, y), callbacks=[BackupAndRestore(tmp_path / "b")])
    assert outcome(again, history) == expected


@pytest.mark.parametrize("stopped", [False, True])
def test_ctrl_c_in_validation_does_not_train_the_epoch_again(stopped, data, build, tmp_path):
    x, y = data

    class Impatient(Callback):
        def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
            raise KeyboardInterrupt

    class Stopping(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.model.stop_training = stopped and batch == 2

    whole = build()
    expected = outcome(whole, whole.fit(**options(tmp_path, x, y), callbacks=[Stopping()]))
    assert expected[2] == ([0] if stopped else list(range(EPOCHS)))
    first = build().fit(
        **options(tmp_path, x, y), callbacks=[Stopping(), Impatient(), BackupAndRestore(tmp_path / "b")]
    )
    assert (first.interrupted, first.epoch) == (True, [])
    again = build()
    history = again.fit(**options(tmp_path, x, y), callbacks=[Stopping(), BackupAndRestore(tmp_path / "b")])
    assert outcome(again, history) == expected


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.fixture
def backup(data, build, crash, tmp_path) -> Path:
    x, y = data
    with pytest.raises(ZeroDivisionError):
        build().fit(**options(tmp_path, x, y), callbacks=[crash(7), BackupAndRestore(tmp_path / "backup", save_freq=1)])
    return tmp_path / "backup"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 4}, r"data\.batch_size was 8, now 4"),
        ({"x": 0}, r"data\.content was"),
        ({"seed": 4}, r"data\.seed was 3, now 4"),
        ({"optimizer": optimizers.Adam(0.01, beta_1=0.8)}, r"optimizer\.config\.beta_1 was 0\.9, now 0\.8"),
        ({"optimizer": optimizers.SGD(0.01)}, r"optimizer"),
        ({"metrics": ("acc",)}, r"metrics\[0\]\[0\] was \"accuracy\", now \"acc\""),
        ({"frozen": "conv"}, "trained was"),
    ],
)
def test_another_run_is_refused_before_anything_changes(change, message, backup, data, build, tmp_path):
    x, y = data
    model = build(change.get("optimizer"), change.get("seed", 3), change.get("metrics", ("accuracy",)))
    if "frozen" in change:
        model.get_layer(change["frozen"]).trainable = False
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    if "x" in change:
        x = x + 1
    before = [w.copy() for w in model.get_weights()]
    more = {"batch_size": change["batch_size"]} if "batch_size" in change else {}
    with pytest.raises(ValueError, match=f"the backup is of another run: .*{message}"):
        model.fit(**options(tmp_path, x, y, **more), callbacks=[BackupAndRestore(backup)])
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert (backup / "training.safetensors").exists()


def test_another_learning_rate_and_more_epochs_are_no_other_run(backup, data, build, tmp_path):
    x, y = data
    model = build(optimizers.Adam(0.5))
    history = model.fit(**options(tmp_path, x, y, epochs=6), callbacks=[BackupAndRestore(backup)])
    assert history.epoch == list(range(6))
    assert model.optimizer is not None
    assert model.optimizer.learning_rate == 0.01  # the interrupted run's, which callbacks may have changed


def test_a_damaged_backup_is_refused_or_the_one_before_taken(data, build, crash, tmp_path):
    x, y = data
    whole = build()
    expected = outcome(whole, whole.fit(**options(tmp_path, x, y)))
    for double in (False, True):
        folder = tmp_path / str(double)
        with pytest.raises(ZeroDivisionError):
            build().fit(
                **options(tmp_path, x, y),
                callbacks=[crash(7), BackupAndRestore(folder, save_freq=1, double_checkpoint=double)],
            )
        path = folder / "training.safetensors"
        bits = bytearray(path.read_bytes())
        bits[-9] ^= 4
        path.write_bytes(bits)
        again = build()
        if not double:
            with pytest.raises(ModelFileError, match="damaged"):
                again.fit(**options(tmp_path, x, y), callbacks=[BackupAndRestore(folder)])
        else:
            history = again.fit(**options(tmp_path, x, y), callbacks=[BackupAndRestore(folder, double_checkpoint=True)])
            assert outcome(again, history) == expected
            assert not folder.exists()


def test_a_model_file_is_no_backup(data, build, tmp_path):
    x, y = data
    model = build()
    (tmp_path / "b").mkdir()
    model.save(tmp_path / "b" / "training.safetensors")
    with pytest.raises(ModelFileError, match=r"is no backup of a training run"):
        model.fit(**options(tmp_path, x, y), callbacks=[BackupAndRestore(tmp_path / "b")])


def test_another_instruction_set_warns(backup, data, build, tmp_path):
    if len(config.isas()) < 2:
        pytest.skip("this machine has one instruction set")
    x, y = data
    own = config.isa()
    config.set_isa(config.isas()[0])
    try:
        with pytest.warns(UserWarning, match=f"the backup was made with {own}"):
            build().fit(**options(tmp_path, x, y), callbacks=[BackupAndRestore(backup)])
    finally:
        config.set_isa(own)


def test_ctrl_c_at_the_very_end_does_not_lose_the_history(data, build):
    x, y = data

    class Late(Callback):
        def on_train_end(self, logs: Any = None) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    try:
        history = build().fit(**options(Path(), x, y), callbacks=[Late()])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert history.interrupted
    assert history.epoch == list(range(EPOCHS))


def test_backups_can_be_kept(data, build, tmp_path):
    x, y = data
    build().fit(**options(tmp_path, x, y), callbacks=[BackupAndRestore(tmp_path / "b", delete_checkpoint=False)])
    assert os.listdir(tmp_path / "b") == ["training.safetensors"]


def test_a_directory_that_cannot_be_written_is_an_error_before_the_first_step(data, build, tmp_path):
    x, y = data
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        build().fit(**options(tmp_path, x, y), callbacks=[BackupAndRestore(tmp_path / "file")])
    for value in (0, True, "batch", 1.5):
        with pytest.raises(ValueError, match="save_freq must be 'epoch' or a number of batches"):
            BackupAndRestore(tmp_path, save_freq=value)


# -- signals -----------------------------------------------------------------------------------------------------------

SCRIPT = """
import signal, sys
import numpy as np
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
from fastcnn import layers, models, set_random_seed
from fastcnn.callbacks import LambdaCallback
set_random_seed(0)
model = models.Sequential([layers.Input((32, 32, 8)), layers.Conv2D(64, 3), layers.BatchNormalization(),
                           layers.GlobalAveragePooling2D(), layers.Dense(3, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
x, y = np.random.default_rng(0).random((96, 32, 32, 8), np.float32), np.arange(96) % 3
ready = LambdaCallback(on_train_batch_end=lambda batch, logs: print("ready", flush=True) if batch == 1 else None)
history = model.fit(x, y, epochs=10**6, verbose=0, callbacks=[ready])
batches = model.optimizer.batches
again = model.fit(x, y, epochs=2, verbose=0)
print(history.interrupted, len(history.epoch) == batches // 3, again.interrupted,
      model.optimizer.batches == batches + 6, all(np.isfinite(w).all() for w in model.get_weights()),
      signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_returns_the_history_and_leaves_a_usable_model(times):
    """Two in a row: the second ends what is left of the first fit too, whether or not the first is served by then."""
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(SCRIPT)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while (line := process.stdout.readline()) != "ready\n":
        assert line, "the script ended early"
    for _ in range(times):
        process.send_signal(signal.SIGINT)
    output = [line for line in process.communicate(timeout=60)[0].splitlines() if line != "ready"]
    if times == 1:
        assert output == ["True True False True True True"]
    else:  # the second may come while fit ends or in the script behind it, whose own business it is then
        assert process.returncode in (0, 1, -signal.SIGINT)
