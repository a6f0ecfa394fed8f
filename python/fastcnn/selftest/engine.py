"""What is made of the kernels: training, files, pictures. A check returns what it saw and raises for what is wrong."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastcnn import config, layers
from fastcnn.data.dataset import PictureOptions
from fastcnn.data.prefetch import usable_cpus
from fastcnn.formats import ModelFileError
from fastcnn.initializers import HeNormal
from fastcnn.models import Model, load_model
from fastcnn.optimizers import Adam
from fastcnn.random import generator
from fastcnn.utils import save_img

STEPS = 5
MOST_THREADS = 4
AGREEMENT = 1e-3  # of losses and probabilities between instruction sets after those steps


def network() -> Model:
    """Return a small network with every kind of layer that VGG and ResNet have, its weights the same each time."""
    inputs = layers.Input((24, 24, 3))
    x = layers.Conv2D(16, 7, strides=2, padding="same", use_bias=False, kernel_initializer=HeNormal(seed=1))(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.MaxPooling2D(2)(x)
    y = layers.Conv2D(16, 3, padding="same", use_bias=False, kernel_initializer=HeNormal(seed=2))(x)
    x = layers.ReLU()(layers.Add()([layers.BatchNormalization()(y), x]))
    x = layers.Conv2D(24, 1, activation="relu", kernel_initializer=HeNormal(seed=3))(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = Model(inputs, layers.Dense(4, activation="softmax", kernel_initializer=HeNormal(seed=4))(x))
    model.compile(optimizer=Adam(0.01), loss="sparse_categorical_crossentropy")
    return model


def batch() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return pictures and their classes."""
    x: NDArray[np.float32] = generator("selftest").uniform(-1, 1, (16, 24, 24, 3)).astype(np.float32)
    return x, np.arange(16) % 4


def train() -> tuple[Model, list[float]]:
    """Return a network after some steps, and its losses."""
    model = network()
    x, y = batch()
    return model, [float(model.train_on_batch(x, y)) for _ in range(STEPS)]


def threads() -> str:
    """Train with every number of threads up to the processors, four at most, two at least."""
    most = max(2, min(MOST_THREADS, usable_cpus()))
    bits: set[bytes] = set()
    losses: list[float] = []
    for count in range(1, most + 1):
        with config.threads(count):
            model, losses = train()
        bits.add(b"".join(array.tobytes() for array in (np.array(losses), *model.get_weights())))
    if len(bits) > 1:
        raise ArithmeticError(f"1 to {most} threads give {len(bits)} different results")
    if not losses[-1] < losses[0]:
        raise ArithmeticError(f"the loss does not fall: {losses}")
    return f"1 to {most} threads, loss {losses[0]:.3f} to {losses[-1]:.3f}"


def instruction_sets_agree() -> str:
    """Train on each instruction set, those for tests too, from the same weights: only rounding may differ."""
    x, _ = batch()
    before = config.isa()
    results = {}
    try:
        for isa in config.isas():
            config.set_isa(isa)
            model, losses = train()
            results[isa] = np.concatenate([losses, model.predict_on_batch(x).ravel()])
    finally:
        config.set_isa(before)
    first = next(iter(results.values()))
    worst = max(float(np.abs(result - first).max()) for result in results.values())
    if not worst < AGREEMENT:
        raise ArithmeticError(f"{', '.join(results)} differ by {worst:.2g}, {AGREEMENT:g} is allowed")
    return f"{', '.join(results)} differ by {worst:.2g}"


def saved_model_goes_on() -> str:
    """Save and load a model in training: it must predict and train on with the same bits."""
    x, y = batch()
    model, _ = train()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.safetensors")
        model.save(path)
        size = os.path.getsize(path)
        loaded = load_model(path)
    if loaded.predict_on_batch(x).tobytes() != model.predict_on_batch(x).tobytes():
        raise ArithmeticError("the loaded model predicts something else")
    for trained in (model, loaded):
        trained.train_on_batch(x, y)
    if any(a.tobytes() != b.tobytes() for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True)):
        raise ArithmeticError("the loaded model trains on differently")
    return f"{size:,} bytes, equal predictions and equal training afterwards"


def damaged_files_are_refused() -> str:
    """Flip one bit of a model file, and cut it: neither may be loaded."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.safetensors")
        network().save(path)
        with open(path, "rb") as file:
            whole = bytearray(file.read())
        flipped = bytearray(whole)
        flipped[-len(whole) // 4] ^= 1  # in a weight, where no header tells
        for kind, damaged in (("with one bit flipped", flipped), ("cut short", whole[:-1])):
            with open(path, "wb") as file:
                file.write(damaged)
            try:
                load_model(path)
            except ModelFileError:
                continue
            raise ValueError(f"a file {kind} was loaded")
    return "one bit flipped, and cut short"


def pictures_survive() -> str:
    """Write a picture as PNG and read it back."""
    x: NDArray[np.uint8] = generator("selftest", "picture").integers(0, 256, (9, 12, 3), np.uint8)
    y = np.empty(x.shape, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "picture.png")
        save_img(path, x, scale=False)
        PictureOptions(image_size=(9, 12)).read_into(path, y)
    if not np.array_equal(x, y):
        raise ArithmeticError("the pixels are not those that were written")
    return "PNG, equal pixels"


CHECKS: dict[str, Callable[[], str]] = {
    "training, alike on all instruction sets": instruction_sets_agree,
    "a saved model opens and trains on with the same bits": saved_model_goes_on,
    "a damaged file is refused": damaged_files_are_refused,
    "a picture written and read": pictures_survive,
}
