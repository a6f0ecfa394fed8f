"""The planted faults of the campaign still fit the sources; whether tests catch them, the campaign itself finds out."""

from __future__ import annotations

import pytest
from fault import Fault
from faults import FAULTS
from planted_faults import BUILDS, ROOT


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.why)
def test_fault_changes_one_place(fault: Fault) -> None:
    text = (ROOT / "cpp" / fault.file).read_text()
    assert fault.apply(text) != text
    assert fault.old not in fault.new
    assert fault.isa in BUILDS


def test_faults_are_distinct() -> None:
    assert len({(fault.file, fault.old) for fault in FAULTS}) == len(FAULTS) >= 30
