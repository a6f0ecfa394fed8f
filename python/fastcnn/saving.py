"""Keras' `saving`: whole models as files."""

from __future__ import annotations

from fastcnn.models.functions import save_model
from fastcnn.models.saving import load_model

__all__ = ["load_model", "save_model"]
