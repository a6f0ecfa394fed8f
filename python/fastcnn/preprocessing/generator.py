"""ImageDataGenerator: batches of pictures, changed at random and normalised, from arrays and folders."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.geometry import check_fill_mode
from fastcnn.preprocessing import transform
from fastcnn.preprocessing.transform import Array, Parameters, Ranges, Shift
from fastcnn.random import next_seed

if TYPE_CHECKING:
    from fastcnn.preprocessing.iterators import DirectoryIterator, NumpyArrayIterator

OWNER = "ImageDataGenerator"
_TINY = 1e-6  # added to standard deviations, as in Keras
_CHANNELS = (1, 3, 4)


class ImageDataGenerator:
    """Keras' picture generator, with its arguments.

    What happens to a picture follows from (seed, epoch, index of the picture) alone, never from threads or from the
    pictures before it. Pictures are [H,W,C], channels last, float32.

    Ranges: `rotation_range` and `shear_range` in degrees; `width_shift_range` and `height_shift_range` a share of the
    size below 1.0, pixels from 1.0 on, an integer n for whole pixels below n, or a list to choose from; `zoom_range` z
    for 1-z..1+z or a pair, drawn for rows and columns on their own; `brightness_range` a pair of factors;
    `channel_shift_range` added to all channels. `fill_mode` says what lies outside: "nearest", "constant" (`cval`),
    "reflect" (d c b a | a b c d | d c b a) or "wrap" (the picture again; SciPy, under Keras, repeats it one pixel
    early). `interpolation_order` is 0 or 1.

    Order: geometry, channel shift, flips, brightness, then `preprocessing_function` (one picture, same shape),
    `rescale` and the normalisations. `featurewise_center`, `featurewise_std_normalization` and `zca_whitening` need
    `fit`. Raises ValueError for arguments that fastcnn does not have.
    """

    def __init__(
        self,
        featurewise_center: bool = False,
        samplewise_center: bool = False,
        featurewise_std_normalization: bool = False,
        samplewise_std_normalization: bool = False,
        zca_whitening: bool = False,
        zca_epsilon: float = 1e-6,
        rotation_range: float = 0,
        width_shift_range: Shift = 0.0,
        height_shift_range: Shift = 0.0,
        brightness_range: Sequence[float] | None = None,
        shear_range: float = 0.0,
        zoom_range: float | Sequence[float] = 0.0,
        channel_shift_range: float = 0.0,
        fill_mode: str = "nearest",
        cval: float = 0.0,
        horizontal_flip: bool = False,
        vertical_flip: bool = False,
        rescale: float | None = None,
        preprocessing_function: Callable[[Array], ArrayLike] | None = None,
        data_format: str | None = None,
        validation_split: float = 0.0,
        interpolation_order: int = 1,
        dtype: str | None = None,
    ) -> None:
        self.fill_mode = check_fill_mode(OWNER, fill_mode)
        self.cval = _number("cval", cval)
        _only("data_format", data_format, (None, "channels_last"))
        _only("interpolation_order", interpolation_order, (0, 1))
        if dtype is not None and np.dtype(dtype) != np.float32:
            raise ValueError(f"{OWNER}: dtype must be None or 'float32', got {dtype!r}")
        if not 0 <= _number("validation_split", validation_split) < 1:
            raise ValueError(f"{OWNER}: validation_split must be at least 0 and below 1, got {validation_split!r}")
        if preprocessing_function is not None and not callable(preprocessing_function):
            raise TypeError(f"{OWNER}: preprocessing_function must be callable, got {preprocessing_function!r}")
        self.ranges = Ranges(
            rotation=_at_least_zero("rotation_range", rotation_range),
            width_shift=_shift("width_shift_range", width_shift_range),
            height_shift=_shift("height_shift_range", height_shift_range),
            shear=_at_least_zero("shear_range", shear_range),
            zoom=_zoom(zoom_range),
            channel_shift=_at_least_zero("channel_shift_range", channel_shift_range),
            brightness=None if brightness_range is None else _pair("brightness_range", brightness_range),
            horizontal_flip=bool(horizontal_flip),
            vertical_flip=bool(vertical_flip),
        )
        self.rescale = None if rescale is None else _number("rescale", rescale)
        self.preprocessing_function = preprocessing_function
        self.interpolation_order = interpolation_order
        self.validation_split = float(validation_split)
        self.featurewise_center = bool(featurewise_center)
        self.samplewise_center = bool(samplewise_center)
        self.featurewise_std_normalization = bool(featurewise_std_normalization)
        self.samplewise_std_normalization = bool(samplewise_std_normalization)
        self.zca_whitening = bool(zca_whitening)
        self.zca_epsilon = _at_least_zero("zca_epsilon", zca_epsilon)
        self.mean: Array | None = None
        self.std: Array | None = None
        self.zca_whitening_matrix: Array | None = None
        self._settle()

    def _settle(self) -> None:
        """Switch on what others imply and off what excludes another, with Keras' rules; each change warns."""

        def switch(name: str, value: bool, cause: str) -> None:
            if getattr(self, name) != value:
                warnings.warn(f"{OWNER}: {cause} sets {name} to {value}", stacklevel=4)
                setattr(self, name, value)

        if self.zca_whitening:
            switch("featurewise_center", True, "zca_whitening")
            switch("featurewise_std_normalization", False, "zca_whitening")
        if self.featurewise_std_normalization:
            switch("featurewise_center", True, "featurewise_std_normalization")
        if self.samplewise_std_normalization:
            switch("samplewise_center", True, "samplewise_std_normalization")

    # -- one picture ---------------------------------------------------------------------------------------------------

    def get_random_transform(self, img_shape: Sequence[int], seed: int | None = None) -> Parameters:
        """Return Keras' dict of parameters for a picture of that shape; `seed=None` takes the next seed."""
        return self.ranges.draw(img_shape, "augment", next_seed() if seed is None else seed)

    def apply_transform(self, x: ArrayLike, transform_parameters: Mapping[str, Any]) -> Array:
        """Return the picture x[H,W,C] changed as the parameters say; names that are left out change nothing."""
        transform.check_parameters("apply_transform", transform_parameters)
        return np.array(self._applied(_picture("apply_transform", x), transform_parameters))

    def _applied(self, x: Array, parameters: Mapping[str, Any]) -> Array:
        return transform.apply(
            x, parameters, fill_mode=self.fill_mode, cval=self.cval, bilinear=self.interpolation_order == 1
        )

    def random_transform(self, x: ArrayLike, seed: int | None = None) -> Array:
        """Return the picture x[H,W,C] changed at random."""
        picture = _picture("random_transform", x)
        return np.array(self._applied(picture, self.get_random_transform(picture.shape, seed)))

    def standardize(self, x: ArrayLike) -> Array:
        """Return x, a picture [H,W,C] or a batch of them, normalised; unlike in Keras x itself stays as it is.

        Raises RuntimeError for statistics that `fit` has not made yet.
        """
        self.check_fitted("standardize")
        y = np.array(x, np.float32)
        if self.preprocessing_function is not None:
            before = y.shape
            y = np.array(self.preprocessing_function(y), np.float32)
            if y.shape != before:
                raise ValueError(
                    f"standardize: preprocessing_function must keep the shape {list(before)}, "
                    f"it returned {list(y.shape)}"
                )
        if self.rescale:
            y *= np.float32(self.rescale)
        if self.samplewise_center:
            y -= np.mean(y, dtype=np.float64).astype(np.float32)
        if self.samplewise_std_normalization:
            y /= np.std(y, dtype=np.float64).astype(np.float32) + np.float32(_TINY)
        if self.featurewise_center:
            assert self.mean is not None
            y -= self.mean
        if self.featurewise_std_normalization:
            assert self.std is not None
            y /= self.std + np.float32(_TINY)
        if self.zca_whitening:
            assert self.zca_whitening_matrix is not None
            flat = y.reshape(-1, int(np.prod(y.shape[-3:])))
            y = (flat @ self.zca_whitening_matrix).reshape(y.shape)
        return y

    def check_fitted(self, where: str) -> None:
        """Raise RuntimeError if a normalisation needs `fit` and has not had it."""
        for option, statistic in (
            ("featurewise_center", self.mean),
            ("featurewise_std_normalization", self.std),
            ("zca_whitening", self.zca_whitening_matrix),
        ):
            if getattr(self, option) and statistic is None:
                raise RuntimeError(f"{where}: {option} needs the generator's fit(x) first")

    def changed(self, x: Array, *key: int | str) -> Array:
        """Return a picture as the iterators give it: changed by the parameters of a key, and normalised."""
        return self.standardize(self._applied(x, self.ranges.draw(x.shape, "augment", *key)))

    # -- statistics ----------------------------------------------------------------------------------------------------

    def fit(self, x: ArrayLike, augment: bool = False, rounds: int = 1, seed: int | None = None) -> None:
        """Compute mean, standard deviation and whitening from samples x[N,H,W,C], as far as they are asked for.

        With `augment` they are those of `rounds` random changes of every picture. As in Keras `rescale` comes first and
        `preprocessing_function` is left out. Sums are taken in float64.
        """
        given = checked_pictures("fit", x)
        values = given.astype(np.float64) * (self.rescale or 1)
        if augment:
            if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
                raise ValueError(f"fit: rounds must be a positive integer, got {rounds!r}")
            seed = next_seed() if seed is None else seed
            pictures = values.astype(np.float32)
            values = np.concatenate(
                [
                    [self._applied(p, self.ranges.draw(p.shape, "fit", seed, r, i)) for i, p in enumerate(pictures)]
                    for r in range(rounds)
                ]
            ).astype(np.float64)
        if self.featurewise_center:
            mean = values.mean(axis=(0, 1, 2), keepdims=True)[0]
            values = values - mean
            self.mean = mean.astype(np.float32)
        if self.featurewise_std_normalization:
            std = values.std(axis=(0, 1, 2), keepdims=True)[0]
            values = values / (std + _TINY)
            self.std = std.astype(np.float32)
        if self.zca_whitening:
            flat = values.reshape(len(values), -1)
            u, s, _ = np.linalg.svd(flat.T, full_matrices=False)
            whitening = (u * (np.sqrt(len(flat)) / (s + self.zca_epsilon))) @ u.T
            self.zca_whitening_matrix = whitening.astype(np.float32)

    # -- batches -------------------------------------------------------------------------------------------------------

    def flow(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        batch_size: int = 32,
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
        seed: int | None = None,
        save_to_dir: str | os.PathLike[str] | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        ignore_class_split: bool = False,
        subset: str | None = None,
    ) -> NumpyArrayIterator:
        """Return batches of the pictures x[N,H,W,C] without end, with labels y and weights if given.

        `subset` "validation" is the first `validation_split` of the samples, "training" the rest; both must have the
        same classes unless `ignore_class_split`. `save_to_dir` writes every picture given, for the eye.
        """
        from fastcnn.preprocessing.iterators import NumpyArrayIterator

        return NumpyArrayIterator(
            x,
            y,
            self,
            batch_size=batch_size,
            shuffle=shuffle,
            sample_weight=sample_weight,
            seed=seed,
            save_to_dir=save_to_dir,
            save_prefix=save_prefix,
            save_format=save_format,
            ignore_class_split=ignore_class_split,
            subset=subset,
        )

    def flow_from_directory(
        self,
        directory: str | os.PathLike[str],
        target_size: tuple[int, int] = (256, 256),
        color_mode: str = "rgb",
        classes: Sequence[str] | None = None,
        class_mode: str | None = "categorical",
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        save_to_dir: str | os.PathLike[str] | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        follow_links: bool = False,
        subset: str | None = None,
        interpolation: str = "nearest",
        keep_aspect_ratio: bool = False,
    ) -> DirectoryIterator:
        """Return batches of the pictures in a folder of class folders, without end.

        Classes are the sorted names of the folders, or `classes` in their order. `class_mode` "categorical" gives
        one-hot labels [N,classes], "sparse" and "binary" numbers [N], "input" the pictures again, None no labels.
        `subset` "validation" is the first `validation_split` of each class's sorted files, "training" the rest. Files
        are JPEG, PNG, BMP, GIF, PPM and WEBP pictures, resized by Pillow to `target_size` (H, W).
        """
        from fastcnn.preprocessing.iterators import DirectoryIterator

        return DirectoryIterator(
            directory,
            self,
            target_size=target_size,
            color_mode=color_mode,
            classes=classes,
            class_mode=class_mode,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            save_to_dir=save_to_dir,
            save_prefix=save_prefix,
            save_format=save_format,
            follow_links=follow_links,
            subset=subset,
            interpolation=interpolation,
            keep_aspect_ratio=keep_aspect_ratio,
        )


# -- arguments ---------------------------------------------------------------------------------------------------------


def _only(argument: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed or isinstance(value, bool):
        raise ValueError(f"{OWNER}: {argument} must be {' or '.join(map(repr, allowed))}, got {value!r}")


def _number(argument: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not np.isfinite(value):
        raise ValueError(f"{OWNER}: {argument} must be a finite number, got {value!r}")
    return float(value)


def _at_least_zero(argument: str, value: object) -> float:
    number = _number(argument, value)
    if number < 0:
        raise ValueError(f"{OWNER}: {argument} must not be negative, got {value!r}")
    return number


def _pair(argument: str, value: object) -> tuple[float, float]:
    if not isinstance(value, list | tuple | np.ndarray) or len(value) != 2:
        raise ValueError(f"{OWNER}: {argument} must be two numbers, got {value!r}")
    return _number(argument, value[0]), _number(argument, value[1])


def _zoom(value: object) -> tuple[float, float]:
    if isinstance(value, list | tuple | np.ndarray):
        low, high = _pair("zoom_range", value)
    else:
        amount = _at_least_zero("zoom_range", value)
        low, high = 1 - amount, 1 + amount
    if not 0 < low <= high:
        raise ValueError(f"{OWNER}: zoom_range must be below 1 or two numbers above 0, got {value!r}")
    return low, high


def _shift(argument: str, value: object) -> Shift:
    if isinstance(value, list | tuple | np.ndarray):
        if len(value) == 0:
            raise ValueError(f"{OWNER}: {argument} must not be empty")
        return tuple(_number(argument, entry) for entry in value)
    number = _at_least_zero(argument, value)
    return int(number) if isinstance(value, int | np.integer) else number


def _picture(where: str, x: ArrayLike) -> Array:
    picture = np.asarray(x, np.float32)
    if picture.ndim != 3:
        raise ValueError(f"{where}: x must be one picture [H, W, C], got {list(picture.shape)}")
    return picture


def checked_pictures(where: str, x: ArrayLike) -> NDArray[Any]:
    """Return pictures [N,H,W,C] as they are; raises ValueError and TypeError for anything else."""
    try:
        pictures = np.asarray(x)
    except ValueError as error:  # a list of pictures of different sizes
        raise ValueError(f"{where}: x must be one array [N, H, W, C]; its pictures differ in size ({error})") from error
    if pictures.dtype.kind not in "biuf":
        raise TypeError(f"{where}: x must hold real numbers, got {pictures.dtype}")
    if pictures.ndim != 4 or len(pictures) == 0:
        raise ValueError(f"{where}: x must be [N, H, W, C] with at least one picture, got {list(pictures.shape)}")
    if pictures.shape[3] not in _CHANNELS:
        warnings.warn(
            f"{where}: x has {pictures.shape[3]} channels on its last axis, pictures have 1, 3 or 4", stacklevel=3
        )
    return pictures
