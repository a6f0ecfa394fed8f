"""fit with memory_limit: batches in parts, with the results of whole ones."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nets import bits, compiled, plain, residual, some_data

from fastcnn import losses, report
from fastcnn.callbacks import BackupAndRestore, LambdaCallback
from fastcnn.errors import NonFiniteError
from fastcnn.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, GlobalAveragePooling2D, Input
from fastcnn.metrics import AUC
from fastcnn.models import Model, Sequential
from fastcnn.models.memory import training_plan
from fastcnn.optimizers import SGD, Adam
from fastcnn.optimizers.schedules import ExponentialDecay
from fastcnn.utils import set_random_seed


def limit_for(model: Model, samples: int, *, in_parts: bool = True, evaluated: int = 0) -> int:
    """Return the bytes that parts of so many samples take, and no more."""
    return training_plan(model, {samples}, in_parts, [evaluated] if evaluated else []).total


def noisy(seed: int = 1) -> Sequential:
    """A net with penalties and dropout, all layers with names."""
    set_random_seed(seed)
    return Sequential(
        [
            Input((6, 6, 2), name="x"),
            Conv2D(8, 3, activation="relu", kernel_regularizer="l2", name="conv"),
            Dropout(0.25, name="drop"),  # by whose name it draws
            GlobalAveragePooling2D(name="pool"),
            Dense(3, activation="softmax", name="head"),
        ],
        name="noisy",
    )


def state_of(model: Model) -> dict[str, bytes]:
    kept = {name: array for name, array in model.optimizer_state().items() if "accumulator" not in name}
    kept.pop("iterations")
    return {name: array.tobytes() for name, array in kept.items()}


@pytest.mark.filterwarnings("ignore:fit. memory_limit:UserWarning")
@pytest.mark.parametrize("make", [plain, noisy, residual])
@pytest.mark.parametrize("parts", [2, 3, 4])
def test_the_same_bits_as_explicit_accumulation(isa: str, make: Any, parts: int) -> None:
    x, y = some_data(24)
    options = {"epochs": 2, "verbose": 0, "shuffle": True}

    def optimizer(**more: Any) -> Adam:
        return Adam(0.01, global_clipnorm=0.5, weight_decay=0.1, **more)

    explicit = compiled(make(), optimizer(gradient_accumulation_steps=parts))
    explicit.fit(x, y, batch_size=12 // parts, **options)
    limited = compiled(make(), optimizer())
    history = limited.fit(x, y, batch_size=12, memory_limit=limit_for(limited, 12 // parts), **options)
    assert history.micro_batches == parts
    assert limited.optimizer.iterations == explicit.optimizer.iterations == 4
    assert bits(limited) == bits(explicit)
    assert state_of(limited) == state_of(explicit)


REDUCTIONS = ["sum_over_batch_size", "sum", "mean_with_sample_weight"]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", ["none", "samples", "classes"])
@pytest.mark.parametrize("count", [24, 29])  # of the last batch 5 samples are left, in two parts of 3 and 2
def test_the_result_of_whole_batches(reduction: str, weighted: str, count: int) -> None:
    x, y = some_data(count)
    rng = np.random.default_rng(1)
    options: dict[str, Any] = {"batch_size": 8, "epochs": 2, "verbose": 0}
    if weighted == "samples":
        options["sample_weight"] = rng.uniform(0, 3, count)
    if weighted == "classes":
        options["class_weight"] = {0: 0.2, 1: 3.0}
    rate = 0.02 if reduction == "sum" else 0.1

    def trained(**more: Any) -> tuple[Model, Any]:
        set_random_seed(1)
        model = Sequential(
            [Input((6, 6, 2)), *plain().layers[:-1], Dense(3, activation="softmax", name="h", kernel_regularizer="l2")]
        )
        loss = losses.SparseCategoricalCrossentropy(reduction=reduction)
        model.compile(
            SGD(ExponentialDecay(rate, 2, 0.9), momentum=0.5, use_ema=True, ema_overwrite_frequency=None),
            loss,
            metrics=["accuracy"],
            weighted_metrics=["accuracy"],
        )
        limit = {"memory_limit": limit_for(model, 3)} if more else {}
        return model, model.fit(x, y, **limit, **options)

    (whole, expected), (parted, found) = trained(), trained(limited=True)
    assert found.micro_batches == 3
    for a, b in zip(whole.get_weights(), parted.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)
    assert parted.optimizer.iterations == whole.optimizer.iterations
    for name, values in expected.history.items():
        assert found.history[name] == pytest.approx(values, rel=1e-5)


def test_numbers_that_do_not_change_are_the_same_bits() -> None:
    x, y = some_data(21)
    sample_weight = np.linspace(0, 2, 21)

    def run(**limit: Any) -> Any:
        model = compiled(plain(), SGD(0.0), metrics=["accuracy", "sparse_categorical_crossentropy"])
        given = {"memory_limit": limit_for(model, 2, evaluated=1)} if limit else {}
        data = {"sample_weight": sample_weight, "validation_data": (x, y, sample_weight), "validation_batch_size": 9}
        return model.fit(x, y, batch_size=10, verbose=0, epochs=2, **data, **given)

    whole, parts = run(), run(limit=True)
    assert parts.micro_batches == 5
    assert dict(whole.history) == dict(parts.history)


def test_the_fewest_parts_that_fit_and_never_more_memory() -> None:
    x, y = some_data(40)
    model = compiled(residual(), Adam(0.01))
    weights = 4 * model.count_params()
    for samples in (2, 5, 7, 19):
        limit = limit_for(model, samples, evaluated=1)
        used = []

        def look(batch: int, logs: Any, used: list[int] = used) -> None:
            workspace = model.running_fit().parts._workspace
            gradients, slots = model._training()[1].nbytes(in_parts=True)
            packed = workspace._constants.nbytes
            used.append(sum(workspace.nbytes) + packed + weights + 2 * gradients + slots)

        watch = LambdaCallback(on_train_batch_end=look, on_epoch_end=look)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.predict(x)  # what an earlier call has left does not count
            history = model.fit(
                x, y, batch_size=40, verbose=0, memory_limit=limit, validation_data=(x, y), callbacks=[watch]
            )
        parts = history.micro_batches
        assert max(used) <= limit
        assert training_plan(model, {-(-40 // parts), 40 // parts}, True, [1]).total <= limit
        fewer = parts - 1
        assert training_plan(model, {-(-40 // fewer), 40 // fewer}, fewer > 1, [1]).total > limit
    assert model._training()[1].weights._sum_of_parts is None
    assert model._pool.idle() == []


def test_what_fits_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = some_data(8)
    model, twin = compiled(residual()), compiled(residual())
    history = model.fit(x, y, batch_size=8, memory_limit="1 GB", verbose=2)
    assert history.micro_batches == 1
    assert capsys.readouterr().out.startswith("memory: a batch of 8 takes ")
    twin.fit(x, y, batch_size=8, verbose=0)
    assert bits(model) == bits(twin)


def test_the_line_and_the_warning(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = some_data(14)
    model = compiled(residual())
    limit = limit_for(model, 3)
    with pytest.warns(UserWarning, match="memory_limit") as caught:
        model.fit(x, y, batch_size=7, epochs=2, memory_limit=limit, verbose=2)
    line = f"memory: a batch of 7 is trained in 3 micro-batches of 3 or 2: {report.memory_size(limit)} of "
    assert capsys.readouterr().out.startswith(line)
    (warning,) = caught
    assert "batch normalisation takes its statistics from each micro-batch of 3 or 2 alone" in str(warning.message)
    assert warning.filename == __file__
    model = compiled(plain())  # nothing to warn of
    model.fit(x, y, batch_size=7, memory_limit=limit_for(model, 3), verbose=0)
    assert capsys.readouterr().out == ""
    frozen = residual()
    for name in ("bn1", "bn2"):
        frozen.get_layer(name).trainable = False
    compiled(frozen)
    frozen.fit(x, y, batch_size=7, memory_limit=limit_for(frozen, 3), verbose=0)


def test_not_even_one_sample_fits() -> None:
    x, y = some_data(6)
    model = compiled(plain(), Adam())
    before = bits(model)
    with pytest.raises(
        ValueError, match=r"^fit: memory_limit: one sample at a time takes \d.* KB, allowed are 1.00 KB: "
    ) as e:
        model.fit(x, y, verbose=0, memory_limit="1KB")
    for part in ("weights", "gradients", "optimizer", "activations", "packed", "scratch"):
        assert f"{part} " in str(e.value)
    generator = ((x, y) for _ in range(3))
    with pytest.raises(ValueError, match="one sample at a time takes"):
        model.fit(generator, steps_per_epoch=1, verbose=0, memory_limit=1024)
    assert next(generator)  # not even asked for data
    one = limit_for(model, 1, in_parts=False)
    with pytest.raises(ValueError, match="one sample at a time takes"):
        model.fit(x, y, verbose=0, memory_limit=one)  # without room for the sum of the gradients
    model.fit(x[:1], y[:1], verbose=0, memory_limit=one)
    assert model.optimizer.iterations == 1
    assert bits(model) != before


def test_parts_are_never_too_small_to_be_normalised() -> None:
    set_random_seed(1)
    model = compiled(
        Sequential([Input((6, 6, 2)), Flatten(), Dense(4), BatchNormalization(), Dense(3, activation="softmax")])
    )
    x, y = some_data(7)
    two = limit_for(model, 2, in_parts=False)
    with pytest.raises(ValueError, match="2 samples at a time, the fewest possible, take"):
        model.fit(x, y, verbose=0, memory_limit=two - 1)
    with pytest.raises(ValueError, match="3 samples at a time, the fewest possible, take"):
        model.fit(x, y, batch_size=7, verbose=0, memory_limit=two)
    with pytest.warns(UserWarning, match="micro-batches of 3 or 2|in 3 micro-batches"):
        assert model.fit(x, y, batch_size=7, verbose=0, memory_limit=limit_for(model, 3)).micro_batches == 3


def test_an_optimizer_that_accumulates_is_not_cut() -> None:
    x, y = some_data(8)
    model = compiled(plain(), SGD(0.1, gradient_accumulation_steps=2))
    limit = limit_for(model, 3, in_parts=False)
    with pytest.raises(ValueError, match=r"a batch of 8 takes .*gradient_accumulation_steps=2.*at most 3 and more"):
        model.fit(x, y, verbose=0, memory_limit=limit)
    model.fit(x, y, verbose=0, batch_size=3, memory_limit=limit)


@pytest.mark.parametrize("wrong", ["4", "GB", "4 Gi", "-4GB", "4XB", "", 0, -1, True, 4.5, [4], "0MB", "1iB"])
def test_limits_that_are_none(wrong: Any) -> None:
    model = compiled(plain())
    with pytest.raises(
        ValueError, match=r"^fit: memory_limit must be a number of bytes above 0 or a size such as '4GB'"
    ):
        model.fit(*some_data(4), verbose=0, memory_limit=wrong)


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("4GB", 4 << 30),
        ("4GiB", 4 << 30),
        (" 512 mb ", 512 << 20),
        ("1.5KB", 1536),
        (".5TB", 1 << 39),
        ("100B", 100),
        ("2.MiB", 2 << 20),
    ],
)
def test_sizes(text: str, nbytes: int) -> None:
    assert report.parse_memory_size(text) == nbytes


def test_data_whose_batches_are_not_known_before() -> None:
    x, y = some_data(22)
    sizes = [(0, 6), (6, 8), (8, 22)]
    items = [(x[a:b], y[a:b]) for a, b in sizes]
    whole, parts = compiled(plain()), compiled(plain())
    whole.fit(iter(items), steps_per_epoch=3, verbose=0)
    history = parts.fit(iter(items), steps_per_epoch=3, verbose=0, memory_limit=limit_for(parts, 4))
    assert history.micro_batches == 4
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:fit. memory_limit:UserWarning")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("elsewhere")])
def test_a_batch_is_done_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    x, y = some_data(8)
    model = compiled(residual(), Adam(0.01, use_ema=True))
    limit = limit_for(model, 2)
    model.fit(x, y, batch_size=8, verbose=0, memory_limit=limit)
    before, slots = bits(model), {name: np.array(a) for name, a in model.optimizer_state().items()}
    run = model._run_program
    calls = []

    def failing(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise error
        return run(*arguments)

    monkeypatch.setattr(model, "_run_program", failing)
    if isinstance(error, KeyboardInterrupt):
        assert model.fit(x, y, batch_size=8, verbose=0, memory_limit=limit).interrupted
    else:
        with pytest.raises(RuntimeError, match="elsewhere"):
            model.fit(x, y, batch_size=8, verbose=0, memory_limit=limit)
    monkeypatch.undo()
    unchanged = {name: np.array(a) for name, a in model.optimizer_state().items()}
    assert all(np.array_equal(slots[name], array) for name, array in unchanged.items())
    if not isinstance(error, KeyboardInterrupt):  # whose end of fit makes the average the weights
        assert bits(model) == before


@pytest.mark.filterwarnings("ignore:fit. memory_limit:UserWarning")
def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    x, y = some_data(8)
    model, twin = compiled(residual(), Adam(0.01)), compiled(residual(), Adam(0.01))
    limit = limit_for(model, 2)
    before = bits(model)
    x[5, 0, 0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="fit: epoch 1, batch 1: the loss is nan"):
        model.fit(x, y, batch_size=8, verbose=0, memory_limit=limit)
    assert bits(model) == before
    x[5, 0, 0, 0] = 0
    for each in (model, twin):
        each.fit(x, y, batch_size=8, verbose=0, memory_limit=limit)
    assert bits(model) == bits(twin)


@pytest.mark.filterwarnings("ignore:fit. memory_limit:UserWarning")
def test_a_resumed_run_has_the_same_bits(tmp_path: Path) -> None:
    x, y = some_data(20)  # the last batch, in fewer parts, is where the second run goes on
    options = {"batch_size": 8, "epochs": 2, "verbose": 0}
    straight = compiled(noisy(), Adam(0.01))
    limit = limit_for(straight, 2)
    straight.fit(x, y, memory_limit=limit, **options)

    def stop(batch: int, logs: Any) -> None:
        if batch == 1:
            raise KeyboardInterrupt

    model = compiled(noisy(), Adam(0.01))
    backup = BackupAndRestore(tmp_path / "b", delete_checkpoint=False)
    stopping = LambdaCallback(on_train_batch_end=stop)
    assert model.fit(x, y, memory_limit=limit, callbacks=[backup, stopping], **options).interrupted
    model = compiled(noisy(), Adam(0.01))
    model.fit(
        x, y, memory_limit=limit, callbacks=[BackupAndRestore(tmp_path / "b", delete_checkpoint=False)], **options
    )
    assert bits(model) == bits(straight)
    with pytest.warns(UserWarning, match="the backup was made with batches in 4 micro-batches, this run has another"):
        compiled(noisy(), Adam(0.01)).fit(x, y, callbacks=[backup], **options)


def test_a_metric_object_sees_each_batch_once() -> None:
    x, y = some_data(12)
    model = plain()
    model.compile(SGD(0.0), "categorical_crossentropy", metrics=[AUC()])
    t = np.eye(3)[y]
    whole = model.fit(x, t, batch_size=6, verbose=0).history["auc"]
    assert model.fit(x, t, batch_size=6, verbose=0, memory_limit=limit_for(model, 2)).history["auc"] == whole
