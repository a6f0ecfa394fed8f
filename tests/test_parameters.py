"""Parameters, the flat vectors that hold them, and flat vectors of the same layout."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fastcnn.initializers import Constant, GlorotUniform
from fastcnn.parameters import FlatLayout, Parameter, ParameterStore, flat_floats
from fastcnn.utils import set_random_seed


def some(*shapes: tuple[int, ...], fixed: tuple[int, ...] = ()) -> list[Parameter]:
    return [
        Parameter(f"w{i}", f"layer{i}/w{i}", shape, Constant(i + 1.0), trainable=i not in fixed)
        for i, shape in enumerate(shapes)
    ]


def test_a_store_is_one_vector_of_aligned_views():
    parameters = some((3, 5), (1,), (16,), (2, 2, 2), fixed=(1,))
    store = ParameterStore(parameters)
    assert [p.name for p in store.parameters] == ["w0", "w2", "w3", "w1"]  # what can be trained comes first
    for parameter in parameters:
        assert parameter.value.base is not None
        assert np.shares_memory(parameter.value, store.values)
        assert parameter.value.ctypes.data % 64 == 0
        assert (parameter.value == parameter.initializer.value).all()
    used = np.zeros(store.size, bool)
    for parameter in parameters:
        begin = store.offsets[parameter]
        assert not used[begin : begin + parameter.size].any()
        used[begin : begin + parameter.size] = True
    assert (store.values[~used] == 0).all()


def test_a_value_is_filled_when_it_is_first_read():
    (parameter,) = some((4,))
    assert (parameter.memory == 0).all()
    assert (parameter.value == 1).all()
    (other,) = some((4,))
    other.assign([5, 6, 7, 8])
    assert other.value.tolist() == [5, 6, 7, 8]


def test_values_follow_from_the_seed_and_not_from_when_they_are_read():
    def draw(order):
        set_random_seed(11)
        pair = [Parameter(name, name, (3, 4), GlorotUniform(), True) for name in "ab"]
        for i in order:
            _ = pair[i].value
        return [p.numpy() for p in pair]

    first, second = draw((0, 1)), draw((1, 0))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], first[1])


def test_assign_checks_and_counts():
    (parameter,) = some((2, 3))
    view = parameter.value
    parameter.assign(np.arange(6, dtype=np.float64).reshape(3, 2).T)
    assert view.tolist() == [[0, 2, 4], [1, 3, 5]]  # in place, any order of axes in memory
    assert parameter.version.tolist() == [1]
    assert parameter.version.shape == (1,)
    with pytest.raises(ValueError, match=re.escape("layer0/w0 is [2, 3] but was given [3]")):
        parameter.assign(np.zeros(3))
    with pytest.raises(TypeError, match="real numbers, got complex128"):
        parameter.assign(np.zeros((2, 3), complex))
    assert parameter.version.tolist() == [1]
    assert np.array_equal(np.asarray(parameter), view)
    assert parameter.numpy() is not view


def test_a_model_may_gather_parameters_into_one_vector():
    parameters = some((2,), (3,))
    for parameter in parameters:
        parameter.gather = lambda: ParameterStore(parameters) and None
    parameters[1].assign(np.zeros(3))
    assert parameters[0].store is parameters[1].store
    assert not parameters[0].gather


def test_neighbours_are_updated_as_one_run():
    parameters = some((3,), (20,), (5,), (4,), fixed=(3,))
    store = ParameterStore(parameters)
    whole = FlatLayout(parameters[:3])
    assert [(run.values, run.flat) for run in whole.runs] == [(slice(0, 64), slice(0, 64))]
    gap = FlatLayout([parameters[0], parameters[2]])
    assert [(run.values, run.flat) for run in gap.runs] == [
        (slice(0, 16), slice(0, 16)),
        (slice(48, 64), slice(16, 32)),
    ]
    flat = flat_floats(gap.size)
    for number, (parameter, view) in enumerate(gap.views(flat)):
        assert view.shape == parameter.shape
        view[...] = number + 1
    assert flat[:3].tolist() == [1, 1, 1]
    assert flat[16:21].tolist() == [2] * 5
    for run in gap.runs:
        run.count_change()
    assert store.versions.tolist() == [1, 0, 1, 0]


def test_runs_span_several_stores():
    left, right = some((3,)), some((4,), (5,))
    ParameterStore(left)
    ParameterStore(right)
    layout = FlatLayout([*left, *right])
    assert [run.store for run in layout.runs] == [left[0].store, right[0].store]
    assert layout.size == 48


def test_nothing_to_train_is_an_empty_vector():
    layout = FlatLayout([])
    assert layout.runs == []
    assert flat_floats(layout.size).size == 0
