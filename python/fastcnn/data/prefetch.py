"""Decode threads with a bounded number of batches in flight; batches leave in the order they were planned.

Threads are woken as rarely as may be: they take several items at a time, and the consumer waits once for each batch.
Where items take a tenth of a millisecond, two threads that hand the interpreter lock to and fro need twice the time of
one, so only one works at a time.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

THREAD_NAME = "fastcnn-decode"
MAX_DEFAULT_THREADS = 4
MIN_AHEAD = 2  # batches prepared while the consumer works on one
MAX_SHARE = 8  # items that a thread takes at a time
# Threads work one at a time once MEASURED items took fewer seconds each; the wall's time leaves out those that wait.
MEASURED = 32
CHEAP_CPU = 2.5e-4
CHEAP_WALL = 1e-3

Batch = TypeVar("Batch")
Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cpus() -> int:
    """Return how many CPUs this process may run on (its affinity mask where the system has one)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads() -> int:
    """Return the number of decode threads used when none is given: one per usable CPU, at most four."""
    return min(usable_cpus(), MAX_DEFAULT_THREADS)


def prefetch(
    plan: Iterable[Sequence[Item]],
    allocate: Callable[[Sequence[Item]], Batch],
    fill: Callable[[Batch, int, Item], Result],
    *,
    threads: int,
) -> Generator[tuple[Sequence[Item], Batch, list[Result]], None, None]:
    """Yield (items, batch, results) for each list of items in `plan`, in order.

    `allocate(items)` makes the batch in the consumer's thread; `fill(batch, row, item)` runs in one of `threads`
    threads, once per item, and writes row `row` only. At most a few batches are in flight. An exception of `fill` is
    raised in the consumer when its batch is due, the first row's first; rows behind it may be left out. Closing the
    generator, or an error, cancels what has not started and joins the threads. Raises RuntimeError when continued in a
    forked child, where the threads do not exist.
    """
    process = os.getpid()
    waiting: deque[tuple[Sequence[Item], Batch, list[Future[list[Result]]]]] = deque()
    turns = _Turns()
    closed = threading.Event()

    def share(batch: Batch, items: Sequence[Item], rows: range) -> list[Result]:
        results = []
        with turns.take(len(rows)):
            for row in rows:
                if closed.is_set():
                    raise CancelledError
                results.append(fill(batch, row, items[row]))
        return results

    def started(batch: Batch, items: Sequence[Item]) -> list[Future[list[Result]]]:
        size = min(max(len(items) // (2 * threads), 1), MAX_SHARE)
        shares = [range(begin, min(begin + size, len(items))) for begin in range(0, len(items), size)]
        return [pool.submit(share, batch, items, rows) for rows in shares]

    def finished() -> tuple[Sequence[Item], Batch, list[Result]]:
        if os.getpid() != process:
            raise RuntimeError(
                f"prefetch: this iterator was started in process {process} and its threads do not exist in the forked "
                f"process {os.getpid()}; start a new one there"
            )
        items, batch, futures = waiting.popleft()
        if futures:
            futures[-1].exception()  # waiting for each in turn would wake this thread as often
        return items, batch, [result for future in futures for result in future.result()]

    pool = ThreadPoolExecutor(threads, thread_name_prefix=THREAD_NAME)
    try:
        for items in plan:
            batch = allocate(items)
            waiting.append((items, batch, started(batch, items)))
            # Small batches need more of them in flight to keep every thread busy.
            if len(waiting) > max(MIN_AHEAD, -(-2 * threads // max(len(items), 1))):
                yield finished()
        while waiting:
            yield finished()
    finally:
        closed.set()
        pool.shutdown(wait=True, cancel_futures=True)


class _Turns:
    """Lets threads work one at a time while items are cheap: what they do is mostly under the interpreter lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items = 0
        self._cpu = self._wall = 0.0

    @contextmanager
    def take(self, items: int) -> Iterator[None]:
        """Do `items` items inside."""
        done = self._items
        alone = done >= MEASURED and self._cpu < CHEAP_CPU * done and self._wall < CHEAP_WALL * done
        if alone:
            self._lock.acquire()
        try:
            cpu, wall = time.thread_time(), time.perf_counter()
            yield
            # another thread may come between and its items get lost: an average stands that
            self._cpu += time.thread_time() - cpu
            self._wall += time.perf_counter() - wall
            self._items += items
        finally:
            if alone:
                self._lock.release()
