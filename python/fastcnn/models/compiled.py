"""What `compile` fixed, and the running means that its metrics give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastcnn import metrics
from fastcnn.layers.base import Array, Layer
from fastcnn.losses import Loss
from fastcnn.metrics import Metric
from fastcnn.models.batches import Batch
from fastcnn.models.network import Network
from fastcnn.models.penalties import Penalties
from fastcnn.models.state import TrainingState
from fastcnn.optimizers import Optimizer
from fastcnn.program import Recipe

Logs = dict[str, float]


class Compiled:
    """What `compile` fixed: optimizer, loss, metrics and which layers are trained; later the programs and arrays."""

    def __init__(self, optimizer: Optimizer, loss: Loss, given_metrics: Sequence[Any]) -> None:
        self.optimizer = optimizer
        self.loss = loss
        self.given_metrics = list(given_metrics)
        self.metrics: list[Metric] = [metrics.get(metric, loss) for metric in given_metrics]
        names = [metric.name for metric in self.metrics]
        if len(set(names)) < len(names) or "loss" in names:
            raise ValueError(f"compile: metrics must have different names other than 'loss', got {names}")
        self.trained: frozenset[Layer] = frozenset()
        self.penalties = Penalties(())
        self.recipe: Recipe | None = None
        self.state: TrainingState | None = None

    def note_trained(self, model: Network) -> None:
        """Fix the trained layers as they are now; a layer without weights, such as Dropout, is always in training."""
        self.trained = frozenset(layer for layer in model.flat_layers() if layer.trainable or not layer.weights)
        self.penalties = Penalties(model.trainable_weights)
        self.recipe = self.state = None


class Means:
    """Running means of loss and metrics over batches."""

    def __init__(self, compiled: Compiled) -> None:
        self._metrics = compiled.metrics
        self._loss, self._count = 0.0, 0
        for metric in self._metrics:
            metric.reset_state()

    def update(self, loss: float, batch: Batch, p: Array) -> None:
        self._loss += loss * batch.size
        self._count += batch.size
        for metric in self._metrics:
            assert batch.y is not None
            metric.update_state(batch.y, p)

    def result(self) -> Logs:
        means = {"loss": self._loss / self._count if self._count else 0.0}
        return means | {metric.name: float(metric.result()) for metric in self._metrics}
