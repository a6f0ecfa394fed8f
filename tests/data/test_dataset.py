from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastcnn.data.dataset import ImageDataset
from fastcnn.data.directory import image_dataset_from_directory
from fastcnn.data.folder import ImageFileError
from fastcnn.data.prefetch import THREAD_NAME

MakeFolder = Callable[..., Path]

NOT_ACCEPTED = "the format is not accepted (accepted are JPEG, PNG, BMP, GIF, PPM, WEBP)"


def dataset(root: Path, **options: Any) -> ImageDataset:
    options = {"image_size": (5, 4), "batch_size": 4, "seed": 11, "verbose": False, **options}
    result = image_dataset_from_directory(root, **options)
    assert isinstance(result, ImageDataset)
    return result


def digest(batches: Iterable[Any]) -> str:
    total = hashlib.sha256()
    for x, y in batches:
        total.update(x.tobytes() + y.tobytes())
    return total.hexdigest()


def decode_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


def break_picture(root: Path, *names: str) -> list[str]:
    for name in names:
        (root / name).write_bytes(b"II*\x00 no picture")
    return [str(root / name) for name in names]


def test_an_epoch_holds_every_picture_once_with_its_label(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 3, "b": 5, "c": 2})
    data = dataset(root)
    assert len(data) == 3
    assert data.num_classes == 3
    assert data.class_names == ["a", "b", "c"]
    assert data.image_shape == (5, 4, 3)
    assert data.label_mode == "int"
    assert data.labels is not None
    assert data.labels.dtype == np.int32
    assert data.labels.tolist() == [0] * 3 + [1] * 5 + [2] * 2
    assert data.file_paths == sorted(data.file_paths)
    assert repr(data) == "<ImageDataset: 10 pictures (5, 4, 3), 3 classes, 3 batches of 4>"
    for epoch in range(2):
        batches = list(data.epoch(epoch))
        assert [len(x) for x, _ in batches] == [4, 4, 2]
        assert all(x.dtype == np.float32 and x.shape[1:] == (5, 4, 3) and y.dtype == np.int32 for x, y in batches)
        x = np.concatenate([x for x, _ in batches])
        y = np.concatenate([y for _, y in batches])
        order = data.order(epoch)
        np.testing.assert_array_equal(x, np.broadcast_to((order + 1)[:, None, None, None], x.shape))
        np.testing.assert_array_equal(y, data.labels[order])


def test_label_modes(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 2, "b": 3})
    labels = np.concatenate([y for _, y in dataset(root, shuffle=False)])
    assert labels.tolist() == [0, 0, 1, 1, 1]
    one_hot = np.concatenate([y for _, y in dataset(root, shuffle=False, label_mode="categorical")])
    assert one_hot.dtype == np.float32
    np.testing.assert_array_equal(one_hot, np.eye(2)[labels])
    binary = np.concatenate([y for _, y in dataset(root, shuffle=False, label_mode="binary")])
    assert binary.dtype == np.float32
    assert binary.tolist() == [[0], [0], [1], [1], [1]]
    alone = list(dataset(root, shuffle=False, label_mode=None))
    assert [x.shape for x in alone] == [(4, 5, 4, 3), (1, 5, 4, 3)]
    assert dataset(root, label_mode=None).labels is None


def test_iteration_moves_through_the_epochs(make_folder: MakeFolder) -> None:
    data = dataset(make_folder({"a": 6, "b": 6}))
    first, second = digest(data), digest(data)
    assert first != second
    assert (digest(data.epoch(0)), digest(data.epoch(1))) == (first, second)
    next(iter(data))  # a look at one batch uses epoch 2
    assert digest(data) == digest(data.epoch(3))
    assert data.next_epoch == 4
    data.next_epoch = 1
    assert digest(data) == second


def test_without_shuffle_every_epoch_is_the_same(make_folder: MakeFolder) -> None:
    data = dataset(make_folder({"a": 6}), shuffle=False)
    assert data.order(5).tolist() == list(range(6))
    assert digest(data) == digest(data)


def test_seed_decides_the_order(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 12})
    assert dataset(root, seed=1).order(0).tolist() == dataset(root, seed=1).order(0).tolist()
    assert dataset(root, seed=1).order(0).tolist() != dataset(root, seed=2).order(0).tolist()


@pytest.mark.parametrize("size", [(5, 4), (9, 7)])
def test_threads_do_not_change_a_bit(make_folder: MakeFolder, size: tuple[int, int]) -> None:
    root = make_folder({"a": 9, "b": 8}, size=(6, 5))
    break_picture(root, "a/003.png", "b/001.png")
    expected = None
    for threads in (1, 2, 4, None):
        data = dataset(root, num_threads=threads, on_error="skip", image_size=size)
        got = [digest(data.epoch(epoch)) for epoch in range(3)]
        expected = expected or got
        assert got == expected
        assert len(data.skipped) == 2


def test_another_process_reads_the_same_batches(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 9, "b": 8})
    code = """
import hashlib, sys
from fastcnn.data import image_dataset_from_directory
total = hashlib.sha256()
data = image_dataset_from_directory(
    sys.argv[1], image_size=(7, 3), batch_size=4, seed=11, verbose=False, num_threads=int(sys.argv[2])
)
for x, y in data.epoch(4):
    total.update(x.tobytes() + y.tobytes())
print(total.hexdigest())
"""
    expected = digest(dataset(root, image_size=(7, 3)).epoch(4))
    for threads in ("1", "3"):
        run = subprocess.run(
            [sys.executable, "-c", code, str(root), threads], capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == expected


@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_resuming_within_an_epoch(make_folder: MakeFolder, start: int) -> None:
    root = make_folder({"a": 9, "b": 6})
    all_batches = list(dataset(root).epoch(2))
    rest = list(dataset(root, num_threads=1).epoch(2, start_batch=start))
    assert len(rest) == 4 - start
    assert digest(rest) == digest(all_batches[start:])


@pytest.mark.parametrize("start", [-1, 5])
def test_wrong_places_to_start(make_folder: MakeFolder, start: int) -> None:
    data = dataset(make_folder({"a": 15}))
    with pytest.raises(ValueError, match=rf"ImageDataset.epoch: start_batch must lie in \[0, 4\], got {start}"):
        data.epoch(0, start_batch=start)
    with pytest.raises(ValueError, match=r"ImageDataset\.epoch: epoch must be at least 0, got -1"):
        data.epoch(-1)


# Pictures that cannot be read


def test_raise_names_path_format_and_reason(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 9})
    (path,) = break_picture(root, "a/005.png")
    data = dataset(root, shuffle=False)
    batches = iter(data)
    next(batches)
    with pytest.raises(ImageFileError) as caught:
        next(batches)
    assert str(caught.value) == f"picture {path!r} (format TIFF): {NOT_ACCEPTED}"
    assert not decode_threads()
    assert data.skipped == {}


@pytest.mark.parametrize("threads", [1, 4])
def test_the_first_bad_picture_in_order_is_named(make_folder: MakeFolder, threads: int) -> None:
    root = make_folder({"a": 9})
    paths = break_picture(root, "a/004.png", "a/005.png", "a/006.png")
    with pytest.raises(ImageFileError) as caught:
        list(dataset(root, shuffle=False, num_threads=threads))
    assert caught.value.path == paths[0]


def test_file_that_vanishes_is_a_picture_error(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 2})
    data = dataset(root)
    (root / "a" / "001.png").unlink()
    with pytest.raises(ImageFileError, match=r"001\.png' \(format unknown\): the file cannot be read: No such file"):
        list(data)


def test_unreadable_file_is_a_picture_error(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    root = make_folder({"a": 3})
    data = dataset(root, on_error="skip")
    os_open = os.open

    def guarded(path: Any, *args: Any, **options: Any) -> int:
        if str(path).endswith("001.png"):
            raise PermissionError(13, "Permission denied", path)
        return os_open(path, *args, **options)

    monkeypatch.setattr(os, "open", guarded)
    assert sum(len(x) for x, _ in data) == 2
    assert data.skipped == {
        str(root / "a" / "001.png"): "unknown: the file cannot be read: Permission denied",
    }


def test_skip_shrinks_only_its_own_batch(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 7, "b": 6})
    whole = [list(dataset(root).epoch(epoch)) for epoch in range(2)]
    bad = break_picture(root, "a/002.png", "b/004.png")
    data = dataset(root, on_error="skip")
    positions = [data.file_paths.index(path) for path in bad]
    for epoch in range(2):
        order = data.order(epoch)
        batches = list(data.epoch(epoch))
        assert len(batches) == len(whole[epoch])
        for number, ((x, y), (x_whole, y_whole)) in enumerate(zip(batches, whole[epoch], strict=True)):
            kept = ~np.isin(order[4 * number : 4 * number + 4], positions)
            np.testing.assert_array_equal(x, x_whole[kept])
            np.testing.assert_array_equal(y, y_whole[kept])
    assert data.skipped == dict.fromkeys(bad, f"TIFF: {NOT_ACCEPTED}")


def test_skip_of_a_whole_batch_leaves_it_out(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 10})
    break_picture(root, *(f"a/{i:03d}.png" for i in (4, 5, 6, 7)))
    data = dataset(root, shuffle=False, on_error="skip")
    assert [x[:, 0, 0, 0].tolist() for x, _ in data] == [[1, 2, 3, 4], [9, 10]]
    assert [x[:, 0, 0, 0].tolist() for x, _ in data.epoch(0, start_batch=1)] == [[9, 10]]
    assert len(data) == 3


def test_skip_of_everything_is_an_error(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 5})
    break_picture(root, *(f"a/{i:03d}.png" for i in range(5)))
    with pytest.raises(ImageFileError, match="no picture of the set can be read"):
        list(dataset(root, on_error="skip"))


# Threads


def test_leaving_a_loop_early_leaves_no_threads(make_folder: MakeFolder) -> None:
    data = dataset(make_folder({"a": 40}), batch_size=2, num_threads=3)
    for _ in data:
        break
    assert not decode_threads()
    batches = data.epoch(0)
    next(batches)
    assert decode_threads()
    batches.close()
    assert not decode_threads()


def test_two_epochs_can_be_read_side_by_side(make_folder: MakeFolder) -> None:
    data = dataset(make_folder({"a": 12}))
    pairs = list(zip(data.epoch(0), data.epoch(1), strict=True))
    assert digest(first for first, _ in pairs) == digest(data.epoch(0))
    assert digest(second for _, second in pairs) == digest(data.epoch(1))
    assert not decode_threads()


def test_batches_do_not_share_memory(make_folder: MakeFolder) -> None:
    batches = [x for x, _ in dataset(make_folder({"a": 12}))]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(batches) for b in batches[:i])


# Reading options


@pytest.mark.parametrize(("color_mode", "channels"), [("grayscale", 1), ("rgb", 3), ("rgba", 4)])
def test_color_modes(make_folder: MakeFolder, color_mode: str, channels: int) -> None:
    data = dataset(make_folder({"a": 3}), color_mode=color_mode, shuffle=False)
    assert data.image_shape == (5, 4, channels)
    x, _ = next(iter(data))
    assert x.shape == (3, 5, 4, channels)
    assert x[2, 0, 0, 0] == 3
    if channels == 4:
        assert (x[..., 3] == 255).all()


def test_reading_options_reach_the_decoder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    pixels = np.zeros((4, 2, 4), dtype=np.uint8)
    pixels[:2] = (200, 100, 50, 255)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(pixels).save(tmp_path / "a" / "x.tiff", exif=exif)
    data = dataset(
        tmp_path,
        image_size=(4, 2),
        formats=["TIFF"],
        exif_transpose=True,
        background=[1, 2, 3],
        interpolation="NEAREST",
    )
    x, _ = next(iter(data))
    assert x[0, 0, 0].tolist() == [1, 2, 3]
    assert x[0, 3, 1].tolist() == [200, 100, 50]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [[0, 0, 0, 0], [50, 50, 50, 50]]),
        ({"crop_to_aspect_ratio": True}, [[0, 0, 0, 0], [50, 50, 50, 50]]),
        ({"pad_to_aspect_ratio": True}, [[0, 0, 0, 0], [50, 50, 50, 50]]),
        ({"image_size": (2, 2)}, [[0, 0], [50, 50]]),
        ({"image_size": (2, 2), "crop_to_aspect_ratio": True}, [[0, 0], [50, 50]]),
        ({"image_size": (2, 2), "pad_to_aspect_ratio": True}, [[25, 25], [0, 0]]),
        ({"image_size": (1, 4), "interpolation": "nearest"}, [[50, 50, 50, 50]]),
        ({"image_size": 2, "interpolation": "nearest"}, [[0, 0], [50, 50]]),
    ],
)
def test_resizing_options(tmp_path: Path, options: dict[str, Any], expected: list[list[int]]) -> None:
    (tmp_path / "a").mkdir()
    pixels = np.array([[0, 0, 0, 0], [50, 50, 50, 50]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a" / "x.png")
    x, _ = next(iter(dataset(tmp_path, **{"image_size": (2, 4), "color_mode": "grayscale", **options})))
    assert x[0, :, :, 0].tolist() == expected
