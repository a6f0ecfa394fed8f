"""`fastcnn demo`: draw pictures, train the seed's ResNet50 on them, and show what it learned."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn import data, plots
from fastcnn.callbacks import History, LearningRateScheduler
from fastcnn.cli import patterns
from fastcnn.cli.architectures import SEED, build_for_training
from fastcnn.cli.arguments import whole
from fastcnn.cli.history import NO_CURVES, write_history
from fastcnn.cli.train import check_space, json_lines
from fastcnn.formats.atomic import check_writable
from fastcnn.layers import Dense, Flatten, Input, Rescaling
from fastcnn.models import Model, Sequential
from fastcnn.optimizers import Adam
from fastcnn.utils import save_img, set_random_seed

HELP = "draw six kinds of pictures, train a ResNet50 on them and show what it learned (a few minutes on two cores)"

_TRAINING, _TEST = 200, 50  # pictures of each class
_BATCH = 16
_LEARNING_RATE = 0.0005
_LINEAR_EPOCHS = 10
_SHEET = 48  # pictures on the contact sheet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--out", default="demo", metavar="DIR", help="folder for everything the demo makes (default demo)"
    )
    parser.add_argument("--epochs", type=whole(1), default=8, metavar="N", help="default 8")
    parser.add_argument(
        "--seed", type=whole(0), default=0, metavar="N", help="of pictures, weights and order (default 0)"
    )


def run(options: argparse.Namespace) -> int:
    """Run the demo; return the exit code."""
    began = time.perf_counter()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    model_path = out / "model.safetensors"
    check_writable(model_path)
    set_random_seed(options.seed)

    def say(text: str) -> None:
        if not options.json:
            print(text, flush=True)

    say(f"Drawing {len(patterns.CLASSES)} x {_TRAINING + _TEST} pictures in {out / 'data'} and {out / 'test'}")
    _draw(out / "data", range(_TRAINING), options.seed)
    _draw(out / "test", range(_TRAINING, _TRAINING + _TEST), options.seed)
    training, test = (_read(out / name, options.seed) for name in ("data", "test"))

    linear = Sequential([Input(training.image_shape), Rescaling(1 / 127.5, offset=-1), Flatten(), _classifier()])
    _compile(linear)
    _fit(linear, training, None, _LINEAR_EPOCHS, verbose=0)
    linear_accuracy = _accuracy(linear, test)
    say(
        f"A linear model on the pixels classifies {linear_accuracy:.1%} of the test pictures "
        f"(guessing: {1 / len(patterns.CLASSES):.1%})"
    )

    model = build_for_training(SEED, patterns.SIZE, len(patterns.CLASSES))
    model.class_names = training.class_names
    _compile(model)
    check_space(model_path, model)
    say(f"Training ResNet50, {model.count_params():,} parameters, on {len(training.file_paths)} pictures")
    callbacks = [json_lines()] if options.json else []
    history = _fit(model, training, test, options.epochs, verbose=0 if options.json else "auto", callbacks=callbacks)
    accuracy = _accuracy(model, test)
    model.save(model_path)
    curves = out / "curves.png"
    _sheet(model, test, out / "predictions.png")
    made = [model_path, out / "predictions.png", *write_history(history, out / "history.csv", curves)]
    if curves not in made:
        say(NO_CURVES)
    seconds = time.perf_counter() - began
    if options.json:
        result = {"linear_accuracy": linear_accuracy, "test_accuracy": accuracy, "seconds": round(seconds, 1)}
        print(json.dumps(result | {"files": [str(path) for path in made]}))
    say(f"The ResNet50 classifies {accuracy:.1%} of the test pictures; all of this took {seconds:.0f} s")
    say(f"Look at {', '.join(map(str, made[1:]))}; try")
    pictures = shlex.quote(str(out / "test" / patterns.CLASSES[0]))
    say(f"  {_program()} predict {shlex.quote(str(model_path))} {pictures}/*.png")
    return 0


def _program() -> str:
    """Return what a shell finds this program by: in an environment that is not active only its path."""
    if shutil.which("fastcnn"):
        return "fastcnn"
    called = Path(sys.argv[0])
    return shlex.quote(str(called)) if called.name == "fastcnn" else f"{shlex.quote(sys.executable)} -m fastcnn"


def _draw(folder: Path, indices: range, seed: int) -> None:
    for name in patterns.CLASSES:
        os.makedirs(folder / name, exist_ok=True)
        for index in indices:
            save_img(folder / name / f"{index:03}.png", patterns.draw(name, index, seed), scale=False)


def _read(folder: Path, seed: int) -> data.ImageDataset:
    dataset: data.ImageDataset = data.image_dataset_from_directory(
        folder,
        class_names=patterns.CLASSES,
        image_size=patterns.SIZE,
        batch_size=_BATCH,
        seed=seed,
        verbose=False,
    )
    return dataset


def _classifier() -> Dense:
    return Dense(len(patterns.CLASSES), activation="softmax")


def _compile(model: Model) -> None:
    model.compile(optimizer=Adam(_LEARNING_RATE), loss="sparse_categorical_crossentropy", metrics=["accuracy"])


def _fit(
    model: Model, training: data.ImageDataset, test: data.ImageDataset | None, epochs: int, **options: Any
) -> History:
    """Train with a learning rate that falls linearly from epoch to epoch, which settles the weights at the end."""

    def slow_down(epoch: int) -> float:
        return _LEARNING_RATE * (1 - epoch / epochs)

    callbacks = [LearningRateScheduler(slow_down), *options.pop("callbacks", [])]
    return model.fit(training, validation_data=test, epochs=epochs, callbacks=callbacks, **options)


def _accuracy(model: Model, test: data.ImageDataset) -> float:
    return float(model.evaluate(test, verbose=0, return_dict=True)["accuracy"])


def _sheet(model: Model, test: data.ImageDataset, path: Path) -> None:
    """Draw test pictures of all classes with what the model takes them for, in green or red."""
    step = max(1, len(test.file_paths) // _SHEET)
    pictures = np.empty((len(test.file_paths[::step]), *test.image_shape), np.float32)
    for x, file in zip(pictures, test.file_paths[::step], strict=True):
        test.options.read_into(file, x)
    scores: NDArray[np.float32] = model.predict(pictures, verbose=0)
    guesses = [patterns.CLASSES[i] for i in scores.argmax(axis=1)]
    truth = [os.path.basename(os.path.dirname(file)) for file in test.file_paths[::step]]
    captions = [f"{guess} {score:.0%}" for guess, score in zip(guesses, scores.max(axis=1), strict=True)]
    good = [guess == name for guess, name in zip(guesses, truth, strict=True)]
    plots.contact_sheet(pictures, captions, path, good=good)
