"""check_folder: reads every picture of a folder once and reports what training would meet."""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastcnn.data.folder import EXTENSIONS, ImageFileError, check_directory, check_formats, scan_classes, scan_flat
from fastcnn.data.picture import SIXTEEN_BIT, decode_picture, has_alpha, open_picture, orientation, read_regular_file
from fastcnn.data.prefetch import default_threads, prefetch

if TYPE_CHECKING:
    from PIL import Image


_GRAY = ("1", "L", "LA", "La", *SIXTEEN_BIT)  # Pillow's modes


@dataclass
class FolderReport:
    """What `check_folder` found; lists hold paths, sizes are (H, W) in pixels.

    `duplicates` are groups of files with the same bytes; `gray` and `colour` count by the kind of pixels in the file.
    """

    directory: str
    pictures: int = 0
    class_counts: dict[str, int] = field(default_factory=dict)
    empty_classes: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    formats: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    gray: int = 0
    colour: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    smallest: tuple[int, int] | None = None
    largest: tuple[int, int] | None = None
    wrong_extension: list[str] = field(default_factory=list)
    rotated: list[str] = field(default_factory=list)
    transparent: list[str] = field(default_factory=list)
    animated: list[str] = field(default_factory=list)
    sixteen_bit: list[str] = field(default_factory=list)
    duplicates: list[list[str]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Picture:
    format: str
    mode: str
    size: tuple[int, int]
    rotated: bool
    transparent: bool
    animated: bool
    gray: bool
    digest: bytes  # of the file


def check_folder(
    directory: str | os.PathLike[str],
    *,
    follow_links: bool = False,
    formats: Sequence[str] | None = None,
    num_threads: int | None = None,
) -> FolderReport:
    """Return a FolderReport of all pictures below `directory`, decoding each of them.

    Sub-folders are classes when there are any, as in `image_dataset_from_directory`. Raises FileNotFoundError or
    NotADirectoryError for `directory`, ValueError for `formats` or a class name that is not UTF-8; pictures that cannot
    be read are reported, not raised.
    """
    accepted = check_formats("check_folder", formats)
    path = check_directory("check_folder", directory)
    index = scan_classes(path, class_names=None, follow_links=follow_links, formats=accepted)
    if not index.class_names:
        index = scan_flat(path, follow_links=follow_links, formats=accepted)
    report = FolderReport(path, class_counts=index.class_counts(), ignored=index.ignored)
    report.empty_classes = [name for name, count in report.class_counts.items() if count == 0]
    report.unreadable.update(index.refused)

    def examine(_: None, __: int, item: int) -> _Picture | str:
        try:
            return _examine(index.file_paths[item], accepted)
        except ImageFileError as error:
            return f"{error.format}: {error.reason}"
        except OSError as error:
            return f"the file cannot be read: {error.strerror or error}"

    threads = num_threads or default_threads()
    plan = ([item] for item in range(len(index.file_paths)))
    same: dict[bytes, list[str]] = {}
    for items, _, results in prefetch(plan, lambda items: None, examine, threads=threads):
        for item, picture in zip(items, results, strict=True):
            _add(report, index.file_paths[item], picture)
            if not isinstance(picture, str):
                same.setdefault(picture.digest, []).append(index.file_paths[item])
    report.duplicates = [paths for paths in same.values() if len(paths) > 1]
    return report


def _examine(path: str, formats: Sequence[str]) -> _Picture:
    content = read_regular_file(path)
    image, _ = open_picture(io.BytesIO(content), formats)
    found = _Picture(
        format=image.format or "unknown",
        mode=image.mode,
        size=(image.height, image.width),
        rotated=orientation(image) != 1,
        transparent=has_alpha(image),
        animated=_is_animated(image),
        gray=_is_gray(image),
        digest=hashlib.blake2b(content, digest_size=16, usedforsecurity=False).digest(),
    )
    decode_picture(image, path)
    return found


def _is_gray(image: Image.Image) -> bool:
    """Return whether the file can only hold grays: one channel, or a palette without colours."""
    palette = image.getpalette() if image.mode == "P" else None
    if palette is None:
        return image.mode in _GRAY
    return palette[0::3] == palette[1::3] == palette[2::3]


def _is_animated(image: Image.Image) -> bool:
    if image.format == "JPEG":  # a phone's JPEG with a preview or depth picture behind it is no animation
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a second frame that is damaged is still one
        return True


def _add(report: FolderReport, path: str, picture: _Picture | str) -> None:
    if isinstance(picture, str):
        report.unreadable[path] = picture
        return
    report.pictures += 1
    report.formats[picture.format] += 1
    report.modes[picture.mode] += 1
    report.gray += picture.gray
    report.colour += not picture.gray
    report.sizes[picture.size] += 1
    by_area = [size for size in (report.smallest, report.largest, picture.size) if size is not None]
    report.smallest = min(by_area, key=_area)
    report.largest = max(by_area, key=_area)
    lists = (
        (not path.lower().endswith(EXTENSIONS[picture.format]), report.wrong_extension),
        (picture.rotated, report.rotated),
        (picture.transparent, report.transparent),
        (picture.animated, report.animated),
        (picture.mode in SIXTEEN_BIT, report.sixteen_bit),
    )
    for holds, paths in lists:
        if holds:
            paths.append(path)


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
