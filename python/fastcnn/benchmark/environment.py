"""The environment in which NumPy's matrix products run at their best, with as many threads as fastcnn."""

from __future__ import annotations

import os
import sys

_SLOWS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # force kernels or blocks on OpenBLAS that are not this CPU's
_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


def numpy_environment(threads: int) -> dict[str, str]:
    """Return this process's environment for a new one that times NumPy."""
    kept = {name: value for name, value in os.environ.items() if name not in _SLOWS}
    return kept | dict.fromkeys(_THREADS, str(threads))


def restart_for_numpy(threads: int) -> None:
    """Start this program again, with the same arguments, unless its environment already is `numpy_environment`'s."""
    wanted = numpy_environment(threads)
    if wanted != dict(os.environ):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)
