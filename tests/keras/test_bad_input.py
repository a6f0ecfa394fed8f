"""What does not fit is said at compile or at the start of fit, with what to do, never after an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastcnn.callbacks import Callback, EarlyStopping, ModelCheckpoint
from fastcnn.layers import Activation, Conv2D, Dense, Flatten, Input
from fastcnn.models import Sequential
from fastcnn.preprocessing.image import ImageDataGenerator
from fastcnn.utils import PyDataset

X = np.random.default_rng(0).uniform(0, 1, (8, 8, 8, 3)).astype(np.float32)
Y = np.eye(3, dtype=np.float32)[np.arange(8) % 3]


def net(loss: str = "categorical_crossentropy", units: int = 3) -> Sequential:
    model = Sequential([Input((8, 8, 3)), Conv2D(2, 3), Flatten(), Dense(units, activation="softmax")])
    model.compile("sgd", loss, metrics=["accuracy"])
    return model


class Counts(Callback):
    batches = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches += 1


def refused(message: str, model: Sequential, *data: Any, **arguments: Any) -> None:
    """Expect an error before the first step."""
    counts = Counts()
    callbacks = [counts, *arguments.pop("callbacks", ())]
    with pytest.raises(ValueError, match=message):
        model.fit(*data, verbose=0, callbacks=callbacks, **arguments)
    assert counts.batches == 0
    assert model.optimizer.iterations == 0


def folder(path: Path, classes: int, size: int = 8) -> Path:
    for name in range(classes):
        (path / str(name)).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(np.full((size, size, 3), 40 * i, np.uint8)).save(path / str(name) / f"{i}.png")
    return path


def test_a_monitor_that_no_log_has(tmp_path: Path) -> None:
    for callback in (EarlyStopping("val_auc"), ModelCheckpoint(tmp_path / "m.h5", "val_auc", save_best_only=True)):
        refused(
            "no log is named 'val_auc'; there are accuracy, loss, val_accuracy, val_loss; compile writes a log for "
            r"each of its metrics, such as metrics=\['auc'\]",
            net(), X, Y, validation_data=(X, Y), callbacks=[callback],
        )  # fmt: skip
    refused(
        "there are accuracy, loss; fit writes val_ logs when it is given validation_data or validation_split",
        net(), X, Y, callbacks=[EarlyStopping("val_accuracy")],
    )  # fmt: skip


def test_a_generator_with_another_number_of_classes(tmp_path: Path) -> None:
    flow = ImageDataGenerator().flow_from_directory(folder(tmp_path, 2), target_size=(8, 8))
    advice = "the data have 2 classes, the model has 3 outputs; give its last layer as many units as there are classes"
    refused(f"fit: y: {advice}", net(), flow)
    refused(f"fit: validation_data: y: {advice}", net(), X, Y, validation_data=flow)


def test_pictures_of_another_size(tmp_path: Path) -> None:
    flow = ImageDataGenerator().flow_from_directory(folder(tmp_path, 3), target_size=(9, 8))
    message = r"gives pictures of \[9, 8, 3\] but the model takes \[8, 8, 3\]; change target_size"
    refused(f"fit: validation_data: {message}", net(), X, Y, validation_data=flow)
    refused(r"fit: x must be \[N, 8, 8, 3\]", net(), flow)


def labels(kind: str, y: Any) -> Any:
    class Parts(PyDataset):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Any:
            return X[:4], y[:4]

    def generator() -> Iterator[Any]:
        while True:
            yield X[:4], y[:4]

    if kind == "flow":
        return ImageDataGenerator().flow(X, y)
    return Parts() if kind == "parts" else generator()


@pytest.mark.parametrize("kind", ["flow", "parts", "generator"])
@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        ("categorical_crossentropy", np.arange(8) % 3, "class numbers need sparse_categorical_crossentropy"),
        ("categorical_crossentropy", Y[:, :2], r"must be one-hot of shape \[N, 3\]"),
        ("sparse_categorical_crossentropy", Y, "one-hot labels need categorical_crossentropy"),
        ("sparse_categorical_crossentropy", np.arange(8) % 3 + 1, r"whole numbers in 0\.\.2"),
    ],
)
def test_labels_that_do_not_fit_the_loss(kind: str, loss: str, y: Any, message: str) -> None:
    steps = {"steps_per_epoch": 2} if kind == "generator" else {}
    refused(message, net(loss), labels(kind, y), **steps)
    right = (X, Y if loss == "categorical_crossentropy" else np.arange(8) % 3)
    steps = {"validation_steps": 2} if kind == "generator" else {}
    refused(f"fit: validation_data.*{message}", net(loss), *right, validation_data=labels(kind, y), **steps)


def test_the_batch_that_was_looked_at_is_not_lost() -> None:
    seen: list[int] = []

    def generator() -> Iterator[Any]:
        for i in range(6):
            seen.append(i)
            yield X[i : i + 1], Y[i : i + 1]

    model = net()
    history = model.fit(X, Y, epochs=2, verbose=0, validation_data=generator(), validation_steps=3)
    assert len(history.history["val_loss"]) == 2
    assert seen == list(range(6))
    refused("fit: validation_data: holds no batches", net(), X, Y, validation_data=iter(()), validation_steps=1)
    refused("y is missing", net(), X, Y, validation_data=iter([X]), validation_steps=1)


def test_an_unknown_activation() -> None:
    for make in (lambda: Dense(3, activation="swisch"), lambda: Activation("swisch")):
        with pytest.raises(ValueError, match=r"activation must be None or one of linear, relu, .*got 'swisch'"):
            make()
