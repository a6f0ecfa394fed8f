"""Folders of pictures: which files are pictures, which folders are classes, and what is refused.

The rules are those of Keras' `image_dataset_from_directory` with four additions: hidden entries are never pictures or
classes, only regular files are pictures, symbolic links may not leave the folder unless `follow_links` is set, and link
loops end. Whatever is left out is counted (`ignored`) or listed with its reason (`refused`).
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# Pillow format -> file name endings. TIFF is read on request only.
EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
}
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP")


class ImageFileError(ValueError):
    """A picture that cannot be used: its path, its format as far as known, and the reason."""

    def __init__(self, path: str, format: str, reason: str) -> None:
        super().__init__(path, format, reason)
        self.path = path
        self.format = format
        self.reason = reason

    def __str__(self) -> str:
        return f"picture {self.path!r} (format {self.format}): {self.reason}"


@dataclass
class FolderIndex:
    """The pictures of a folder: `file_paths[i]` belongs to class `labels[i]` of `class_names`.

    `labels` is None and `class_names` empty without classes. `refused` maps entries that look like pictures but may not
    be read to the reason; `ignored` counts everything else by kind.
    """

    directory: str
    class_names: list[str]
    file_paths: list[str]
    labels: NDArray[np.int32] | None
    refused: dict[str, str] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)

    def class_counts(self) -> dict[str, int]:
        """Return the number of pictures of each class."""
        if self.labels is None:
            return {}
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        return {name: int(count) for name, count in zip(self.class_names, counts, strict=True)}


def check_formats(function: str, formats: Sequence[str] | None) -> tuple[str, ...]:
    """Return `formats` in upper case, or the default ones for None; raises ValueError for an unknown name."""
    if formats is None:
        return FORMATS
    names = (formats,) if isinstance(formats, str) else tuple(formats)
    chosen = tuple(str(name).upper() for name in names)
    if not chosen or any(name not in EXTENSIONS for name in chosen):
        raise ValueError(f"{function}: formats must be names out of {', '.join(EXTENSIONS)}, got {formats!r}")
    return chosen


def check_directory(function: str, directory: str | bytes | os.PathLike[str]) -> str:
    """Return `directory` as a string; raises FileNotFoundError or NotADirectoryError."""
    path = os.fsdecode(directory)
    if not os.path.lexists(path):
        raise FileNotFoundError(f"{function}: directory {path!r} does not exist")
    if not os.path.isdir(path):
        raise NotADirectoryError(f"{function}: directory must be a folder, but {path!r} is not one")
    return path


def class_folders(directory: str, *, follow_links: bool, refused: dict[str, str], ignored: Counter[str]) -> list[str]:
    """Return the names of the class folders in `directory`, sorted by code point.

    Raises ValueError for a name that is not valid UTF-8, since class names are stored with models.
    """
    names = []
    inside = _Inside(directory, follow_links)
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                ignored["hidden"] += 1
            elif not _is_dir(entry):
                ignored["outside the class folders"] += 1
            elif entry.is_symlink() and not inside.allows(entry.path):
                refused[entry.path] = _LEAVES
            else:
                names.append(entry.name)
    for name in names:
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(
                f"image folder {directory!r}: the class folder {name!r} must have a name that is valid UTF-8"
            ) from None
    return sorted(names)


def scan_classes(
    directory: str, *, class_names: Sequence[str] | None, follow_links: bool, formats: Iterable[str]
) -> FolderIndex:
    """List the pictures in the class folders of `directory`, class by class, each class sorted by path.

    `class_names` chooses and orders the classes; otherwise every folder is one, sorted by code point. Raises ValueError
    when `class_names` names a folder that does not exist.
    """
    index = FolderIndex(directory, [], [], None)
    found = class_folders(directory, follow_links=follow_links, refused=index.refused, ignored=index.ignored)
    if class_names is None:
        index.class_names = found
    else:
        index.class_names = list(class_names)
        unknown = sorted(set(index.class_names) - set(found))
        if unknown or len(set(index.class_names)) != len(index.class_names):
            raise ValueError(
                f"image folder {directory!r}: class_names must be distinct names of its folders {found}, "
                f"got {index.class_names}"
            )
    labels: list[int] = []
    for label, name in enumerate(index.class_names):
        paths = _walk(os.path.join(directory, name), index, follow_links=follow_links, formats=formats)
        index.file_paths += paths
        labels += [label] * len(paths)
    index.labels = np.array(labels, dtype=np.int32)
    return index


def scan_flat(directory: str, *, follow_links: bool, formats: Iterable[str]) -> FolderIndex:
    """List all pictures below `directory`, sorted by folder and name, without classes."""
    index = FolderIndex(directory, [], [], None)
    index.file_paths = _walk(directory, index, follow_links=follow_links, formats=formats)
    return index


_LEAVES = "symbolic link that does not stay inside the folder (follow_links=True allows it)"


class _Inside:
    """Whether the target of a link may be read: inside the root, or anywhere when links are followed."""

    def __init__(self, root: str, follow_links: bool) -> None:
        self.prefix = os.path.join(os.path.realpath(root), "")
        self.follow_links = follow_links

    def allows(self, path: str) -> bool:
        return self.follow_links or os.path.realpath(path).startswith(self.prefix)


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points to itself, or through a folder that may not be searched
        return False


def _walk(top: str, index: FolderIndex, *, follow_links: bool, formats: Iterable[str]) -> list[str]:
    """Return the pictures below `top`; what is left out goes to `index`."""
    endings = tuple(ending for name in formats for ending in EXTENSIONS[name])
    inside = _Inside(index.directory, follow_links)
    found: list[tuple[str, str]] = []
    # A folder travels with the identities of the folders it was reached through: meeting one of them again is a loop.
    stack: list[tuple[str, frozenset[tuple[int, int]]]] = [(top, frozenset())]
    while stack:
        folder, ancestors = stack.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in ancestors:
                index.ignored["link loop"] += 1
                continue
            with os.scandir(folder) as scan:
                entries = list(scan)
        except OSError as error:
            index.refused[folder] = f"folder that cannot be listed: {error.strerror}"
            continue
        ancestors = ancestors | {(status.st_dev, status.st_ino)}
        for entry in entries:
            if entry.name.startswith("."):
                index.ignored["hidden"] += 1
            elif _is_dir(entry):
                if entry.is_symlink() and not follow_links:
                    index.ignored["link to a folder, not followed"] += 1
                else:
                    stack.append((entry.path, ancestors))
            elif not entry.name.lower().endswith(endings):
                index.ignored["not named as a picture"] += 1
            elif reason := _refusal(entry, inside):
                index.refused[entry.path] = reason
            else:
                found.append((folder, entry.name))
    return [os.path.join(folder, name) for folder, name in sorted(found)]


def _refusal(entry: os.DirEntry[str], inside: _Inside) -> str | None:
    """Return why a file named as a picture may not be read, or None."""
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        return f"cannot be examined: {error.strerror}" if not entry.is_symlink() else "dangling symbolic link"
    if not stat.S_ISREG(mode):
        return f"not a regular file but {file_kind(mode)}"
    if entry.is_symlink() and not inside.allows(entry.path):
        return _LEAVES
    return None


def file_kind(mode: int) -> str:
    """Return what `st_mode` describes, in words."""
    kinds = {
        stat.S_IFREG: "a regular file",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a special file")
