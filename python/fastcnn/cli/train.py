"""`fastcnn train`: a classifier from a folder with one folder of pictures per class, or from a CSV list."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn import data, optimizers
from fastcnn.callbacks import Callback, LambdaCallback, Logs
from fastcnn.cli.architectures import NAMES, build_for_training
from fastcnn.cli.arguments import fraction, model_file, positive, whole
from fastcnn.cli.history import NO_CURVES, write_history
from fastcnn.formats.atomic import check_writable
from fastcnn.models import Model
from fastcnn.report import memory_size
from fastcnn.utils import set_random_seed

HELP = "train a classifier on a folder with one folder of pictures per class, or on a CSV list of path,label"

_MOMENTUM = 0.9  # of SGD
_SAVED_ARRAYS = {"adam": 3, "sgd": 2}  # per weight: itself and the optimizer's slots
_FLOAT_BYTES = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("data", metavar="DATA", help="the folder of class folders, or LIST.csv with lines path,label")
    parser.add_argument("--model", choices=NAMES, default="resnet18", help="default resnet18")
    parser.add_argument("--image-size", type=whole(1), default=64, metavar="N", help="pixels (default 64)")
    parser.add_argument("--epochs", type=whole(1), default=10, metavar="N", help="default 10")
    parser.add_argument("--batch-size", type=whole(1), default=32, metavar="N", help="pictures per step (default 32)")
    parser.add_argument(
        "--val-split", type=fraction, default=0.2, metavar="F", help="share set apart for validation (default 0.2)"
    )
    parser.add_argument("--test", metavar="DATA", help="such data with the same classes to evaluate at the end")
    parser.add_argument("--optimizer", choices=tuple(_SAVED_ARRAYS), default="adam", help="default adam")
    parser.add_argument("--learning-rate", type=positive, default=0.001, metavar="RATE", help="default 0.001")
    parser.add_argument(
        "--schedule",
        choices=("cosine", "constant"),
        default="cosine",
        help="of the learning rate: falling to 0 at the end (Loshchilov and Hutter 2017), or constant (default cosine)",
    )
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N", help="of weights and order (default 0)")
    parser.add_argument(
        "--out",
        type=model_file,
        default="model.safetensors",
        metavar="FILE",
        help="default model.safetensors; FILE's stem names the history and its curves too",
    )


def run(options: argparse.Namespace) -> int:
    """Train, report and save; return the exit code."""
    set_random_seed(options.seed)
    training, validation = _read(options)
    names = training.class_names
    counts = {name: int(np.count_nonzero(training.labels == i)) for i, name in enumerate(names)}
    _check_classes(options.data, counts)
    test = None if options.test is None else _open(options, options.test, class_names=names)
    model = build_for_training(options.model, options.image_size, len(names))
    check_space(options.out, model, options.optimizer)
    model.class_names = names
    held_out = 0 if validation is None else len(validation.file_paths)
    if not options.json:
        print(f"{len(training.file_paths)} pictures for training, {held_out} for validation, {len(names)} classes:")
        print("  " + ", ".join(f"{name} {count}" for name, count in counts.items()))
        print(
            f"{options.model}, {model.count_params():,} parameters, for pictures of "
            f"{options.image_size} x {options.image_size} pixels"
        )
    rate = options.learning_rate
    if options.schedule == "cosine":
        rate = optimizers.schedules.CosineDecay(rate, options.epochs * len(training))
    optimizer = optimizers.Adam(rate) if options.optimizer == "adam" else optimizers.SGD(rate, momentum=_MOMENTUM)
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    began = time.perf_counter()
    history = model.fit(
        training,
        validation_data=validation,
        epochs=options.epochs,
        verbose=0 if options.json else "auto",
        callbacks=[json_lines()] if options.json else None,
    )
    result: dict[str, Any] = {"model": options.out, "seconds": round(time.perf_counter() - began, 1)}
    if test is not None:
        result |= {f"test_{name}": value for name, value in model.evaluate(test, verbose=0, return_dict=True).items()}
    model.save(options.out)
    stem = os.path.splitext(options.out)[0]
    curves = Path(f"{stem}.curves.png")
    made = write_history(history, Path(f"{stem}.history.csv"), curves)
    if options.json:
        print(json.dumps(result | {"classes": counts, "files": [options.out, *map(str, made)]}))
        return 0
    if test is not None:
        print(f"test: accuracy {result['test_accuracy']:.4f}, loss {result['test_loss']:.4f}")
    print(f"saved {options.out} ({memory_size(os.path.getsize(options.out))}), {', '.join(map(str, made))}")
    if curves not in made:
        print(NO_CURVES)
    return 0


def check_space(path: str | os.PathLike[str], model: Model, optimizer: str) -> None:
    """Raise OSError unless the trained model with its optimizer's slots could be saved there."""
    check_writable(path, _FLOAT_BYTES * _SAVED_ARRAYS[optimizer] * model.count_params())


def json_lines() -> Callback:
    """Return a callback that prints one JSON object per epoch."""

    def show(epoch: int, logs: Logs | None) -> None:
        print(json.dumps({"epoch": epoch + 1} | (logs or {})), flush=True)

    return LambdaCallback(on_epoch_end=show)


def _check_classes(where: str, counts: Mapping[str, int]) -> None:
    """Raise ValueError for data that cannot make a classifier."""
    if len(counts) < 2:
        raise ValueError(f"{where}: a classifier needs at least two classes, found only {next(iter(counts))!r}")
    missing = [name for name, count in counts.items() if count == 0]
    if missing:
        raise ValueError(
            f"{where}: no picture of {missing[0]!r} is left for training; give it more pictures, or change --val-split "
            "or --seed"
        )


def _read(options: argparse.Namespace) -> tuple[data.ImageDataset, data.ImageDataset | None]:
    """Return the pictures for training and validation, the latter None with `--val-split 0`."""
    if options.val_split == 0:
        return _open(options, options.data), None
    both: tuple[data.ImageDataset, data.ImageDataset] = _open(
        options, options.data, validation_split=options.val_split, subset="both"
    )
    return both


def _open(options: argparse.Namespace, path: str, **arguments: Any) -> Any:
    is_list = path.lower().endswith(".csv") and not os.path.isdir(path)
    return (data.image_dataset_from_csv if is_list else data.image_dataset_from_directory)(
        path,
        image_size=options.image_size,
        batch_size=options.batch_size,
        seed=options.seed,
        verbose=False,
        **arguments,
    )
