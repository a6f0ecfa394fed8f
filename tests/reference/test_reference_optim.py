"""The float64 optimizer steps by their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from reference_arrays import relative

from fastcnn import reference


def test_sgd_step() -> None:
    w, g, m = np.array([1.0, 2.0]), np.array([4.0, -8.0]), np.array([0.5, 0.0])
    assert [a.tolist() for a in reference.sgd_step(w, g, m, 0.25, 0.0)] == [[0.0, 4.0], [-1.0, 2.0]]
    assert [a.tolist() for a in reference.sgd_step(w, g, m, 0.25, 0.5)] == [[0.25, 4.0], [-0.75, 2.0]]
    assert [a.tolist() for a in reference.sgd_step(w, g, m, 0.25, 0.5, nesterov=True)] == [[-0.375, 5.0], [-0.75, 2.0]]
    assert w.tolist() == [1.0, 2.0]


def test_adam_step() -> None:
    w, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    w, m, v = reference.adam_step(w, [4.0], m, v, 1, 0.5, 0.75, 0.9375, 0.0)
    # Bias correction makes the first step lr * sign(g).
    assert (w.item(), m.item(), v.item()) == (0.5, 1.0, 1.0)
    w, m, v = reference.adam_step(w, [0.0], m, v, 2, 0.5, 0.75, 0.9375, 0.25)
    rate = 0.5 * np.sqrt(1 - 0.9375**2) / (1 - 0.75**2)
    assert (m.item(), v.item()) == (0.75, 0.9375)
    assert relative(w, np.array([0.5 - rate * 0.75 / (np.sqrt(0.9375) + 0.25)])) <= 1e-15
    with pytest.raises(ValueError, match="adam_step: t must be at least 1"):
        reference.adam_step(w, w, m, v, 0, 0.5, 0.75, 0.9375, 0.0)
    with pytest.raises(ValueError, match=r"adam_step: g is \[2\], expected \[1\]"):
        reference.adam_step(w, [0.0, 1.0], m, v, 1, 0.5, 0.75, 0.9375, 0.0)


def test_rmsprop_step() -> None:
    w, g, state = np.array([1.0]), np.array([4.0]), np.array([1.0])
    plain = reference.rmsprop_step(w, g, state, state, state, 0.5, 0.75, 0.5, 4.25)
    assert [a.item() for a in plain] == [1 - (0.5 + 2 / 3), 4.75, 0.5 + 2 / 3, 1.0]
    centered = reference.rmsprop_step(w, g, state, state, state, 0.5, 0.75, 0.0, 7.3125, centered=True)
    assert [a.item() for a in centered] == [1 - 2 / 3, 4.75, 2 / 3, 1.75]


def test_amsgrad_step() -> None:
    state = np.array([1.0])
    w, m, v, v_max = reference.amsgrad_step(state, [4.0], [0.0], [0.0], [4.0], 1, 0.5, 0.75, 0.9375, 0.0)
    assert [a.item() for a in (w, m, v, v_max)] == [0.75, 1.0, 1.0, 4.0]  # half of Adam's step: the root of 4 is 2
    adam = reference.adam_step(state, [4.0], [0.0], [0.0], 1, 0.5, 0.75, 0.9375, 0.0)
    assert reference.amsgrad_step(state, [4.0], [0.0], [0.0], [0.5], 1, 0.5, 0.75, 0.9375, 0.0)[:3] == adam


def test_ema_step_and_squared_norms() -> None:
    assert reference.ema_step([4.0, 8.0], [0.0, 4.0], 0.75).tolist() == [1.0, 5.0]
    assert reference.squared_norms([1.0, 2.0, -3.0], [0, 1, 1, 3]).tolist() == [1.0, 0.0, 13.0]
