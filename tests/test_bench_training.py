"""The scripts on training in bench/: what they note, judge and draw, on networks that take no time."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import applications
from fastcnn.benchmark.layers import Convolution, Product
from fastcnn.benchmark.roof import Roof
from fastcnn.benchmark.work import Bound

BENCH = Path(__file__).resolve().parents[1] / "bench"
if not BENCH.is_dir():
    pytest.skip("needs bench/ of the source tree", allow_module_level=True)
sys.path[:0] = [str(BENCH), str(BENCH / "peers")]

import bench_convergence  # noqa: E402
import bench_gradients  # noqa: E402
import bench_growth  # noqa: E402
import bench_training  # noqa: E402
import training_charts  # noqa: E402
from course import Course  # noqa: E402
from recorded import RecordedEmitter, Work, training_program  # noqa: E402
from torch_names import keras_layout, torch_layout  # noqa: E402

FLOAT = 4


def small(name: str = "ResNet18", size: int = 32) -> Any:
    fastcnn.set_random_seed(1)
    model = getattr(applications, name)(weights=None, input_shape=(size, size, 3), classes=10)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def samples(count: int, size: int = 32) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    return random.random((count, size, size, 3), np.float32), random.integers(0, 10, count)


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


# -- recorded programs -------------------------------------------------------------------------------------------------


def test_what_is_noted_is_what_the_graph_says() -> None:
    model = small()
    works = training_program(model, 2).emitter.works  # type: ignore[attr-defined]
    bench_training.check_arithmetic(works, model, 2)
    forward = [work for work in works if work.operation == "conv2d_forward"]
    assert len(forward) == 20
    assert forward[0].layer == "32x32x3 -> 64, 7x7 s2"
    stem = 2 * 2 * 16 * 16 * 64 * 49 * 3
    assert forward[0].flops == stem
    data = sum(work.flops for work in works if work.operation == "conv2d_backward_data")
    assert data == sum(work.flops for work in forward) - stem  # pictures have no gradient
    weights = {work.layer for work in works if work.operation == "conv2d_backward_weights"}
    assert weights == {work.layer for work in forward}
    with pytest.raises(RuntimeError, match="conv2d_forward, dense_forward have"):
        bench_training.check_arithmetic(works[2:], model, 2)


def test_bytes_count_what_is_read_and_written() -> None:
    model = small()
    works = training_program(model, 2).emitter.works  # type: ignore[attr-defined]
    adam = [work for work in works if work.operation == "adam_step"]
    trained = sum(math.prod(w.shape) for w in model.trainable_weights)
    expected = 7 * FLOAT * trained  # values and two slots read and written, gradients read
    assert expected <= sum(work.nbytes for work in adam) < 1.01 * expected
    dense = next(work for work in works if work.operation == "dense_forward")
    assert dense == Work("dense_forward", "512 -> 10", "", 2 * 2 * 512 * 10, FLOAT * (2 * 512 + 512 * 10 + 2 * 10 + 10))


def test_timing_changes_no_bit_and_misses_no_step() -> None:
    x, y = samples(2)
    plain, recorded = small(), small()
    emitter = training_program(recorded, 2).emitter
    assert isinstance(emitter, RecordedEmitter)
    emitter.seconds = np.zeros(len(emitter))
    for _ in range(2):
        assert plain.train_on_batch(x, y) == recorded.train_on_batch(x, y)
    assert (emitter.seconds > 0).all()
    assert all(np.array_equal(a, b) for a, b in zip(plain.get_weights(), recorded.get_weights(), strict=True))


def test_a_program_that_was_there_before_is_refused() -> None:
    model = small()
    model.train_on_batch(*samples(2))
    with pytest.raises(RuntimeError, match="before it could be recorded"):
        training_program(model, 2)


@pytest.mark.parametrize(
    ("operation", "layer", "phase"),
    [
        ("conv2d_forward", "", "conv forward"),
        ("conv2d_backward_data", "", "conv backward-data"),
        ("conv2d_backward_weights", "", "conv backward-weights"),
        ("bias_backward", "8x8x64", "conv backward-weights"),
        ("bias_backward", "4096", "dense"),
        ("dense_backward_data", "", "dense"),
        ("batchnorm_merge", "", "norm forward"),
        ("batchnorm_backward", "", "norm backward"),
        ("softmax_cross_entropy", "", "loss"),
        ("max_pool2d_backward", "", "pooling and other"),
    ],
)
def test_phases(operation: str, layer: str, phase: str) -> None:
    work = Work(operation, layer, "", 0, 1)
    assert bench_training.phase_of(work, updates=False) == phase
    assert bench_training.phase_of(work, updates=True) == "optimizer"


def test_phases_add_up_or_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [("conv forward", Work("conv2d_forward", "a", "gemm", 4_000_000, 1000), 0.004)] * 2
    for untouched, holds in ((0.0093, True), (0.0101, False), (0.0085, False)):
        times = (found, 0.001, 0.009, untouched)
        monkeypatch.setattr(bench_training, "measure", lambda *_, times=times: times)
        rows, layers, step = bench_training.phases("resnet18", 32, 2, 1, Roof(10.0, 10.0))
        assert step["adds_up"] is holds
        assert [row["phase"] for row in rows] == ["conv forward", "data"]
        assert (rows[0]["count"], rows[0]["gflops"], rows[0]["bound"]) == (2, pytest.approx(1.0), "peak")
        assert rows[0]["roof_share"] == pytest.approx(0.1)
        assert [row["seconds"] for row in layers] == [pytest.approx(0.008), 0.001]
        assert ("DOES NOT ADD UP" in bench_training.table("", rows, step)) is not holds


# -- growth ------------------------------------------------------------------------------------------------------------


def test_lines() -> None:
    line = bench_growth.Line.through([1.0, 2.0, 4.0], [5.0, 7.0, 11.0])
    assert (line.fixed, line.slope) == (pytest.approx(3.0), pytest.approx(2.0))
    assert line.off < 1e-12
    assert bench_growth.Line.through([1.0, 2.0, 4.0], [5.0, 7.0, 22.0]).off > 0.1


def test_memory_that_was_not_planned_is_noticed() -> None:
    row = {"planned_bytes": 200 << 20, "grown_bytes": 210 << 20}
    assert bench_growth.plan_holds(row)
    assert not bench_growth.plan_holds(row | {"grown_bytes": 221 << 20})
    assert not bench_growth.plan_holds(row | {"grown_bytes": 179 << 20})


def test_growth_is_measured_and_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    lines = tmp_path / "growth.jsonl"
    arguments = ["--batches", "1", "2", "3", "--sizes", "--seconds", "0", "--threads", "1", "--json", str(lines)]
    done = script("bench_growth.py", "--model", "resnet18", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [row["batch"] for row in rows] == [1, 2, 3]
    assert all(row["peak_bytes"] > row["grown_bytes"] > 3 * 44e6 for row in rows)  # weights, gradients, two slots
    assert "memory " in done.stdout
    training_charts.growth(rows, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 10_000


# -- gradients ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "operations"),
    [
        (
            Convolution(12, 12, 18, 24, 3, 3, (1, 1), ((1, 1), (1, 1))),
            ["conv2d_backward_data", "conv2d_backward_weights", "bias_backward"],
        ),
        (Product(33, 18), ["dense_backward_data", "dense_backward_weights", "bias_backward"]),
    ],
)
def test_gradients_of_layers_lie_within_their_bounds(shape: Any, operations: list[str]) -> None:
    rows = list(bench_gradients.layer_rows(shape, 2))
    assert [row["operation"] for row in rows] == operations
    assert all(row["passed"] and 0 < row["error"] <= row["bound"] for row in rows)


def test_a_wrong_gradient_is_above_its_bound() -> None:
    exact = np.ones(3)
    bound = Bound(exact, exact, 4.0, 9)
    right = bench_gradients._judged("a", "b", "", exact.astype(np.float32), bound)
    wrong = bench_gradients._judged("a", "b", "", np.array([1, 1.001, 1], np.float32), bound)
    missing = bench_gradients._judged("a", "b", "", np.array([1, np.nan, 1], np.float32), bound)
    assert (right["passed"], wrong["passed"], missing["passed"]) == (True, False, False)
    assert "2 above" in bench_gradients.layer_summary([right, wrong, missing])


def test_errors_of_networks_are_judged_by_pytorch_s() -> None:
    exact = {"a": np.array([3.0, -4.0]), "b": np.array([1.0])}
    found = {"a": np.array([3.0, -4.04]), "b": np.array([1.0])}
    assert bench_gradients.errors(found, exact) == [(pytest.approx(0.008), pytest.approx(0.01)), (0.0, 0.0)]
    with pytest.raises(ValueError, match=r"tensors of one side alone: \['b'\]"):
        bench_gradients.errors({"a": found["a"]}, exact)
    assert bench_gradients.errors(found | {"b": np.array([np.nan])}, exact) == [(math.inf, math.inf)] * 2
    pairs = {"torch nchw": [(1e-6, 1e-6)], "fastcnn winograd": [(7e-6, 7e-6)], "fastcnn direct": [(1e-6, 1.6e-6)]}
    rows = {row["engine"]: row for row in bench_gradients.network_rows("net", pairs)}
    assert rows["fastcnn winograd"]["passed"]
    assert not rows["fastcnn direct"]["passed"]
    assert "ABOVE THE BOUND" in bench_gradients.network_table(list(rows.values()))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("features.0.weight", (5, 4, 3, 2)),
        ("classifier.0.weight", (6, 2048)),
        ("classifier.3.weight", (6, 7)),
        ("features.0.bias", (5,)),
    ],
)
def test_layouts_there_and_back(name: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).random(shape, np.float32)
    assert np.array_equal(torch_layout(name, keras_layout(name, values), shape), values)


# -- whole trainings ---------------------------------------------------------------------------------------------------


def test_a_course_is_the_seed_s(tmp_path: Path) -> None:
    x, y = np.arange(10 * 4, dtype=np.uint8).reshape(10, 2, 2), np.arange(10)
    np.savez(tmp_path / "data.npz", x=x, y=y, test_x=x[:3], test_y=y[:3])
    first, again, other = (list(Course(tmp_path, seed, 3, 5).batches()) for seed in (0, 0, 1))
    labels = [label.tolist() for _, label in first]
    assert sorted(labels[0] + labels[1]) == list(range(10))
    assert labels == [label.tolist() for _, label in again] != [label.tolist() for _, label in other]
    pictures, label = first[2]
    assert pictures.shape == (5, 2, 2, 3)
    assert np.array_equal(pictures[..., 2], x[label] / np.float32(127.5) - 1)
    assert [label.tolist() for _, label in Course(tmp_path, 0, 1, 1).held_out()] == [[0, 1, 2]]
    with pytest.raises(ValueError, match="10 pictures are fewer than a batch of 11"):
        next(Course(tmp_path, 0, 1, 11).batches())


def test_trainings_are_compared_resumed_and_drawn(fashion_source: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    lines = tmp_path / "convergence.jsonl"
    # Of four pictures the last statistics would rest on four values each: first losses would differ by up to 2e-5.
    arguments = ["--model", "resnet18", "--size", "32", "--batch", "16", "--steps", "3", "--seeds", "2", "--test", "20"]
    arguments += ["--source", str(fashion_source), "--threads", "1", "--json", str(lines)]
    done = script("bench_convergence.py", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    text = lines.read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert [(row["engine"], row["seed"]) for row in rows] == [
        (engine, seed) for seed in (0, 1) for engine in ("fastcnn winograd", "fastcnn direct")
    ]
    assert all(len(row["losses"]) == 3 and row["held_out"] == 20 for row in rows)
    assert rows[0]["losses"][0] == pytest.approx(rows[1]["losses"][0], rel=1e-5)
    assert rows[0]["losses"] != rows[2]["losses"]
    lines.write_text("".join(text.splitlines(keepends=True)[:3]))
    done = script("bench_convergence.py", *arguments)
    resumed = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [row["losses"] for row in resumed] == [row["losses"] for row in rows]
    assert done.stdout.count("accuracy") == 5
    training_charts.convergence(rows, tmp_path / "convergence.png")
    assert (tmp_path / "convergence.png").stat().st_size > 10_000
    wrong = [rows[0], rows[1] | {"losses": [1.001 * rows[0]["losses"][0]]}]
    assert bench_convergence.starts_apart(rows) == []
    assert bench_convergence.starts_apart(wrong)[0].startswith("seed 0: the first losses differ")


# -- the script on phases ----------------------------------------------------------------------------------------------


def test_phases_are_measured_and_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    lines = tmp_path / "training.jsonl"
    case = ["--case", "resnet18", "32", "2", "--rounds", "1", "--threads", "1", "--layers", "--json", str(lines)]
    done = script("bench_training.py", *case)
    assert done.returncode in (0, 1), done.stderr  # one step on a busy machine need not add up
    assert "conv backward-weights" in done.stdout
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    phases = [row for row in rows if row["bench"] == "training"]
    assert {row["phase"] for row in phases} == set(bench_training.PHASES)
    layers = [row for row in rows if row["bench"] == "training_layers"]
    assert sum(row["count"] for row in layers) == sum(row["count"] for row in phases)
    (step,) = (row for row in rows if row["bench"] == "training_step")
    assert step["adds_up"] is (done.returncode == 0)
    training_charts.phases(phases, tmp_path / "training.png")
    assert (tmp_path / "training.png").stat().st_size > 10_000
    assert script("bench_training.py", "--case", "alexnet", "32", "2").returncode == 2
