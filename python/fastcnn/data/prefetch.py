"""Decode threads with a bounded number of batches in flight; batches leave in the order they were planned."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

THREAD_NAME = "fastcnn-decode"
MAX_DEFAULT_THREADS = 4
MIN_AHEAD = 2  # batches prepared while the consumer works on one

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
    raised in the consumer when its batch is due, the first row's first. Closing the generator, or an error, cancels
    what has not started and joins the threads. Raises RuntimeError when continued in a forked child, where the threads
    do not exist.
    """
    process = os.getpid()
    waiting: deque[tuple[Sequence[Item], Batch, list[Future[Result]]]] = deque()

    def finished() -> tuple[Sequence[Item], Batch, list[Result]]:
        if os.getpid() != process:
            raise RuntimeError(
                f"prefetch: this iterator was started in process {process} and its threads do not exist in the forked "
                f"process {os.getpid()}; start a new one there"
            )
        items, batch, futures = waiting.popleft()
        return items, batch, [future.result() for future in futures]

    pool = ThreadPoolExecutor(threads, thread_name_prefix=THREAD_NAME)
    try:
        for items in plan:
            batch = allocate(items)
            waiting.append((items, batch, [pool.submit(fill, batch, row, item) for row, item in enumerate(items)]))
            # Small batches need more of them in flight to keep every thread busy.
            if len(waiting) > max(MIN_AHEAD, -(-2 * threads // max(len(items), 1))):
                yield finished()
        while waiting:
            yield finished()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
