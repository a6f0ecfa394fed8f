"""The most accurate network for Fashion-MNIST that a quarter of an hour on two cores gives.

    apt-get install dataset-fashion-mnist
    python examples/fashion_mnist_recipe.py --out recipe

A residual network of eight wide convolutions, after D. Page's for CIFAR-10 (DAWNBench 2018): wide layers of small maps
keep a CPU busier than the narrow ones of CIFAR ResNets. Flips; SGD with Nesterov's momentum; a rate that rises for a
sixth of the time and falls by a cosine; a moving average of the weights. How many epochs fit into the time is measured
first. Recipes were compared on the last 5,000 training pictures (--validate).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from fashion_mnist import CLASSES, SOURCE, read_idx
from numpy.typing import NDArray

from fastcnn import layers, metrics, optimizers, plots, set_random_seed
from fastcnn.callbacks import Callback
from fastcnn.models import Model

BATCH = 128
PEAK_RATE, LAST_RATE = 0.05, 0.0005
MOMENTUM, WEIGHT_DECAY, AVERAGE = 0.9, 5e-4, 0.98
WARMUP = 1 / 6  # of the steps
SHARE = 0.9  # of the time that is planned


def build(width: int) -> Model:
    """Return the network for pictures [28,28,1] of 0..255."""

    def convolution(x: Any, filters: int) -> Any:
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x))

    def stage(x: Any, filters: int, residual: bool) -> Any:
        x = layers.MaxPooling2D()(convolution(x, filters))
        return layers.Add()([x, convolution(convolution(x, filters), filters)]) if residual else x

    inputs = layers.Input((28, 28, 1))
    x = layers.RandomFlip("horizontal")(inputs)
    x = convolution(layers.Rescaling(1 / 90, offset=-0.81)(x), width)  # mean 0, variance 1
    for times, residual in ((2, True), (4, True), (8, True)):
        x = stage(x, times * width, residual)
    x = layers.GlobalMaxPooling2D()(x)
    model = Model(inputs, layers.Dense(len(CLASSES), activation="softmax")(x))
    model.class_names = list(CLASSES)
    return model


def compile_model(model: Model, steps: int) -> None:
    """Compile for that many steps."""
    warmup = round(WARMUP * steps)
    rate = optimizers.schedules.CosineDecay(
        0.0, steps - warmup, alpha=LAST_RATE / PEAK_RATE, warmup_target=PEAK_RATE, warmup_steps=warmup
    )
    optimizer = optimizers.SGD(
        rate, momentum=MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY, use_ema=True, ema_momentum=AVERAGE
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])


def seconds_per_step(width: int, x: NDArray[Any], y: NDArray[Any], steps: int = 12) -> float:
    """Measure training steps on a network that is thrown away; the first two are not counted."""
    model = build(width)
    compile_model(model, 100)
    ends = []
    for _ in range(steps + 2):
        model.train_on_batch(x[:BATCH], y[:BATCH])
        ends.append(time.perf_counter())
    return (ends[-1] - ends[1]) / steps


class TimeLimit(Callback):
    """Ends training in time, also where the machine became slower than it was when measured."""

    def __init__(self, seconds: float) -> None:
        self.end = time.perf_counter() + seconds

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if time.perf_counter() > self.end:
            print("The time is over")
            self.model.stop_training = True


def read(source: Path, prefix: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return pictures [N,28,28,1] and labels."""
    x = read_idx(source / f"{prefix}-images-idx3-ubyte.gz")
    y = read_idx(source / f"{prefix}-labels-idx1-ubyte.gz").astype(np.int64)
    return x[..., None], y


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=SOURCE, help="folder of the four .gz files")
    parser.add_argument("--out", type=Path, required=True, help="gets the model, its history and pictures of both")
    parser.add_argument("--minutes", type=float, default=15.0, help="of training")
    parser.add_argument("--epochs", type=int, help="as many as fit into the time, if not given")
    parser.add_argument("--width", type=int, default=24, help="channels of the first convolution")
    parser.add_argument("--validate", action="store_true", help="keep the last 5,000 training pictures for validation")
    options: Any = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    x, y = read(options.source, "train")
    validation = None
    if options.validate:
        x, y, validation = x[:-5000], y[:-5000], (x[-5000:], y[-5000:])
    set_random_seed(0)
    steps = -(-len(x) // BATCH)
    epochs = options.epochs
    if epochs is None:
        step = seconds_per_step(options.width, x, y)
        epochs = max(1, int(SHARE * 60 * options.minutes / (steps * step)))
        print(f"{1000 * step:.0f} ms a step of {BATCH} pictures: {epochs} epochs fit into {options.minutes:g} minutes")
    model = build(options.width)
    compile_model(model, epochs * steps)
    print(f"{model.count_params():,} parameters", flush=True)
    began = time.perf_counter()
    history = model.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=epochs,
        validation_data=validation,
        verbose=2,
        callbacks=[TimeLimit(60 * options.minutes)],
    )
    seconds = time.perf_counter() - began
    model.save(options.out / "model.safetensors")
    history.to_csv(options.out / "history.csv")
    plots.history(history, options.out / "curves.png")
    test_x, test_y = read(options.source, "t10k")
    scores = model.predict(test_x, verbose=0)
    matrix = metrics.confusion_matrix(test_y, scores.argmax(axis=1), len(CLASSES))
    plots.confusion_matrix(matrix, CLASSES, options.out / "confusion.png")
    both = scores + model.predict(test_x[:, :, ::-1], verbose=0)
    alone, averaged = (float(np.mean(found.argmax(axis=1) == test_y)) for found in (scores, both))
    print(f"trained {seconds:.0f} s; test accuracy {alone:.4f}, averaged with the mirrored pictures {averaged:.4f}")


if __name__ == "__main__":
    main()
