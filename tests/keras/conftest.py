"""Lets the tests import the modules beside them, and finds a Python that has Keras."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def keras_python() -> str:
    """The interpreter named by FASTCNN_KERAS_PYTHON, which has Keras 3; without it the test is skipped."""
    found = os.environ.get("FASTCNN_KERAS_PYTHON")
    if not found:
        pytest.skip("FASTCNN_KERAS_PYTHON names no Python with Keras")
    return found
