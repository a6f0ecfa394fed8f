"""What fit, evaluate and predict take and refuse."""

from __future__ import annotations

import math
import re
import warnings

import numpy as np
import pytest
from nets import CLASSES, bits, compiled, plain, some_data

from fastcnn.layers import (
    Conv2D,
    Dense,
    Flatten,
    MaxPooling2D,
)
from fastcnn.metrics import Precision
from fastcnn.models import Sequential
from fastcnn.optimizers import SGD, Adam
from fastcnn.utils import set_random_seed


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
