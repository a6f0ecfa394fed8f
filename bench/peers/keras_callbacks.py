"""Make tests/vectors/keras_callbacks.json: what Keras' callbacks decide on curves of a monitored value.

    KERAS_BACKEND=numpy python bench/peers/keras_callbacks.py     # keras 3.15.1, scipy, jax

The values are multiples of 1/64, so that ties are ties in any precision. A case holds the curve, the arguments and what
Keras did after each epoch.
"""

from __future__ import annotations

import itertools
import json
import random
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from keras import callbacks

OUT = Path(__file__).parents[2] / "tests" / "vectors" / "keras_callbacks.json"
EPOCHS = 14


class Optimizer:
    learning_rate = 0.5


def model() -> Any:
    weights = {"epoch": -1}
    made = SimpleNamespace(
        optimizer=Optimizer(),
        stop_training=False,
        metrics=[],
        saved=[],
        weights=weights,
        get_weights=lambda: dict(weights),
    )
    made.set_weights = lambda given: weights.update(given)
    made.save = lambda path, overwrite=True: made.saved.append(Path(path).name)
    return made


def curves() -> list[list[float]]:
    draw = random.Random(7)
    falling = [[max(0, 60 - 4 * i + draw.randint(-6, 6)) / 64 for i in range(EPOCHS)] for _ in range(4)]
    flat = [[draw.choice((30, 31, 32)) / 64 for _ in range(EPOCHS)] for _ in range(3)]
    turning = [[abs(i - 5) * 5 / 64 + draw.randint(0, 2) / 64 for i in range(EPOCHS)] for _ in range(2)]
    return falling + flat + turning + [[float("nan")] * 3 + [0.5] * (EPOCHS - 3)]


def early_stopping(curve: list[float], options: dict[str, Any]) -> dict[str, Any]:
    own = model()
    callback = callbacks.EarlyStopping(monitor="m", **options)
    callback.set_model(own)
    callback.on_train_begin()
    for epoch, value in enumerate(curve):
        own.weights["epoch"] = epoch
        callback.on_epoch_end(epoch, {"m": value})
        if own.stop_training:
            break
    callback.on_train_end()
    return {"stopped": epoch if own.stop_training else None, "wait": callback.wait, "weights": own.weights["epoch"]}


def plateau(curve: list[float], options: dict[str, Any]) -> dict[str, Any]:
    own = model()
    callback = callbacks.ReduceLROnPlateau(monitor="m", **options)
    callback.set_model(own)
    callback.on_train_begin()
    rates = []
    for epoch, value in enumerate(curve):
        logs = {"m": value}
        callback.on_epoch_end(epoch, logs)
        rates.append([logs["learning_rate"], own.optimizer.learning_rate])
    return {"rates": rates}


def checkpoint(curve: list[float], options: dict[str, Any]) -> dict[str, Any]:
    own = model()
    callback = callbacks.ModelCheckpoint("{epoch:02d}-{m:.3f}.keras", monitor="m", **options)
    callback.set_model(own)
    callback.on_train_begin()
    callback._set_monitor_op()  # Keras does this at an epoch's end: too late for the first saves after batches
    for epoch, value in enumerate(curve):
        callback.on_epoch_begin(epoch)
        for batch in range(4):
            callback.on_train_batch_end(batch, {"m": value})
        callback.on_epoch_end(epoch, {"m": value})
    return {"saved": [name.removesuffix(".keras") for name in own.saved]}


def csv_logger(append: bool) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        path.write_text("epoch,acc,loss\n0,1,2\n" if append else "old\n")
        callback = callbacks.CSVLogger(path, separator=";" if not append else ",", append=append)
        callback.set_model(model())
        callback.on_train_begin()
        callback.on_epoch_end(0, {"loss": 0.5, "acc": 0.25, "val_loss": 1.5})
        callback.on_epoch_end(1, {"loss": 0.25, "acc": 0.125})
        callback.on_train_end()
        return path.read_bytes().decode()


def cases(function: Any, grid: dict[str, list[Any]]) -> list[dict[str, Any]]:
    found = []
    for i, values in enumerate(itertools.product(*grid.values())):
        options = dict(zip(grid, values, strict=True))
        curve = curves()[i % len(curves())]
        found.append({"curve": curve, "options": options, "keras": function(curve, options)})
    return found


def main() -> None:
    modes = {"mode": ["min", "max"]}
    made = {
        "EarlyStopping": cases(
            early_stopping,
            modes
            | {
                "patience": [0, 1, 3],
                "min_delta": [0, 1 / 32],
                "baseline": [None, 0.25, 0.75],
                "restore_best_weights": [False, True],
                "start_from_epoch": [0, 4],
            },
        ),
        "ReduceLROnPlateau": cases(
            plateau,
            modes
            | {
                "patience": [0, 1, 3],
                "factor": [0.5, 0.25],
                "min_delta": [0, 1 / 32],
                "cooldown": [0, 2],
                "min_lr": [0.0, 0.1],
            },
        ),
        "ModelCheckpoint": cases(
            checkpoint,
            modes
            | {
                "save_best_only": [False, True],
                "save_freq": ["epoch", 3, 4, 9],
                "initial_value_threshold": [None, 0.25, 0.75],
            },
        ),
        "CSVLogger": [{"append": append, "keras": csv_logger(append)} for append in (False, True)],
    }
    OUT.write_text(json.dumps(made, separators=(",", ":")) + "\n")
    print({name: len(found) for name, found in made.items()}, OUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
