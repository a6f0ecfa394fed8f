"""Threads, instruction sets and what else can be set for the process."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastcnn import _core
from fastcnn._version import __version__


def num_threads() -> int:
    """Return how many threads an operation uses."""
    return _core.num_threads()


def set_num_threads(threads: int) -> None:
    """Set how many threads operations use from now on; results do not depend on it.

    The default is the smallest of the CPUs this process may use, its cgroup's quota and OMP_NUM_THREADS. Raises
    ValueError outside 1..1024.
    """
    _core.set_num_threads(threads)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use `count` threads within a with-block."""
    before = num_threads()
    set_num_threads(count)
    try:
        yield
    finally:
        set_num_threads(before)


def isas() -> list[str]:
    """Return the instruction sets that this build has and this CPU runs, slowest first."""
    return _core.isas()


def isa() -> str:
    """Return the instruction set in use."""
    return _core.isa()


def set_isa(name: str) -> None:
    """Use another instruction set; models make their programs again. Raises ValueError for one not in `isas`."""
    _core.set_isa(name)


def winograd() -> bool:
    """Return whether the engine may choose Winograd convolution."""
    return _core.winograd()


def set_winograd(enabled: bool) -> None:
    """Allow or forbid Winograd convolution, faster and a little less exact; models make their programs again."""
    _core.set_winograd(bool(enabled))


def configuration() -> dict[str, Any]:
    """Return what `show_config` prints."""
    import numpy as np

    return {
        "fastcnn": __version__,
        "Python": sys.version.split()[0],
        "NumPy": np.__version__,
        "machine": f"{platform.machine()} {platform.system()}",
        "compiler": _core.compiler,
        "instruction sets": ", ".join(isas()),
        "in use": isa() + (" (FASTCNN_ISA)" if "FASTCNN_ISA" in os.environ else ""),
        "Winograd": "on" if winograd() else "off",
        "threads": num_threads(),
        "default threads": _core.default_num_threads(),
        "forked child": _core.forked(),
    }


def show_config() -> None:
    """Print versions, instruction set and threads."""
    rows = configuration()
    width = max(len(name) for name in rows)
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")
