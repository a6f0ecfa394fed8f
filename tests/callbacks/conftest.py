from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastcnn import optimizers
from fastcnn.callbacks import Callback
from fastcnn.layers import (
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    GlobalAveragePooling2D,
    Input,
    RandomFlip,
    ReLU,
)
from fastcnn.models import Model
from fastcnn.utils import set_random_seed

Data = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


@pytest.fixture
def data() -> Data:
    """46 samples of 3 classes: five batches of 8 and one of 6."""
    rng = np.random.default_rng(5)
    return rng.random((46, 6, 6, 1), np.float32), rng.integers(0, 3, 46)


@pytest.fixture
def build() -> Callable[..., Model]:
    """A function that makes the same compiled model each time, with layers of all kinds that hold state."""

    def make(optimizer: optimizers.Optimizer | None = None, seed: int = 3, metrics: Any = ("accuracy",)) -> Model:
        set_random_seed(seed)
        inputs = Input((6, 6, 1), name="pictures")
        x = Conv2D(4, 3, padding="same", name="conv")(RandomFlip(seed=seed, name="flip")(inputs))
        x = ReLU(name="relu")(BatchNormalization(name="bn", momentum=0.9)(x))
        x = GlobalAveragePooling2D(name="mean")(Dropout(0.3, name="drop")(x))
        model = Model(inputs, Dense(3, activation="softmax", name="head")(x), name="net")
        model.compile(optimizer or optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=list(metrics))
        return model

    return make


class Stop(Callback):
    """Raises an error after that many batches of the run."""

    adds = ()

    def __init__(self, after: int, error: type[BaseException]) -> None:
        self.left, self.error = after, error

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error


@pytest.fixture
def crash() -> Callable[[int], Stop]:
    """A function that makes a callback which ends the run after some batches, with an error that nobody handles."""
    return lambda after: Stop(after, ZeroDivisionError)


@pytest.fixture
def ctrl_c() -> Callable[[int], Stop]:
    """The same with what Ctrl-C raises."""
    return lambda after: Stop(after, KeyboardInterrupt)
