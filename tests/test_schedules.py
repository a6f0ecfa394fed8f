"""Learning-rate schedules against their formulas, and how optimizers follow them."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

from fastcnn.layers import Dense, Input
from fastcnn.models import Sequential
from fastcnn.optimizers import SGD, Adam, schedules
from fastcnn.optimizers.schedules import (
    CosineDecay,
    ExponentialDecay,
    InverseTimeDecay,
    LearningRateSchedule,
    PiecewiseConstantDecay,
    PolynomialDecay,
)

ALL = [
    ExponentialDecay(0.1, 100, 0.5),
    ExponentialDecay(0.1, 100, 0.5, staircase=True),
    InverseTimeDecay(0.1, 10, 0.5),
    InverseTimeDecay(0.1, 10, 0.5, staircase=True, name="mine"),
    PiecewiseConstantDecay([100, 1000], [1.0, 0.5, 0.1]),
    PolynomialDecay(0.1, 100, 0.01, power=2.0),
    PolynomialDecay(0.1, 100, 0.01, power=0.5, cycle=True),
    CosineDecay(0.1, 100, alpha=0.1),
    CosineDecay(0.01, 100, alpha=0.1, warmup_target=0.2, warmup_steps=50),
]


@pytest.mark.parametrize(
    ("schedule", "step", "rate"),
    [
        (ALL[0], 0, 0.1),
        (ALL[0], 150, 0.1 * 0.5**1.5),
        (ALL[1], 150, 0.05),
        (ALL[1], 99, 0.1),
        (ALL[2], 25, 0.1 / (1 + 0.5 * 2.5)),
        (ALL[3], 25, 0.1 / 2),
        (ALL[4], 0, 1.0),
        (ALL[4], 100, 1.0),
        (ALL[4], 101, 0.5),
        (ALL[4], 1000, 0.5),
        (ALL[4], 1001, 0.1),
        (ALL[5], 0, 0.1),
        (ALL[5], 50, 0.09 * 0.25 + 0.01),
        (ALL[5], 101, 0.01),
        (ALL[6], 0, 0.1),
        (ALL[6], 100, 0.01),
        (ALL[6], 150, 0.09 * math.sqrt(0.25) + 0.01),
        (ALL[7], 0, 0.1),
        (ALL[7], 50, 0.1 * (0.9 * 0.5 + 0.1)),
        (ALL[7], 1000, 0.01),
        (ALL[8], 0, 0.01),
        (ALL[8], 25, 0.105),
        (ALL[8], 50, 0.2),
        (ALL[8], 100, 0.2 * (0.9 * 0.5 + 0.1)),
        (ALL[8], 1000, 0.02),
        (CosineDecay(0.3, 10, warmup_steps=5), 0, 0.3),
    ],
)
def test_formulas(schedule: LearningRateSchedule, step: int, rate: float) -> None:
    assert schedule(step) == pytest.approx(rate, rel=1e-14)


@pytest.mark.parametrize("schedule", ALL)
def test_config_round_trip(schedule: LearningRateSchedule) -> None:
    copy = schedules.deserialize(schedules.serialize(schedule))
    assert type(copy) is type(schedule)
    assert copy.get_config() == schedule.get_config()
    assert [copy(step) for step in range(0, 300, 7)] == [schedule(step) for step in range(0, 300, 7)]
    assert repr(copy) == repr(schedule)


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (ExponentialDecay, "initial_learning_rate decay_steps decay_rate staircase=False"),
        (InverseTimeDecay, "initial_learning_rate decay_steps decay_rate staircase=False"),
        (PiecewiseConstantDecay, "boundaries values"),
        (PolynomialDecay, "initial_learning_rate decay_steps end_learning_rate=0.0001 power=1.0 cycle=False"),
        (CosineDecay, "initial_learning_rate decay_steps alpha=0.0 warmup_target=None warmup_steps=0"),
    ],
)
def test_signatures_are_those_of_keras(cls: type[LearningRateSchedule], arguments: str) -> None:
    parameters = [p for p in inspect.signature(cls).parameters.values() if p.name != "name"]
    found = [p.name if p.default is inspect.Parameter.empty else f"{p.name}={p.default}" for p in parameters]
    assert found == arguments.split()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ExponentialDecay(0.1, 0, 0.5), "ExponentialDecay: decay_steps must be above 0, got 0"),
        (lambda: InverseTimeDecay(-0.1, 1, 0.5), "initial_learning_rate must be at least 0, got -0.1"),
        (lambda: PolynomialDecay(0.1, 10, power=math.nan), "PolynomialDecay: power must be finite numbers, got nan"),
        (lambda: CosineDecay("0.1", 10), "initial_learning_rate must be finite numbers, got '0.1'"),
        (lambda: PiecewiseConstantDecay([1], [0.1]), "values must be one more than boundaries.*got 1 values"),
        (lambda: PiecewiseConstantDecay([2, 2], [1, 1, 1]), r"boundaries must ascend, got \[2, 2\]"),
        (lambda: schedules.deserialize({"class_name": "os.system"}), "schedule must be one of CosineDecay"),
    ],
)
def test_bad_arguments(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()


def test_the_rate_follows_the_batches_and_cannot_be_set() -> None:
    optimizer = SGD(InverseTimeDecay(0.5, 1, 1.0), gradient_accumulation_steps=2)
    assert optimizer.learning_rate == 0.5
    optimizer.batches = 4  # Keras too counts batches here, not updates
    assert optimizer.learning_rate == 0.1
    with pytest.raises(TypeError, match=r"SGD: learning_rate follows a InverseTimeDecay and cannot be set to 0\.3"):
        optimizer.learning_rate = 0.3
    optimizer.learning_rate = ExponentialDecay(1.0, 4, 0.25)
    assert optimizer.learning_rate == 0.25


def test_a_schedule_of_ones_own_is_followed_and_checked() -> None:
    class Falling(LearningRateSchedule):
        def __call__(self, step: int) -> float:
            return 0.5 - step

    optimizer = Adam(Falling())
    assert optimizer.learning_rate == 0.5
    optimizer.batches = 1
    with pytest.raises(ValueError, match=r"Adam: Falling: the rate after 1 batches must be .*got -0\.5"):
        optimizer.settings()


def test_fit_follows_the_schedule() -> None:
    """With plain descent and a gradient of 1 each step is the rate."""
    model = Sequential([Input((1,)), Dense(1, use_bias=False, kernel_initializer="zeros")])
    schedule = PiecewiseConstantDecay([0, 2], [1.0, 0.25, 0.5])
    model.compile(SGD(schedule, clipvalue=1.0), "mse")
    for step in range(5):
        before = model.get_weights()[0].item()
        model.train_on_batch(np.ones((1, 1)), np.array([[1e6]]))
        assert model.get_weights()[0].item() - before == schedule(step)
