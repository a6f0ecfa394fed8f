from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn.data import ImageFileError, image_dataset_from_csv, image_dataset_from_directory

MakeFolder = Callable[..., Path]


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def read(path: Path, **options: Any) -> Any:
    return image_dataset_from_csv(path, **{"verbose": False, "image_size": (5, 4), **options})


def listed(root: Path, classes: dict[str, int]) -> Path:
    lines = [f"{name}/{i:03d}.png,{name}" for name, count in classes.items() for i in range(count)]
    return write(root / "list.csv", "\n".join(["path,label", *lines]) + "\n")


def test_the_same_as_the_folder(make_folder: MakeFolder, capsys: pytest.CaptureFixture[str]) -> None:
    classes = {"a": 6, "b": 4}
    root = make_folder(classes)
    path = listed(root, classes)
    for options in ({"shuffle": False}, {"seed": 3, "batch_size": 4}, {"label_mode": "categorical", "seed": 1}):
        found = read(path, **options)
        wanted = image_dataset_from_directory(root, image_size=(5, 4), verbose=False, **options)  # type: ignore[arg-type]
        assert (found.class_names, found.file_paths) == (wanted.class_names, wanted.file_paths)
        for (x, y), (x2, y2) in zip(found, wanted, strict=True):
            assert np.array_equal(x, x2)
            assert np.array_equal(y, y2)
    parts = [
        f(source, image_size=(5, 4), validation_split=0.3, subset="both", seed=1)
        for f, source in ((image_dataset_from_csv, path), (image_dataset_from_directory, root))
    ]
    assert [part.file_paths for part in parts[0]] == [part.file_paths for part in parts[1]]
    out = "Found 10 files belonging to 2 classes.\nUsing 7 files for training.\nUsing 3 files for validation.\n"
    assert capsys.readouterr().out == out * 2


@pytest.mark.parametrize(
    "text",
    [
        "a/000.png,x\nb/001.png,y\n",
        "path,label\r\na/000.png,x\r\n\r\nb/001.png,y",
        "\ufeffpath,label\na/000.png, x\nb/001.png ,y\n",
        'label,size,path\n"x",3,"a/000.png"\ny,4,b/001.png\n',
    ],
    ids=["no header", "CRLF and empty lines", "byte order mark and spaces", "other columns and quotes"],
)
def test_forms_of_a_list(make_folder: MakeFolder, text: str) -> None:
    root = make_folder({"a": 1, "b": 2})
    dataset = read(write(root / "list.csv", text), shuffle=False)
    assert dataset.file_paths == [str(root / "a/000.png"), str(root / "b/001.png")]
    assert dataset.class_names == ["x", "y"]
    assert dataset.labels.tolist() == [0, 1]


def test_columns_delimiter_and_directory(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"a": 2})
    path = write(tmp_path / "elsewhere.csv", "file;kind\na/000.png;q\na/001.png;p\n")
    options = {"directory": root, "path_column": "file", "label_column": "kind", "delimiter": ";"}
    dataset = read(path, shuffle=False, **options)
    assert dataset.class_names == ["p", "q"]
    assert dataset.labels.tolist() == [1, 0]
    assert read(path, class_names=["q", "p", "none"], shuffle=False, **options).labels.tolist() == [0, 1]
    absolute = write(tmp_path / "absolute.csv", f"{root / 'a/000.png'},p\n")
    assert read(absolute).file_paths == [str(root / "a/000.png")]


def test_numbers_are_sorted_by_value(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 3})
    path = write(root / "list.csv", "a/000.png,10\na/001.png,9\na/002.png,100\n")
    assert read(path).class_names == ["9", "10", "100"]


def test_bad_lists_are_named(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 2})
    path = root / "list.csv"
    for text, options, message in (
        ("", {}, f"image_dataset_from_csv: {str(path)!r} lists no picture"),
        ("path,label\n", {}, "lists no picture"),
        ("a/000.png,x\na/001.png\n", {}, "line 2: expected a path and a label separated by ',', got 'a/001.png'"),
        ("a/000.png,x\n,y\n", {}, "line 2: path and label must not be empty"),
        ("a/000.png,x\na/001.png,y\na/000.png,y\n", {}, "'a/000.png' is 'x' on line 1 and 'y' on line 3"),
        ("a/000.png,x\n", {"class_names": ["y"]}, "line 1: label 'x' is not among class_names ['y']"),
        ("a/000.png,x\n", {"class_names": ["x", "x"]}, "class_names must be distinct"),
        ("a/000.png,x\n", {"label_mode": "binary"}, "needs exactly 2 classes"),
        ("a/000.png,x\n", {"label_mode": None}, "label_mode must be one of 'int', 'categorical', 'binary', got None"),
        ("a/000.png,x\n", {"path_column": "file"}, "must name the columns 'file' and 'label', got a/000.png, x"),
        ("a/000.png,x\n", {"delimiter": ""}, "delimiter must be one character, got ''"),
        ("a/000.png,x\n", {"image_size": 0}, "image_dataset_from_csv: image_size must be at least 1, got 0"),
        ('"a/000.png,x\n', {}, "no CSV in UTF-8"),
    ):
        write(path, text)
        with pytest.raises(ValueError, match=re.escape(message)):
            read(path, **options)
    write(path, "a/000.png,\xe9\n", "latin-1")
    with pytest.raises(ValueError, match="no CSV in UTF-8"):
        read(path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"):
        read(root / "nowhere.csv")


def test_missing_files_are_named_or_left_out(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 2})
    path = write(root / "list.csv", "a/000.png,x\na/gone.png,x\na/001.png,y\n")
    with pytest.raises(ImageFileError, match=r"gone\.png.*no such file \(.*list\.csv', line 2\)"):
        read(path)
    dataset = read(path, on_error="skip", shuffle=False)
    assert dataset.file_paths == [str(root / "a/000.png"), str(root / "a/001.png")]
    assert dataset.skipped == {str(root / "a/gone.png"): "no such file"}
    write(path, "a/gone.png,x\n")
    with pytest.raises(ValueError, match="lists no picture"):
        read(path, on_error="skip")
