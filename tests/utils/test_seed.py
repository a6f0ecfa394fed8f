from __future__ import annotations

import random

import numpy as np
import pytest

import fastcnn.random
from fastcnn.utils.seed import set_random_seed


def test_all_three_generators_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastcnn.random, "_seed", None)
    states = random.getstate(), np.random.get_state()
    try:
        drawn = []
        for seed in (7, 7, 8):
            set_random_seed(seed)
            drawn.append((random.random(), np.random.random(), fastcnn.random.next_seed()))
            assert fastcnn.random.get_seed() == seed
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    assert drawn[0] == drawn[1]
    assert not set(drawn[0]) & set(drawn[2])


def test_wrong_seed() -> None:
    with pytest.raises(TypeError, match="set_random_seed: seed must be an integer, got None"):
        set_random_seed(None)  # type: ignore[arg-type]
