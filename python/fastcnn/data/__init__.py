"""Pictures from files: folders, decoding policy, resizing, shuffling, decode threads."""

from __future__ import annotations

from fastcnn.data.check import FolderReport, check_folder
from fastcnn.data.dataset import ImageDataset
from fastcnn.data.directory import image_dataset_from_directory
from fastcnn.data.folder import ImageFileError
from fastcnn.data.listing import image_dataset_from_csv

__all__ = [
    "FolderReport",
    "ImageDataset",
    "ImageFileError",
    "check_folder",
    "image_dataset_from_csv",
    "image_dataset_from_directory",
]
