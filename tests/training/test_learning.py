"""What an update does, and Keras' numbers for it."""

from __future__ import annotations

import re
from itertools import chain

import numpy as np
import pytest
from nets import CLASSES, bits, compiled, losses_of, plain, residual, some_data

from fastcnn import config
from fastcnn.callbacks import Callback, LambdaCallback
from fastcnn.data.order import epoch_order
from fastcnn.losses import CategoricalCrossentropy, SparseCategoricalCrossentropy, categorical_crossentropy
from fastcnn.models import Model
from fastcnn.optimizers import SGD, Adam
from fastcnn.random import get_seed

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
