"""What the bench compares: layers read off the graphs, NumPy's forms, results that are judged before they are timed."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastcnn import applications, layers
from fastcnn.benchmark import against_numpy, environment, network, roof, timing
from fastcnn.benchmark.layers import (
    Convolution,
    GlobalPooling,
    Normalization,
    Pooling,
    Product,
    Shape,
    distinct_layers,
)
from fastcnn.benchmark.roof import Roof
from fastcnn.benchmark.work import Bound, Work, works
from fastcnn.models import Model

ONE = ((1, 1), (1, 1))
NONE = ((0, 0), (0, 0))


# -- layers of graphs --------------------------------------------------------------------------------------------------


def found(name: str, size: int = 224) -> dict[Shape, dict[str, int]]:
    model = getattr(applications, name)(weights=None, input_shape=(size, size, 3), variant="torchvision")
    return distinct_layers({name: model})


@pytest.mark.parametrize(
    ("name", "convolutions", "distinct", "gmacs"),
    [("VGG16", 13, 9, 15.47), ("ResNet50", 53, 23, 4.09), ("ResNet18", 20, 11, 1.81)],  # torchvision's numbers
)
def test_convolutions_and_their_arithmetic(name: str, convolutions: int, distinct: int, gmacs: float) -> None:
    layers_of = found(name)
    counts = {shape: counts[name] for shape, counts in layers_of.items() if isinstance(shape, Convolution)}
    assert (sum(counts.values()), len(counts)) == (convolutions, distinct)
    macs = sum(shape.macs * count for shape, count in counts.items())
    macs += sum(shape.C * shape.K * counts[name] for shape, counts in layers_of.items() if isinstance(shape, Product))
    assert macs / 1e9 == pytest.approx(gmacs, rel=0.005)


def test_paddings_and_windows_are_the_graph_s() -> None:
    shapes = found("ResNet50")
    assert {shape for shape in shapes if isinstance(shape, Pooling | GlobalPooling | Product)} == {
        Pooling("max", 112, 112, 64, (3, 3), (2, 2), ONE),
        Pooling("average", 112, 112, 64, (3, 3), (2, 2), ONE),
        GlobalPooling(7, 7, 2048),
        Product(2048, 1000),
    }
    assert Convolution(224, 224, 3, 64, 7, 7, (2, 2), ((3, 3), (3, 3))) in shapes
    assert Convolution(56, 56, 128, 128, 3, 3, (2, 2), ONE) in shapes
    assert Convolution(28, 28, 512, 1024, 1, 1, (2, 2), NONE) in shapes
    assert sum(counts["ResNet50"] for shape, counts in shapes.items() if isinstance(shape, Normalization)) == 53
    assert {shape.epsilon for shape in shapes if isinstance(shape, Normalization)} == {1e-5}


def test_a_layer_of_two_networks_is_one() -> None:
    models = {
        name: getattr(applications, name)(weights=None, input_shape=(64, 64, 3), variant="torchvision")
        for name in ("ResNet18", "ResNet50")
    }
    stem = Convolution(64, 64, 3, 64, 7, 7, (2, 2), ((3, 3), (3, 3)))
    assert distinct_layers(models)[stem] == {"ResNet18": 1, "ResNet50": 1}
    assert network.flops(models["ResNet18"]) == 2 * sum(
        (shape.macs if isinstance(shape, Convolution) else shape.C * shape.K) * counts["ResNet18"]
        for shape, counts in distinct_layers({"ResNet18": models["ResNet18"]}).items()
        if isinstance(shape, Convolution | Product)
    )


def test_a_dilated_convolution_is_refused() -> None:
    x = layers.Input((8, 8, 3))
    model = Model(x, layers.Conv2D(4, 3, dilation_rate=2, name="wide")(x))
    with pytest.raises(ValueError, match=r"^wide: dilated convolutions are not among what is timed$"):
        distinct_layers({"model": model})


# -- three ways to the same result -------------------------------------------------------------------------------------

SHAPES: list[Shape] = [
    Convolution(9, 11, 3, 20, 7, 7, (2, 2), ((3, 3), (3, 3))),
    Convolution(12, 12, 18, 24, 3, 3, (1, 1), ONE),  # Winograd
    Convolution(8, 7, 17, 9, 1, 1, (1, 1), NONE),
    Convolution(9, 8, 17, 9, 1, 1, (2, 2), NONE),
    Convolution(10, 9, 5, 7, 3, 3, (2, 2), ONE),
    Convolution(7, 9, 4, 6, 3, 2, (1, 1), ((0, 1), (1, 0))),
    Convolution(6, 6, 4, 6, 1, 1, (1, 1), ONE),  # more padding than the window reaches
    Pooling("max", 8, 6, 5, (2, 2), (2, 2), NONE),
    Pooling("max", 9, 7, 5, (2, 2), (2, 2), NONE),
    Pooling("max", 9, 8, 17, (3, 3), (2, 2), ONE),
    Pooling("average", 8, 6, 5, (2, 2), (2, 2), NONE),
    Pooling("average", 9, 8, 17, (3, 3), (2, 2), ONE),
    GlobalPooling(7, 5, 19),
    Normalization(6, 5, 19, 1e-5),
    Product(33, 18),
]
OPERATIONS = {
    (Convolution, "forward"): ["conv2d_forward"],
    (Convolution, "backward"): ["conv2d_backward_data", "conv2d_backward_weights"],
    (Product, "forward"): ["dense_forward"],
    (Product, "backward"): ["dense_backward_data", "dense_backward_weights"],
    (GlobalPooling, "forward"): ["global_average_pool2d_forward"],
    (GlobalPooling, "backward"): ["global_average_pool2d_backward"],
    (Normalization, "forward"): ["batchnorm_forward"],
    (Normalization, "backward"): ["batchnorm_backward"],
}


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{type(shape).__name__} {shape}")
def test_fastcnn_and_numpy_lie_within_the_bounds(shape: Shape, direction: str) -> None:
    seen = []
    for work in works(shape, 2, direction):
        seen.append(work.operation)
        for _ in range(2):  # what a call leaves in its buffers must not matter
            ours, numpy = work.errors(work.exact())
            assert 0 <= ours <= 1 >= numpy >= 0
        assert work.nbytes > 4 * 2 * 18
    if isinstance(shape, Pooling):
        assert seen == [f"{shape.kind}_pool2d_{direction}"]
    elif isinstance(shape, Convolution) and shape.C == 3 and direction == "backward":
        assert seen == ["conv2d_backward_weights"]  # a picture has no gradient
    else:
        assert seen == OPERATIONS[type(shape), direction]


def test_arithmetic_and_traffic() -> None:
    (work,) = works(Convolution(32, 32, 64, 80, 3, 3, (1, 1), ONE), 2, "forward")
    assert work.algorithm == "winograd"
    assert work.flops == 2 * 2 * 1024 * 9 * 64 * 80
    assert work.nbytes == 4 * (2 * 1024 * (64 + 80) + 9 * 64 * 80)
    (work,) = works(Pooling("max", 8, 6, 5, (2, 2), (2, 2), NONE), 2, "forward")
    assert (work.flops, work.nbytes) == (0, 4 * 2 * 5 * (48 + 12))
    _, work = works(Product(33, 18), 2, "backward")
    assert (work.flops, work.nbytes) == (2 * 2 * 33 * 18, 4 * (2 * 33 + 2 * 18 + 33 * 18))


def test_weights_are_packed_anew_in_training_only() -> None:
    shape = Convolution(8, 8, 16, 16, 3, 3, (1, 1), NONE)
    (forward,) = works(shape, 1, "forward")
    backward, _ = works(shape, 1, "backward")
    for work, follows in ((forward, False), (backward, True)):
        cells: Any = [cell.cell_contents for cell in work.exact.__closure__ or ()]  # type: ignore[attr-defined]
        assert cells
        work.ours()
        before = work.our_outputs[0].copy()
        weights(work)[:] = 0
        work.ours()
        assert np.array_equal(work.our_outputs[0], before) != follows


def weights(work: Work) -> Any:
    """Return the array w [3,3,16,16] that a work's NumPy form reads."""
    todo: list[Any] = [work.numpy]
    while todo:
        item = todo.pop()
        if isinstance(item, np.ndarray) and item.size == 9 * 16 * 16 and item.shape[-1] == 16 and item.any():
            return item
        todo += [cell.cell_contents for cell in getattr(item, "__closure__", None) or ()]
    raise AssertionError("no weights found")


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[7], SHAPES[9], *SHAPES[11:]], ids=str)
def test_a_wrong_result_is_noticed(shape: Shape, direction: str, side: int) -> None:
    for work in works(shape, 2, direction):
        outputs = (work.our_outputs, work.numpy_outputs)[side]
        right = (work.ours, work.numpy)[side]
        for output in outputs:

            def wrong(output: Any = output, right: Any = right) -> None:
                right()
                output.flat[output.size // 2] += 0.01 * np.abs(output).max()

            broken = replace(work, ours=wrong) if side == 0 else replace(work, numpy=wrong)
            errors = broken.errors(work.exact())
            assert errors[side] > 1 >= errors[1 - side]


def test_an_output_that_nobody_writes_is_noticed() -> None:
    (work,) = works(Product(33, 18), 2, "forward")
    work.ours()
    assert replace(work, ours=lambda: None).errors(work.exact())[0] == math.inf
    assert Bound(np.zeros(2)).error(np.array([0, np.nan])) == math.inf


def test_a_row_says_whether_it_passed_and_who_was_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[list[str]] = []

    def in_turn(calls: Any, rounds: int, seconds: float) -> dict[str, list[float]]:
        turns.append(list(calls))
        return {"ours": [3.0, 1.0, 2.0], "numpy": [5.0, 4.0, 4.0]}

    monkeypatch.setattr(against_numpy, "in_turn", in_turn)
    monkeypatch.setattr(against_numpy, "seconds_of", lambda call: (call(), 3.0)[1])
    roofs = Roof(gflops=1e-9 * 2 * 2 * 33 * 18, gbytes=1.0)  # the product takes a second
    (row,) = against_numpy.compare(Product(33, 18), {"net": 1}, 2, "forward", roofs)
    assert turns == [["ours", "numpy"]]  # the reference took too long to be repeated
    assert (row.seconds, row.numpy_seconds, row.reference_seconds) == (2.0, 4.0, 3.0)
    assert row.roof_share == pytest.approx(0.5)
    assert row.passed
    assert row.faster
    assert row.rate == (row.flops / 2e9, "GFLOP/s")
    assert replace(row, flops=0).rate == (row.nbytes / 2e9, "GB/s")
    assert not replace(row, our_error=1.1).passed
    assert not replace(row, numpy_error=math.nan).passed
    assert not replace(row, reference_seconds=2.0).faster
    assert not replace(row, numpy_seconds=1.9).faster


# -- roofs, times, the environment -------------------------------------------------------------------------------------


def test_the_roof_is_the_lower_of_two() -> None:
    roofs = Roof(gflops=100.0, gbytes=10.0)
    assert [roofs.attainable(intensity) for intensity in (0.0, 5.0, 10.0, 20.0)] == [0.0, 50.0, 100.0, 100.0]
    assert roofs.seconds(flops=1e9, nbytes=1e9) == 0.1
    assert roofs.seconds(flops=1e11, nbytes=1e9) == 1.0
    about = roof.machine()
    assert about["cpu"]
    assert about["numpy"] == np.__version__


def test_a_machine_that_was_not_left_alone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roof, "measured", lambda: Roof(gflops=95.0, gbytes=10.5))
    assert roof.steadiness(Roof(100.0, 10.0)) == "roofs before and after: 100 and 95 GFLOP/s, 10.0 and 10.5 GB/s"
    for before in (Roof(80.0, 10.0), Roof(100.0, 12.0)):
        assert roof.steadiness(before).endswith("; the machine was not left alone: measure again")


def test_calls_take_turns() -> None:
    order: list[str] = []
    times = timing.in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2, seconds=0.0)
    assert {name: len(values) for name, values in times.items()} == {"a": 2, "b": 2}
    assert order == ["a", "a", "b", "b"] * 2  # the first of each pair is not timed
    assert len(timing.repeated(lambda: None, seconds=0.0, least=3)) == 3
    assert len(timing.repeated(lambda: None, seconds=10.0, most=4)) == 4


def test_numpy_runs_at_its_best() -> None:
    program = """
import os, sys
from fastcnn.benchmark.environment import restart_for_numpy
restart_for_numpy(3)
print(os.getpid(), sys.argv[1:], *(os.environ.get(name) for name in (
    "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "KEPT")))
"""
    forced = {"OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_L2_SIZE": "1", "OPENBLAS_NUM_THREADS": "1", "KEPT": "yes"}
    done = subprocess.run(
        [sys.executable, "-c", program, "one", "two"],
        env=os.environ | forced,
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = done.stdout.splitlines()
    assert line.split(" ", 1)[1] == "['one', 'two'] None None 3 3 yes"
    assert environment.numpy_environment(2)["OPENBLAS_NUM_THREADS"] == "2"


def test_the_peak_of_memory_is_this_process_s() -> None:
    before = network.peak_bytes()
    block = np.ones(1 << 26, np.uint8)
    assert network.peak_bytes() >= before
    assert network.peak_bytes() >= block.nbytes
