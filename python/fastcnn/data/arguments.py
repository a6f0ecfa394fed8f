"""What the functions that make an ImageDataset have in common: checks of their arguments, and the split in two."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from fastcnn.data.dataset import ImageDataset, LabelMode, OnError, PictureOptions
from fastcnn.data.folder import check_formats
from fastcnn.data.order import split_order
from fastcnn.data.picture import CHANNELS, ColorMode
from fastcnn.data.resize import INTERPOLATIONS, Fit
from fastcnn.random import next_seed

Subset = Literal["training", "validation", "both"]
LABEL_MODES = ("int", "categorical", "binary", None)
Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Arguments:
    """Checks for one function, whose name begins every error; each returns the value in its final type."""

    function: str

    def choice(self, argument: str, value: Choice, allowed: tuple[Choice, ...]) -> Choice:
        """Return one of the values allowed."""
        if value not in allowed:
            raise ValueError(
                f"{self.function}: {argument} must be one of {', '.join(map(repr, allowed))}, got {value!r}"
            )
        return value

    def index(self, argument: str, value: object) -> int:
        """Return an integer of any kind."""
        if not isinstance(value, bool):
            with contextlib.suppress(TypeError):
                return operator.index(cast(Any, value))
        raise ValueError(f"{self.function}: {argument} must be an integer, got {value!r}")

    def positive(self, argument: str, value: object) -> int:
        """Return an integer of at least 1."""
        number = self.index(argument, value)
        if number < 1:
            raise ValueError(f"{self.function}: {argument} must be at least 1, got {number}")
        return number

    def options(
        self,
        *,
        color_mode: ColorMode,
        image_size: object,
        interpolation: str,
        crop: bool,
        pad: bool,
        formats: Sequence[str] | None,
        exif_transpose: bool,
        background: object,
    ) -> PictureOptions:
        """Return how pictures are read."""
        return PictureOptions(
            color_mode=self.choice("color_mode", color_mode, tuple(CHANNELS)),
            image_size=self._size(image_size),
            interpolation=self.choice("interpolation", str(interpolation).lower(), INTERPOLATIONS),
            fit=self._fit(crop, pad),
            formats=check_formats(self.function, formats),
            exif_transpose=bool(exif_transpose),
            background=self._background(background),
        )

    def batches(
        self,
        *,
        batch_size: object,
        shuffle: bool,
        seed: int | None,
        validation_split: float | None,
        subset: Subset | None,
        on_error: OnError,
        num_threads: object,
    ) -> Batches:
        """Return how files become batches."""
        self._check_split(validation_split, subset, shuffle, seed)
        return Batches(
            function=self.function,
            batch_size=self.positive("batch_size", batch_size),
            shuffle=shuffle,
            seed=next_seed() if seed is None else self.index("seed", seed),
            validation_split=validation_split,
            subset=subset,
            on_error=self.choice("on_error", on_error, ("raise", "skip")),
            num_threads=None if num_threads is None else self.positive("num_threads", num_threads),
        )

    def _check_split(
        self, validation_split: float | None, subset: Subset | None, shuffle: bool, seed: int | None
    ) -> None:
        if subset is not None:
            self.choice("subset", subset, ("training", "validation", "both", None))
        if validation_split is not None and not (isinstance(validation_split, float) and 0 < validation_split < 1):
            raise ValueError(
                f"{self.function}: validation_split must be a fraction between 0 and 1, got {validation_split!r}"
            )
        if (validation_split is None) != (subset is None):
            raise ValueError(
                f"{self.function}: validation_split and subset must be given together, got "
                f"validation_split={validation_split!r} and subset={subset!r}"
            )
        if validation_split is not None and shuffle and seed is None:
            raise ValueError(
                f"{self.function}: seed must be given with validation_split and shuffle=True, so that training and "
                "validation files never overlap; got None"
            )

    def _size(self, image_size: object) -> tuple[int, int]:
        pair = (image_size, image_size) if isinstance(image_size, int | np.integer) else image_size
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(f"{self.function}: image_size must be (height, width) in pixels, got {image_size!r}")
        return self.positive("image_size", pair[0]), self.positive("image_size", pair[1])

    def _fit(self, crop: bool, pad: bool) -> Fit:
        if crop and pad:
            raise ValueError(
                f"{self.function}: only one of crop_to_aspect_ratio and pad_to_aspect_ratio may be True, got both"
            )
        return "crop" if crop else "pad" if pad else "stretch"

    def _background(self, background: object) -> tuple[int, int, int] | None:
        if background is None:
            return None
        if isinstance(background, list | tuple) and len(background) == 3:
            red, green, blue = (self.index("background", value) for value in background)
            if all(0 <= value <= 255 for value in (red, green, blue)):
                return red, green, blue
        raise ValueError(f"{self.function}: background must be three integers in 0..255, got {background!r}")


@dataclass(frozen=True)
class Files:
    """The pictures of a set: `labels[i]` of `class_names` belongs to `paths[i]`; `origin` names the set in errors."""

    origin: str
    paths: Sequence[str]
    labels: NDArray[np.int32] | None
    class_names: Sequence[str]
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Batches:
    """How files become batches, of one set or of two."""

    function: str
    batch_size: int
    shuffle: bool
    seed: int
    validation_split: float | None
    subset: Subset | None
    on_error: OnError
    num_threads: int | None

    def datasets(self, files: Files, options: PictureOptions, label_mode: LabelMode | None, verbose: bool) -> Any:
        """Return an ImageDataset of the files, or for subset "both" the pair (training, validation).

        The last fraction of the files is set apart, after a shuffle by the seed (without `shuffle`: of the list).
        """

        def dataset(positions: NDArray[np.int64] | range, shuffle: bool) -> ImageDataset:
            return ImageDataset(
                [files.paths[i] for i in positions],
                None if files.labels is None else files.labels[np.asarray(positions)],
                files.class_names,
                options,
                label_mode=label_mode,
                batch_size=self.batch_size,
                shuffle=shuffle,
                seed=self.seed,
                on_error=self.on_error,
                num_threads=self.num_threads,
                skipped=files.refused,
            )

        count = len(files.paths)
        if verbose:
            classes = "." if files.labels is None else f" belonging to {len(files.class_names)} classes."
            print(f"Found {count} files{classes}")
        if self.validation_split is None or self.subset is None:
            return dataset(range(count), self.shuffle)
        order = split_order(count, self.seed) if self.shuffle else np.arange(count)
        held_out = int(self.validation_split * count)
        if not 0 < held_out < count:
            raise ValueError(
                f"{self.function}: validation_split={self.validation_split} of {count} files leaves no file for "
                f"{'validation' if held_out == 0 else 'training'} ({files.origin!r})"
            )
        parts = {"training": order[: count - held_out], "validation": order[count - held_out :]}
        chosen = ("training", "validation") if self.subset == "both" else (self.subset,)
        if verbose:
            for part in chosen:
                print(f"Using {len(parts[part])} files for {part}.")
        if self.subset == "both":  # as in Keras, only a validation set asked for alone follows `shuffle`
            return dataset(parts["training"], self.shuffle), dataset(parts["validation"], False)
        return dataset(parts[self.subset], self.shuffle)
