"""Inference of large batches in slices."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn.applications import ResNet18
from fastcnn.layers import Dense, Flatten, Input
from fastcnn.models import Model, slices


@pytest.fixture
def model() -> Model:
    return ResNet18(weights=None, input_shape=(32, 32, 3), classes=5)


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A cache that holds the largest activation of three samples: 16x16x64 floats each."""
    monkeypatch.setattr(slices, "CACHED", 3 * 16 * 16 * 64 * 4)
    monkeypatch.setattr(Model, "count_params", lambda self: 0)
    return monkeypatch


@pytest.mark.parametrize("size", [1, 3, 4, 7, 9])
def test_slices_change_no_bit(model: Model, cached: pytest.MonkeyPatch, size: int) -> None:
    x = np.random.default_rng(0).random((size, 32, 32, 3), np.float32)
    recipe = model._inference()
    assert recipe.slice_size == 3
    found = model.predict_on_batch(x), model.predict(x, batch_size=5, verbose=0)
    recipe.slice_size = 100
    whole = model.predict_on_batch(x)
    for outputs in found:
        assert np.array_equal(outputs, whole)


def test_slices_are_of_nearly_equal_size_and_cover_the_batch(model: Model, cached: pytest.MonkeyPatch) -> None:
    recipe = model._inference()
    for size in range(1, 20):
        cut = slices.cut(recipe, size)
        lengths = [rows.stop - rows.start for rows in cut]
        assert [row for rows in cut for row in range(rows.start, rows.stop)] == list(range(size))
        assert max(lengths) <= 3
        assert max(lengths) - min(lengths) <= 1


def test_a_slice_is_planned_not_the_batch(model: Model, cached: pytest.MonkeyPatch) -> None:
    plan = model.memory_plan(3, training=False)
    assert model.memory_plan(30, training=False).activations == plan.activations
    model.warmup(7)  # slices of 2 and 3
    with model._lease() as workspace:
        assert sorted(batch for _, batch in workspace._programs) == [2, 3]


def test_weights_are_not_read_for_few_samples() -> None:
    """A dense network reads so many more weights than activations that it is never worth cutting a batch of 32."""
    x = Input((64, 64, 3))
    model = Model(x, Dense(4096)(Flatten()(x)))
    assert model._inference().slice_size > 1000
