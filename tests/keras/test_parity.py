"""What bench/peers/keras_parity.py recorded of Keras 3; bench/compare_keras.py shows the same as a page."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "bench").is_dir():
    pytest.skip("needs bench of the source tree", allow_module_level=True)
sys.path.append(str(ROOT / "bench"))

import keras_parity_rows as parity  # noqa: E402
import parity_behaviours  # noqa: E402
import parity_networks as networks  # noqa: E402


@pytest.fixture(scope="module")
def recorded() -> parity.Recorded:
    return parity.Recorded()


def hold(rows: list[parity.Row]) -> None:
    assert rows
    assert [f"{row.what}: {row.difference:.1e} above {row.bound:.0e}" for row in rows if not row.ok] == []


@pytest.mark.parametrize("name", networks.APPLICATIONS)
def test_logits(recorded: parity.Recorded, name: str) -> None:
    hold(parity.logits(recorded, name))


@pytest.mark.parametrize("winograd", [False, True])
@pytest.mark.parametrize("which", parity.NAMES)
def test_gradients(recorded: parity.Recorded, which: str, winograd: bool) -> None:
    hold(parity.gradients(recorded, which, winograd))


@pytest.mark.parametrize("case", networks.training_cases())
def test_fifty_steps(recorded: parity.Recorded, case: str) -> None:
    hold(parity.training(recorded, case))


@pytest.mark.parametrize("what", ["losses", "metrics"])
def test_values(recorded: parity.Recorded, what: str) -> None:
    found = parity.values(recorded, what)
    assert len(found) > 100
    assert [pair for pair in found if not pair[1] <= parity.VALUES] == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_behaviours(recorded: parity.Recorded) -> None:
    found = dict(parity.behaviours(recorded))
    assert [pair for pair in found.items() if pair[1].startswith("UNEXPLAINED")] == []
    assert sum(verdict != "same" for verdict in found.values()) == len(parity_behaviours.DIFFERENT)


def test_a_difference_is_seen(recorded: parity.Recorded) -> None:
    """The comparison can fail: other numbers, another answer."""
    assert not parity.same([1.0, 2.0], [1.0, 2.00001])
    assert not parity.same([1.0], [1.0, 1.0])
    assert not parity.same(True, 1)
    assert not parity.same({"a": 1}, {"a": 1, "b": 2})
    assert parity.same([1.0, "x", None], [1.0000001, "x", None])
    kinds = [f"loss/{kind}" for kind in ("float32", "float64")]
    before = [recorded.training[kind].copy() for kind in kinds]
    try:
        for kind in kinds:
            recorded.training[kind][0, 7] *= 1.001
        rows = parity.training(recorded, networks.training_cases()[0])
        assert [row.verdict for row in rows] == ["NO", "yes", "yes"]
    finally:
        recorded.training |= dict(zip(kinds, before, strict=True))
