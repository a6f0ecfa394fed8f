"""Keras' `utils`: pictures, image folders, one-hot labels, seeds."""

from __future__ import annotations

from fastcnn.data.directory import image_dataset_from_directory
from fastcnn.data.listing import image_dataset_from_csv
from fastcnn.utils.categorical import to_categorical
from fastcnn.utils.image import array_to_img, img_to_array, load_img, save_img
from fastcnn.utils.seed import set_random_seed
from fastcnn.utils.sequence import PyDataset, Sequence

__all__ = [
    "PyDataset",
    "Sequence",
    "array_to_img",
    "image_dataset_from_csv",
    "image_dataset_from_directory",
    "img_to_array",
    "load_img",
    "save_img",
    "set_random_seed",
    "to_categorical",
]
