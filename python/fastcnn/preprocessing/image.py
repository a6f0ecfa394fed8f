"""Keras' `preprocessing.image`: ImageDataGenerator, its iterators, and pictures as arrays and back."""

from __future__ import annotations

from fastcnn.preprocessing.generator import ImageDataGenerator
from fastcnn.preprocessing.iterators import DirectoryIterator, Iterator, NumpyArrayIterator
from fastcnn.utils.image import array_to_img, img_to_array, load_img, save_img

__all__ = [
    "DirectoryIterator",
    "ImageDataGenerator",
    "Iterator",
    "NumpyArrayIterator",
    "array_to_img",
    "img_to_array",
    "load_img",
    "save_img",
]
