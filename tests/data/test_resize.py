from __future__ import annotations

import math
import threading

import numpy as np
import pytest

from fastcnn.data.resize import centred_window, resize_into

SIZES = [((1, 1), (1, 1)), ((1, 1), (3, 5)), ((7, 5), (7, 5)), ((7, 5), (3, 4)), ((4, 6), (9, 13)), ((1, 40), (8, 8))]
SIZES += [((40, 1), (8, 8)), ((16, 16), (5, 3)), ((30, 20), (30, 7)), ((9, 31), (4, 31)), ((200, 2), (6, 6))]


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng([height, width, channels])
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def resized(x: np.ndarray, size: tuple[int, int], *how: str) -> np.ndarray:
    y = np.full((*size, x.shape[2]), np.nan, dtype=np.float32)
    resize_into(x, y, *how)
    assert not np.isnan(y).any()
    return y


def bilinear_reference(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixel by pixel in float64, straight from the definition."""
    (H, W, C), (P, Q) = x.shape, size
    y = np.empty((P, Q, C))
    for p in range(P):
        for q in range(Q):
            row, column = (p + 0.5) * H / P - 0.5, (q + 0.5) * W / Q - 0.5
            r, s = math.floor(row), math.floor(column)
            total = np.zeros(C)
            for i, a in ((r, 1 - (row - r)), (r + 1, row - r)):
                for j, b in ((s, 1 - (column - s)), (s + 1, column - s)):
                    total += a * b * x[min(max(i, 0), H - 1), min(max(j, 0), W - 1)]
            y[p, q] = total
    return y


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("size", "target"), SIZES)
def test_bilinear_equals_the_definition(size: tuple[int, int], target: tuple[int, int], channels: int) -> None:
    x = picture(*size, channels)
    y = resized(x, target)
    # Coordinates are float32: at most a few units of 2**-24 of the picture's side, times a step of 255.
    error = np.abs(y - bilinear_reference(x, target)).max()
    assert error <= 255 * 8 * max(*size, *target) * 2.0**-24


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_nearest_equals_the_definition(size: tuple[int, int], target: tuple[int, int]) -> None:
    x = picture(*size)
    rows = [min(math.floor((p + 0.5) * size[0] / target[0]), size[0] - 1) for p in range(target[0])]
    columns = [min(math.floor((q + 0.5) * size[1] / target[1]), size[1] - 1) for q in range(target[1])]
    np.testing.assert_array_equal(resized(x, target, "nearest"), x[rows][:, columns])


def test_bilinear_of_known_numbers() -> None:
    x = np.array([[0, 100]], dtype=np.uint8)[:, :, None]
    assert resized(x, (1, 4))[0, :, 0].tolist() == [0, 25, 75, 100]
    wide = np.array([[0, 10, 20, 30, 40, 50, 60, 70]], dtype=np.uint8)[:, :, None]
    assert resized(wide, (1, 2))[0, :, 0].tolist() == [15, 55]  # no averaging over the four pixels each stands for


def test_same_size_is_a_copy() -> None:
    x = picture(6, 5)
    for how in ("bilinear", "nearest"):
        for fit in ("stretch", "crop", "pad"):
            np.testing.assert_array_equal(resized(x, (6, 5), how, fit), x)


@pytest.mark.parametrize(
    ("size", "target", "window"),
    [
        ((340, 500), (200, 200), (0, 80, 340, 340)),
        ((500, 340), (200, 200), (80, 0, 340, 340)),
        ((10, 10), (5, 20), (4, 0, 2, 10)),
        ((1, 1000), (8, 8), (0, 499, 1, 1)),
        ((3, 1), (1, 500), (1, 0, 1, 1)),
    ],
)
def test_centred_window(size: tuple[int, int], target: tuple[int, int], window: tuple[int, ...]) -> None:
    assert centred_window(*size, *target) == window


def test_crop_resizes_the_centred_window() -> None:
    x = picture(34, 50)
    top, left, height, width = centred_window(34, 50, 20, 20)
    expected = resized(np.ascontiguousarray(x[top : top + height, left : left + width]), (20, 20))
    np.testing.assert_array_equal(resized(x, (20, 20), "bilinear", "crop"), expected)


@pytest.mark.parametrize(
    ("size", "target", "box"),
    [
        ((10, 20), (8, 8), (2, 0, 4, 8)),
        ((20, 10), (8, 8), (0, 2, 8, 4)),
        ((10, 15), (8, 8), (1, 0, 5, 8)),  # 5.33 rows: floor(5.33) = 5, floor((8 - 5.33) / 2) = 1
        ((1, 1000), (8, 8), (3, 0, 1, 8)),
        ((1000, 1), (8, 8), (0, 3, 8, 1)),
    ],
)
@pytest.mark.parametrize("how", ["bilinear", "nearest"])
def test_pad_keeps_the_whole_picture(
    size: tuple[int, int], target: tuple[int, int], box: tuple[int, int, int, int], how: str
) -> None:
    x = np.maximum(picture(*size), 1)
    top, left, rows, columns = box
    expected = np.zeros((*target, 3), dtype=np.float32)
    expected[top : top + rows, left : left + columns] = resized(x, (rows, columns), how)
    np.testing.assert_array_equal(resized(x, target, how, "pad"), expected)


def test_threads_do_not_share_scratch_memory() -> None:
    jobs = [(picture(height, width), (40 + height % 7, 31)) for height in (30, 41, 52, 63) for width in (25, 38)]
    expected = [resized(x, size) for x, size in jobs]
    wrong: list[int] = []

    def work(first: int) -> None:
        for i in range(200):
            job = (first + i) % len(jobs)
            if not np.array_equal(resized(*jobs[job]), expected[job]):
                wrong.append(job)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
