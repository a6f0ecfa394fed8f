"""Model.gradient_norms: the norms that training's gradients have, and that asking for them changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastcnn import optimizers, reference
from fastcnn.callbacks import LambdaCallback
from fastcnn.errors import NonFiniteError
from fastcnn.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, GlobalAveragePooling2D, Input, ReLU
from fastcnn.models import Model, Sequential
from fastcnn.utils import set_random_seed


def shared_norm() -> Model:
    """A model that calls one batch normalisation twice, which then changes its statistics as it computes."""
    set_random_seed(2)
    inputs = Input((6, 6, 2))
    norm = BatchNormalization(name="bn", momentum=0.5)
    x = norm(Conv2D(4, 3, padding="same", name="conv1")(inputs))
    x = Dropout(0.3, name="drop")(ReLU()(norm(Conv2D(4, 3, padding="same", name="conv2")(x))))
    return Model(inputs, Dense(3, activation="softmax", name="head")(GlobalAveragePooling2D()(x)))


def samples(size: int = 8) -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    return rng.standard_normal((size, 6, 6, 2)).astype(np.float32), rng.integers(0, 3, size)


def test_norms_against_float64() -> None:
    set_random_seed(1)
    model = Sequential([Input((6, 6, 2)), Flatten(), Dense(3, activation="softmax", name="head")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = samples()
    weights = np.linspace(0.5, 1.5, len(x))
    norms = model.gradient_norms(x, y, sample_weight=weights)
    w, b = (np.asarray(value, np.float64) for value in model.get_weights())
    flat = x.reshape(len(x), -1).astype(np.float64)
    p = reference.softmax_forward(flat @ w + b)
    dz = (p - np.eye(3)[y]) * weights[:, None] / len(x)
    assert norms == {
        "head/kernel": pytest.approx(np.linalg.norm(flat.T @ dz), rel=1e-6),
        "head/bias": pytest.approx(np.linalg.norm(dz.sum(axis=0)), rel=1e-6),
    }


def test_norms_are_those_that_sgd_steps_along() -> None:
    model = shared_norm()
    x, y = samples()
    model.compile(optimizers.SGD(1.0), "sparse_categorical_crossentropy")
    norms = model.gradient_norms(x, y)
    before = {w.path: w.numpy().astype(np.float64) for w in model.trainable_weights}
    model.train_on_batch(x, y)
    for weight in model.trainable_weights:
        step = np.linalg.norm(weight.numpy() - before[weight.path])
        # a bias in front of a batch normalisation has no gradient but rounding
        assert norms[weight.path] == pytest.approx(step, rel=1e-4, abs=1e-6), weight.path


def test_norms_against_finite_differences() -> None:
    set_random_seed(4)
    inputs = Input((5, 5, 2))
    x = ReLU()(BatchNormalization(name="bn")(Conv2D(3, 3, name="conv", kernel_regularizer="l2")(inputs)))
    model = Model(inputs, Dense(3, activation="softmax", name="head")(GlobalAveragePooling2D()(x)))
    model.compile("adam", "sparse_categorical_crossentropy")
    values = {w.path: w.numpy().astype(np.float64) for w in model.trainable_weights}
    x, y = samples()
    x = x[:, :5, :5]

    def loss() -> float:
        z = reference.conv2d_forward(x.astype(np.float64), values["conv/kernel"], values["conv/bias"])
        z = reference.batchnorm_forward(z, values["bn/gamma"], values["bn/beta"], 0.001)[0]
        z = reference.global_average_pool_forward(reference.relu_forward(z))
        p = reference.softmax_forward(reference.dense_forward(z, values["head/kernel"], values["head/bias"]))
        return float(-np.log(p[np.arange(len(y)), y]).mean() + 0.01 * (values["conv/kernel"] ** 2).sum())

    norms = model.gradient_norms(x, y)
    assert list(norms) == list(values)
    for path, value in values.items():
        slopes = np.empty(value.shape)
        for place in np.ndindex(value.shape):
            before, ends = value[place], []
            for step in (1e-6, -1e-6):
                value[place] = before + step
                ends.append(loss())
            value[place] = before
            slopes[place] = (ends[0] - ends[1]) / 2e-6
        # a bias in front of a batch normalisation has no gradient but rounding
        assert norms[path] == pytest.approx(np.linalg.norm(slopes), rel=1e-5, abs=1e-6), path


def test_norms_do_not_depend_on_threads(on_threads: Callable[[Callable[[], Any]], Any]) -> None:
    model = shared_norm()
    model.compile("adam", "sparse_categorical_crossentropy")
    on_threads(lambda: np.array(list(model.gradient_norms(*samples()).values())))


def test_callbacks_may_ask_between_batches() -> None:
    x, y = samples(20)
    ends = []
    for asking in (False, True):
        model = shared_norm()
        model.compile(optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
        asked: list[dict[str, float]] = []

        def ask(*_: Any, model: Model = model, asked: list[dict[str, float]] = asked) -> None:
            asked.append(model.gradient_norms(x[:7], y[:7]))

        hooks = dict.fromkeys(("on_train_batch_begin", "on_train_batch_end", "on_epoch_begin", "on_epoch_end"), ask)
        callbacks = [LambdaCallback(**hooks)] if asking else []
        logs = model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=callbacks, validation_data=(x, y)).history
        assert len(asked) == (2 * (2 + 2 * 3) if asking else 0)
        state = {name: array.tobytes() for name, array in model.optimizer_state().items()}
        ends.append(([w.tobytes() for w in model.get_weights()], state, logs))
    assert ends[0] == ends[1]


def test_other_threads_may_not_ask_during_fit() -> None:
    x, y = samples()
    model = shared_norm()
    model.compile("adam", "sparse_categorical_crossentropy")
    errors: list[str] = []

    def ask() -> None:
        try:
            model.gradient_norms(x, y)
        except RuntimeError as error:
            errors.append(str(error))

    def from_another_thread(*_: Any) -> None:
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()

    model.fit(x, y, verbose=0, callbacks=[LambdaCallback(on_train_batch_end=from_another_thread)])
    assert errors == [f"gradient_norms: {model.name} is already being trained by another call"]
    ask()  # and afterwards they may
    assert len(errors) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: optimizers.Adam(0.01),
        lambda: optimizers.SGD(0.1, momentum=0.9, use_ema=True, gradient_accumulation_steps=3),
    ],
)
def test_asking_changes_nothing(make: Callable[[], optimizers.Optimizer]) -> None:
    x, y = samples()
    ends = []
    for asked in (0, 2):
        model = shared_norm()
        model.compile(make(), "sparse_categorical_crossentropy", metrics=["accuracy"])
        logs = []
        for _ in range(5):
            for _ in range(asked):
                model.gradient_norms(x[:5], y[:5])
            logs.append(model.train_on_batch(x, y))
        state = {name: array.tobytes() for name, array in model.optimizer_state().items()}
        ends.append(([w.tobytes() for w in model.get_weights()], state, logs))
    assert ends[0] == ends[1]


def test_frozen_layers_have_none() -> None:
    model = shared_norm()
    model.get_layer("conv1").trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    assert not any(path.startswith("conv1") for path in model.gradient_norms(*samples()))


def test_what_is_refused() -> None:
    model = shared_norm()
    x, y = samples()
    with pytest.raises(RuntimeError, match="gradient_norms: call compile first"):
        model.gradient_norms(x, y)
    model.compile("adam", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="gradient_norms: y is missing"):
        model.gradient_norms(x)
    with pytest.raises(NonFiniteError, match="gradient_norms: the loss is nan"):
        model.gradient_norms(x * np.nan, y)
