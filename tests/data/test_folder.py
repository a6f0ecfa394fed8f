from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastcnn.data.folder import FORMATS, FolderIndex, check_directory, check_formats, scan_classes, scan_flat

MakeFolder = Callable[..., Path]


def classes(root: Path, *, follow_links: bool = False, class_names: list[str] | None = None) -> FolderIndex:
    return scan_classes(str(root), class_names=class_names, follow_links=follow_links, formats=FORMATS)


def relative(index: FolderIndex) -> list[str]:
    return [os.path.relpath(path, index.directory) for path in index.file_paths]


def test_classes_are_sorted_by_code_point(make_folder: MakeFolder) -> None:
    index = classes(make_folder({"b": 1, "a": 2, "B": 1, "é": 1, "a b": 1, "10": 1, "9": 1}))
    assert index.class_names == ["10", "9", "B", "a", "a b", "b", "é"]
    assert index.labels is not None
    assert index.labels.dtype == np.int32
    assert index.labels.tolist() == [0, 1, 2, 3, 3, 4, 5, 6]
    assert index.class_counts() == {"10": 1, "9": 1, "B": 1, "a": 2, "a b": 1, "b": 1, "é": 1}


def test_class_names_choose_and_order(make_folder: MakeFolder) -> None:
    index = classes(make_folder({"a": 1, "b": 1, "c": 1}), class_names=["c", "a"])
    assert index.class_names == ["c", "a"]
    assert relative(index) == ["c/000.png", "a/000.png"]


@pytest.mark.parametrize("names", [["a", "x"], ["a", "a"], ["a/../b"]])
def test_class_names_that_do_not_match(make_folder: MakeFolder, names: list[str]) -> None:
    root = make_folder({"a": 1, "b": 1})
    with pytest.raises(ValueError, match=r"class_names must be distinct names of its folders \['a', 'b'\], got \["):
        classes(root, class_names=names)


def test_nested_pictures_belong_to_the_class_sorted_by_folder_then_name(tmp_path: Path) -> None:
    for name in ("k/b.jpg", "k/x/a.jpg", "k/a.PNG", "k/x/y/z.webp", "k/w.jpg/c.gif", "k/x-1/a.bmp", "k/n.ppm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = ["k/a.PNG", "k/b.jpg", "k/n.ppm", "k/w.jpg/c.gif", "k/x/a.jpg", "k/x-1/a.bmp", "k/x/y/z.webp"]
    assert relative(classes(tmp_path)) == expected
    flat = scan_flat(str(tmp_path), follow_links=False, formats=FORMATS)
    assert relative(flat) == expected
    assert flat.labels is None
    assert flat.class_names == []


def test_hidden_and_other_entries_are_counted_never_classes(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 1, ".ipynb_checkpoints": 1})
    (root / "loose.png").touch()
    (root / ".DS_Store").touch()
    (root / "a" / ".DS_Store").touch()
    (root / "a" / ".thumbs").mkdir()
    (root / "a" / "._000.png").touch()
    (root / "a" / "notes.txt").touch()
    (root / "a" / "scan.tiff").touch()
    index = classes(root)
    assert index.class_names == ["a"]
    assert relative(index) == ["a/000.png"]
    assert index.ignored == {"hidden": 5, "outside the class folders": 1, "not named as a picture": 2}
    assert not index.refused
    with_tiff = scan_classes(str(root), class_names=None, follow_links=False, formats=("TIFF",))
    assert relative(with_tiff) == ["a/scan.tiff"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs mkfifo")
def test_special_files_are_refused(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 1})
    os.mkfifo(root / "a" / "pipe.jpg")
    (root / "a" / "device.jpg").symlink_to("/dev/null")
    index = classes(root)
    assert relative(index) == ["a/000.png"]
    assert index.refused == {
        str(root / "a" / "pipe.jpg"): "not a regular file but a FIFO",
        str(root / "a" / "device.jpg"): "not a regular file but a device",
    }


LEAVES = "symbolic link that does not stay inside the folder (follow_links=True allows it)"


def test_links_out_of_the_folder(make_folder: MakeFolder) -> None:
    outside = make_folder({"o": 2}, name="outside")
    root = make_folder({"a": 1, "b": 1})
    (root / "a" / "file.png").symlink_to(outside / "o" / "000.png")
    (root / "a" / "inside.png").symlink_to("../b/000.png")
    (root / "c").symlink_to(outside / "o")
    (root / "a" / "sub").symlink_to(outside / "o")
    index = classes(root)
    assert index.class_names == ["a", "b"]
    assert relative(index) == ["a/000.png", "a/inside.png", "b/000.png"]
    assert index.refused == {str(root / "a" / "file.png"): LEAVES, str(root / "c"): LEAVES}
    assert index.ignored == {"link to a folder, not followed": 1}

    followed = classes(root, follow_links=True)
    assert followed.class_names == ["a", "b", "c"]
    assert relative(followed) == [
        *("a/000.png", "a/file.png", "a/inside.png", "a/sub/000.png", "a/sub/001.png"),
        *("b/000.png", "c/000.png", "c/001.png"),
    ]
    assert not followed.refused


def test_sibling_with_the_same_prefix_is_outside(make_folder: MakeFolder) -> None:
    outside = make_folder({"o": 1}, name="pictures2")
    root = make_folder({"a": 1})
    (root / "a" / "x.png").symlink_to(outside / "o" / "000.png")
    assert list(classes(root).refused.values()) == [LEAVES]


def test_root_that_is_itself_a_link(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"a": 2})
    (root / "a" / "same.png").symlink_to("000.png")
    (tmp_path / "link").symlink_to(root)
    index = classes(tmp_path / "link")
    assert relative(index) == ["a/000.png", "a/001.png", "a/same.png"]
    assert not index.refused


def test_link_loops_end(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 1, "b": 1})
    (root / "a" / "up").symlink_to("..")
    (root / "a" / "self").symlink_to(".")
    (root / "b" / "ring.png").symlink_to("ring.png")
    index = classes(root, follow_links=True)
    assert relative(index)[:2] == ["a/000.png", "a/up/b/000.png"]
    assert index.ignored["link loop"] == 2
    assert index.refused == {
        str(root / "b" / "ring.png"): "dangling symbolic link",
        str(root / "a" / "up" / "b" / "ring.png"): "dangling symbolic link",
    }


def test_dangling_link(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 1})
    (root / "a" / "gone.jpg").symlink_to("nowhere")
    (root / "a" / "gone.txt").symlink_to("nowhere")
    index = classes(root)
    assert index.refused == {str(root / "a" / "gone.jpg"): "dangling symbolic link"}
    assert index.ignored == {"not named as a picture": 1}


def test_folder_that_cannot_be_listed(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder({"a": 1, "b": 1})
    scandir = os.scandir

    def guarded(path: str) -> object:
        if path.endswith("b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    index = classes(root)
    assert index.refused == {str(root / "b"): "folder that cannot be listed: Permission denied"}
    assert index.class_counts() == {"a": 1, "b": 0}


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    name = os.fsencode(tmp_path / "a") + b"/caf\xe9.png"
    try:
        open(name, "wb").close()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    index = classes(tmp_path)
    assert os.fsencode(index.file_paths[0]) == name
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    with pytest.raises(ValueError, match=r"the class folder '\\udcff' must have a name that is valid UTF-8"):
        classes(tmp_path)


def test_very_long_names(tmp_path: Path) -> None:
    long = "n" * 251 + ".png"
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / long).touch()
    assert relative(classes(tmp_path)) == [f"a/{long}"]


def test_check_directory(tmp_path: Path) -> None:
    assert check_directory("f", tmp_path) == str(tmp_path)
    assert check_directory("f", os.fsencode(tmp_path)) == str(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"^f: directory '.*/no' does not exist$"):
        check_directory("f", tmp_path / "no")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"^f: directory must be a folder, but '.*/file' is not one$"):
        check_directory("f", tmp_path / "file")


def test_check_formats() -> None:
    assert check_formats("f", None) == FORMATS
    assert check_formats("f", ["png", "TIFF"]) == ("PNG", "TIFF")
    assert check_formats("f", "jpeg") == ("JPEG",)
    for wrong in (["EPS"], [], [3]):
        with pytest.raises(ValueError, match=r"^f: formats must be names out of JPEG, .*, TIFF, got \["):
            check_formats("f", wrong)  # type: ignore[arg-type]
