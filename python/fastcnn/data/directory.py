"""image_dataset_from_directory: a folder of class folders as an ImageDataset, or as a training and a validation set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastcnn.data.arguments import LABEL_MODES, Arguments, Files, Subset
from fastcnn.data.dataset import LabelMode, OnError
from fastcnn.data.folder import FolderIndex, ImageFileError, check_directory, scan_classes, scan_flat
from fastcnn.data.picture import ColorMode

FUNCTION = "image_dataset_from_directory"
GivenLabels = Literal["inferred"] | list[int] | None
_ARGUMENTS = Arguments(FUNCTION)


def image_dataset_from_directory(
    directory: str | os.PathLike[str],
    labels: str | Sequence[int] | NDArray[np.integer] | None = "inferred",
    label_mode: LabelMode | None = "int",
    class_names: Sequence[str] | None = None,
    color_mode: ColorMode = "rgb",
    batch_size: int = 32,
    image_size: int | tuple[int, int] = (256, 256),
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: Subset | None = None,
    interpolation: str = "bilinear",
    follow_links: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    data_format: str | None = None,
    format: str = "tf",
    verbose: bool = True,
    *,
    on_error: OnError = "raise",
    exif_transpose: bool = False,
    background: tuple[int, int, int] | None = None,
    formats: Sequence[str] | None = None,
    num_threads: int | None = None,
) -> Any:
    """Return the pictures of a folder as an ImageDataset; with `subset="both"` a tuple (training, validation).

    With `labels="inferred"` every sub-folder is a class (sorted by code point, or as in `class_names`); with None or a
    list of integers, in the order of the sorted paths, all pictures below `directory` count. `validation_split` sets
    apart the last fraction of the files after a shuffle by `seed` (`shuffle=False`: of the sorted files).
    `image_size` is (H, W) in pixels; x is float32 in 0..255, channels last. `seed=None` takes the next seed that
    follows from `set_random_seed`. `format` is ignored: the result is always an ImageDataset.

    Beyond Keras: `on_error` ("raise" or "skip") says what to do with pictures that cannot be read; `exif_transpose`
    turns pictures upright; `background` (R, G, B) is laid under transparent pixels; `formats` chooses among JPEG, PNG,
    BMP, GIF, PPM, WEBP (the default) and TIFF; `num_threads` decode threads (default: usable CPUs, at most four).

    Raises FileNotFoundError or NotADirectoryError for `directory`, ValueError for an argument, a class without
    pictures or an empty set, ImageFileError for entries that must not be read, such as links out of the folder.
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
    _ARGUMENTS.choice("label_mode", label_mode, LABEL_MODES)
    given_labels = _labels(labels, label_mode, class_names)
    if given_labels is None:
        label_mode = None
    if data_format not in (None, "channels_last"):
        raise ValueError(f"{FUNCTION}: data_format must be None or 'channels_last', got {data_format!r}")
    batches = _ARGUMENTS.batches(
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        validation_split=validation_split,
        subset=subset,
        on_error=on_error,
        num_threads=num_threads,
    )
    index = _scan(check_directory(FUNCTION, directory), given_labels, class_names, follow_links, options.formats)
    _check_index(index, given_labels, label_mode, on_error)
    files = Files(index.directory, index.file_paths, index.labels, index.class_names, index.refused)
    return batches.datasets(files, options, label_mode, verbose)


def _scan(
    directory: str,
    labels: GivenLabels,
    class_names: Sequence[str] | None,
    follow_links: bool,
    formats: tuple[str, ...],
) -> FolderIndex:
    if labels == "inferred":
        return scan_classes(directory, class_names=class_names, follow_links=follow_links, formats=formats)
    index = scan_flat(directory, follow_links=follow_links, formats=formats)
    if labels is not None:
        if len(labels) != len(index.file_paths):
            raise ValueError(
                f"{FUNCTION}: labels must have one entry per picture: {directory!r} has {len(index.file_paths)} "
                f"pictures, got {len(labels)} labels"
            )
        if labels and not 0 <= min(labels) <= max(labels) < 2**31:
            raise ValueError(f"{FUNCTION}: labels must lie in [0, 2**31), got {min(labels)} to {max(labels)}")
        index.labels = np.array(labels, dtype=np.int32)
        index.class_names = [str(label) for label in sorted(set(labels))]
    return index


def _check_index(index: FolderIndex, labels: GivenLabels, label_mode: LabelMode | None, on_error: OnError) -> None:
    where = f"directory {index.directory!r}"
    if index.refused and on_error == "raise":
        path = min(index.refused)
        more = f" (and {len(index.refused) - 1} more such entries)" if len(index.refused) > 1 else ""
        raise ImageFileError(path, "unknown", f"{index.refused[path]}{more}; on_error='skip' leaves them out")
    if labels == "inferred" and not index.class_names:
        raise ValueError(
            f"{FUNCTION}: {where} must hold one folder per class, but it has none; labels=None reads pictures that "
            "lie directly in it"
        )
    if not index.file_paths:
        ignored = "".join(f", {count} {kind}" for kind, count in sorted(index.ignored.items()))
        raise ValueError(f"{FUNCTION}: {where} must hold at least one picture, found none{ignored}")
    empty = [name for name, count in index.class_counts().items() if count == 0] if labels == "inferred" else []
    if empty:
        raise ValueError(f"{FUNCTION}: every class folder must hold pictures, but {where} has none in {empty}")
    if label_mode == "binary" and len(index.class_names) != 2:
        raise ValueError(
            f"{FUNCTION}: label_mode='binary' needs exactly 2 classes, {where} has {len(index.class_names)}: "
            f"{index.class_names}"
        )
    if label_mode in ("binary", "categorical") and index.labels is not None:
        largest = int(index.labels.max())
        if largest >= len(index.class_names):
            raise ValueError(
                f"{FUNCTION}: with label_mode={label_mode!r} labels must be the numbers 0 to "
                f"{len(index.class_names) - 1} ({len(index.class_names)} different ones), got {largest}"
            )


def _labels(labels: object, label_mode: str | None, class_names: object) -> GivenLabels:
    """Return "inferred", the labels as integers, or None when the set has none."""
    chosen: GivenLabels = None
    if isinstance(labels, list | tuple | np.ndarray):
        chosen = [_ARGUMENTS.index("labels", label) for label in labels]
    elif isinstance(labels, str) and labels == "inferred":
        chosen = "inferred"
    elif labels is not None:
        raise ValueError(
            f"{FUNCTION}: labels must be 'inferred', None or a list of integers, got {labels!r} "
            f"({type(labels).__name__})"
        )
    if label_mode is None:
        chosen = None
    if class_names is not None and chosen != "inferred":
        raise ValueError(
            f"{FUNCTION}: class_names needs labels='inferred' and a label_mode, got class_names={class_names!r}"
        )
    names = class_names if isinstance(class_names, list | tuple) else ()
    if class_names is not None and not (names and all(isinstance(name, str) for name in names)):
        raise ValueError(f"{FUNCTION}: class_names must be a list of folder names, got {class_names!r}")
    return chosen
