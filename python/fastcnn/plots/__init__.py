"""Pictures of a model and of its training; all but `contact_sheet` need matplotlib (pip install "fastcnn[plot]")."""

from __future__ import annotations

from fastcnn.plots.graph import plot_model
from fastcnn.plots.insides import feature_maps, filters
from fastcnn.plots.results import confusion_matrix
from fastcnn.plots.sheet import contact_sheet
from fastcnn.plots.training import gradient_norms, history

__all__ = ["confusion_matrix", "contact_sheet", "feature_maps", "filters", "gradient_norms", "history", "plot_model"]
