"""Frozen layers, and the optimizer's state through compile."""

from __future__ import annotations

import re

import numpy as np
import pytest
from nets import CLASSES, bits, compiled, losses_of, plain, residual, some_data

from fastcnn.callbacks import LambdaCallback
from fastcnn.layers import (
    Dense,
)
from fastcnn.losses import CategoricalCrossentropy
from fastcnn.models import Model, Sequential
from fastcnn.optimizers import SGD, Adam, RMSprop
from fastcnn.optimizers.schedules import ExponentialDecay

# -- frozen layers -----------------------------------------------------------------------------------------------------


def test_frozen_layers_stay_and_have_no_slots():
    x, y = some_data(8)
    model = residual()
    for name in ("conv1", "bn1"):
        model.get_layer(name).trainable = False
    compiled(model, Adam(0.05))
    before = {w.path: w.numpy() for w in model.weights}
    model.fit(x, y, verbose=0, epochs=2)
    changed = {w.path for w in model.weights if not np.array_equal(w.value, before[w.path])}
    # the bias of conv2 has no gradient: bn2 takes it away again
    assert changed == {
        *("conv2/kernel", "head/kernel", "head/bias"),
        *(f"bn2/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")),
    }
    slots = {name.split("/", 1)[1] for name in model.optimizer_state() if name != "iterations"}
    assert slots == {"conv2/kernel", "conv2/bias", "bn2/gamma", "bn2/beta", "head/kernel", "head/bias"}


def test_trainable_counts_from_the_next_compile_on():
    x, y = some_data(4)
    model = compiled(plain(), SGD(0.1))
    conv = model.get_layer("conv")
    conv.trainable = False
    before = conv.get_weights()[0]
    model.train_on_batch(x, y)
    assert not np.array_equal(conv.get_weights()[0], before)
    before = conv.get_weights()[0]
    compiled(model, SGD(0.1)).train_on_batch(x, y)
    assert np.array_equal(conv.get_weights()[0], before)


def test_compiling_again_with_the_same_optimizer_keeps_its_slots():
    x, y = some_data(4)
    model = compiled(plain(), Adam(0.01))
    model.train_on_batch(x, y)
    optimizer = model.optimizer
    slot = model.optimizer_state()["momentum/head/kernel"].copy()
    model.get_layer("conv").trainable = False
    compiled(model, optimizer)
    state = model.optimizer_state()
    assert np.array_equal(state["momentum/head/kernel"], slot)
    assert "momentum/conv/kernel" not in state
    assert state["iterations"] == 1
    compiled(model, Adam(0.01))
    assert not model.optimizer_state()["momentum/head/kernel"].any()


def test_a_model_without_anything_to_train_still_measures():
    x, y = some_data(4)
    model = plain()
    model.trainable = False
    before = bits(compiled(model))
    history = model.fit(x, y, verbose=0)
    assert history.history["loss"][0] == pytest.approx(losses_of(model, x, y).mean(), rel=1e-6)
    assert bits(model) == before


def test_transfer_learning():
    x, y = some_data(12)
    base = residual()
    features = Model(base.input, base.layers[-2].output)
    features.trainable = False
    model = Sequential([features, Dense(CLASSES, activation="softmax", name="new_head")])
    compiled(model, Adam(0.05))
    frozen = [w.numpy() for w in features.weights]
    model.fit(x, y, verbose=0, epochs=3)
    assert all(np.array_equal(w.value, before) for w, before in zip(features.weights, frozen, strict=True))
    base.get_layer("conv2").trainable = True
    compiled(model, Adam(0.01)).fit(x, y, verbose=0)
    changed = [
        w.path for w, before in zip(features.weights, frozen, strict=True) if not np.array_equal(w.value, before)
    ]
    assert changed == ["conv2/kernel", "conv2/bias"]  # bn2 is frozen, so this bias matters
    assert base.predict(x).shape == (12, CLASSES)  # the base sees the new weights and works as before


# -- optimizer state ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: Adam(0.02),
        lambda: SGD(0.1, momentum=0.9, nesterov=True),
        lambda: RMSprop(ExponentialDecay(0.02, 2, 0.9), gradient_accumulation_steps=5, clipnorm=0.5),
    ],
)
def test_training_goes_on_exactly_where_it_was_saved(optimizer):
    x, y = some_data(10)
    whole = compiled(residual(), optimizer())
    whole.fit(x, y, batch_size=4, epochs=4, verbose=0)
    first = compiled(residual(), optimizer())
    first.fit(x, y, batch_size=4, epochs=2, verbose=0)
    state = {name: np.array(array) for name, array in first.optimizer_state().items()}
    second = compiled(residual(), optimizer())
    second.set_weights(first.get_weights())
    second.load_optimizer_state(state)
    second.fit(x, y, batch_size=4, initial_epoch=2, epochs=4, verbose=0)
    assert bits(second) == bits(whole)
    assert second.optimizer.batches == whole.optimizer.batches == 12


def test_rmsprop_is_the_default_and_learns():
    x, y = some_data(8)
    model = plain()
    model.compile(loss="sparse_categorical_crossentropy")
    assert isinstance(model.optimizer, RMSprop)
    history = model.fit(x, y, epochs=60, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]


def test_the_average_becomes_the_weights_when_fit_ends():
    x, y = some_data(12)
    plainly, averaged = compiled(plain(), SGD(0.1)), compiled(plain(), SGD(0.1, use_ema=True, ema_momentum=0.5))
    states = []
    plainly.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[
        LambdaCallback(on_train_batch_end=lambda batch, logs: states.append(plainly.get_weights()))
    ])  # fmt: skip
    averaged.fit(x, y, batch_size=4, epochs=2, verbose=0)
    mean = states[0]
    for state in states[1:]:
        mean = [0.5 * a.astype(np.float64) + 0.5 * w for a, w in zip(mean, state, strict=True)]
    for a, w in zip(mean, averaged.get_weights(), strict=True):
        np.testing.assert_allclose(w, a, rtol=0, atol=1e-6)
    before = averaged.get_weights()
    averaged.fit(x, y, epochs=2, initial_epoch=2, verbose=0)  # no epoch: nothing to finish
    assert all(np.array_equal(a, b) for a, b in zip(before, averaged.get_weights(), strict=True))


def test_accumulated_batches_are_one_large_batch():
    x, y = some_data(12)
    whole, parts = compiled(plain(), SGD(0.1)), compiled(plain(), SGD(0.1, gradient_accumulation_steps=3))
    whole.train_on_batch(x, y)
    start = parts.get_weights()
    for i in range(3):
        assert all(np.array_equal(a, b) for a, b in zip(start, parts.get_weights(), strict=True))
        parts.train_on_batch(x[4 * i : 4 * i + 4], y[4 * i : 4 * i + 4])
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_accumulated_batches_move_the_statistics_each():
    x, y = some_data(8)
    model = compiled(residual(), SGD(0.1, gradient_accumulation_steps=2))
    mean = model.get_layer("bn1").moving_mean.numpy()
    model.train_on_batch(x[:4], y[:4])
    after = model.get_layer("bn1").moving_mean.numpy()
    assert np.any(after != mean)
    model.train_on_batch(x[4:], y[4:])
    assert np.any(model.get_layer("bn1").moving_mean.numpy() != after)


def test_a_layer_unfrozen_later_starts_its_average_at_its_weights():
    x, y = some_data(8)
    model = plain()
    model.get_layer("conv").trainable = False
    optimizer = SGD(0.1, use_ema=True)
    compiled(model, optimizer).train_on_batch(x, y)
    model.get_layer("conv").trainable = True
    compiled(model, optimizer)
    assert np.array_equal(model.optimizer_state()["average/conv/kernel"], model.get_layer("conv").kernel.value)


def test_an_optimizer_of_another_model_starts_its_average_at_the_weights():
    x, y = some_data(8)
    optimizer = SGD(0.1, use_ema=True)
    compiled(plain(), optimizer).train_on_batch(x, y)
    model = compiled(plain(2), optimizer)
    start = model.get_layer("conv").kernel.numpy()
    assert np.array_equal(model.optimizer_state()["average/conv/kernel"], start)


def test_a_state_that_does_not_fit_is_refused():
    model = compiled(plain(), Adam())
    state = dict(model.optimizer_state())
    missing = {name: array for name, array in state.items() if name != "momentum/head/bias"}
    with pytest.raises(ValueError, match="the state lacks momentum/head/bias"):
        model.load_optimizer_state(missing)
    with pytest.raises(ValueError, match="the state has the unexpected extra"):
        model.load_optimizer_state(state | {"extra": np.zeros(1)})
    with pytest.raises(ValueError, match=re.escape("momentum/head/bias is [3], got [4]")):
        model.load_optimizer_state(state | {"momentum/head/bias": np.zeros(4)})
    assert plain().optimizer_state() == {}


def test_compile_config_compiles_another_model_alike():
    model = plain()
    assert model.get_compile_config() is None
    model.compile(SGD(0.3, momentum=0.5), CategoricalCrossentropy(label_smoothing=0.1), metrics=["acc"])
    other = plain()
    other.compile_from_config(model.get_compile_config())
    assert other.get_compile_config() == model.get_compile_config()
    assert other.optimizer.momentum == 0.5
    assert other.metrics_names == ["loss", "acc"]
