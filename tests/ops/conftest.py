"""Lets the tests of convolution and dense layers share their cases with the campaigns, and restores what tests set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from fastcnn import _core

sys.path.insert(0, str(Path(__file__).parents[1] / "campaigns"))


@pytest.fixture(autouse=True)
def _restored() -> Any:
    """Leave instruction set, threads and the Winograd switch as they were."""
    isa, threads, winograd = _core.isa(), _core.num_threads(), _core.winograd()
    yield
    _core.set_isa(isa)
    _core.set_num_threads(threads)
    _core.set_winograd(winograd)
