from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from fastcnn.data.order import epoch_order, permutation, split_order


@pytest.mark.parametrize("size", [0, 1, 2, 17, 1000])
def test_permutation_holds_every_position_once(size: int) -> None:
    order = permutation(size, 5, 2)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(size))


def test_epochs_seeds_and_purposes_have_their_own_orders() -> None:
    orders = [epoch_order(50, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    orders += [split_order(50, 0), split_order(50, 1)]
    assert len({order.tobytes() for order in orders}) == len(orders)


def test_order_is_the_recorded_one() -> None:
    # A different order breaks resuming from checkpoints of earlier releases.
    assert epoch_order(8, 7, 0).tolist() == [5, 6, 3, 4, 2, 1, 0, 7]
    assert split_order(8, 7).tolist() == [3, 2, 1, 5, 6, 4, 0, 7]


def test_order_is_the_same_in_another_process() -> None:
    code = "from fastcnn.data.order import epoch_order; print(epoch_order(100, 3, 9).tolist())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other.strip() == str(epoch_order(100, 3, 9).tolist())


def test_first_places_are_uniform() -> None:
    first = np.array([epoch_order(10, seed, 0)[0] for seed in range(2000)])
    counts = np.bincount(first, minlength=10)
    # Chi-squared with 9 degrees of freedom exceeds 27.9 in one of 1000 draws.
    assert ((counts - 200) ** 2 / 200).sum() < 27.9
