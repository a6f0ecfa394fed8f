from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from fastcnn.data import prefetch as module
from fastcnn.data.prefetch import THREAD_NAME, default_threads, prefetch, usable_cpus


def decode_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


def new_row(items: Sequence[int]) -> np.ndarray:
    return np.zeros(len(items))


def square(batch: np.ndarray, row: int, item: int) -> int:
    batch[row] = item * item
    return -item


PLAN = [[0, 1, 2], [3], [4, 5], [], [6, 7, 8, 9]]


@pytest.mark.parametrize("threads", [1, 2, 4, 7])
def test_batches_leave_in_order_whatever_the_threads_do(threads: int) -> None:
    def slow_first(batch: np.ndarray, row: int, item: int) -> int:
        time.sleep(0.003 * ((item * 7) % 4))
        return square(batch, row, item)

    got = list(prefetch(PLAN, new_row, slow_first, threads=threads))
    assert [items for items, _, _ in got] == PLAN
    for items, batch, results in got:
        assert batch.tolist() == [item * item for item in items]
        assert results == [-item for item in items]
    assert not decode_threads()


def test_reading_ahead_is_bounded() -> None:
    planned = []

    def plan() -> object:
        for i in range(1000):
            planned.append(i)
            yield [i] * 8

    batches = prefetch(plan(), new_row, square, threads=2)  # type: ignore[arg-type]
    next(batches)
    assert len(planned) == 1 + module.MIN_AHEAD
    next(batches)
    assert len(planned) == 2 + module.MIN_AHEAD
    batches.close()


def test_small_batches_keep_all_threads_busy() -> None:
    together = threading.Barrier(4)

    def meet(batch: np.ndarray, row: int, item: int) -> int:
        return together.wait(timeout=10)

    list(prefetch([[i] for i in range(8)], new_row, meet, threads=4))


def test_cheap_items_are_done_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHEAP_WALL", 10.0)  # however busy the machine is
    lock = threading.Lock()
    working = 0
    together = []

    def fill(batch: np.ndarray, row: int, item: int) -> None:
        nonlocal working
        with lock:
            working += 1
            together.append(working)
        time.sleep(0.0005)
        with lock:
            working -= 1

    list(prefetch([list(range(8))] * 40, new_row, fill, threads=3))
    assert max(together[:24]) > 1  # nothing is known about the items yet
    assert max(together[-200:]) == 1


def test_items_that_wait_are_done_side_by_side() -> None:
    together = threading.Barrier(2)

    def fill(batch: np.ndarray, row: int, item: int) -> None:
        time.sleep(0.002)
        if item >= 2 * module.MEASURED:
            together.wait(timeout=10)

    plan = [list(range(i, i + 8)) for i in range(0, 4 * module.MEASURED, 8)]
    list(prefetch(plan, new_row, fill, threads=2))


def test_close_stops_threads_and_cancels_what_has_not_started() -> None:
    started = []

    def record(batch: np.ndarray, row: int, item: int) -> None:
        started.append(item)
        time.sleep(0.02)

    batches = prefetch([list(range(i, i + 50)) for i in range(0, 1000, 50)], new_row, record, threads=2)
    next(batches)
    assert decode_threads()
    begin = time.monotonic()
    batches.close()
    assert time.monotonic() - begin < 1.0
    assert not decode_threads()
    assert len(started) < 150


def test_dropping_the_iterator_stops_threads() -> None:
    batches = prefetch(PLAN * 20, new_row, square, threads=2)
    next(batches)
    del batches
    assert not decode_threads()


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_first_failing_row_is_raised_when_its_batch_is_due(threads: int) -> None:
    def fail(batch: np.ndarray, row: int, item: int) -> None:
        if item in (4, 5):
            time.sleep(0.02 if item == 4 else 0)
            raise KeyError(item)

    seen = []
    batches = prefetch(PLAN, new_row, fail, threads=threads)

    def drain() -> None:
        for items, _, _ in batches:
            seen.append(items)

    with pytest.raises(KeyError, match="4"):
        drain()
    assert seen == PLAN[:2]
    assert not decode_threads()


def test_error_in_the_plan_stops_threads() -> None:
    def plan() -> object:
        yield [1, 2]
        raise OSError("plan")

    with pytest.raises(OSError, match="plan"):
        list(prefetch(plan(), new_row, square, threads=2))  # type: ignore[arg-type]
    assert not decode_threads()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forked_child_gets_an_error_not_a_hang() -> None:
    batches = prefetch(PLAN * 20, new_row, square, threads=2)
    next(batches)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            next(batches)
        except RuntimeError as error:
            code = 0 if "forked process" in str(error) else 2
        finally:
            os._exit(code)
    deadline = time.monotonic() + 10
    status = None
    while status is None and time.monotonic() < deadline:
        done, value = os.waitpid(child, os.WNOHANG)
        status = value if done else None
        time.sleep(0.01)
    if status is None:
        os.kill(child, 9)
        os.waitpid(child, 0)
        pytest.fail("the child hangs")
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(list(batches)) == len(PLAN) * 20 - 1


def test_default_threads_respect_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    for cpus, threads in ((1, 1), (3, 3), (64, 4)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, n=cpus: set(range(n)), raising=False)
        assert usable_cpus() == cpus
        assert default_threads() == threads


def test_usable_cpus_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus() == 1
