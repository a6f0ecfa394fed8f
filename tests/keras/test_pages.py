"""The Python in the pages of docs runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import signatures

DOCS = Path(__file__).parents[2] / "docs"

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the pages are not here")


@pytest.mark.parametrize("name", ["batch-normalization", "coming-from-keras", "coming-from-torchvision"])
def test_python_of_a_page_runs(name: str, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / f"{name}.md").read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(blocks)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_count_of_signatures_is_right() -> None:
    names, arguments, differences = signatures.compare()
    text = " ".join((DOCS / "coming-from-keras.md").read_text().split())
    assert f"compares {names} names and {arguments} arguments and prints the {len(differences)} that differ" in text
