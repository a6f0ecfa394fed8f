"""warp_forward against the float64 reference, on every instruction set, border and number of channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcnn import _core, reference

Array = NDArray[Any]
FILL_MODES = ("nearest", "constant", "reflect", "wrap")
GATE = 16  # in units of u times the largest value: three linear mixtures of two roundings each, and their weights'


def picture(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(-3, 3, shape).astype(np.float32)


def matrices(count: int, size: int) -> list[Array]:
    """Return maps that turn, stretch, shear and shift pictures of `size` pixels, some far beyond their borders."""
    random = np.random.default_rng(count)
    found = []
    for i in range(count):
        linear = np.eye(2) + random.uniform(-1.5, 1.5, (2, 2)) * (i > 0)
        shift = random.uniform(-2, 3, (2, 1)) * size
        found.append(np.hstack([linear, shift]))
    return found


@pytest.mark.parametrize("bilinear", [True, False], ids=["bilinear", "nearest"])
@pytest.mark.parametrize("fill_mode", FILL_MODES)
@pytest.mark.parametrize("shape", [(1, 1, 3), (4, 5, 1), (7, 3, 2), (6, 6, 3), (3, 1, 17)])
def test_warp_forward(
    isa: str,
    out: Callable[..., Array],
    on_threads: Callable[..., Array],
    shape: tuple[int, int, int],
    fill_mode: str,
    bilinear: bool,
) -> None:
    x = picture(*shape)
    for matrix in matrices(6, max(shape[:2])):

        def run(matrix: Array = matrix) -> Array:
            y = out((5, 8, shape[2]))
            _core.warp_forward(x, matrix, y, fill_mode, 1.25, bilinear)
            return y

        y = on_threads(run)
        expected = reference.warp_forward(x, matrix, (5, 8), fill_mode, 1.25, bilinear)
        S = reference.warp_magnitude(x, matrix, (5, 8), fill_mode, 1.25, bilinear)
        if bilinear:
            assert reference.error_units(y, expected, S).max() <= GATE
        else:
            assert np.array_equal(y, expected)


@pytest.mark.parametrize("bilinear", [True, False])
@pytest.mark.parametrize("fill_mode", FILL_MODES)
def test_the_identity_changes_no_bit(isa: str, out: Callable[..., Array], fill_mode: str, bilinear: bool) -> None:
    x = picture(9, 11, 3)
    y = out(x.shape)
    _core.warp_forward(x, np.eye(2, 3), y, fill_mode, 0.0, bilinear)
    assert y.tobytes() == x.tobytes()


@pytest.mark.parametrize("bilinear", [True, False])
def test_quarter_turns_reach_the_border(isa: str, out: Callable[..., Array], bilinear: bool) -> None:
    """A turn computed with sine and cosine misses whole pixels by rounding errors; no border pixel may be lost."""
    x = picture(31, 31, 3)
    for quarters in (1, 2, 3):
        c, s = np.cos(quarters * np.pi / 2), np.sin(quarters * np.pi / 2)
        matrix = np.array([[c, -s, 0.0], [s, c, 0.0]])
        matrix[:, 2] = 15 - matrix[:, :2] @ (15, 15)
        y = out(x.shape)
        _core.warp_forward(x, matrix, y, "constant", 99.0, bilinear)
        expected = np.rot90(x, -quarters)
        assert np.allclose(y, expected, rtol=0, atol=1e-5)


def test_empty_outputs_and_channels(isa: str, out: Callable[..., Array]) -> None:
    for shape, size in (((2, 3, 0), (4, 4, 0)), ((2, 3, 1), (0, 4, 1))):
        _core.warp_forward(picture(*shape), np.eye(2, 3), out(size))


def test_wall(wall: Callable[..., None]) -> None:
    arguments = {"x": picture(4, 5, 3), "matrix": np.eye(2, 3), "y": np.empty((3, 6, 3), np.float32)}
    wall("warp_forward", arguments, {"y"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fill_mode": "mirror"}, "fill_mode must be nearest, constant, reflect or wrap but is mirror"),
        ({"x": np.zeros((0, 4, 3), np.float32)}, "x must have at least one pixel"),
        ({"x": np.zeros((4, 3), np.float32)}, r"x must have rank 3|x .*\[H,W,C\]"),
        ({"matrix": np.full((2, 3), np.nan)}, "matrix must be finite"),
        ({"matrix": np.array([[1.0, 0, np.inf], [0, 1, 0]])}, "matrix must be finite"),
        ({"matrix": np.array([[1e13, 0, 0], [0, 1, 0]])}, "no farther than 2\\^40 pixels"),
    ],
)
def test_wrong_arguments(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"x": picture(4, 5, 3), "matrix": np.eye(2, 3), "y": np.empty((3, 6, 3), np.float32)}
    with pytest.raises(ValueError, match=f"^warp_forward: .*(?:{message})"):
        _core.warp_forward(**(arguments | changes))
