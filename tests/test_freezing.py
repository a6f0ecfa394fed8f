"""trainable=False: what is computed, what changes, what takes memory, and what tables and files say of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastcnn
from fastcnn import applications, load_model
from fastcnn.layers import BatchNormalization, Dense, Input
from fastcnn.models import Model
from fastcnn.optimizers import Adam
from fastcnn.parameters import padded

CLASSES = 3


def fine_tuned() -> tuple[Model, Model]:
    """Return a model and the ResNet18 in it that it builds on, whose moving statistics are not the initial ones."""
    fastcnn.set_random_seed(0)
    base = applications.ResNet18(False, None, input_shape=(32, 32, 3), pooling="avg", variant="torchvision")
    rng = np.random.default_rng(0)
    for layer in base.layers:
        if isinstance(layer, BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma, beta, rng.normal(0, 0.1, mean.shape), rng.uniform(0.5, 1.5, variance.shape)])
    x = Input((32, 32, 3))
    return Model(x, Dense(CLASSES, activation="softmax", name="head")(base(x))), base


def data() -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(1).standard_normal((6, 32, 32, 3)).astype(np.float32), np.arange(6) % CLASSES


def compile_(model: Model) -> None:
    model.compile(Adam(0.01), "sparse_categorical_crossentropy")


def bits(model: Model) -> dict[str, bytes]:
    return {w.path: w.value.tobytes() for w in model.weights}


def steps(model: Model) -> list[str]:
    """Return the operations of a training step behind the loss."""
    with model._lease() as workspace:
        recipe, state = model._training()
        names: list[str] = workspace.program("training", 6, recipe, state).emitter.steps
    return names[names.index("softmax_cross_entropy") + 1 :]


def test_a_frozen_base_costs_no_backward_step_and_no_slot() -> None:
    model, base = fine_tuned()
    base.trainable = False
    compile_(model)
    assert steps(model) == ["bias_backward", "dense_backward_weights", "adam_step"]
    head = model.get_layer("head")
    size = 4 * sum(padded(w.size) for w in head.weights)
    plan = model.memory_plan(6)
    assert (plan.gradients, plan.optimizer) == (size, 2 * size)
    before = bits(model)
    model.fit(*data(), epochs=3, batch_size=4, verbose=0)
    changed = {path for path, value in bits(model).items() if value != before[path]}
    assert changed == {"head/kernel", "head/bias"}  # moving statistics stay too
    assert model.optimizer_state().keys() == {
        "iterations",
        "momentum/head/kernel",
        "momentum/head/bias",
        "velocity/head/kernel",
        "velocity/head/bias",
    }


def test_a_frozen_base_is_in_inference_mode() -> None:
    """The loss of a training step is that of evaluation: batch normalisation uses its moving statistics."""
    model, base = fine_tuned()
    base.trainable = False
    compile_(model)
    expected = model.evaluate(*data(), batch_size=6)
    assert model.train_on_batch(*data()) == pytest.approx(expected, rel=1e-6)
    base.trainable = True
    compile_(model)
    assert model.train_on_batch(*data()) != pytest.approx(expected, rel=1e-2)


def test_unfreezing_the_last_stage_runs_backward_down_to_it() -> None:
    model, base = fine_tuned()
    base.trainable = False
    last = [layer for layer in base.layers if layer.name.startswith("conv5_block2")]
    for layer in last:
        layer.trainable = True
    compile_(model)
    names = steps(model)
    assert names.count("conv2d_backward_weights") == 2
    assert names.count("conv2d_backward_data") == 1  # not through the lowest: its input needs no gradient
    assert names.count("batchnorm_backward") == 2
    before = bits(model)
    model.fit(*data(), epochs=2, batch_size=6, verbose=0)
    changed = {path for path, value in bits(model).items() if value != before[path]}
    expected = {w.path for layer in last for w in layer.weights} | {"head/kernel", "head/bias"}
    assert changed == expected  # with the moving statistics of the unfrozen layers


def test_frozen_normalisation_between_trained_convolutions() -> None:
    model, base = fine_tuned()
    norms = [layer for layer in base.layers if isinstance(layer, BatchNormalization)]
    for norm in norms:
        norm.trainable = False
    compile_(model)
    before = bits(model)
    model.train_on_batch(*data())
    same = {path for path, value in bits(model).items() if value == before[path]}
    assert same == {w.path for norm in norms for w in norm.weights}


def test_trainable_counts_when_compile_is_called() -> None:
    """As in Keras: what changes afterwards waits for the next compile."""
    model, base = fine_tuned()
    base.trainable = False
    compile_(model)
    base.trainable = True
    before = bits(base)
    model.train_on_batch(*data())
    assert bits(base) == before
    compile_(model)
    model.train_on_batch(*data())
    changed = [path for path, value in bits(base).items() if value != before[path]]
    assert len(changed) == len(before)


def test_order_and_counts() -> None:
    model, base = fine_tuned()
    order = [w.path for w in model.weights]
    assert len(model.trainable_weights) + len(model.non_trainable_weights) == len(order)
    base.trainable = False
    assert [w.path for w in model.weights] == order
    assert [w.path for w in model.trainable_weights] == ["head/kernel", "head/bias"]
    assert [w.path for w in model.non_trainable_weights] == order[:-2]
    assert base.trainable_weights == []
    assert not any(layer.trainable for layer in base.layers)
    compile_(model)
    lines: list[str] = []
    model.summary(print_fn=lines.append, show_trainable=True, expand_nested=True)
    text = "\n".join(lines)
    total, head = model.count_params(), 512 * CLASSES + CLASSES
    assert f"Total params: {total:,}" in text
    assert f"Trainable params: {head:,} (" in text
    assert f"Non-trainable params: {total - head:,} (" in text
    assert f"Optimizer adam: {2 * head:,}" in text
    assert [line.split()[-1] for line in lines if line.lstrip().startswith(("head ", "conv1_conv "))] == ["N", "Y"]


def test_a_model_without_anything_to_train() -> None:
    model, _ = fine_tuned()
    model.trainable = False
    assert model.trainable_weights == []
    compile_(model)
    before = bits(model)
    assert model.train_on_batch(*data()) == pytest.approx(model.evaluate(*data()), rel=1e-6)
    assert bits(model) == before
    assert model.memory_plan(6).optimizer == 0


@pytest.mark.parametrize("thawed", [False, True])
def test_training_goes_on_after_loading(tmp_path: Path, thawed: bool) -> None:
    """Also when `trainable` was changed since compile: the file says what was trained."""
    model, base = fine_tuned()
    base.trainable = False
    compile_(model)
    model.train_on_batch(*data())
    base.trainable = thawed
    model.save(tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    assert bits(again) == bits(model)
    assert again.optimizer_state().keys() == model.optimizer_state().keys()
    assert again.train_on_batch(*data()) == model.train_on_batch(*data())
    assert bits(again) == bits(model)
    assert again.get_layer(base.name).trainable is thawed


def test_slots_of_what_stays_trained_survive_unfreezing() -> None:
    model, base = fine_tuned()
    base.trainable = False
    compile_(model)
    model.train_on_batch(*data())
    before = model.optimizer_state()["momentum/head/kernel"].copy()
    assert before.any()
    base.trainable = True
    model.compile(model.optimizer, "sparse_categorical_crossentropy")
    assert np.array_equal(model.optimizer_state()["momentum/head/kernel"], before)
    assert not model.optimizer_state()["momentum/conv1_conv/kernel"].any()
