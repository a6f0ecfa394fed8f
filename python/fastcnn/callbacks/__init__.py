"""Callbacks with Keras' names: hooks that `fit`, `evaluate` and `predict` call."""

from __future__ import annotations

from fastcnn.callbacks.base import Callback, LambdaCallback, Logs
from fastcnn.callbacks.checkpoint import BackupAndRestore, ModelCheckpoint
from fastcnn.callbacks.history import CSVLogger, History
from fastcnn.callbacks.list import CallbackList
from fastcnn.callbacks.progress import ProgressBar
from fastcnn.callbacks.rates import LearningRateScheduler, ReduceLROnPlateau
from fastcnn.callbacks.stopping import EarlyStopping, TerminateOnNaN

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "Logs",
    "ModelCheckpoint",
    "ProgressBar",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
]
