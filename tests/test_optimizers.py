"""Optimizers over 200 steps against Keras' formulas in float64, their arguments, exclusions and configuration."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcnn import _core, optimizers, reference
from fastcnn.errors import NonFiniteError
from fastcnn.models.state import TrainingState
from fastcnn.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop, schedules
from fastcnn.parameters import Parameter, ParameterStore

Array = NDArray[Any]
STEPS = 200
UNIT = reference.UNIT_ROUNDOFF
SHAPES = {"a/kernel": (13, 37), "a/bias": (29,), "b/gamma": (17,), "b/beta": (1,), "c/kernel": (5, 100)}


class Trainer:
    """Weights that follow a noisy quadratic, updated as a model does it, by a program."""

    def __init__(self, optimizer: Optimizer, weight: float = 1.0) -> None:
        rng = np.random.default_rng(5)
        self.optimizer = optimizer
        self.parameters = {
            path: Parameter(path.split("/")[1], path, shape, "zeros", True)  # type: ignore[arg-type]
            for path, shape in SHAPES.items()
        }
        ParameterStore(list(self.parameters.values()))
        self.targets = {path: rng.normal(size=shape).astype(np.float32) for path, shape in SHAPES.items()}
        for path, shape in SHAPES.items():
            self.parameters[path].assign(weight * rng.normal(size=shape).astype(np.float32))
        self.state = TrainingState(optimizer, list(self.parameters.values()), [])
        self.program = _core.Program()
        self.steps = self.state.emit_update(self.program)

    def values(self) -> dict[str, Array]:
        return {path: parameter.numpy().astype(np.float64) for path, parameter in self.parameters.items()}

    def step(self, t: int) -> dict[str, Array]:
        """Make the gradients of batch t, update, and return them."""
        grads = {}
        for path, parameter in self.parameters.items():
            pull = (parameter.value - self.targets[path]) * np.float32(1 + math.sin(t))
            grads[path] = pull + np.float32(0.01 * math.cos(7 * t))
            self.state.gradient(parameter)[...] = grads[path]
        self.state.apply("test", self.program, self.steps)
        return grads


class Exact:
    """The same in float64, variable by variable in Keras' order of doing things."""

    def __init__(self, optimizer: Optimizer, values: Mapping[str, Array]) -> None:
        self.config = optimizer.get_config()
        self.rule = type(optimizer)
        self.values = dict(values)
        self.slots: dict[str, list[Array]] = {path: [np.zeros_like(w)] * 3 for path, w in values.items()}
        self.average = {path: np.zeros_like(w) for path, w in values.items()}
        self.gathered = {path: np.zeros_like(w) for path, w in values.items()}
        self.batches = 0
        self.travelled = 0.0  # the sum of the largest steps
        self.cancelled = 1.0  # the largest v / (v - mean^2 + epsilon) of RMSprop

    def step(self, grads: Mapping[str, Array], rate: float, decayed: Mapping[str, bool]) -> None:
        config = self.config
        every = config["gradient_accumulation_steps"] or 1
        done = self.batches // every
        self.gathered = {path: self.gathered[path] + g for path, g in grads.items()}
        if (self.batches + 1) % every == 0:
            mean = self.clipped({path: g / every for path, g in self.gathered.items()})
            for path, w in self.values.items():
                kept = w - w * rate * (config["weight_decay"] or 0) * decayed[path]
                new = self.ruled(path, kept, mean[path], rate, done + 1)
                self.travelled += float(np.abs(new - w).max() / len(SHAPES))
                self.values[path] = new
            self.gathered = {path: np.zeros_like(w) for path, w in self.values.items()}
        if config["use_ema"]:
            momentum = config["ema_momentum"] if done else 0.0
            for path, w in self.values.items():
                self.average[path] = momentum * self.average[path] + (1 - momentum) * w
            if config["ema_overwrite_frequency"] and (done + 1) % config["ema_overwrite_frequency"] == 0:
                self.values = dict(self.average)
        self.batches += 1

    def clipped(self, grads: dict[str, Array]) -> dict[str, Array]:
        config = self.config
        norms = {path: np.sqrt((g**2).sum()) for path, g in grads.items()}
        if limit := config["clipnorm"]:
            return {path: g * limit / max(norms[path], limit) for path, g in grads.items()}
        if limit := config["global_clipnorm"]:
            whole = math.sqrt(sum(norm**2 for norm in norms.values()))
            return {path: g * min(1, limit / whole) for path, g in grads.items()}
        if limit := config["clipvalue"]:
            return {path: np.clip(g, -limit, limit) for path, g in grads.items()}
        return grads

    def ruled(self, path: str, w: Array, g: Array, rate: float, t: int) -> Array:
        config, slots = self.config, self.slots[path]
        if self.rule is SGD:
            w, slots[0] = reference.sgd_step(w, g, slots[0], rate, config["momentum"], config["nesterov"])
        elif self.rule is RMSprop:
            numbers = (rate, config["rho"], config["momentum"], config["epsilon"], config["centered"])
            w, *slots[:] = reference.rmsprop_step(w, g, *slots, *numbers)
            v, _, centre = slots
            self.cancelled = max(self.cancelled, float((v / (v - centre**2 + config["epsilon"])).max()))
        elif config["amsgrad"]:
            numbers = (rate, config["beta_1"], config["beta_2"], config["epsilon"])
            w, *slots[:] = reference.amsgrad_step(w, g, *slots, t, *numbers)
        else:
            numbers = (rate, config["beta_1"], config["beta_2"], config["epsilon"])
            w, slots[0], slots[1] = reference.adam_step(w, g, slots[0], slots[1], t, *numbers)
        return w


def follow(trainer: Trainer, decayed: Mapping[str, bool] | None = None) -> Exact:
    """Run both for STEPS batches, the exact one on the gradients that the trainer saw, and compare their weights.

    A batch rounds the weight once, to half a unit of it, and its average twice. The step of an update is rounded at
    most 12 times on its way: scale, two averages of 3, root, quotient, rate, and the sum with the decay. Momentum m
    repeats an error 1/(1-m) times. Where RMSprop subtracts mean^2 from v, their own roundings grow by the cancellation.
    """
    optimizer = trainer.optimizer
    exact = Exact(optimizer, trainer.values())
    decayed = decayed or dict.fromkeys(SHAPES, True)
    for t in range(STEPS):
        if t == STEPS // 2 and not isinstance(optimizer._rate, schedules.LearningRateSchedule):
            optimizer.learning_rate = optimizer.learning_rate / 4
        rate = optimizer.learning_rate
        exact.step(trainer.step(t), rate, decayed)
    config = optimizer.get_config()
    momentum = config.get("momentum", config.get("beta_1", 0.0))
    largest = max(float(np.abs(w).max()) for w in exact.values.values())
    steps = exact.travelled * len(SHAPES) * 12 * exact.cancelled / (1 - momentum)
    bound = UNIT * (STEPS * largest * (3 if optimizer.use_ema else 1) + steps)
    assert bound < 1e-3  # or the comparison would mean little
    for path, value in trainer.values().items():
        assert np.abs(value - exact.values[path]).max() <= bound, path
    if optimizer.use_ema:
        for parameter, average in trainer.state.layout.views(trainer.state.slots["average"]):
            assert np.abs(average - exact.average[parameter.path]).max() <= bound
    assert optimizer.batches == STEPS
    assert optimizer.iterations == STEPS // (optimizer.gradient_accumulation_steps or 1)
    return exact


RULES: dict[str, tuple[type[Optimizer], dict[str, Any], tuple[str, ...]]] = {
    "sgd": (SGD, {"learning_rate": 0.02}, ()),
    "momentum": (SGD, {"learning_rate": 0.02, "momentum": 0.9}, ("momentum",)),
    "nesterov": (SGD, {"learning_rate": 0.02, "momentum": 0.9, "nesterov": True}, ("momentum",)),
    "adam": (Adam, {"learning_rate": 0.02}, ("momentum", "velocity")),
    "amsgrad": (Adam, {"learning_rate": 0.02, "amsgrad": True}, ("momentum", "velocity", "velocity_hat")),
    "adamw": (AdamW, {"learning_rate": 0.02}, ("momentum", "velocity")),
    "rmsprop": (RMSprop, {"learning_rate": 0.01}, ("velocity",)),
    "rmsprop momentum": (RMSprop, {"learning_rate": 0.01, "momentum": 0.5}, ("velocity", "momentum")),
    "rmsprop centered": (RMSprop, {"learning_rate": 0.003, "centered": True}, ("velocity", "average_gradient")),
    "rmsprop both": (
        RMSprop,
        {"learning_rate": 0.003, "momentum": 0.5, "centered": True},
        ("velocity", "momentum", "average_gradient"),
    ),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "weight_decay": {"weight_decay": 0.1},
    "clipnorm": {"clipnorm": 3.0},
    "clipvalue": {"clipvalue": 0.5},
    "global_clipnorm": {"global_clipnorm": 5.0},
    "ema": {"use_ema": True, "ema_momentum": 0.9},
    "ema overwriting": {"use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 7},
    "accumulation": {"gradient_accumulation_steps": 3},
    "all": {
        "weight_decay": 0.05,
        "clipnorm": 2.0,
        "use_ema": True,
        "ema_momentum": 0.7,
        "ema_overwrite_frequency": 5,
        "gradient_accumulation_steps": 4,
    },
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("rule", RULES)
def test_200_steps_equal_the_formulas_in_float64(rule: str, option: str) -> None:
    cls, arguments, slots = RULES[rule]
    optimizer = cls(**arguments | OPTIONS[option])
    assert optimizer.rule_slots == slots
    trainer = Trainer(optimizer)
    start = trainer.values()
    exact = follow(trainer)
    assert max(np.abs(exact.values[path] - w).max() for path, w in start.items()) > 0.1  # it has moved


@pytest.mark.parametrize(
    "option",
    [name for name in OPTIONS if name != "plain"],
)
def test_each_option_changes_the_weights(option: str) -> None:
    plain, other = Trainer(SGD(0.02)), Trainer(SGD(0.02, **OPTIONS[option]))
    for t in range(20):
        plain.step(t)
        other.step(t)
    changed = {path for path, w in plain.values().items() if np.any(w != other.values()[path])}
    if option == "ema":  # the average is beside the weights until training ends
        assert changed == set()
        other.state.weights.finish()
        changed = {path for path, w in plain.values().items() if np.any(w != other.values()[path])}
    assert {"a/kernel", "c/kernel"} <= changed


@pytest.mark.parametrize("clip", [{}, {"clipnorm": 3.0}])
@pytest.mark.parametrize(
    ("names", "listed", "kept"),
    [
        (["bias", "beta"], [], {"a/bias", "b/beta"}),
        ([], ["c/kernel"], {"c/kernel"}),
        (["amm"], ["a/bias"], {"a/bias", "b/gamma"}),
    ],
)
def test_excluded_weights_do_not_decay(
    names: list[str], listed: list[str], kept: set[str], clip: dict[str, float]
) -> None:
    optimizer = AdamW(0.02, weight_decay=0.3, **clip)  # type: ignore[arg-type]
    paths = [Parameter("w", path, (1,), "zeros", True) for path in listed]  # type: ignore[arg-type]
    optimizer.exclude_from_weight_decay(var_list=paths, var_names=names)
    again = optimizers.get(optimizers.serialize(optimizer))
    for each in (optimizer, again):
        follow(Trainer(each), {path: path not in kept for path in SHAPES})


def test_exclusion_must_come_before_training() -> None:
    trainer = Trainer(AdamW())
    with pytest.raises(ValueError, match="AdamW: exclude_from_weight_decay must be called before training begins"):
        trainer.optimizer.exclude_from_weight_decay(var_names=["bias"])
    for word in ("bias|gamma", "", 3):
        with pytest.raises(ValueError, match="var_names must be words such as 'bias', got"):
            AdamW().exclude_from_weight_decay(var_names=[word])  # type: ignore[list-item]


@pytest.mark.parametrize("clip", [{"clipnorm": 1.0}, {"global_clipnorm": 1.0}])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_norm_that_is_not_finite_changes_nothing(clip: dict[str, float], value: float) -> None:
    trainer = Trainer(Adam(use_ema=True, gradient_accumulation_steps=2, **clip))  # type: ignore[arg-type]
    trainer.step(0)
    before, slots = trainer.values(), {name: a.copy() for name, a in trainer.state.slots.items()}
    trainer.state.gradients[trainer.state.layout.offsets[trainer.parameters["b/gamma"]]] = value
    place = "gradient of b/gamma" if "clipnorm" in clip else "gradient"
    with pytest.raises(NonFiniteError, match=f"^fit: the norm of the {place} is not finite"):
        trainer.state.apply("fit", trainer.program, trainer.steps)
    assert all(np.array_equal(w, before[path]) for path, w in trainer.values().items())
    for name, array in trainer.state.slots.items():
        assert np.array_equal(array, slots[name] if name != "gradient_accumulator" else np.zeros_like(array))
    trainer.step(1)
    assert np.isfinite(trainer.state.slots["velocity"]).all()


def test_gradients_of_nothing_are_not_divided_by_their_norm() -> None:
    trainer = Trainer(SGD(0.5, clipnorm=1.0))
    before = trainer.values()
    trainer.state.gradients.fill(0)
    trainer.state.apply("fit", trainer.program, trainer.steps)
    assert all(np.array_equal(w, before[path]) for path, w in trainer.values().items())


@pytest.mark.parametrize("clip", [{"clipnorm": 0.01}, {"global_clipnorm": 0.01}])
def test_clipping_gives_the_same_bits_for_any_number_of_threads(clip: dict[str, float], on_threads: Any) -> None:
    def run() -> tuple[Array, ...]:
        rng = np.random.default_rng(3)
        parameter = Parameter("kernel", "a/kernel", (700, 900), "zeros", True)  # type: ignore[arg-type]
        parameter.assign(rng.normal(size=parameter.shape))
        state = TrainingState(Adam(**clip), [parameter], [])  # type: ignore[arg-type]
        program = _core.Program()
        steps = state.emit_update(program)
        for _ in range(3):
            state.gradient(parameter)[...] = rng.normal(size=parameter.shape)
            state.apply("test", program, steps)
        return (parameter.numpy(),)

    on_threads(run)


def test_the_default_makes_one_call_and_few_steps() -> None:
    """An update without norms is one run of the program, and neighbouring weights are one range."""
    trainer = Trainer(Adam(weight_decay=0.1))
    assert trainer.program.steps == ["adam_step"]
    trainer = Trainer(Adam(weight_decay=0.1, clipnorm=1.0))
    assert trainer.program.steps == ["squared_norms", *["adam_step"] * len(SHAPES)]


def test_settings() -> None:
    assert SGD(0.1, 0.9, nesterov=True).settings() == [0.1, 0.9, 1.0]
    assert RMSprop(0.1, 0.8, 0.7, 1e-3).settings() == [0.1, 0.8, 0.7, 1e-3]
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
ADAM = [("learning_rate", 0.001), ("beta_1", 0.9), ("beta_2", 0.999), ("epsilon", 1e-7), ("amsgrad", False)]


@pytest.mark.parametrize(
    ("cls", "first"),
    [
        (SGD, [("learning_rate", 0.01), ("momentum", 0.0), ("nesterov", False), *TAIL]),
        (Adam, [*ADAM, *TAIL]),
        (AdamW, [*ADAM, ("weight_decay", 0.004), *TAIL[1:]]),
        (
            RMSprop,
            [
                ("learning_rate", 0.001),
                ("rho", 0.9),
                ("momentum", 0.0),
                ("epsilon", 1e-7),
                ("centered", False),
                *TAIL,
            ],
        ),
    ],
)
def test_signatures_are_those_of_keras(cls: type[Optimizer], first: list[tuple[str, Any]]) -> None:
    parameters = inspect.signature(cls).parameters.values()
    assert [(parameter.name, parameter.default) for parameter in parameters] == first


@pytest.mark.parametrize("cls", [SGD, Adam, AdamW, RMSprop])
def test_a_loss_scale_warns_that_it_has_no_effect(cls: type[Optimizer]) -> None:
    with pytest.warns(UserWarning, match=f"{cls.__name__}: loss_scale_factor has no effect"):
        cls(loss_scale_factor=2.0)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Adam(-1), "Adam: learning_rate must be a number finite and at least 0, got -1"),
        (lambda: Adam(math.nan), "learning_rate must be .*got nan"),
        (lambda: Adam(True), "learning_rate must be .*got True"),
        (lambda: Adam(lambda step: 0.1), "learning_rate must be a number or a LearningRateSchedule"),
        (lambda: Adam(beta_1=1), "Adam: beta_1 must be a number at least 0 and below 1, got 1"),
        (lambda: Adam(epsilon="1e-7"), "Adam: epsilon must be .*got '1e-7'"),
        (lambda: SGD(momentum=1.5), "SGD: momentum must be .*got 1.5"),
        (lambda: RMSprop(rho=-0.1), "RMSprop: rho must be .*got -0.1"),
        (lambda: AdamW(weight_decay=None), "AdamW: weight_decay must be a number, got None"),
        (lambda: AdamW(beta_2=2), "AdamW: beta_2 must be .*got 2"),
        (lambda: SGD(weight_decay=-1), "SGD: weight_decay must be a number finite and at least 0, got -1"),
        (lambda: SGD(clipnorm=0), "SGD: clipnorm must be None or above 0, got 0"),
        (lambda: SGD(clipvalue=math.inf), "SGD: clipvalue must be .*got inf"),
        (lambda: SGD(clipnorm=1, clipvalue=1), "only one of clipnorm, clipvalue and global_clipnorm can be set, got"),
        (lambda: SGD(ema_momentum=1.1), "SGD: ema_momentum must be .*got 1.1"),
        (lambda: SGD(ema_overwrite_frequency=0), "ema_overwrite_frequency must be None or an integer of at least 1"),
        (lambda: SGD(gradient_accumulation_steps=1), "gradient_accumulation_steps must be .*at least 2, got 1"),
        (lambda: SGD(gradient_accumulation_steps=2.5), "gradient_accumulation_steps must be .*got 2.5"),
        (
            lambda: optimizers.get("lion"),
            "optimizer must be one of adam, adamw, rmsprop, sgd or an Optimizer, got 'lion'",
        ),
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


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(0.1, 0.9, True, clipvalue=0.5),
        Adam(0.01, 0.8, 0.99, 1e-3, name="mine", amsgrad=True, use_ema=True, ema_overwrite_frequency=3),
        AdamW(schedules.CosineDecay(0.1, 100), global_clipnorm=1.0),
        RMSprop(0.01, 0.8, 0.5, 1e-5, True, gradient_accumulation_steps=4, weight_decay=0.1),
    ],
)
def test_config_round_trip(optimizer: Optimizer) -> None:
    copy = optimizers.get(optimizers.serialize(optimizer))
    assert type(copy) is type(optimizer)
    assert copy.get_config() == optimizer.get_config()
    assert copy.slots == optimizer.slots
    assert copy.settings() == optimizer.settings()
    assert repr(copy) == repr(optimizer)


def test_slots() -> None:
    assert SGD().slots == ()
    assert RMSprop(use_ema=True, gradient_accumulation_steps=2).slots == ("velocity", "average", "gradient_accumulator")


def test_get() -> None:
    assert isinstance(optimizers.get("adam"), Adam)
    assert isinstance(optimizers.get("SGD"), SGD)
    assert isinstance(optimizers.get("rmsprop"), RMSprop)
    assert isinstance(optimizers.get("AdamW"), AdamW)
    adam = Adam()
    assert optimizers.get(adam) is adam
    assert adam.name == "adam"
    assert repr(SGD(0.5)) == "SGD(learning_rate=0.5, momentum=0.0, nesterov=False)"
