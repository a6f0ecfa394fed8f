"""Program.predict: what goes in and comes out of a program in one call, and its wall."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fastcnn import _core


def doubled(size: int = 6) -> tuple[_core.Program, np.ndarray, np.ndarray]:
    """A program for y = 2x, with its arrays."""
    x, y = np.zeros((2, size // 2), np.float32), np.zeros((2, size // 2), np.float32)
    program = _core.Program()
    program.scale(x, y, 2.0)
    return program, x, y


def test_it_copies_in_and_out() -> None:
    program, x, y = doubled()
    program.bind_prediction(x, [y, x])
    given = np.arange(6, dtype=np.float32).reshape(2, 3)
    twice, same = program.predict(given)
    assert twice.tolist() == (2 * given).tolist()
    assert same.tolist() == given.tolist()
    assert not any(np.shares_memory(a, b) for a in (twice, same) for b in (x, y, given))
    x[...] = 1
    assert program.predict()[0].tolist() == [[2] * 3] * 2
    assert twice.tolist() == (2 * given).tolist()  # the caller's own


def test_it_ends_before_the_bound_step() -> None:
    program, x, y = doubled()
    program.scale(y, y, 10.0)
    program.bind_prediction(x, [y], 1)
    assert program.predict(np.ones((2, 3), np.float32))[0].tolist() == [[2] * 3] * 2
    program.bind_prediction(x, [y])
    assert program.predict(np.ones((2, 3), np.float32))[0].tolist() == [[20] * 3] * 2


def test_no_samples() -> None:
    program, x, y = doubled(0)
    program.bind_prediction(x, [y])
    assert program.predict(np.zeros((2, 0), np.float32))[0].shape == (2, 0)


def test_wall() -> None:
    program, x, y = doubled()
    with pytest.raises(ValueError, match=r"^Program.predict: call bind_prediction first"):
        program.predict(x)
    program.bind_prediction(x, [y])
    for wrong, error, message in (
        (np.zeros((3, 2), np.float32), ValueError, r"x must be \[2, 3\] but is \[3, 2\]"),
        (np.zeros((2, 3)), TypeError, "x must be float32 but is float64"),
        (np.zeros((3, 2), np.float32).T, ValueError, "x must be C-contiguous"),
        (x, ValueError, "the bound x .* x"),
    ):
        with pytest.raises(error, match=message):
            program.predict(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps 0 to 2 are not within"):
        program.bind_prediction(x, [y], 2)
    frozen = x.copy()
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        program.bind_prediction(frozen, [y])
    assert program.predict(np.ones((2, 3), np.float32))[0].tolist() == [[2] * 3] * 2


def test_the_arrays_live_as_long_as_the_program() -> None:
    def made() -> _core.Program:
        program, x, y = doubled(3000)
        program.bind_prediction(x, [y])
        return program

    program = made()
    ballast = [np.full(3000, 7.0) for _ in range(50)]
    assert program.predict(np.ones((2, 1500), np.float32))[0].sum() == 2 * 3000
    assert len(ballast) == 50


def test_many_threads_with_programs_of_their_own() -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        program, x, y = doubled(64)
        program.bind_prediction(x, [y])
        for i in range(300):
            (found,) = program.predict(np.full((2, 32), number + i, np.float32))
            if not (found == 2 * (number + i)).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(1000 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
