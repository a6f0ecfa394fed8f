from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn import random
from fastcnn.data.directory import image_dataset_from_directory
from fastcnn.data.folder import ImageFileError

MakeFolder = Callable[..., Path]


def read(root: Path, **options: Any) -> Any:
    return image_dataset_from_directory(root, **{"verbose": False, **options})


def test_signature_begins_as_in_keras() -> None:
    parameters = inspect.signature(image_dataset_from_directory).parameters
    keras = {name: p.default for name, p in parameters.items() if p.kind is not inspect.Parameter.KEYWORD_ONLY}
    assert keras == {
        "directory": inspect.Parameter.empty,
        "labels": "inferred",
        "label_mode": "int",
        "class_names": None,
        "color_mode": "rgb",
        "batch_size": 32,
        "image_size": (256, 256),
        "shuffle": True,
        "seed": None,
        "validation_split": None,
        "subset": None,
        "interpolation": "bilinear",
        "follow_links": False,
        "crop_to_aspect_ratio": False,
        "pad_to_aspect_ratio": False,
        "data_format": None,
        "format": "tf",
        "verbose": True,
    }


# What is printed


def test_messages(make_folder: MakeFolder, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_folder({"a": 6, "b": 4})
    image_dataset_from_directory(root)
    assert capsys.readouterr().out == "Found 10 files belonging to 2 classes.\n"
    image_dataset_from_directory(root, labels=None)
    assert capsys.readouterr().out == "Found 10 files.\n"
    split: dict[str, Any] = {"validation_split": 0.3, "seed": 1}
    image_dataset_from_directory(root, subset="training", **split)
    assert capsys.readouterr().out == "Found 10 files belonging to 2 classes.\nUsing 7 files for training.\n"
    image_dataset_from_directory(root, subset="both", **split)
    assert capsys.readouterr().out == (
        "Found 10 files belonging to 2 classes.\nUsing 7 files for training.\nUsing 3 files for validation.\n"
    )
    read(root, subset="validation", **split)
    assert capsys.readouterr().out == ""


# Splitting


@pytest.mark.parametrize("shuffle", [True, False])
def test_training_and_validation_share_the_files(make_folder: MakeFolder, shuffle: bool) -> None:
    root = make_folder({"a": 13, "b": 8})
    whole = read(root)
    options: dict[str, Any] = {"validation_split": 0.25, "seed": 5, "shuffle": shuffle}
    training = read(root, subset="training", **options)
    validation = read(root, subset="validation", **options)
    assert (len(training.file_paths), len(validation.file_paths)) == (16, 5)
    assert sorted(training.file_paths + validation.file_paths) == whole.file_paths
    for part in (training, validation):
        folders = [os.path.basename(os.path.dirname(path)) for path in part.file_paths]
        assert [part.class_names[label] for label in part.labels] == folders
        assert part.class_names == ["a", "b"]
    both = read(root, subset="both", **options)
    assert isinstance(both, tuple)
    assert [part.file_paths for part in both] == [training.file_paths, validation.file_paths]
    assert (both[0].shuffle, both[1].shuffle, validation.shuffle) == (shuffle, False, shuffle)
    if shuffle:
        other = read(root, subset="validation", **{**options, "seed": 6})
        assert other.file_paths != validation.file_paths
    else:
        assert validation.file_paths == whole.file_paths[16:]


def test_split_needs_files_on_both_sides(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 3})
    with pytest.raises(ValueError, match=r"validation_split=0\.1 of 3 files leaves no file for validation"):
        read(root, validation_split=0.1, subset="training", seed=1)
    assert len(read(root, validation_split=0.99, subset="training", seed=1).file_paths) == 1


# Labels


@pytest.mark.parametrize("as_type", [list, tuple, np.array])
def test_labels_given_as_numbers(make_folder: MakeFolder, as_type: Callable[[list[int]], Any]) -> None:
    root = make_folder({"a": 2, "b": 3})
    (root / "loose.png").write_bytes((root / "a" / "000.png").read_bytes())
    data = read(root, labels=as_type([5, 0, 1, 1, 0, 7]))
    assert [os.path.relpath(path, root) for path in data.file_paths[:2]] == ["loose.png", "a/000.png"]
    assert data.labels.tolist() == [5, 0, 1, 1, 0, 7]
    assert data.class_names == ["0", "1", "5", "7"]


def test_labels_none_reads_everything_below(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 2, "b": 3, "empty": 0})
    for options in ({"labels": None}, {"label_mode": None}):
        data = read(root, **options)
        assert len(data.file_paths) == 5
        assert (data.labels, data.label_mode, data.class_names, data.num_classes) == (None, None, [], 0)


def test_seed_none_follows_the_process_wide_seed(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "_seed", None)
    root = make_folder({"a": 3})
    seeds = []
    for _ in range(2):
        random.set_seed(1)
        seeds.append([read(root).seed, read(root).seed])
    assert seeds[0] == seeds[1]
    assert seeds[0][0] != seeds[0][1]


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "guessed"}, "labels must be 'inferred', None or a list of integers, got 'guessed' (str)"),
        ({"labels": 3}, "labels must be 'inferred', None or a list of integers, got 3 (int)"),
        ({"labels": [0, 1]}, "labels must have one entry per picture: "),
        ({"labels": [0, 1, 0.5, 1]}, "labels must be an integer, got 0.5"),
        ({"labels": [0, 1, -2, 1]}, "labels must lie in [0, 2**31), got -2 to 1"),
        ({"labels": [0, 1, 2**31, 1]}, "labels must lie in [0, 2**31), got 0 to 2147483648"),
        (
            {"labels": [0, 1, 5, 1], "label_mode": "categorical"},
            "with label_mode='categorical' labels must be the numbers 0 to 2 (3 different ones), got 5",
        ),
        (
            {"labels": [0, 2, 2, 0], "label_mode": "binary"},
            "with label_mode='binary' labels must be the numbers 0 to 1 (2 different ones), got 2",
        ),
        ({"label_mode": "one_hot"}, "label_mode must be one of 'int', 'categorical', 'binary', None, got 'one_hot'"),
        ({"class_names": ["a", "x"]}, "class_names must be distinct names of its folders ['a', 'b'], got ['a', 'x']"),
        ({"class_names": "ab"}, "class_names must be a list of folder names, got 'ab'"),
        ({"class_names": []}, "class_names must be a list of folder names, got []"),
        ({"class_names": [1]}, "class_names must be a list of folder names, got [1]"),
        (
            {"class_names": ["a"], "labels": None},
            "class_names needs labels='inferred' and a label_mode, got class_names=['a']",
        ),
        ({"color_mode": "bgr"}, "color_mode must be one of 'grayscale', 'rgb', 'rgba', got 'bgr'"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": -3}, "batch_size must be at least 1, got -3"),
        ({"batch_size": None}, "batch_size must be an integer, got None"),
        ({"batch_size": 2.0}, "batch_size must be an integer, got 2.0"),
        ({"batch_size": True}, "batch_size must be an integer, got True"),
        ({"image_size": (0, 5)}, "image_size must be at least 1, got 0"),
        ({"image_size": (5, -1)}, "image_size must be at least 1, got -1"),
        ({"image_size": (5, 5, 3)}, "image_size must be (height, width) in pixels, got (5, 5, 3)"),
        ({"image_size": None}, "image_size must be (height, width) in pixels, got None"),
        ({"image_size": (5, "5")}, "image_size must be an integer, got '5'"),
        ({"seed": 1.5}, "seed must be an integer, got 1.5"),
        ({"validation_split": 1.5, "subset": "both"}, "validation_split must be a fraction between 0 and 1, got 1.5"),
        ({"validation_split": 0.0, "subset": "both"}, "validation_split must be a fraction between 0 and 1, got 0.0"),
        ({"validation_split": "1", "subset": "both"}, "validation_split must be a fraction between 0 and 1, got '1'"),
        (
            {"subset": "training"},
            "validation_split and subset must be given together, got validation_split=None and subset='training'",
        ),
        (
            {"validation_split": 0.5},
            "validation_split and subset must be given together, got validation_split=0.5 and subset=None",
        ),
        (
            {"validation_split": 0.5, "subset": "test"},
            "subset must be one of 'training', 'validation', 'both', None, got 'test'",
        ),
        ({"validation_split": 0.5, "subset": "both"}, "seed must be given with validation_split and shuffle=True"),
        ({"interpolation": "bicubic"}, "interpolation must be one of 'bilinear', 'nearest', got 'bicubic'"),
        (
            {"crop_to_aspect_ratio": True, "pad_to_aspect_ratio": True},
            "only one of crop_to_aspect_ratio and pad_to_aspect_ratio may be True, got both",
        ),
        (
            {"data_format": "channels_first"},
            "data_format must be None or 'channels_last', got 'channels_first'",
        ),
        ({"on_error": "ignore"}, "on_error must be one of 'raise', 'skip', got 'ignore'"),
        ({"num_threads": 0}, "num_threads must be at least 1, got 0"),
        ({"formats": ["EPS"]}, "formats must be names out of JPEG, PNG, BMP, GIF, PPM, WEBP, TIFF, got ['EPS']"),
        ({"background": (1, 2)}, "background must be three integers in 0..255, got (1, 2)"),
        ({"background": (1, 2, 256)}, "background must be three integers in 0..255, got (1, 2, 256)"),
    ],
)
def test_wrong_arguments(make_folder: MakeFolder, options: dict[str, Any], message: str) -> None:
    root = make_folder({"a": 2, "b": 2})
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the whole text is compared below)
        read(root, **options)
    assert message in str(caught.value)
    assert str(caught.value).startswith(("image_dataset_from_directory: ", f"image folder {str(root)!r}: "))


def test_binary_needs_two_classes(make_folder: MakeFolder) -> None:
    with pytest.raises(ValueError, match=r"label_mode='binary' needs exactly 2 classes, .* has 3: \['a', 'b', 'c'\]"):
        read(make_folder({"a": 1, "b": 1, "c": 1}), label_mode="binary")


def test_missing_directory_and_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"image_dataset_from_directory: directory '.*/no' does not exist"):
        read(tmp_path / "no")
    (tmp_path / "x.png").touch()
    with pytest.raises(NotADirectoryError, match=r"must be a folder, but '.*x\.png' is not one"):
        read(tmp_path / "x.png")


def test_folders_without_pictures(make_folder: MakeFolder, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"must hold one folder per class, but it has none; labels=None reads"):
        read(tmp_path / "none")
    (tmp_path / "none" / "x.txt").touch()
    with pytest.raises(ValueError, match=r"must hold at least one picture, found none, 1 not named as a picture"):
        read(tmp_path / "none", labels=None)
    with pytest.raises(ValueError, match=r"must hold at least one picture, found none"):
        read(make_folder({"a": 0, "b": 0}))
    with pytest.raises(ValueError, match=r"every class folder must hold pictures, but .* has none in \['b', 'd'\]"):
        read(make_folder({"a": 1, "b": 0, "c": 1, "d": 0}, name="gaps"))


def test_refused_entries_follow_on_error(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 2})
    (root / "a" / "gone.jpg").symlink_to("nowhere")
    (root / "a" / "also.jpg").symlink_to("nowhere")
    with pytest.raises(ImageFileError) as caught:
        read(root)
    assert str(caught.value) == (
        f"picture {str(root / 'a' / 'also.jpg')!r} (format unknown): dangling symbolic link "
        "(and 1 more such entries); on_error='skip' leaves them out"
    )
    data = read(root, on_error="skip")
    assert len(data.file_paths) == 2
    assert set(data.skipped) == {str(root / "a" / "gone.jpg"), str(root / "a" / "also.jpg")}
