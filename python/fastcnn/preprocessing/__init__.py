"""Keras' `preprocessing`: pictures."""

from __future__ import annotations

from fastcnn.preprocessing import image

__all__ = ["image"]
