"""Folders and lists of labelled pictures as the commands open them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn import data


def open_pictures(path: str, image_size: int | tuple[int, int], batch_size: int, seed: int, **arguments: Any) -> Any:
    """Return the dataset of a folder with one folder per class, or of a CSV list; two with `subset="both"`."""
    is_list = path.lower().endswith(".csv") and not os.path.isdir(path)
    return (data.image_dataset_from_csv if is_list else data.image_dataset_from_directory)(
        path, image_size=image_size, batch_size=batch_size, seed=seed, verbose=False, **arguments
    )


def open_for_model(
    path: str,
    image_size: int | tuple[int, int],
    batch_size: int,
    names: Sequence[str] | None,
    classes: int,
    **more: Any,
) -> data.ImageDataset:
    """Return pictures in file order, their labels numbered as a model's classes.

    Raises ValueError naming the classes that the pictures or the model lack; without names their number must fit.
    """
    more |= {"shuffle": False}
    found: data.ImageDataset = open_pictures(path, image_size, batch_size, 0, **more)
    if names is None:
        if found.num_classes != classes:
            raise ValueError(
                f"{path}: has {found.num_classes} classes, the model knows {classes} and no names for them"
            )
        return found
    unknown, missing = (
        sorted(set(some) - set(others)) for some, others in ((found.class_names, names), (names, found.class_names))
    )
    wrong = [
        *([f"has the classes {unknown}, which the model does not know; its are {list(names)}"] if unknown else []),
        *([f"has no pictures of the model's classes {missing}"] if missing else []),
    ]
    if wrong:
        raise ValueError(f"{path}: {', and '.join(wrong)}")
    if list(names) == found.class_names:
        return found
    reordered: data.ImageDataset = open_pictures(path, image_size, batch_size, 0, class_names=list(names), **more)
    return reordered


def class_counts(pictures: data.ImageDataset) -> dict[str, int]:
    """Return the number of pictures of each class."""
    assert pictures.labels is not None
    counts = np.bincount(pictures.labels, minlength=pictures.num_classes)
    return {name: int(count) for name, count in zip(pictures.class_names, counts, strict=True)}
