"""Keras 2's path of `to_categorical`."""

from __future__ import annotations

from fastcnn.compat import old_name
from fastcnn.utils.categorical import to_categorical

__all__ = ["to_categorical"]

old_name("utils.np_utils", "import to_categorical from fastcnn.utils")
