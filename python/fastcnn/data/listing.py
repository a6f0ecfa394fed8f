"""image_dataset_from_csv: pictures listed with their classes in a CSV file, as an ImageDataset or as two."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.data.arguments import LABEL_MODES, Arguments, Files, Subset
from fastcnn.data.dataset import LabelMode, OnError
from fastcnn.data.folder import ImageFileError, check_directory
from fastcnn.data.picture import ColorMode

FUNCTION = "image_dataset_from_csv"
_ARGUMENTS = Arguments(FUNCTION)
_COLUMNS = ("path", "label")


def image_dataset_from_csv(
    filename: str | os.PathLike[str],
    directory: str | os.PathLike[str] | None = None,
    label_mode: LabelMode = "int",
    class_names: Sequence[str] | None = None,
    color_mode: ColorMode = "rgb",
    batch_size: int = 32,
    image_size: int | tuple[int, int] = (256, 256),
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: Subset | None = None,
    interpolation: str = "bilinear",
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    verbose: bool = True,
    *,
    path_column: str = "path",
    label_column: str = "label",
    delimiter: str = ",",
    on_error: OnError = "raise",
    exif_transpose: bool = False,
    background: tuple[int, int, int] | None = None,
    formats: Sequence[str] | None = None,
    num_threads: int | None = None,
) -> Any:
    """Return the pictures of a CSV list as an ImageDataset; with `subset="both"` a tuple (training, validation).

    Each line (UTF-8) names a picture and its class. A first line with the names `path_column` and `label_column` says
    in which columns; without such a line they are the first two. Paths are relative to `directory`, by default the
    list's own folder. Classes are the labels sorted by code point, numbers by value, or as in `class_names`. All other
    arguments are those of `image_dataset_from_directory`; order and split follow the lines.

    Raises OSError for the list, ValueError naming the line for one that is not a path and a label, for a picture with
    two labels and for a label outside `class_names`, ImageFileError for a missing file unless `on_error` is "skip".
    """
    options = _ARGUMENTS.options(
        color_mode=color_mode,
        image_size=image_size,
        interpolation=interpolation,
        crop=crop_to_aspect_ratio,
        pad=pad_to_aspect_ratio,
        formats=formats,
        exif_transpose=exif_transpose,
        background=background,
    )
    _ARGUMENTS.choice("label_mode", label_mode, tuple(mode for mode in LABEL_MODES if mode))
    batches = _ARGUMENTS.batches(
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        validation_split=validation_split,
        subset=subset,
        on_error=on_error,
        num_threads=num_threads,
    )
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise ValueError(f"{FUNCTION}: delimiter must be one character, got {delimiter!r}")
    path = os.fsdecode(filename)
    folder = os.path.dirname(path) if directory is None else check_directory(FUNCTION, directory)
    entries = _read(path, (path_column, label_column), delimiter)
    refused = {}
    for entry in entries:
        file = os.path.join(folder, entry.path)
        if not os.path.isfile(file):
            if on_error == "raise":
                raise ImageFileError(file, "unknown", f"no such file ({path!r}, line {entry.line})")
            refused[file] = "no such file"
    names = _names(path, entries, class_names)
    if label_mode == "binary" and len(names) != 2:
        raise ValueError(f"{FUNCTION}: label_mode='binary' needs exactly 2 classes, {path!r} has {len(names)}: {names}")
    numbers = {name: number for number, name in enumerate(names)}
    kept = [(os.path.join(folder, e.path), numbers[e.label]) for e in entries]
    kept = [(file, number) for file, number in kept if file not in refused]
    if not kept:
        raise ValueError(f"{FUNCTION}: {path!r} lists no picture")
    labels = np.array([number for _, number in kept], np.int32)
    return batches.datasets(
        Files(path, [file for file, _ in kept], labels, names, refused), options, label_mode, verbose
    )


@dataclass(frozen=True)
class _Entry:
    line: int
    path: str
    label: str


def _read(path: str, columns: tuple[str, str], delimiter: str) -> list[_Entry]:
    """Return the lines of a list; raises ValueError naming the first that is none."""
    entries: list[_Entry] = []
    places: tuple[int, int] | None = None
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            for row in rows:
                if not row:
                    continue
                if places is None:
                    places, header = _places(path, row, columns)
                    if header:
                        continue
                if len(row) <= max(places):
                    raise ValueError(
                        f"{FUNCTION}: {path!r}, line {rows.line_num}: expected a path and a label separated by "
                        f"{delimiter!r}, got {delimiter.join(row)!r}"
                    )
                entry = _Entry(rows.line_num, row[places[0]].strip(), row[places[1]].strip())
                if not entry.path or not entry.label:
                    raise ValueError(f"{FUNCTION}: {path!r}, line {rows.line_num}: path and label must not be empty")
                entries.append(entry)
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{FUNCTION}: {path!r}, line {rows.line_num + 1}: no CSV in UTF-8: {error}") from error
    if not entries:
        raise ValueError(f"{FUNCTION}: {path!r} lists no picture")
    seen: dict[str, _Entry] = {}
    for entry in entries:
        first = seen.setdefault(entry.path, entry)
        if first.label != entry.label:
            raise ValueError(
                f"{FUNCTION}: {path!r}: {entry.path!r} is {first.label!r} on line {first.line} and {entry.label!r} on "
                f"line {entry.line}"
            )
    return entries


def _places(path: str, first: list[str], columns: tuple[str, str]) -> tuple[tuple[int, int], bool]:
    """Return the places of path and label, and whether the first line is a header."""
    names = [name.strip() for name in first]
    if all(column in names for column in columns):
        return (names.index(columns[0]), names.index(columns[1])), True
    if columns != _COLUMNS:
        raise ValueError(
            f"{FUNCTION}: the first line of {path!r} must name the columns {columns[0]!r} and {columns[1]!r}, "
            f"got {', '.join(names)}"
        )
    return (0, 1), False


def _names(path: str, entries: Sequence[_Entry], class_names: Sequence[str] | None) -> list[str]:
    found = {entry.label for entry in entries}
    if class_names is None:
        numbers = all(name.isascii() and name.isdigit() for name in found)
        return sorted(found, key=lambda name: (int(name) if numbers else 0, name))
    names = [str(name) for name in class_names]
    if len(set(names)) != len(names):
        raise ValueError(f"{FUNCTION}: class_names must be distinct, got {names}")
    for entry in entries:
        if entry.label not in names:
            raise ValueError(
                f"{FUNCTION}: {path!r}, line {entry.line}: label {entry.label!r} is not among class_names {names}"
            )
    return names
