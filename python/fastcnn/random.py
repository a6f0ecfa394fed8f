"""Seeds and counter-based random generators: a random stream is a function of its key, never of what ran before it."""

from __future__ import annotations

import hashlib
import operator
import os
import threading

import numpy as np
from numpy.typing import NDArray

SEED_LIMIT = 2**32  # exclusive; numpy.random.seed takes no more, and set_random_seed seeds that too

_lock = threading.Lock()
_seed: int | None = None
_drawn = 0


def set_seed(seed: int) -> None:
    """Set the process-wide default seed, an integer in [0, 2**32), and restart the sequence of `next_seed`."""
    global _seed, _drawn
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"set_random_seed: seed must be an integer, got {seed!r} ({type(seed).__name__})")
    if not 0 <= seed < SEED_LIMIT:
        raise ValueError(f"set_random_seed: seed must lie in [0, {SEED_LIMIT}), got {seed}")
    with _lock:
        _seed, _drawn = int(seed), 0


def restore_seed(seed: int) -> None:
    """Set the default seed that a backup was made with; the sequence of `next_seed` goes on where it is."""
    global _seed
    with _lock:
        _seed = seed


def get_seed() -> int:
    """Return the process-wide default seed, drawn once from the operating system when `set_seed` was never called."""
    global _seed
    with _lock:
        if _seed is None:
            _seed = int.from_bytes(os.urandom(4), "little")
        return _seed


def next_seed() -> int:
    """Return the next of a sequence of seeds in [0, 2**63) that follows from the process-wide seed.

    For objects built with `seed=None`: each gets its own seed, and the same program after the same `set_seed` gets the
    same ones.
    """
    global _drawn
    seed = get_seed()
    with _lock:
        drawn, _drawn = _drawn, _drawn + 1
    return philox_key("next_seed", seed, drawn) >> 65


def philox_key(*parts: int | str) -> int:
    """Return the 128-bit Philox key that stands for a tuple of integers and strings.

    The key is a BLAKE2b digest of the tuple, so (1, 23) and (12, 3) have unrelated streams; a string as first part
    keeps apart streams drawn for different purposes from the same numbers. Raises TypeError for other types.
    """
    plain = tuple(part if isinstance(part, str) else operator.index(part) for part in parts)
    digest = hashlib.blake2b(ascii(plain).encode("ascii"), digest_size=16, usedforsecurity=False).digest()
    return int.from_bytes(digest, "little")


def generator(*parts: int | str) -> np.random.Generator:
    """Return a generator over the Philox4x64 stream of `philox_key(*parts)`, at its start.

    Philox: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.
    """
    return np.random.Generator(np.random.Philox(key=philox_key(*parts)))


class _Philox(threading.local):
    """One bit generator per thread: a new one asks the operating system for a seed, only to get its key instead."""

    def __init__(self) -> None:
        self._bits = np.random.Philox(0)
        self._key = np.zeros(2, np.uint64)
        self._state = self._bits.state
        self._state["state"] = {"counter": np.zeros(4, np.uint64), "key": self._key}

    def started(self, key: int) -> np.random.Philox:
        """Return the thread's bit generator at the start of the stream of a 128-bit key."""
        self._key[:] = key & _LOW, key >> 64
        self._bits.state = self._state
        return self._bits


_LOW = 2**64 - 1
_philox = _Philox()


def uniforms(count: int, *parts: int | str) -> NDArray[np.float64]:
    """Return `count` numbers in [0, 1), multiples of 2**-53, that depend on the key alone.

    They come from raw Philox words, so that they are the same in every NumPy.
    """
    words = _philox.started(philox_key(*parts)).random_raw(count)
    numbers: NDArray[np.float64] = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers
