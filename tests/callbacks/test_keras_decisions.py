"""What callbacks decide on recorded curves, against what Keras' own decided (bench/peers/keras_callbacks.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastcnn.callbacks import Callback, CSVLogger, EarlyStopping, ModelCheckpoint, ReduceLROnPlateau
from fastcnn.optimizers import SGD

RECORDED = json.loads((Path(__file__).parents[1] / "vectors" / "keras_callbacks.json").read_text())


class Fake:
    """What the callbacks use of a model; its weights are the number of the epoch."""

    def __init__(self) -> None:
        self.optimizer = SGD(0.5)
        self.stop_training = False
        self.epoch = -1
        self.saved: list[str] = []

    def get_weights(self) -> list[int]:
        return [self.epoch]

    def set_weights(self, weights: list[int]) -> None:
        self.epoch = weights[0]

    def save(self, path: str) -> None:
        self.saved.append(Path(path).name.removesuffix(".safetensors"))


def given(callback: Callback) -> Fake:
    model = Fake()
    callback.set_model(model)  # type: ignore[arg-type]
    callback.set_params({})
    callback.on_train_begin()
    return model


def recorded(name: str) -> list[Any]:
    cases = RECORDED[name]
    return [pytest.param(case, id=str(i)) for i, case in enumerate(cases)]


@pytest.mark.parametrize("case", recorded("EarlyStopping"))
def test_early_stopping(case: dict[str, Any]) -> None:
    callback = EarlyStopping(monitor="m", **case["options"])
    model = given(callback)
    stopped = None
    for epoch, value in enumerate(case["curve"]):
        model.epoch = epoch
        callback.on_epoch_end(epoch, {"m": value})
        if model.stop_training:
            stopped = epoch
            break
    callback.on_train_end()
    assert {"stopped": stopped, "wait": callback.wait, "weights": model.epoch} == case["keras"]


@pytest.mark.parametrize("case", recorded("ReduceLROnPlateau"))
def test_reduce_lr_on_plateau(case: dict[str, Any]) -> None:
    callback = ReduceLROnPlateau(monitor="m", **case["options"])
    model = given(callback)
    rates = []
    for epoch, value in enumerate(case["curve"]):
        logs = {"m": value}
        callback.on_epoch_end(epoch, logs)
        rates.append([logs["learning_rate"], model.optimizer.learning_rate])
    assert rates == case["keras"]["rates"]


@pytest.mark.parametrize("case", recorded("ModelCheckpoint"))
def test_model_checkpoint(case: dict[str, Any], tmp_path: Path) -> None:
    callback = ModelCheckpoint(tmp_path / "{epoch:02d}-{m:.3f}.safetensors", monitor="m", **case["options"])
    model = given(callback)
    for epoch, value in enumerate(case["curve"]):
        callback.on_epoch_begin(epoch)
        for batch in range(4):
            callback.on_train_batch_end(batch, {"m": value})
        callback.on_epoch_end(epoch, {"m": value})
    assert model.saved == case["keras"]["saved"]


@pytest.mark.parametrize("case", recorded("CSVLogger"))
def test_csv_logger(case: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    append = case["append"]
    path.write_text("epoch,acc,loss\n0,1,2\n" if append else "old\n")
    callback = CSVLogger(path, separator="," if append else ";", append=append)
    given(callback)
    callback.on_epoch_end(0, {"loss": 0.5, "acc": 0.25, "val_loss": 1.5})
    callback.on_epoch_end(1, {"loss": 0.25, "acc": 0.125})
    callback.on_train_end()
    assert path.read_bytes().decode() == case["keras"]
