"""The machine's roofs: multiply-adds a second on registers, and bytes a second from memory."""

from __future__ import annotations

import os
import platform
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn import _core, _version


@dataclass(frozen=True)
class Roof:
    """What the machine allows, with the threads it was measured with: 1e9 operations and 1e9 bytes a second."""

    gflops: float
    gbytes: float

    def seconds(self, flops: float, nbytes: float) -> float:
        """Return the shortest time for that much arithmetic and traffic, whichever takes longer."""
        return max(flops / self.gflops, nbytes / self.gbytes) / 1e9

    def attainable(self, intensity: float) -> float:
        """Return the GFLOP/s that so many operations a byte allow: min(peak, bandwidth * intensity)."""
        return min(self.gflops, self.gbytes * intensity)


def measured() -> Roof:
    """Return the roofs of this machine with the current threads."""
    return Roof(peak_gflops(), memory_gbytes())


def steadiness(before: Roof) -> str:
    """Measure the roofs again; return both measurements in words, with a warning if one is off by over a tenth."""
    after = measured()
    pairs = ((before.gflops, after.gflops), (before.gbytes, after.gbytes))
    unsteady = any(abs(a - b) > 0.1 * max(a, b) for a, b in pairs)
    return (
        f"roofs before and after: {before.gflops:.0f} and {after.gflops:.0f} GFLOP/s, "
        f"{before.gbytes:.1f} and {after.gbytes:.1f} GB/s"
        + ("; the machine was not left alone: measure again" if unsteady else "")
    )


def peak_gflops(repeats: int = 9) -> float:
    """Return the best GFLOP/s of the engine's register loop with the current threads."""
    iterations = 2_000_000
    _core.multiply_add_loop(iterations)
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        flops = _core.multiply_add_loop(iterations)
        rates.append(flops / (time.perf_counter() - start) / 1e9)
    return max(rates)


def memory_gbytes(repeats: int = 9, nbytes: int = 256 << 20) -> float:
    """Return the median GB/s of adding two vectors far larger than most caches: two reads and one write."""
    size = nbytes // 4
    a, b, y = (_core.Arena(nbytes).bytes().view(np.float32) for _ in range(3))
    for vector in (a, b, y):
        vector[:] = 1.0
    program = _core.Program()
    program.add_forward(a, b, y)
    program.run()
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        program.run()
        rates.append(12 * size / (time.perf_counter() - start) / 1e9)
    return statistics.median(rates)


def machine() -> dict[str, Any]:
    """Return what a result must be read with: processor, threads, instruction set, versions."""
    model = platform.processor()
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "threads": _core.num_threads(),
        "isa": _core.isa(),
        "compiler": _core.compiler,
        "fastcnn": _version.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
