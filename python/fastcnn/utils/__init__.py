"""Keras' `utils`: pictures, image folders, one-hot labels, seeds."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastcnn.data.directory import image_dataset_from_directory
from fastcnn.data.listing import image_dataset_from_csv
from fastcnn.utils.categorical import to_categorical
from fastcnn.utils.image import array_to_img, img_to_array, load_img, save_img
from fastcnn.utils.seed import set_random_seed
from fastcnn.utils.sequence import PyDataset, Sequence

if TYPE_CHECKING:
    from fastcnn.plots import plot_model
    from fastcnn.utils import np_utils as np_utils

__all__ = [
    "PyDataset",
    "Sequence",
    "array_to_img",
    "image_dataset_from_csv",
    "image_dataset_from_directory",
    "img_to_array",
    "load_img",
    "plot_model",
    "save_img",
    "set_random_seed",
    "to_categorical",
]


def __getattr__(name: str) -> Any:
    if name == "plot_model":  # matplotlib and models are for those who plot
        return import_module("fastcnn.plots").plot_model
    if name == "np_utils":
        return import_module("fastcnn.utils.np_utils")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
