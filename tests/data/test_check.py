from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastcnn.data.check import check_folder
from fastcnn.data.prefetch import THREAD_NAME


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_report_of_an_odd_folder(make_folder: Callable[..., Path], threads: int | None) -> None:
    root = make_folder({"a": 2, "b": 1, "empty": 0, ".hidden": 1})
    pixels = np.zeros((20, 10, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(root / "a" / "turned.jpg", exif=exif.tobytes())
    Image.fromarray(pixels).save(root / "a" / "liar.png", format="BMP")
    Image.fromarray(np.zeros((3, 2, 4), dtype=np.uint8)).save(root / "b" / "clear.png")
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(root / "b" / "wide.png")
    frames = [Image.fromarray(np.full((4, 4), value, dtype=np.uint8)) for value in (1, 99)]
    frames[0].save(root / "b" / "moving.gif", save_all=True, append_images=frames[1:])
    (root / "b" / "text.jpg").write_text("not a picture")
    (root / "b" / "gone.jpg").symlink_to("nowhere")
    (root / "b" / "notes.txt").touch()

    report = check_folder(root, num_threads=threads)
    assert report.pictures == 8
    assert report.class_counts == {"a": 4, "b": 5, "empty": 0}
    assert report.empty_classes == ["empty"]
    assert report.formats == {"PNG": 5, "JPEG": 1, "BMP": 1, "GIF": 1}
    assert report.modes["RGBA"] == 1
    assert report.smallest == (3, 2)
    assert report.largest == (20, 10)
    assert report.wrong_extension == [str(root / "a" / "liar.png")]
    assert report.rotated == [str(root / "a" / "turned.jpg")]
    assert report.transparent == [str(root / "b" / "clear.png")]
    assert report.animated == [str(root / "b" / "moving.gif")]
    assert report.sixteen_bit == [str(root / "b" / "wide.png")]
    assert report.ignored == {"hidden": 1, "not named as a picture": 1}
    assert set(report.unreadable) == {str(root / "b" / "text.jpg"), str(root / "b" / "gone.jpg")}
    assert report.unreadable[str(root / "b" / "gone.jpg")] == "dangling symbolic link"
    assert (report.gray, report.colour) == (2, 6)
    assert report.sizes == {(5, 4): 3, (20, 10): 2, (3, 2): 1, (4, 4): 2}
    assert report.duplicates == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


def test_folder_without_classes(make_folder: Callable[..., Path]) -> None:
    report = check_folder(make_folder({"a": 3}) / "a")
    assert report.pictures == 3
    assert report.class_counts == {}


def test_file_that_vanishes_is_reported(make_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from fastcnn.data import check

    root = make_folder({"a": 2})
    scan = check.scan_classes

    def scan_then_delete(*args: object, **options: object) -> object:
        index = scan(*args, **options)  # type: ignore[arg-type]
        (root / "a" / "001.png").unlink()
        return index

    monkeypatch.setattr(check, "scan_classes", scan_then_delete)
    report = check_folder(root)
    assert report.unreadable == {str(root / "a" / "001.png"): "the file cannot be read: No such file or directory"}


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="check_folder: directory"):
        check_folder(tmp_path / "no")
    with pytest.raises(ValueError, match="check_folder: formats"):
        check_folder(tmp_path, formats=["EPS"])


def test_duplicates_are_found_by_their_bytes(make_folder: Callable[..., Path]) -> None:
    root = make_folder({"a": 3, "b": 2})
    (root / "b" / "again.png").write_bytes((root / "a" / "001.png").read_bytes())
    (root / "a" / "x.bmp").write_bytes((root / "a" / "001.png").read_bytes())
    Image.open(root / "a" / "000.png").save(root / "b" / "other.bmp")  # the same pixels in other bytes
    names = ("a/001.png", "a/x.bmp", "b/again.png")
    assert check_folder(root).duplicates == [[str(root / name) for name in names]]
