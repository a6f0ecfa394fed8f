"""Settings of the programs: the capitals at their top, or NAME=VALUE on the command line."""

from __future__ import annotations

import gzip
import sys
from ast import literal_eval
from pathlib import Path
from typing import Any

import numpy as np


def settings(values: dict[str, Any]) -> None:
    """Replace the values of names in capitals by those on the command line; exit with a line for an unknown name."""
    for argument in sys.argv[1:]:
        name, _, value = argument.partition("=")
        if name not in values or not name.isupper():
            sys.exit(f"{name}: is no setting; there are {', '.join(sorted(key for key in values if key.isupper()))}")
        values[name] = value if isinstance(values[name], str) else literal_eval(value)


def fashion_mnist(folder: str, count: int | None) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return (x_train, y_train), (x_test, y_test) of the .gz files, pictures [N,28,28,1] in 0..255."""

    def read(name: str) -> Any:
        data = gzip.decompress((Path(folder) / f"{name}-ubyte.gz").read_bytes())
        sizes = np.frombuffer(data, ">u4", data[3], offset=4)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(sizes)[:count]

    def part(prefix: str) -> tuple[Any, Any]:
        return read(f"{prefix}-images-idx3")[..., None].astype("float32"), read(f"{prefix}-labels-idx1")

    return part("train"), part("t10k")
