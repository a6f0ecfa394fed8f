"""Kernels changed as soon as their gradients are known: the same bits, less memory, nothing done too early."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from fastcnn import load_model, optimizers
from fastcnn.errors import NonFiniteError
from fastcnn.layers import (
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    MaxPooling2D,
    PythonLayer,
    ReLU,
)
from fastcnn.models import Model, Sequential, update
from fastcnn.models.gradients import gradients_of
from fastcnn.models.memory import training_plan
from fastcnn.utils import set_random_seed

LOSS = "sparse_categorical_crossentropy"
SIZE = 300
LARGE = 1_000  # weights, for these tests


@pytest.fixture(autouse=True)
def _small_kernels_count_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update, "LARGE", LARGE)


@pytest.fixture(params=[True, False], ids=["at once", "at the end"])
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        monkeypatch.setattr(update, "LARGE", 1 << 40)
    return bool(request.param)


def net(**options: Any) -> Sequential:
    set_random_seed(3)
    layers: list[Any] = [
        *(Input((5, 5, 2)), Conv2D(12, 3, padding="same", activation="relu", name="conv1")),
        *(Conv2D(16, 3, padding="same", name="conv2"), BatchNormalization(name="bn2"), ReLU()),
        *(Conv2D(12, 1, name="conv3"), MaxPooling2D(name="pool"), Flatten()),
        Dense(SIZE, activation="relu", name="first", **options),
        *(Dropout(0.3, name="drop"), Dense(SIZE, name="second"), ReLU()),
        Dense(3, activation="softmax", name="last"),
    ]
    return Sequential(layers)


def plain_net() -> Sequential:
    """Without dropout, whose numbers depend on the parts of a batch."""
    set_random_seed(3)
    return Sequential(
        [Input((5, 5, 2)), Flatten(), Dense(SIZE, activation="relu", name="first"), Dense(3, activation="softmax")]
    )


def data(count: int = 12) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((count, 5, 5, 2)).astype(np.float32), rng.integers(0, 3, count)


def changed_at_once(model: Model) -> set[str]:
    return {parameter.path for parameter in model._training()[1].at_once}


def residual_net() -> Model:
    set_random_seed(3)
    x = Input((5, 5, 2))
    y = z = ReLU(name="r1")(BatchNormalization(name="bn1")(Conv2D(16, 3, padding="same", name="conv1")(x)))
    for i in (2, 3):
        z = ReLU(name=f"r{i}")(BatchNormalization(name=f"bn{i}")(Conv2D(16, 3, padding="same", name=f"conv{i}")(z)))
    y = ReLU(name="r4")(Add(name="add")([y, z]))
    return Model(x, Dense(3, activation="softmax", name="head")(GlobalAveragePooling2D(name="gap")(y)))


def trained(make: Any, optimizer: Any, recompute: bool = False) -> list[bytes]:
    """Return all weights, slots and losses after some steps."""
    model = make()
    model.compile(optimizer, LOSS, recompute=recompute)
    assert update.LARGE > LARGE or changed_at_once(model)
    x, y = data()
    history = model.fit(x, y, batch_size=5, epochs=3, verbose=0)
    arrays = [*model.get_weights(), *model.optimizer_state().values(), np.array(history.history["loss"])]
    return [array.tobytes() for array in arrays]


@pytest.mark.parametrize(
    "make",
    [
        lambda: optimizers.Adam(0.01),
        lambda: optimizers.Adam(0.01, amsgrad=True, clipvalue=1e-3, use_ema=True, ema_overwrite_frequency=2),
        lambda: optimizers.AdamW(0.01, weight_decay=0.1),
        lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        lambda: optimizers.SGD(0.1),
        lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    ],
    ids=["adam", "adam with all", "adamw", "nesterov", "sgd", "rmsprop"],
)
def test_no_bit_changes(isa: str, monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    if isa == "avx2x16":
        pytest.skip("the compiler splits its vectors, and makes other FMAs of the last one of a range")
    penalized = partial(net, kernel_regularizer="l2", bias_regularizer="l1")
    cases = [(net, False), (net, True), (residual_net, False), (residual_net, True), (penalized, False)]
    found = [trained(model, make(), recompute) for model, recompute in cases]
    monkeypatch.setattr(update, "LARGE", 1 << 40)
    for result, (model, recompute) in zip(found, cases, strict=True):
        assert result == trained(model, make(), recompute)


def test_which_kernels_are_changed_at_once() -> None:
    def chosen(model: Model, **options: Any) -> set[str]:
        model.compile(optimizers.Adam(**options), LOSS)
        return changed_at_once(model)

    large = {"conv2/kernel", "first/kernel", "second/kernel"}
    assert chosen(net()) == large
    assert chosen(net(), clipvalue=1.0) == large
    for known_before in ({"clipnorm": 1.0}, {"global_clipnorm": 1.0}, {"gradient_accumulation_steps": 2}):
        assert chosen(net(), **known_before) == set()
    assert chosen(net(kernel_regularizer="l2")) == {"conv2/kernel", "second/kernel"}
    frozen = net()
    frozen.get_layer("second").trainable = False
    assert chosen(frozen) == {"conv2/kernel", "first/kernel"}
    x = Input((SIZE,))
    own = PythonLayer(lambda x: x, lambda dy, y, x: dy)
    assert chosen(Model(x, Dense(3, activation="softmax")(own(Dense(SIZE)(x))))) == set()  # it may raise an error


def test_a_layer_called_twice_has_its_gradient_added_up(at_once: bool) -> None:
    set_random_seed(4)
    x = Input((SIZE,))
    shared = Dense(SIZE, name="shared", activation="relu")
    model = Model(x, Dense(3, activation="softmax")(shared(Dense(SIZE, name="once")(shared(x)))))
    model.compile(optimizers.SGD(0.1), LOSS)
    assert changed_at_once(model) == ({"once/kernel"} if at_once else set())
    rng = np.random.default_rng(0)
    inputs, labels = rng.standard_normal((4, SIZE)).astype(np.float32), [0, 1, 2, 0]
    wanted = {w: w.numpy() - np.float32(0.1) * gradient for w, gradient in gradients_of(model, inputs, labels)}
    model.train_on_batch(inputs, labels)
    for parameter, value in wanted.items():
        np.testing.assert_allclose(parameter.numpy(), value, rtol=1e-5, atol=1e-7)


def test_nothing_changes_before_the_loss_is_known_to_be_finite(at_once: bool) -> None:
    model = net()
    model.compile("adam", LOSS)
    x, y = data()
    model.train_on_batch(x, y)
    before = [array.copy() for array in (*model.get_weights(), *model.optimizer_state().values())]
    with pytest.raises(NonFiniteError):
        model.train_on_batch(np.full_like(x, np.nan), y)
    assert [a.tobytes() for a in (*model.get_weights(), *model.optimizer_state().values())] == [
        a.tobytes() for a in before
    ]


def test_gradients_and_their_norms_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data()
    found: list[Any] = []
    for threshold in (LARGE, 1 << 40):
        monkeypatch.setattr(update, "LARGE", threshold)
        model = net()
        model.compile("adam", LOSS)
        gradients = {w.path: gradient.tobytes() for w, gradient in gradients_of(model, x, y)}
        found.append((model.gradient_norms(x, y), gradients))
        assert {path for path, norm in found[-1][0].items() if norm == 0} == {"conv2/bias"}  # a normalisation follows
    assert found[0] == found[1]


def test_gradients_are_right_after_a_loss_that_was_not_finite(at_once: bool) -> None:
    x, y = data()
    model = net()
    model.compile("adam", LOSS)
    wanted = model.gradient_norms(x, y)
    with pytest.raises(NonFiniteError):
        model.gradient_norms(np.full_like(x, np.nan), y)
    assert model.gradient_norms(x, y) == wanted


@pytest.mark.parametrize("recompute", [False, True])
def test_no_memory_of_them_is_taken_by_others(monkeypatch: pytest.MonkeyPatch, recompute: bool) -> None:
    """What the update reads lives until then: in memory full of NaN the result is the same, and nothing is NaN."""
    x, y = data()
    found = []
    for threshold in (LARGE, 1 << 40):
        monkeypatch.setattr(update, "LARGE", threshold)
        model = net()
        model.compile(optimizers.SGD(0.1), LOSS, recompute=recompute)
        model.warmup(len(x), training=True)
        for _ in range(2):
            model._poison_arena()
            model.train_on_batch(x, y)
        assert all(np.isfinite(w).all() for w in model.get_weights())
        found.append([w.tobytes() for w in model.get_weights()])
    assert found[0] == found[1]


def test_the_plan_counts_the_largest_alone_but_for_batches_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = []
    for threshold in (LARGE, 1 << 40):
        monkeypatch.setattr(update, "LARGE", threshold)
        model = net()
        model.compile("adam", LOSS)
        plans.append((model.memory_plan(8), training_plan(model, [4], in_parts=True)))
    (whole, parts), (whole_before, parts_before) = plans
    large = [w.size for w in net().weights if w.size >= LARGE]
    assert abs(whole_before.gradients - whole.gradients - 4 * (sum(large) - max(large))) < 64 * 4
    assert whole.optimizer == whole_before.optimizer
    assert (parts.gradients, parts.optimizer) == (parts_before.gradients, parts_before.optimizer)


def test_a_batch_in_parts_trains_like_a_whole_one(at_once: bool) -> None:
    x, y = data(96)
    weights = []
    for parts in (1, 3):
        model = plain_net()
        model.compile(optimizers.SGD(0.1), LOSS)
        limit = None if parts == 1 else training_plan(model, [32], in_parts=True).total
        history = model.fit(x, y, batch_size=96, epochs=2, verbose=0, memory_limit=limit)
        assert history.micro_batches == parts
        weights.append(model.get_weights())
    for whole, part in zip(*weights, strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-4, atol=1e-6)


def test_a_saved_state_goes_on(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training with gradients in the update continues one without, and the other way round, by the same bits."""
    x, y = data()
    ends = []
    for thresholds in ((LARGE, LARGE), (1 << 40, LARGE), (LARGE, 1 << 40)):
        monkeypatch.setattr(update, "LARGE", thresholds[0])
        model = net()
        model.compile("adam", LOSS)
        model.train_on_batch(x, y)
        model.save(tmp_path / "m.safetensors")
        monkeypatch.setattr(update, "LARGE", thresholds[1])
        again = load_model(tmp_path / "m.safetensors")
        again.train_on_batch(x, y)
        ends.append([w.tobytes() for w in again.get_weights()])
    assert ends[0] == ends[1] == ends[2]
