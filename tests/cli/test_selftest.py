"""`fastcnn selftest`: that it passes here, and that each of its checks can fail."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run

from fastcnn import config, reference, selftest
from fastcnn.formats import safetensors
from fastcnn.selftest import engine


def test_it_passes_here_and_leaves_no_trace(capsys: pytest.CaptureFixture[str]) -> None:
    before = config.isa(), config.num_threads()
    began = time.process_time()
    out, err = run(capsys, "selftest")
    assert time.process_time() - began < 15
    assert (config.isa(), config.num_threads()) == before
    *lines, last = out.splitlines()
    assert err == ""
    assert all(line.startswith("ok     ") for line in lines)
    assert last == f"all {len(lines)} checks passed"
    shown = {line.split(":")[0].removeprefix("ok     ") for line in lines}
    for isa in set(config.isas()) - {selftest.TEST_ISA}:
        assert {name for name in shown if name.startswith(f"{isa} ")} >= {
            f"{isa} {operation}" for operation in selftest.kernels.CHECKS
        }


@pytest.fixture
def one_isa(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the self-test know only the instruction set in use, which saves time."""
    isa = config.isa()
    monkeypatch.setattr(config, "isas", lambda: [isa])


def failures() -> dict[str, str]:
    return {check.name.removeprefix(f"{config.isa()} "): check.detail for check in selftest.run() if not check.passed}


CONVOLUTIONS = {name for name in selftest.kernels.CHECKS if name.startswith("convolution")}
CONVOLVED_BACK = CONVOLUTIONS - {"convolution 3x3, stride 2, by Winograd"}


@pytest.mark.usefixtures("one_isa")
@pytest.mark.parametrize(
    ("operation", "broken"),
    [
        ("conv2d_forward", CONVOLUTIONS),
        ("conv2d_backward_data", CONVOLVED_BACK),
        ("conv2d_backward_weights", CONVOLVED_BACK),
        ("dense_forward", {"dense layer"}),
        ("dense_backward_data", {"dense layer"}),
        ("dense_backward_weights", {"dense layer"}),
        ("dense_backward_bias", {"dense layer"}),
        ("max_pool_forward", {"pooling"}),
        ("max_pool_backward", {"pooling"}),
        ("average_pool_forward", {"pooling"}),
        ("average_pool_backward", {"pooling"}),
        ("global_average_pool_forward", {"pooling"}),
        ("batchnorm_forward", {"batch normalisation"}),
        ("batchnorm_backward", {"batch normalisation"}),
        ("softmax_forward", {"softmax and cross-entropy"}),
        ("softmax_cross_entropy_forward", {"softmax and cross-entropy"}),
        ("sgd_step", {"optimizers"}),
        ("adam_step", {"optimizers"}),
        ("rmsprop_step", {"optimizers"}),
    ],
)
def test_it_notices_a_wrong_result(operation: str, broken: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    right: Callable[..., Any] = getattr(reference, operation)

    def wrong(*arguments: Any, **options: Any) -> Any:
        found = right(*arguments, **options)
        first = np.array(found[0] if isinstance(found, tuple) else found)
        first.flat[first.size // 2] += 0.01 * np.abs(first).max()
        return (first, *found[1:]) if isinstance(found, tuple) else first

    monkeypatch.setattr(reference, operation, wrong)
    monkeypatch.setattr(engine, "CHECKS", {})
    monkeypatch.setattr(engine, "threads", lambda: "")
    found = failures()
    assert set(found) == broken
    assert all("multiples of the bound" in detail for detail in found.values())


@pytest.mark.usefixtures("one_isa")
def test_it_notices_results_that_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    right = engine.train

    def wrong() -> Any:
        model, losses = right()
        return model, [losses[0], *losses[1:-1], losses[-1] + 1e-7 * config.num_threads()]

    monkeypatch.setattr(engine, "train", wrong)
    monkeypatch.setattr(selftest.kernels, "CHECKS", {})
    found = failures()
    assert set(found) == {"training, the same bits on any number of threads"}
    assert "different results" in next(iter(found.values()))


def test_it_notices_instruction_sets_that_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    right = engine.train

    def wrong() -> Any:
        model, losses = right()
        return model, [losses[0] + 0.01 * (config.isa() == config.isas()[0]), *losses[1:]]

    if len(config.isas()) < 2:
        pytest.skip("this processor has one instruction set")
    monkeypatch.setattr(engine, "train", wrong)
    with pytest.raises(ArithmeticError, match=r"differ by 0\.01"):
        engine.instruction_sets_agree()


@pytest.mark.usefixtures("one_isa")
def test_it_notices_files_that_are_not_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(selftest.kernels, "CHECKS", {})
    good = tmp_path / "good.safetensors"
    engine.network().save(good)
    original = engine.load_model

    def lenient(path: str) -> Any:
        shutil.copy(good, path)
        return original(path)

    monkeypatch.setattr(engine, "load_model", lenient)
    out, _ = run(capsys, "selftest", "--json", code=1)
    checks = {check["name"]: check for check in map(json.loads, out.splitlines())}
    failed = {name for name, check in checks.items() if not check["passed"]}
    assert failed == {"a saved model opens and trains on with the same bits", "a damaged file is refused"}
    assert checks["a damaged file is refused"]["detail"] == "ValueError: a file with one bit flipped was loaded"


@pytest.mark.usefixtures("one_isa")
def test_what_a_check_raises_is_its_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        raise ZeroDivisionError("no file today")

    monkeypatch.setattr(selftest.kernels, "CHECKS", {"nothing": lambda: iter(())})
    monkeypatch.setattr(safetensors, "read", broken)
    lines = run(capsys, "selftest", code=1)[0].splitlines()
    assert f"FAILED {config.isa()} nothing: ArithmeticError: multiples of the bound: nothing was compared" in lines
    assert "FAILED a damaged file is refused: ZeroDivisionError: no file today" in lines
    assert lines[-1] == f"3 of {len(lines) - 1} checks failed"
