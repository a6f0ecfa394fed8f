from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcnn.utils.categorical import to_categorical


def test_signature_is_that_of_keras() -> None:
    parameters = inspect.signature(to_categorical).parameters
    assert {name: p.default for name, p in parameters.items()} == {"x": inspect.Parameter.empty, "num_classes": None}


def test_known_values() -> None:
    y = to_categorical([0, 2, 1])
    assert y.dtype == np.float32
    assert y.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert to_categorical([[1], [0]], 3).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert to_categorical([[0, 1]], 2).tolist() == [[[1, 0], [0, 1]]]
    assert to_categorical(np.array([1.0, 0.0])).tolist() == [[0, 1], [1, 0]]
    assert to_categorical(np.array([True, False])).tolist() == [[0, 1], [1, 0]]
    assert to_categorical(1, 2).tolist() == [0, 1]
    assert to_categorical([1]).shape == (1, 2)
    assert to_categorical([], 4).shape == (0, 4)


@given(st.lists(st.integers(0, 6), min_size=1), st.integers(7, 10))
def test_every_row_has_its_one(labels: list[int], num_classes: int) -> None:
    y = to_categorical(labels, num_classes)
    assert y.shape == (len(labels), num_classes)
    assert y.argmax(axis=1).tolist() == labels
    assert (y.sum(axis=1) == 1).all()
    assert np.count_nonzero(y) == len(labels)


@pytest.mark.parametrize(
    ("x", "num_classes", "message"),
    [
        ([0, 3], 3, r"x must lie in 0..2 \(num_classes=3\), got 0 to 3"),
        ([0, -1], None, r"x must lie in 0..0 \(num_classes=1\), got -1 to 0"),
        ([0.5], None, "x must hold whole numbers"),
        ([np.nan], None, "x must hold whole numbers"),
        (["a"], None, "x must hold numbers, got <U1"),
        ([], None, "num_classes must be given when x is empty"),
        ([0], 0, "num_classes must be at least 1, got 0"),
    ],
)
def test_wrong_arguments(x: object, num_classes: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=f"^to_categorical: {message}"):
        to_categorical(x, num_classes)  # type: ignore[arg-type]
