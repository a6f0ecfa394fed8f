"""Which state of the sources a result belongs to."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit() -> str:
    """Return the name of the commit that is checked out, "-dirty" behind it if files differ, "" outside of git."""
    command = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return found.stdout.strip()
