"""A model in a service: memory over many calls, sizes and threads, and what the threads share."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastcnn import Input, Sequential, config, layers
from fastcnn.models import Model
from fastcnn.models.workspace import IDLE, PROGRAMS

MIB = 2**20


def network(size: int = 16) -> Model:
    body = [layers.Conv2D(32, 3, padding="same", activation="relu"), layers.Conv2D(32, 3, activation="relu")]
    return Sequential([Input((size, size, 3)), *body, layers.GlobalAveragePooling2D(), layers.Dense(10)])


def pictures(count: int, size: int = 16) -> Any:
    return np.random.default_rng(count).standard_normal((count, size, size, 3)).astype(np.float32)


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def at_once(*works: Callable[[], None]) -> None:
    """Run works in a thread each, beginning together; what one raises is raised."""
    barrier = threading.Barrier(len(works))
    errors: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_ten_thousand_calls_take_no_memory() -> None:
    model = network(8)
    x = pictures(1, 8)
    for _ in range(500):
        model.predict(x)
    before = resident()
    for _ in range(10_000):
        model.predict(x)
    assert resident() - before < MIB


def test_two_hundred_batch_sizes_take_the_memory_of_the_largest() -> None:
    model = network()
    x = pictures(200)
    whole = model.predict(x, batch_size=200)
    sizes = np.random.default_rng(0).permutation(200) + 1
    for size in sizes[:20]:
        model.predict_on_batch(x[:size])
    (workspace,) = model._pool.idle()
    before, (arena, *_) = resident(), workspace.nbytes
    for size in sizes:
        assert np.array_equal(model.predict_on_batch(x[:size]), whole[:size])
        assert len(workspace._programs) <= PROGRAMS
    assert model._pool.idle() == [workspace]
    assert workspace.nbytes[0] == arena
    assert resident() - before < 2 * MIB
    model.release_workspace()
    assert model._pool.idle() == []
    assert np.array_equal(model.predict_on_batch(x[:3]), whole[:3])


def test_threads_that_come_and_go_leave_a_few_workspaces() -> None:
    model = network()
    x = pictures(3)
    expected = model.predict(x)
    for _ in range(10):

        def work() -> None:
            assert np.array_equal(model.predict(x), expected)

        at_once(*[work] * 12)
        assert 1 <= len(model._pool.idle()) <= IDLE
    assert model._pool._held == {}


def test_a_warm_model_makes_nothing_at_the_first_call() -> None:
    model = network()
    model.warmup(2)
    (workspace,) = model._pool.idle()
    ((recipe, program),) = workspace._programs.values()
    model.predict(pictures(2))
    assert model._pool.idle() == [workspace]
    assert list(workspace._programs.values()) == [(recipe, program)]


@pytest.mark.parametrize("count", [2, 4, 7])
def test_programs_share_the_workers_and_keep_their_bits(count: int) -> None:
    model, x = network(32), pictures(4, 32)
    with config.threads(1):
        expected = [model.predict(x[i : i + 1]) for i in range(4)]

    def work(number: int) -> Callable[[], None]:
        def run() -> None:
            for _ in range(100):
                assert np.array_equal(model.predict(x[number : number + 1]), expected[number])

        return run

    with config.threads(count):
        at_once(*(work(number) for number in range(4)))


def test_the_number_of_threads_may_change_while_others_predict() -> None:
    model, x = network(32), pictures(2, 32)
    with config.threads(1):
        expected = model.predict(x)
    done = threading.Event()
    before = config.num_threads()

    def predict() -> None:
        try:
            for _ in range(200):
                assert np.array_equal(model.predict(x), expected)
        finally:
            done.set()

    def change() -> None:
        count = 0
        while not done.is_set():
            count += 1
            config.set_num_threads(1 + count % 6)

    try:
        at_once(predict, change)
    finally:
        config.set_num_threads(before)


def test_a_layer_may_ask_another_model() -> None:
    inner, x = network(16), pictures(2)

    class Asks(layers.PythonLayer):
        def forward(self, x: Any) -> Any:
            return inner.predict(x)

        def compute_output_shape(self, shape: Any) -> Any:
            return (None, 10)

    with config.threads(1):
        expected = inner.predict(x)
    outer = Sequential([Input((16, 16, 3)), Asks()])
    with config.threads(3):
        at_once(*[lambda: np.testing.assert_array_equal(outer.predict(x), expected)] * 3)


STOPPED = """
import numpy as np, os, signal, threading, time
import fastcnn
from fastcnn import Input, Sequential, layers

fastcnn.set_num_threads(4)
model = Sequential([Input((32, 32, 3)), layers.Conv2D(64, 3, activation="relu"), layers.Conv2D(64, 3)])
x = np.ones((2, 32, 32, 3), np.float32)
expected = model.predict(x)
for pause in (0, 0.00003, 0.0001, 0.001) * 50:
    time.sleep(pause)
    assert np.array_equal(model.predict(x), expected)
child = os.fork()
if child == 0:
    assert np.array_equal(model.predict(x), expected)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("done")
"""


def test_workers_that_fell_asleep_come_back_and_a_forked_child_does_without() -> None:
    done = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True, timeout=120)
    assert done.stdout == "done\n", done.stderr


AFFINITY = """
import numpy as np, os, time
import fastcnn
from fastcnn import Input, Sequential, layers

own = os.sched_getaffinity(0)
fastcnn.set_num_threads(2)
model = Sequential([Input((32, 32, 3)), layers.Conv2D(64, 3, activation="relu"), layers.Conv2D(64, 3)])
for _ in range(3):
    model.predict(np.ones((2, 32, 32, 3), np.float32))
    time.sleep(0.01)  # the worker falls asleep
assert os.sched_getaffinity(0) == own
others = [os.sched_getaffinity(int(thread)) for thread in os.listdir("/proc/self/task") if int(thread) != os.getpid()]
assert all(mask and mask <= own for mask in others)
print(sum(len(mask) == len(own) - 1 for mask in others))
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_a_worker_is_woken_on_another_processor_than_the_caller_s() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "OPENBLAS_"))}
    command = [sys.executable, "-c", AFFINITY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.stdout == "1\n", done.stderr
