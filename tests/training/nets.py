"""Two small networks, data for them, and what is compared."""

from __future__ import annotations

import numpy as np

from fastcnn.layers import (
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    MaxPooling2D,
    ReLU,
)
from fastcnn.models import Model, Sequential
from fastcnn.optimizers import SGD
from fastcnn.utils import set_random_seed

CLASSES = 3


def plain(seed: int = 1, activation: str | None = "softmax") -> Sequential:
    set_random_seed(seed)
    return Sequential(
        [
            Input((6, 6, 2)),
            Conv2D(4, 3, activation="relu", name="conv"),
            MaxPooling2D(),
            Flatten(),
            Dense(CLASSES, activation=activation, name="head"),
        ]
    )


def residual(seed: int = 1) -> Model:
    set_random_seed(seed)
    inputs = Input((6, 6, 2))
    x = ReLU()(BatchNormalization(name="bn1", momentum=0.9)(Conv2D(8, 3, padding="same", name="conv1")(inputs)))
    y = BatchNormalization(name="bn2", momentum=0.5)(Conv2D(8, 3, padding="same", name="conv2")(x))
    x = GlobalAveragePooling2D()(ReLU()(Add()([x, y])))
    return Model(inputs, Dense(CLASSES, activation="softmax", name="head")(x))


def some_data(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, 6, 6, 2)).astype(np.float32), rng.integers(0, CLASSES, count)


def compiled(model: Model, optimizer=None, metrics=("accuracy",)) -> Model:
    model.compile(optimizer or SGD(0.1), "sparse_categorical_crossentropy", metrics=list(metrics))
    return model


def losses_of(model: Model, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    p = np.clip(model.predict(x).astype(np.float64), 1e-7, 1 - 1e-7)
    return -np.log(p[np.arange(len(y)), y])


def bits(model: Model) -> bytes:
    return b"".join(w.tobytes() for w in model.get_weights())
