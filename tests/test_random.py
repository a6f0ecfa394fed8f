from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from fastcnn import random


@pytest.fixture(autouse=True)
def fresh_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "_seed", None)
    monkeypatch.setattr(random, "_drawn", 0)


def test_philox_key_is_the_recorded_one() -> None:
    # Changing these changes every shuffle, initial weight and dropout mask of every user.
    assert random.philox_key("epoch", 7, 0) == 0xCA4395D7C258A53E87323401FB9341E
    assert random.generator("epoch", 7, 0).bit_generator.random_raw(2).tolist() == [
        15637517168628040223,
        711203919332689576,
    ]


def test_keys_differ_when_any_part_differs() -> None:
    parts = [(1, 23), (12, 3), (1, 2, 3), (123,), ("1", 23), ("1", "23"), (-1, 23), (1, 23, 0), (2**70, 1)]
    assert len({random.philox_key(*key) for key in parts}) == len(parts)


def test_numpy_integers_count_as_integers() -> None:
    assert random.philox_key(np.int32(5), "a") == random.philox_key(5, "a")


def test_key_of_a_float_is_refused() -> None:
    with pytest.raises(TypeError):
        random.philox_key(1.5)  # type: ignore[arg-type]


def test_generators_are_independent_of_each_other() -> None:
    first = random.generator("a", 1)
    first.standard_normal(1000)
    again = random.generator("a", 1).standard_normal(3)
    np.testing.assert_array_equal(random.generator("a", 1).standard_normal(3), again)
    assert abs(np.corrcoef(random.generator(1).random(4096), random.generator(2).random(4096))[0, 1]) < 0.1


def test_uniforms_begin_the_stream_of_their_key_whatever_was_drawn_before() -> None:
    for count, key in ((3, ("a", 1)), (13, ("a", 2**70)), (1, ("b",)), (3, ("a", 1))):
        words = random.generator(*key).bit_generator.random_raw(count)
        assert random.uniforms(count, *key).tolist() == [(int(word) >> 11) / 2**53 for word in words]


def test_next_seed_restarts_with_set_seed() -> None:
    random.set_seed(3)
    first = [random.next_seed() for _ in range(5)]
    random.set_seed(3)
    assert [random.next_seed() for _ in range(5)] == first
    random.set_seed(4)
    assert random.next_seed() not in first
    assert len(set(first)) == 5
    assert all(0 <= seed < 2**63 for seed in first)


def test_get_seed_without_set_seed_is_drawn_once() -> None:
    seed = random.get_seed()
    assert random.get_seed() == seed
    assert 0 <= seed < random.SEED_LIMIT


def test_processes_without_a_seed_differ() -> None:
    command = [sys.executable, "-c", "from fastcnn.random import next_seed; print(next_seed())"]
    seeds = {subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert len(seeds) == 2


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_out_of_range(seed: int) -> None:
    with pytest.raises(ValueError, match=rf"set_random_seed: seed must lie in \[0, 4294967296\), got {seed}"):
        random.set_seed(seed)


@pytest.mark.parametrize("seed", [1.0, "1", None, True])
def test_seed_of_another_type(seed: object) -> None:
    with pytest.raises(TypeError, match="set_random_seed: seed must be an integer"):
        random.set_seed(seed)  # type: ignore[arg-type]
