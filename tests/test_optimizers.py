from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

from fastcnn import _core, optimizers, reference
from fastcnn.optimizers import SGD, Adam, Optimizer

STEPS = 200
SIZE = 1003  # not a multiple of any vector width
UNIT = 2.0**-24


class Trainer:
    """One flat range of weights, updated through a program as a model does it."""

    def __init__(self, optimizer: Optimizer) -> None:
        rng = np.random.default_rng(5)
        self.optimizer = optimizer
        self.values = rng.normal(size=SIZE).astype(np.float32)
        self.target = rng.normal(size=SIZE).astype(np.float32)
        self.grads = np.zeros(SIZE, np.float32)
        self.slots = {name: np.zeros(SIZE, np.float32) for name in optimizer.slots}
        self.settings = np.array(optimizer.settings())
        self.program = _core.Program()
        optimizer.emit_update(self.program, self.values, self.grads, self.slots, self.settings)

    def step(self, t: int) -> np.ndarray:
        """Make update t of a noisy quadratic and return its gradient."""
        self.grads[:] = (self.values - self.target) * np.float32(1 + math.sin(t)) + np.float32(0.01 * math.cos(7 * t))
        self.settings[:] = self.optimizer.settings()
        self.program.run()
        self.optimizer.iterations += 1
        return self.grads


def check(trainer: Trainer, w: np.ndarray, travelled: float) -> None:
    """A step rounds the weight once, to half a unit of it, and its own length a few times."""
    error = np.abs(trainer.values - w).max()
    assert error <= UNIT * (STEPS * np.abs(w).max() + 8 * travelled)
    assert np.abs(trainer.values - trainer.target).max() < np.abs(trainer.target).max()  # it has moved


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd_equals_the_reference(momentum: float, nesterov: bool) -> None:
    trainer = Trainer(SGD(0.02, momentum, nesterov))
    assert trainer.optimizer.slots == (("momentum",) if momentum else ())
    w = trainer.values.astype(np.float64)
    m = np.zeros(SIZE)
    travelled = 0.0
    for t in range(1, STEPS + 1):
        if t == STEPS // 2:
            trainer.optimizer.learning_rate = 0.005
        before = w
        w, m = reference.sgd_step(w, trainer.step(t), m, trainer.optimizer.learning_rate, momentum, nesterov)
        travelled += np.abs(w - before).max()
    check(trainer, w, travelled / (1 - momentum))


def test_adam_equals_the_reference() -> None:
    trainer = Trainer(Adam(0.02))
    w = trainer.values.astype(np.float64)
    m, v = np.zeros(SIZE), np.zeros(SIZE)
    travelled = 0.0
    for t in range(1, STEPS + 1):
        if t == STEPS // 2:
            trainer.optimizer.learning_rate = 0.005
        before = w
        rate = trainer.optimizer.learning_rate
        w, m, v = reference.adam_step(w, trainer.step(t), m, v, t, rate, 0.9, 0.999, 1e-7)
        travelled += np.abs(w - before).max()
    check(trainer, w, travelled / (1 - 0.9))
    assert trainer.optimizer.iterations == STEPS


def test_settings() -> None:
    assert SGD(0.1, 0.9, nesterov=True).settings() == [0.1, 0.9, 1.0]
    adam = Adam()
    assert adam.settings() == [0.001, 0.9, 0.999, 1e-7, 1.0]
    adam.iterations = 41
    assert adam.settings()[-1] == 42


TAIL = [
    ("weight_decay", None),
    ("clipnorm", None),
    ("clipvalue", None),
    ("global_clipnorm", None),
    ("use_ema", False),
    ("ema_momentum", 0.99),
    ("ema_overwrite_frequency", None),
    ("loss_scale_factor", None),
    ("gradient_accumulation_steps", None),
    ("name", None),
]


@pytest.mark.parametrize(
    ("cls", "first"),
    [
        (SGD, [("learning_rate", 0.01), ("momentum", 0.0), ("nesterov", False)]),
        (
            Adam,
            [("learning_rate", 0.001), ("beta_1", 0.9), ("beta_2", 0.999), ("epsilon", 1e-7), ("amsgrad", False)],
        ),
    ],
)
def test_signatures_are_those_of_keras(cls: type[Optimizer], first: list[tuple[str, Any]]) -> None:
    parameters = inspect.signature(cls).parameters.values()
    assert [(parameter.name, parameter.default) for parameter in parameters] == first + TAIL


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("weight_decay", 0.004),
        ("clipnorm", 1.0),
        ("clipvalue", 0.5),
        ("global_clipnorm", 1.0),
        ("use_ema", True),
        ("ema_momentum", 0.9),
        ("ema_overwrite_frequency", 10),
        ("loss_scale_factor", 2.0),
        ("gradient_accumulation_steps", 4),
    ],
)
@pytest.mark.parametrize("cls", [SGD, Adam])
def test_nothing_unsupported_is_ignored(cls: type[Optimizer], argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{cls.__name__}: {argument} is not supported yet .*got {value!r}"):
        cls(**{argument: value})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Adam(amsgrad=True), "Adam: amsgrad is not supported yet and must be False, got True"),
        (lambda: Adam(-1), "Adam: learning_rate must be a number finite and at least 0, got -1"),
        (lambda: Adam(math.nan), "learning_rate must be .*got nan"),
        (lambda: Adam(True), "learning_rate must be .*got True"),
        (lambda: Adam(lambda step: 0.1), "learning_rate must be a number, schedules are not supported yet"),
        (lambda: Adam(beta_1=1), "Adam: beta_1 must be a number at least 0 and below 1, got 1"),
        (lambda: Adam(epsilon="1e-7"), "Adam: epsilon must be .*got '1e-7'"),
        (lambda: SGD(momentum=1.5), "SGD: momentum must be .*got 1.5"),
        (lambda: optimizers.get("rmsprop"), "optimizer must be one of sgd, adam or an Optimizer, got 'rmsprop'"),
        (lambda: optimizers.get(None), "got None"),
    ],
)
def test_bad_arguments(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()


def test_unknown_argument_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="betas"):
        Adam(betas=(0.9, 0.99))  # type: ignore[call-arg]


def test_learning_rate_is_checked_when_set() -> None:
    adam = Adam()
    adam.learning_rate = np.float32(0.5)  # type: ignore[assignment]
    assert adam.learning_rate == 0.5
    with pytest.raises(ValueError, match=r"got -0\.5"):
        adam.learning_rate = -0.5


@pytest.mark.parametrize("optimizer", [SGD(0.1, 0.9, True), Adam(0.01, 0.8, 0.99, 1e-3, name="mine")])
def test_config_round_trip(optimizer: Optimizer) -> None:
    copy = optimizers.get(optimizers.serialize(optimizer))
    assert type(copy) is type(optimizer)
    assert copy.get_config() == optimizer.get_config()
    assert copy.slots == optimizer.slots
    assert copy.settings() == optimizer.settings()


def test_get() -> None:
    assert isinstance(optimizers.get("adam"), Adam)
    assert isinstance(optimizers.get("SGD"), SGD)
    adam = Adam()
    assert optimizers.get(adam) is adam
    assert adam.name == "adam"
    assert repr(SGD(0.5)) == "SGD(learning_rate=0.5, momentum=0.0, nesterov=False)"
