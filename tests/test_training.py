"""compile, fit, evaluate and predict: Keras' numbers, callbacks, errors, repeatability."""

from __future__ import annotations

import inspect
import math
import re
import threading
import warnings
from itertools import chain

import numpy as np
import pytest

from fastcnn import config
from fastcnn.callbacks import Callback, LambdaCallback
from fastcnn.data.order import epoch_order
from fastcnn.errors import NonFiniteError
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
from fastcnn.losses import CategoricalCrossentropy, SparseCategoricalCrossentropy, categorical_crossentropy
from fastcnn.metrics import Precision
from fastcnn.models import Model, Sequential
from fastcnn.optimizers import SGD, Adam, RMSprop
from fastcnn.optimizers.schedules import ExponentialDecay
from fastcnn.random import get_seed
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


# -- learning ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [plain, residual])
def test_eight_pictures_are_learned_by_heart(make):
    x, y = some_data(8)
    model = compiled(make(), Adam(0.02))
    history = model.fit(x, y, batch_size=4, epochs=60, verbose=0)
    assert history.history["loss"][-1] < 0.1 < history.history["loss"][0]
    assert history.history["accuracy"][-1] == 1
    assert (model.predict(x).argmax(1) == y).sum() >= 7


def test_an_update_is_gradient_descent():
    x, y = some_data(5)
    model = compiled(plain(), SGD(0.25))
    kernel = model.get_layer("head").kernel
    before = model.get_weights()
    value, eps = kernel.numpy(), 1e-2
    slopes = []
    for place in ((0, 0), (7, 2)):
        losses = []
        for sign in (1, -1):
            moved = value.copy()
            moved[place] += sign * eps
            kernel.assign(moved)
            losses.append(losses_of(model, x, y).mean())
        slopes.append((place, (losses[0] - losses[1]) / (2 * eps)))
    model.set_weights(before)
    loss = model.train_on_batch(x, y)[0]
    assert loss == pytest.approx(float(np.mean(losses_of_weights(before, x, y))), rel=1e-5)
    for place, slope in slopes:
        assert kernel.value[place] - value[place] == pytest.approx(-0.25 * slope, rel=1e-3)


def losses_of_weights(weights, x, y):
    model = plain()
    model.set_weights(weights)
    return losses_of(model, x, y)


@pytest.mark.parametrize("make", [plain, residual])
def test_the_same_seed_gives_the_same_bits_for_any_number_of_threads(make):
    x, y = some_data(20)
    results = set()
    for count in (1, 2, 3, 1):
        with config.threads(count):
            model = compiled(make(7), Adam(0.01))
            history = model.fit(x, y, batch_size=8, epochs=2, verbose=0).history
        results.add((bits(model), tuple(history["loss"])))
    assert len(results) == 1
    other = compiled(make(8), Adam(0.01))
    other.fit(x, y, batch_size=8, epochs=2, verbose=0)
    assert bits(other) != next(iter(results))[0]


def test_training_uses_nothing_that_was_not_written():
    x, y = some_data(11)
    results = []
    for poison in (False, True):
        model = compiled(residual(), Adam(0.01))
        hooks = LambdaCallback(on_train_batch_end=lambda batch, logs, m=model: [w.poison() for w in held(m)])
        model.fit(x, y, batch_size=4, epochs=2, verbose=0, validation_data=(x, y), callbacks=[hooks] if poison else [])
        results.append(bits(model))
    assert results[0] == results[1]


def held(model: Model):
    return model._pool._held.values()


def test_batches_of_one_epoch_are_a_permutation_that_follows_from_the_seed_and_the_epoch():
    x, y = some_data(10)
    model = compiled(plain(3), SGD(0.0))
    x[:, 0, 0, 0] = np.arange(10)
    seen: list[list[int]] = []

    class Spy(Callback):
        def on_train_batch_end(self, batch, logs=None):
            (workspace,) = held(model)
            (_, program) = next(reversed(workspace._programs.values()))
            seen.append(program.x[:, 0, 0, 0].astype(int).tolist())

    model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=Spy())
    assert [len(rows) for rows in seen] == [4, 4, 2] * 2
    for epoch in range(2):
        assert list(chain.from_iterable(seen[3 * epoch : 3 * epoch + 3])) == epoch_order(10, get_seed(), epoch).tolist()
    seen.clear()
    model.fit(x, y, batch_size=4, verbose=0, shuffle=False, callbacks=[Spy()])
    assert list(chain.from_iterable(seen)) == list(range(10))
    seen.clear()
    model.fit(x, y, batch_size=4, initial_epoch=1, epochs=2, verbose=0, callbacks=[Spy()])
    assert list(chain.from_iterable(seen)) == epoch_order(10, get_seed(), 1).tolist()


# -- Keras' numbers ----------------------------------------------------------------------------------------------------


def test_history_holds_sorted_running_means():
    x, y = some_data(10)
    model = compiled(plain(), SGD(0.1), metrics=["acc"])
    logged: list[dict[str, float]] = []
    per_batch = LambdaCallback(on_train_batch_end=lambda batch, logs: logged.append(dict(logs)))
    history = model.fit(
        x, y, batch_size=4, epochs=2, verbose=0, callbacks=[per_batch], validation_data=some_data(3, seed=9)
    )
    assert list(history.history) == ["acc", "loss", "val_acc", "val_loss"]
    assert history.epoch == [0, 1]
    assert history.params["epochs"] == 2
    assert history.params["steps"] == 3
    assert all(isinstance(value, float) for values in history.history.values() for value in values)
    assert logged[2]["loss"] == history.history["loss"][0]  # the last running mean is the epoch's


def test_the_mean_loss_counts_pictures_not_batches():
    x, y = some_data(10)
    model = compiled(plain(), SGD(0.0))
    expected = losses_of(model, x, y)
    history = model.fit(x, y, batch_size=4, verbose=0, shuffle=False)
    assert history.history["loss"][0] == pytest.approx(expected.mean(), rel=1e-6)
    result = model.evaluate(x, y, batch_size=3, return_dict=True)
    assert result["loss"] == pytest.approx(expected.mean(), rel=1e-6)
    assert result["accuracy"] == pytest.approx((model.predict(x).argmax(1) == y).mean())
    assert model.evaluate(x, y, batch_size=3) == list(result.values())
    assert compiled(model, metrics=()).evaluate(x, y) == pytest.approx(expected.mean(), rel=1e-6)


def test_sample_weights_divide_by_the_number_of_samples():
    x, y = some_data(6)
    weights = np.array([0, 1, 2, 0.5, 1, 4])
    model = compiled(plain(), SGD(0.0))
    expected = (losses_of(model, x, y) * weights).mean()
    assert model.evaluate(x, y, sample_weight=weights)[0] == pytest.approx(expected, rel=1e-6)
    assert model.test_on_batch(x, y, sample_weight=weights)[0] == pytest.approx(expected, rel=1e-6)
    assert model.train_on_batch(x, y, sample_weight=weights)[0] == pytest.approx(expected, rel=1e-6)
    history = model.fit(x, y, sample_weight=weights, batch_size=6, verbose=0)
    assert history.history["loss"][0] == pytest.approx(expected, rel=1e-6)


def test_class_weights_are_sample_weights():
    x, y = some_data(6)
    results = []
    for options in ({"class_weight": {0: 2.0, 2: 0.25}}, {"sample_weight": np.array([2, 1, 0.25])[y]}):
        model = compiled(plain(), SGD(0.1))
        model.fit(x, y, verbose=0, **options)
        results.append(bits(model))
    one_hot = plain()
    one_hot.compile(SGD(0.1), "categorical_crossentropy")
    one_hot.fit(x, np.eye(CLASSES)[y], verbose=0, class_weight={0: 2.0, 2: 0.25})
    assert results[0] == results[1] == bits(one_hot)
    with pytest.raises(ValueError, match="class_weight and sample_weight exclude each other"):
        model.fit(x, y, verbose=0, class_weight={0: 1.0}, sample_weight=np.ones(6))
    with pytest.raises(ValueError, match=re.escape("class_weight names class 3, the model has classes 0..2")):
        model.fit(x, y, verbose=0, class_weight={3: 1.0})


def test_validation_split_takes_the_last_part():
    x, y = some_data(10)
    split, given = compiled(plain()), compiled(plain())
    one = split.fit(x, y, verbose=0, validation_split=0.3, epochs=2)
    other = given.fit(x[:7], y[:7], verbose=0, validation_data=(x[7:], y[7:]), epochs=2)
    assert one.history == other.history
    with pytest.raises(ValueError, match=r"validation_split 0\.999 of 10 samples leaves 0 for training"):
        split.fit(x[:10], y[:10], verbose=0, validation_split=0.999)


def test_validation_uses_moving_statistics_and_changes_nothing():
    x, y = some_data(8)
    model = compiled(residual(), SGD(0.0))
    history = model.fit(x, y, batch_size=8, epochs=1, verbose=0, validation_data=(x, y, np.full(8, 2.0)))
    assert history.history["val_loss"][0] == pytest.approx(2 * model.evaluate(x, y)[0], rel=1e-6)
    assert history.history["val_loss"][0] == pytest.approx(2 * losses_of(model, x, y).mean(), rel=1e-5)
    assert history.history["loss"][0] != pytest.approx(losses_of(model, x, y).mean(), rel=1e-3)
    before = bits(model)
    model.evaluate(x, y)
    assert bits(model) == before


def test_validation_freq():
    x, y = some_data(4)
    model = compiled(plain())
    history = model.fit(x, y, epochs=4, verbose=0, validation_data=(x, y), validation_freq=2)
    assert len(history.history["val_loss"]) == 2
    history = model.fit(x, y, epochs=4, verbose=0, validation_data=(x, y), validation_freq=[1])
    assert len(history.history["val_loss"]) == 1


def test_moving_statistics_follow_the_batch():
    x, y = some_data(8)
    model = compiled(residual(), SGD(0.0))
    conv = Model(model.input, model.get_layer("conv1").output).predict(x).astype(np.float64).reshape(-1, 8)
    model.train_on_batch(x, y)
    bn = model.get_layer("bn1")
    np.testing.assert_allclose(bn.moving_mean.value, 0.1 * conv.mean(0), rtol=1e-4)
    np.testing.assert_allclose(bn.moving_variance.value, 0.9 + 0.1 * conv.var(0), rtol=1e-5)  # biased


def test_sparse_and_one_hot_labels_and_logits_train_alike():
    x, y = some_data(6)
    one_hot = np.eye(CLASSES)[y]
    runs = [
        (plain(), "sparse_categorical_crossentropy", y),
        (plain(), "sparse_categorical_crossentropy", y[:, None]),
        (plain(), categorical_crossentropy, one_hot),
        (plain(), CategoricalCrossentropy(), one_hot.astype(np.float64)),
        (plain(activation=None), SparseCategoricalCrossentropy(from_logits=True), y),
        (plain(activation=None), CategoricalCrossentropy(from_logits=True), one_hot),
    ]
    results = []
    for model, loss, labels in runs:
        model.compile(SGD(0.1), loss, metrics=["accuracy"])
        model.fit(x, labels, verbose=0, epochs=2)
        results.append(bits(model))
    assert len(set(results)) == 1


def test_a_lone_activation_layer_ends_the_model_too():
    x, y = some_data(6)
    last = plain(activation=None)
    from fastcnn.layers import Activation

    last.add(Activation("softmax"))
    compiled(last).fit(x, y, verbose=0)
    other = compiled(plain())
    other.fit(x, y, verbose=0)
    assert bits(last) == bits(other)


@pytest.mark.parametrize(
    ("activation", "from_logits", "message"),
    [
        ("softmax", True, "the model ends with a softmax but the loss has from_logits=True"),
        (None, False, "the model does not end with a softmax or sigmoid but the loss has from_logits=False"),
    ],
)
def test_logits_and_probabilities_are_not_mixed_up(activation, from_logits, message):
    model = plain(activation=activation)
    model.compile("sgd", SparseCategoricalCrossentropy(from_logits=from_logits))
    with pytest.raises(ValueError, match=message):
        model.fit(*some_data(4), verbose=0)


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


# -- data --------------------------------------------------------------------------------------------------------------


class Batches:
    """A dataset as users write them: a length, and iteration from the start."""

    def __init__(self, x, y, size, weights=None):
        self.parts = [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]
        if weights is not None:
            self.parts = [(*part, weights[size * i : size * (i + 1)]) for i, part in enumerate(self.parts)]
        self.begun = 0

    def __len__(self):
        return len(self.parts)

    def __iter__(self):
        self.begun += 1
        return iter(self.parts)


def test_datasets_and_generators_train_like_arrays():
    x, y = some_data(10)
    expected = compiled(plain())
    history = expected.fit(x, y, batch_size=4, epochs=2, verbose=0, shuffle=False, validation_data=(x, y))

    dataset = compiled(plain())
    data = Batches(x, y, 4)
    assert dataset.fit(data, epochs=2, verbose=0, validation_data=Batches(x, y, 4)).history == history.history
    assert data.begun == 2

    def endless():
        while True:
            yield from Batches(x, y, 4)

    generator = compiled(plain())
    found = generator.fit(
        endless(), steps_per_epoch=3, epochs=2, verbose=0, validation_data=endless(), validation_steps=3
    )
    assert found.history == history.history
    assert bits(generator) == bits(dataset) == bits(expected)
    assert generator.evaluate(endless(), steps=3) == pytest.approx(expected.evaluate(x, y), rel=1e-6)
    assert np.array_equal(generator.predict(endless(), steps=3), expected.predict(x))
    assert np.array_equal(generator.predict(Batches(x, y, 4)), expected.predict(x))


def test_steps_per_epoch_goes_on_through_the_data():
    x, y = some_data(10)
    data = Batches(x, y, 2)  # 5 batches
    cut, whole = compiled(plain()), compiled(plain())
    cut.fit(data, steps_per_epoch=4, epochs=5, verbose=0)
    whole.fit(Batches(x, y, 2), epochs=4, verbose=0)
    assert bits(cut) == bits(whole)
    assert data.begun == 4


def test_data_that_end_early_are_named():
    x, y = some_data(4)
    model = compiled(plain())
    with pytest.raises(ValueError, match="fit: the data ended after 2 of 3 batches"):
        model.fit(iter(Batches(x, y, 2)), steps_per_epoch=3, verbose=0)
    with pytest.raises(ValueError, match="evaluate: the data ended after 2 of 3 batches"):
        model.evaluate(Batches(x, y, 2), steps=3)


def test_datasets_may_bring_weights():
    x, y = some_data(4)
    weights = np.array([1, 2, 3, 4], np.float32)
    model = compiled(plain(), SGD(0.0))
    expected = model.evaluate(x, y, sample_weight=weights)
    assert model.evaluate(Batches(x, y, 2, weights)) == pytest.approx(expected, rel=1e-6)


def test_sequential_without_a_shape_is_built_by_fit():
    x, y = some_data(4)
    set_random_seed(1)
    model = Sequential(
        [Conv2D(4, 3, activation="relu"), MaxPooling2D(), Flatten(), Dense(CLASSES, activation="softmax")]
    )
    compiled(model).fit(x, y, verbose=0)
    other = compiled(plain())
    other.fit(x, y, verbose=0)
    assert bits(model) == bits(other)


X, Y = some_data(4)[0], np.array([0, 1, 2, 1])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((X, None), {}, ValueError, "fit: y is missing"),
        ((X, Y[:3]), {}, ValueError, "fit: y must hold 4 labels, one per sample of x, got [3]"),
        ((X, Y + 1), {}, ValueError, "fit: y must hold whole numbers in 0..2"),
        ((X, Y - 1), {}, ValueError, "fit: y must hold whole numbers in 0..2"),
        ((X, np.eye(3)[Y]), {}, ValueError, "fit: y must be class numbers of shape [N] or [N, 1]"),
        ((X[:0], Y[:0]), {}, ValueError, "fit: x holds no samples"),
        ((X[:, :5], Y), {}, ValueError, "fit: x must be [N, 6, 6, 2] but is [4, 5, 6, 2]"),
        ((X, Y), {"batch_size": 0}, ValueError, "fit: batch_size must be a positive integer or None, got 0"),
        ((X, Y), {"steps_per_epoch": 0}, ValueError, "fit: steps_per_epoch must be a positive integer"),
        ((X, Y), {"sample_weight": [1, 2]}, ValueError, "fit: sample_weight must be 4 numbers, one per sample"),
        ((X, Y), {"sample_weight": [1, 2, 3, math.nan]}, ValueError, "fit: sample_weight must be finite"),
        ((X, Y), {"validation_split": 1.0}, ValueError, "fit: validation_split must lie in [0, 1), got 1.0"),
        ((X, Y), {"validation_data": (X, Y + 1)}, ValueError, "fit: validation_data: y must hold whole numbers"),
        ((X, Y), {"validation_data": (X, Y, None, 1)}, ValueError, "validation_data must be (x, y), (x, y, sample_"),
        ((X, Y), {"callbacks": [3]}, TypeError, "callbacks must be Callback instances, got 3"),
        ((Batches(X, Y, 2), Y), {}, ValueError, "fit: y must be None when x is a dataset or generator"),
        ((Batches(X[:0], Y, 2),), {}, ValueError, "fit: x holds no batches"),
        ((iter([(X, Y)]),), {}, ValueError, "fit: steps_per_epoch must be given for a generator"),
        (([X],), {"y": Y}, ValueError, "fit: x must be [N, 6, 6, 2] but is [1, 4, 6, 6, 2]"),
    ],
)
def test_bad_data_are_named_before_the_first_step(arguments, options, error, message):
    model = compiled(plain(), Adam(0.1))
    before = bits(model)
    with pytest.raises(error, match=re.escape(message)):
        model.fit(*arguments, verbose=0, **options)
    assert bits(model) == before
    model.fit(X, Y, verbose=0)  # the model is still usable
    assert bits(model) != before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"loss": None}, ValueError, "compile: loss must be given"),
        ({"loss": "hinge"}, ValueError, "loss must be one of"),
        ({"optimizer": "adagrad"}, ValueError, "optimizer must be one of"),
        ({"metrics": ["accuracy", "accuracy"]}, ValueError, "metrics must have different names"),
        ({"metrics": ["hinge"]}, ValueError, "metric must be one of"),
        ({"loss_weights": [1.0]}, ValueError, "loss_weights is not supported yet and must be None"),
        ({"weighted_metrics": ["acc", "acc"]}, ValueError, "metrics must have different names"),
        ({"metrics": "accuracy"}, ValueError, "metrics must be a list of names or Metric objects, got 'accuracy'"),
        ({"metrics": [Precision([0.1, 0.5])]}, ValueError, "precision has several thresholds"),
        ({"nonsense": 1}, TypeError, "nonsense"),
    ],
)
def test_bad_compile_arguments_are_named(options, error, message):
    arguments = {"optimizer": "sgd", "loss": "categorical_crossentropy"} | options
    with pytest.raises(error, match=re.escape(message)):
        plain().compile(**arguments)


def test_arguments_without_effect_warn():
    with pytest.warns(UserWarning, match="compile: jit_compile has no effect in fastcnn"):
        plain().compile("sgd", "categorical_crossentropy", jit_compile=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain().compile("sgd", "categorical_crossentropy", jit_compile="auto", run_eagerly=False)


def test_training_needs_compile():
    for call in (Sequential.fit, Sequential.evaluate, Sequential.train_on_batch, Sequential.test_on_batch):
        with pytest.raises(RuntimeError, match=f"{call.__name__}: call compile first"):
            call(plain(), X, Y)


# -- while it runs -----------------------------------------------------------------------------------------------------


def test_callbacks_are_called_in_keras_order():
    x, y = some_data(4)
    calls: list[str] = []

    class Spy(Callback):
        pass

    for name in [name for name in dir(Callback) if name.startswith("on_")]:
        setattr(Spy, name, lambda self, *a, _n=name, **k: calls.append(_n[3:]))
    model = compiled(plain())
    spy = Spy()
    model.fit(x, y, batch_size=2, verbose=0, validation_data=(x, y), validation_batch_size=4, callbacks=[spy])
    assert calls == [
        *("train_begin", "epoch_begin"),
        *("train_batch_begin", "train_batch_end") * 2,
        *("test_begin", "test_batch_begin", "test_batch_end", "test_end"),
        *("epoch_end", "train_end"),
    ]
    assert spy.model is model
    assert spy.params["steps"] == 2
    calls.clear()
    model.predict(x, batch_size=4, callbacks=[spy])
    model.evaluate(x, y, callbacks=spy)
    assert calls == [
        *("predict_begin", "predict_batch_begin", "predict_batch_end", "predict_end"),
        *("test_begin", "test_batch_begin", "test_batch_end", "test_end"),
    ]


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_epoch_end"])
def test_stop_training_ends_fit(hook):
    x, y = some_data(6)
    model = compiled(plain())

    class Stop(Callback):
        pass

    setattr(Stop, hook, lambda self, number, logs=None: setattr(self.model, "stop_training", True))
    history = model.fit(x, y, batch_size=2, epochs=5, verbose=0, callbacks=[Stop()])
    assert history.epoch == [0]
    assert model.optimizer.iterations == (1 if hook == "on_train_batch_end" else 3)
    assert model.fit(x, y, epochs=2, verbose=0).epoch == [0, 1]  # the next fit begins anew


def test_the_learning_rate_may_change_at_any_time():
    x, y = some_data(4)
    model = compiled(plain(), SGD(0.0))
    before = bits(model)
    model.train_on_batch(x, y)
    assert bits(model) == before
    model.optimizer.learning_rate = 0.5
    model.train_on_batch(x, y)
    assert bits(model) != before


def test_a_loss_that_is_not_finite_changes_nothing():
    x, y = some_data(6)
    model = compiled(residual(), Adam(0.01))
    model.fit(x, y, batch_size=2, verbose=0)
    before, state = bits(model), {k: np.array(v) for k, v in model.optimizer_state().items()}
    bad = x.copy()
    bad[3, 0, 0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="fit: epoch 1, batch 1: the loss is nan"):
        model.fit(bad[2:4], y[2:4], verbose=0)
    assert bits(model) == before
    assert all(np.array_equal(array, state[name]) for name, array in model.optimizer_state().items())
    model.fit(x, y, batch_size=2, verbose=0)
    twin = compiled(residual(), Adam(0.01))
    for _ in range(2):
        twin.fit(x, y, batch_size=2, verbose=0)
    assert bits(model) == bits(twin)


def test_an_interrupt_leaves_the_model_usable():
    x, y = some_data(6)
    model = compiled(plain())

    def interrupt(batch, logs):
        if batch == 1:
            raise KeyboardInterrupt

    history = model.fit(x, y, batch_size=2, verbose=0, callbacks=[LambdaCallback(on_train_batch_end=interrupt)])
    assert history.interrupted
    assert history.epoch == []
    assert model.optimizer.iterations == 2
    assert len(model._pool.idle()) == 1
    model.fit(x, y, batch_size=2, verbose=0)
    assert model.optimizer.iterations == 5


def test_a_second_fit_at_the_same_time_is_refused():
    x, y = some_data(4)
    model = compiled(plain())
    errors: list[str] = []

    def again(batch, logs):
        def call():
            try:
                model.fit(x, y, verbose=0)
            except RuntimeError as error:
                errors.append(str(error))

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()

    model.fit(x, y, verbose=0, callbacks=[LambdaCallback(on_train_batch_end=again)])
    assert errors == [f"fit: {model.name} is already being trained by another call"]


def test_callbacks_and_other_threads_may_predict_during_fit():
    x, y = some_data(4)
    model = compiled(residual(), SGD(0.0))
    results = []

    def use(batch, logs):
        results.append(model.predict(x))
        thread = threading.Thread(target=lambda: results.append(model.predict(x)))
        thread.start()
        thread.join()
        results.append(np.array(model.evaluate(x, y)))

    model.fit(x, y, verbose=0, epochs=2, callbacks=[LambdaCallback(on_train_batch_end=use)])
    for i in (0, 3):
        assert np.array_equal(results[i], results[i + 1])
    alone = compiled(residual(), SGD(0.0))
    alone.fit(x, y, verbose=0, epochs=2)
    assert bits(alone) == bits(model)


def test_one_value_per_channel_cannot_be_normalised():
    set_random_seed(1)
    model = Sequential([Input((6,)), Dense(4), BatchNormalization(name="bn"), Dense(3, activation="softmax")])
    compiled(model)
    with pytest.raises(ValueError, match="bn: training needs at least 2 values per channel, got 1"):
        model.train_on_batch(np.ones((1, 6)), [0])
    model.train_on_batch(np.ones((2, 6)), [0, 1])


def test_fit_reports_and_evaluate_is_silent(capsys):
    x, y = some_data(4)
    model = compiled(plain())
    model.fit(x, y, epochs=2)
    text = capsys.readouterr().out
    assert text.count("\n") == 2
    assert "Epoch 2/2" in text
    assert "accuracy: " in text
    model.fit(x, y, verbose=0)
    model.evaluate(x, y)
    model.predict(x)
    assert capsys.readouterr().out == ""
    model.evaluate(x, y, verbose=2)
    assert "loss: " in capsys.readouterr().out


def test_results_of_single_batches():
    x, y = some_data(4)
    model = compiled(plain(), SGD(0.0))
    loss = losses_of(model, x, y).mean()
    accuracy = (model.predict(x).argmax(1) == y).mean()
    for call in (model.train_on_batch, model.test_on_batch):
        assert call(x, y) == pytest.approx([loss, accuracy], rel=1e-6)
        assert call(x, y, return_dict=True) == pytest.approx({"loss": loss, "accuracy": accuracy}, rel=1e-6)
    assert compiled(model, metrics=()).train_on_batch(x, y) == pytest.approx(loss, rel=1e-6)


# -- Keras' signatures -------------------------------------------------------------------------------------------------

REQUIRED = inspect.Parameter.empty
DATA = {"x": None, "y": None, "batch_size": None}
KERAS = {
    "compile": {
        "optimizer": "rmsprop",
        "loss": None,
        "loss_weights": None,
        "metrics": None,
        "weighted_metrics": None,
        "run_eagerly": False,
        "steps_per_execution": 1,
        "jit_compile": "auto",
        "auto_scale_loss": True,
    },
    "fit": {
        **DATA,
        "epochs": 1,
        "verbose": "auto",
        "callbacks": None,
        "validation_split": 0.0,
        "validation_data": None,
        "shuffle": True,
        "class_weight": None,
        "sample_weight": None,
        "initial_epoch": 0,
        "steps_per_epoch": None,
        "validation_steps": None,
        "validation_batch_size": None,
        "validation_freq": 1,
    },
    "evaluate": {
        **DATA,
        "verbose": "auto",
        "sample_weight": None,
        "steps": None,
        "callbacks": None,
        "return_dict": False,
    },
    "predict": {"x": REQUIRED, "batch_size": None, "verbose": "auto", "steps": None, "callbacks": None},
    "train_on_batch": {
        "x": REQUIRED,
        "y": None,
        "sample_weight": None,
        "class_weight": None,
        "return_dict": False,
    },
    "test_on_batch": {"x": REQUIRED, "y": None, "sample_weight": None, "return_dict": False},
    "predict_on_batch": {"x": REQUIRED},
    "summary": {
        "line_length": None,
        "positions": None,
        "print_fn": None,
        "expand_nested": False,
        "show_trainable": False,
        "layer_range": None,
    },
    "save": {"filepath": REQUIRED, "overwrite": True, "zipped": None},
    "save_weights": {"filepath": REQUIRED, "overwrite": True, "max_shard_size": None},
    "load_weights": {"filepath": REQUIRED, "by_name": False, "skip_mismatch": False},
}


@pytest.mark.parametrize("method", KERAS)
def test_arguments_are_those_of_keras_in_the_same_order(method):
    parameters = list(inspect.signature(getattr(Model, method)).parameters.values())[1:]
    assert [(p.name, p.default) for p in parameters] == list(KERAS[method].items())


class _Batches:
    """A dataset that says how many classes its labels tell apart."""

    def __init__(self, num_classes, **form):
        self.num_classes = num_classes
        vars(self).update(form)
        self.read = 0

    def __len__(self):
        return 1

    def __iter__(self):
        self.read += 1
        x, y = some_data(4)
        categorical = "categorical" in (vars(self).get("label_mode"), vars(self).get("class_mode"))
        yield x, np.eye(self.num_classes)[y] if categorical else y


@pytest.mark.parametrize(
    ("form", "loss", "count", "refused"),
    [
        ({"label_mode": "int"}, "sparse_categorical_crossentropy", 4, True),
        ({"class_mode": "sparse"}, "sparse_categorical_crossentropy", 4, True),
        ({"class_mode": "categorical"}, "categorical_crossentropy", 4, True),
        ({"label_mode": "categorical"}, "categorical_crossentropy", 3, False),
        ({"label_mode": "int"}, "sparse_categorical_crossentropy", 3, False),
        ({"label_mode": "int"}, "sparse_categorical_crossentropy", 2, False),  # some classes may have no picture
        ({"class_mode": "input"}, "sparse_categorical_crossentropy", 4, False),  # its labels are no classes
        ({}, "sparse_categorical_crossentropy", 4, False),
    ],
)
def test_data_of_another_number_of_classes_are_refused_unread(form, loss, count, refused):
    model = plain()
    model.compile("sgd", loss)
    data = _Batches(count, **form)
    if not refused:
        model.fit(data, validation_data=data, verbose=0)
        return
    for run in (
        lambda: model.fit(data, verbose=0),
        lambda: model.evaluate(data, verbose=0),
        lambda: (
            model.fit(*some_data(4)[:1], np.zeros(4, int), validation_data=data, verbose=0)
            if loss.startswith("sparse")
            else model.evaluate(data, verbose=0)
        ),
    ):
        with pytest.raises(ValueError, match=f"the data have {count} classes, the model has 3 outputs"):
            run()
    assert data.read == 0
    assert model.optimizer.iterations == 0
