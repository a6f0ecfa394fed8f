"""The record of a training run as files: a CSV always, curves as a PNG where matplotlib is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from fastcnn import plots
from fastcnn.callbacks import History

NO_CURVES = 'No curves as a picture: they need matplotlib (pip install "fastcnn[plot]")'


def write_history(history: History, csv: Path, png: Path) -> list[Path]:
    """Write both files; return those made, without the PNG where matplotlib is missing."""
    history.to_csv(csv)
    if importlib.util.find_spec("matplotlib") is None:
        return [csv]
    plots.history(history, png)
    return [csv, png]
