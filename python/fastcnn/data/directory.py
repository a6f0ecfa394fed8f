"""image_dataset_from_directory: a folder of class folders as an ImageDataset, or as a training and a validation set."""

from __future__ import annotations

import contextlib
import operator
import os
from collections.abc import Sequence
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from fastcnn.data.dataset import ImageDataset, LabelMode, OnError, PictureOptions
from fastcnn.data.folder import (
    FolderIndex,
    ImageFileError,
    check_directory,
    check_formats,
    scan_classes,
    scan_flat,
)
from fastcnn.data.order import split_order
from fastcnn.data.picture import CHANNELS, ColorMode
from fastcnn.data.resize import INTERPOLATIONS, Fit
from fastcnn.random import next_seed

FUNCTION = "image_dataset_from_directory"
Subset = Literal["training", "validation", "both"]
GivenLabels = Literal["inferred"] | list[int] | None
Choice = TypeVar("Choice")


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
    options = PictureOptions(
        color_mode=_choice("color_mode", color_mode, tuple(CHANNELS)),
        image_size=_size(image_size),
        interpolation=_choice("interpolation", str(interpolation).lower(), INTERPOLATIONS),
        fit=_fit(crop_to_aspect_ratio, pad_to_aspect_ratio),
        formats=check_formats(FUNCTION, formats),
        exif_transpose=bool(exif_transpose),
        background=_background(background),
    )
    _choice("label_mode", label_mode, ("int", "categorical", "binary", None))
    given_labels = _labels(labels, label_mode, class_names)
    if given_labels is None:
        label_mode = None
    batch_size = _positive("batch_size", batch_size)
    if num_threads is not None:
        num_threads = _positive("num_threads", num_threads)
    _choice("on_error", on_error, ("raise", "skip"))
    if data_format not in (None, "channels_last"):
        raise ValueError(f"{FUNCTION}: data_format must be None or 'channels_last', got {data_format!r}")
    _check_split(validation_split, subset, shuffle, seed)
    seed = next_seed() if seed is None else _index("seed", seed)

    index = _scan(check_directory(FUNCTION, directory), given_labels, class_names, follow_links, options.formats)
    _check_index(index, given_labels, label_mode, on_error)
    if verbose:
        classes = "." if index.labels is None else f" belonging to {len(index.class_names)} classes."
        print(f"Found {len(index.file_paths)} files{classes}")

    def dataset(positions: NDArray[np.int64] | range, shuffle: bool) -> ImageDataset:
        return ImageDataset(
            [index.file_paths[i] for i in positions],
            None if index.labels is None else index.labels[np.asarray(positions)],
            index.class_names,
            options,
            label_mode=label_mode,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            on_error=on_error,
            num_threads=num_threads,
            skipped=index.refused,
        )

    if validation_split is None or subset is None:
        return dataset(range(len(index.file_paths)), shuffle)
    count = len(index.file_paths)
    order = split_order(count, seed) if shuffle else np.arange(count)
    held_out = int(validation_split * count)
    if not 0 < held_out < count:
        raise ValueError(
            f"{FUNCTION}: validation_split={validation_split} of {count} files leaves no file for "
            f"{'validation' if held_out == 0 else 'training'} ({index.directory!r})"
        )
    parts = {"training": order[: count - held_out], "validation": order[count - held_out :]}
    chosen = ("training", "validation") if subset == "both" else (subset,)
    if verbose:
        for part in chosen:
            print(f"Using {len(parts[part])} files for {part}.")
    if subset == "both":  # as in Keras, only a validation set asked for alone follows `shuffle`
        return dataset(parts["training"], shuffle), dataset(parts["validation"], False)
    return dataset(parts[subset], shuffle)


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
        chosen = [_index("labels", label) for label in labels]
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


def _check_split(validation_split: float | None, subset: str | None, shuffle: bool, seed: int | None) -> None:
    if subset is not None:
        _choice("subset", subset, ("training", "validation", "both", None))
    if validation_split is not None and not (isinstance(validation_split, float) and 0 < validation_split < 1):
        raise ValueError(f"{FUNCTION}: validation_split must be a fraction between 0 and 1, got {validation_split!r}")
    if (validation_split is None) != (subset is None):
        raise ValueError(
            f"{FUNCTION}: validation_split and subset must be given together, got "
            f"validation_split={validation_split!r} and subset={subset!r}"
        )
    if validation_split is not None and shuffle and seed is None:
        raise ValueError(
            f"{FUNCTION}: seed must be given with validation_split and shuffle=True, so that training and validation "
            "files never overlap; got None"
        )


def _choice(argument: str, value: Choice, allowed: tuple[Choice, ...]) -> Choice:
    if value not in allowed:
        raise ValueError(f"{FUNCTION}: {argument} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def _index(argument: str, value: object) -> int:
    if not isinstance(value, bool):
        with contextlib.suppress(TypeError):
            return operator.index(cast(Any, value))
    raise ValueError(f"{FUNCTION}: {argument} must be an integer, got {value!r}")


def _positive(argument: str, value: object) -> int:
    number = _index(argument, value)
    if number < 1:
        raise ValueError(f"{FUNCTION}: {argument} must be at least 1, got {number}")
    return number


def _size(image_size: object) -> tuple[int, int]:
    pair = (image_size, image_size) if isinstance(image_size, int | np.integer) else image_size
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise ValueError(f"{FUNCTION}: image_size must be (height, width) in pixels, got {image_size!r}")
    return _positive("image_size", pair[0]), _positive("image_size", pair[1])


def _fit(crop: bool, pad: bool) -> Fit:
    if crop and pad:
        raise ValueError(f"{FUNCTION}: only one of crop_to_aspect_ratio and pad_to_aspect_ratio may be True, got both")
    return "crop" if crop else "pad" if pad else "stretch"


def _background(background: object) -> tuple[int, int, int] | None:
    if background is None:
        return None
    if isinstance(background, list | tuple) and len(background) == 3:
        red, green, blue = (_index("background", value) for value in background)
        if all(0 <= value <= 255 for value in (red, green, blue)):
            return red, green, blue
    raise ValueError(f"{FUNCTION}: background must be three integers in 0..255, got {background!r}")
