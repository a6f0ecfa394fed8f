"""fit while it runs: callbacks, errors, interrupts, threads, memory."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from nets import bits, compiled, losses_of, plain, residual, some_data

from fastcnn.callbacks import Callback, LambdaCallback
from fastcnn.errors import NonFiniteError
from fastcnn.layers import (
    BatchNormalization,
    Dense,
    Input,
)
from fastcnn.models import Sequential
from fastcnn.optimizers import SGD, Adam
from fastcnn.utils import set_random_seed


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
