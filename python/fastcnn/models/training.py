"""compile, fit, evaluate, predict and their single-batch forms, with Keras' arguments and numbers."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn import losses, metrics, optimizers
from fastcnn.callbacks import Callback, CallbackList, History
from fastcnn.errors import NonFiniteError
from fastcnn.fuse import active_nodes
from fastcnn.graph import Node
from fastcnn.layers.base import Array, Layer
from fastcnn.layers.norm import BatchNormalization
from fastcnn.layers.pointwise import Activation, Softmax
from fastcnn.losses import Loss
from fastcnn.metrics import Metric
from fastcnn.models.batches import (
    BATCH_SIZE,
    ArraySource,
    Batch,
    EndlessSource,
    Source,
    check_count,
    checked_weights,
    checked_x,
    class_weights,
    is_array_like,
    open_source,
    split,
    targets,
)
from fastcnn.models.network import Network, Tensor
from fastcnn.models.state import TrainingState
from fastcnn.models.workspace import Workspace
from fastcnn.optimizers import Optimizer
from fastcnn.parameters import Parameter
from fastcnn.program import BoundProgram, Recipe
from fastcnn.random import get_seed

Verbose = Literal["auto", 0, 1, 2]
Logs = dict[str, float]


class _Compiled:
    """What compile() fixed: loss, metrics, and which layers are trained."""

    def __init__(self, model: Network, optimizer: Optimizer, loss: Loss, given_metrics: Sequence[Any]) -> None:
        self.optimizer = optimizer
        self.loss = loss
        self.given_metrics = list(given_metrics)
        self.metrics: list[Metric] = [metrics.get(metric, loss) for metric in given_metrics]
        names = [metric.name for metric in self.metrics]
        if len(set(names)) < len(names) or "loss" in names:
            raise ValueError(f"compile: metrics must have different names other than 'loss', got {names}")
        self.trained = frozenset(layer for layer in model.flat_layers() if layer.trainable and model.trainable)
        self.state: TrainingState | None = None

    @property
    def norms(self) -> list[BatchNormalization]:
        return [layer for layer in self.trained if isinstance(layer, BatchNormalization)]


class _Means:
    """Running means of loss and metrics over batches."""

    def __init__(self, compiled: _Compiled) -> None:
        self._metrics = compiled.metrics
        self._loss, self._count = 0.0, 0
        for metric in self._metrics:
            metric.reset_state()

    def update(self, loss: float, batch: Batch, p: Array) -> None:
        self._loss += loss * batch.size
        self._count += batch.size
        for metric in self._metrics:
            metric.update_state(batch.y, p)

    def result(self) -> Logs:
        """Return the means, the loss first, then the metrics as compile() lists them."""
        means = {"loss": self._loss / self._count if self._count else 0.0}
        return means | {metric.name: float(metric.result()) for metric in self._metrics}


class Trainer(Network):
    """A network that can be compiled, trained, evaluated and asked for predictions."""

    def __init__(
        self,
        inputs: Tensor | Sequence[Tensor],
        outputs: Tensor | Sequence[Tensor],
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        self._compiled: _Compiled | None = None
        self._training_lock = threading.Lock()
        self.stop_training = False
        super().__init__(inputs, outputs, name, trainable)
