"""`fastcnn bench` on a network that takes no time: what it prints as text and as JSON, and what it refuses."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from commands import run, run_process

from fastcnn import cli, config
from fastcnn.benchmark import against_numpy
from fastcnn.cli import bench, bench_task

SHORT = ("--model", "resnet18", "cifar-resnet20", "--size", "32", "--seconds", "0.05")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    done = run_process("bench", *SHORT, "--batch", "2", "--threads", "1", "--json")
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def of(kind: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["kind"] == kind]


def test_json_lines(rows: list[dict[str, Any]]) -> None:
    (machine,) = of("machine", rows)
    assert (machine["threads"], machine["isa"]) == (1, config.isa())
    assert machine["gflops"] > 0 < machine["gbytes"]
    assert [(row["model"], row["size"], row["batch"]) for row in of("inference", rows)] == [
        ("resnet18", 32, 2),
        ("cifar-resnet20", 32, 2),
    ]
    (training,) = of("training", rows)
    assert (training["model"], training["size"], training["batch"]) == ("resnet18", 32, bench.TRAINING_BATCH)
    for row in (*of("inference", rows), training):
        assert row["calls"] >= 5
        assert row["images_per_second"] == pytest.approx(row["batch"] / row["seconds"])
        assert row["gflops"] == pytest.approx(row["flops"] / row["seconds"] / 1e9)
        assert row["share"] == pytest.approx(row["gflops"] / machine["gflops"])
        assert 20 << 20 < row["peak_bytes"] < 2 << 30
    # He et al. 2015: 40.8 million multiply-adds
    assert of("inference", rows)[1]["flops"] == pytest.approx(2 * 2 * 40.8e6, rel=0.03)


def test_layers_are_right_and_of_every_kind(rows: list[dict[str, Any]]) -> None:
    layers = of("layer", rows)
    assert {row["operation"] for row in layers} == {
        "conv2d_forward",
        "max_pool2d_forward",
        "global_average_pool2d_forward",
        "batchnorm_forward",
        "dense_forward",
    }
    assert len({row["layer"].split(", ")[1][:3] for row in layers if row["operation"] == "conv2d_forward"}) == 3
    for row in layers:
        assert row["passed"]
        assert 0 <= row["our_error"] <= 1 >= row["numpy_error"]
        assert min(row["seconds"], row["numpy_seconds"], row["reference_seconds"], row["rate"], row["roof_share"]) > 0
        assert row["batch"] == (8 if row["operation"] == "batchnorm_forward" else 2)


def test_text_fits_into_100_columns(
    rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = {"machine": of("machine", rows), "training": of("training", rows), "layers": of("layer", rows)}
    measured |= {row["model"]: [row] for row in of("inference", rows)}

    def again(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
        return iter(measured[task["model"] if task["task"] == "inference" else task["task"]])

    monkeypatch.setattr(bench, "_measure", again)
    out, err = run(capsys, "bench", *SHORT, "--batch", "2", "--threads", "1")
    assert err == ""  # a bar is for terminals
    lines = out.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[1].startswith(f"threads: 1; instruction set: {config.isa()}; fastcnn ")
    assert re.match(r"measured: \d+ GFLOP/s on registers, [\d.]+ GB/s from memory", lines[2])
    for start in ("resnet18 32x32", "cifar-resnet20 32x32"):
        (line,) = (line for line in lines[: lines.index("", 5)] if line.startswith(start))
        assert re.fullmatch(rf"{start}(\s+[\d.]+){{5}} %", line)
    assert any(line.startswith("training step, batch 32") for line in lines)
    row = re.compile(r" conv2d x2( +[\d.]+){3} x +[\d.]+ GFLOP/s +\d+ %$")
    assert len([line for line in lines if row.search(line)]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "alexnet"], "invalid choice: 'alexnet'"),
        (["--batch", "0"], "must be a whole number of at least 1, got '0'"),
        (["--size", "big"], "must be a whole number of at least 1, got 'big'"),
        (["--threads", "-1"], "must be a whole number of at least 1, got '-1'"),
        (["--seconds", "0"], "must be a number above 0, got '0'"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["bench", *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "vgg16", "--size", "8"], "at least 32"),
        (["--threads", "2000"], "threads must be 1 to"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_measured(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)  # a measurement would need it
    before = config.num_threads()
    out, err = run(capsys, "bench", *arguments, code=1)
    assert out == ""
    assert len(err.splitlines()) == 1
    assert message in err
    assert config.num_threads() == before


def test_a_wrong_layer_is_an_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {
        "machine": [bench_task.roof.machine() | {"gflops": 100.0, "gbytes": 10.0}],
        "layers": [_layer(our_error=0.5), _layer(our_error=1.5)],
    }
    network = {"calls": 5, "seconds": 0.1, "flops": 10**9, "peak_bytes": 1 << 28, "batch": 1, "size": 32}
    monkeypatch.setattr(bench, "_measure", lambda task: iter(rows.get(task["task"], [network | {"model": "m"}])))
    out, _ = run(capsys, "bench", "--model", "resnet18", code=1)
    assert re.search(r"^4 -> 5 +dense +1\.000 +2\.000 +2\.00 x", out, re.MULTILINE)
    assert re.search(r"^4 -> 5 +dense +1\.000 +2\.000 +FAIL", out, re.MULTILINE)


def _layer(our_error: float) -> dict[str, Any]:
    row = against_numpy.Row(
        "4 -> 5", {"m": 1}, "dense_forward", "gemm", 1, 10**6, 400, our_error, 0.1, 1e-3, 2e-3, 3e-3, 0.5
    )
    return vars(row) | {"rate": row.rate[0], "unit": row.rate[1], "passed": row.passed, "faster": row.faster}


def test_what_a_measurement_raises_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    task = {"task": "inference", "threads": 1, "seconds": 0.01, "model": "resnet18", "size": 32, "batch": -1}
    with pytest.raises(RuntimeError, match=r"^inference: negative dimensions"):
        list(bench._measure(task))
    assert capfd.readouterr().err == ""
    with pytest.raises(RuntimeError, match=r"^inference: the process that measured it ended with 1$"):
        list(bench._measure({"task": "inference", "threads": 1, "seconds": 0.01, "fly": True}))
    assert "KeyError" in capfd.readouterr().err


def test_interrupt() -> None:
    command = [sys.executable, "-m", "fastcnn", "bench", "--model", "resnet18", "--size", "32", "--seconds", "100"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)  # to the command alone: it ends its measurement
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "fastcnn bench: interrupted\n"
