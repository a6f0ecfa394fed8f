"""What `compile` fixed, and the running means that its metrics give."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
from fastcnn.parameters import Parameter
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
        self.parameters: list[Parameter] = []  # those being trained
        self.penalties = Penalties(())
        self.recipe: Recipe | None = None
        self.state: TrainingState | None = None

    def note_trained(self, model: Network, names: Collection[str] | None = None) -> None:
        """Fix the trained layers as they are now, or those of these names (ValueError for one that is not there).

        A layer without weights, such as Dropout, is always in training.
        """
        layers = model.flat_layers()
        weighted = [layer for layer in layers if layer.weights]
        if unknown := set(names or ()) - {layer.name for layer in weighted}:
            raise ValueError(f"compile: {model.name} has no layer {sorted(unknown)[0]!r} with weights")
        chosen = [layer for layer in weighted if (layer.trainable if names is None else layer.name in names)]
        self.trained = frozenset(chosen) | {layer for layer in layers if not layer.weights}
        self.parameters = [w for layer in chosen for w in layer.weights if w.trainable]
        self.penalties = Penalties(self.parameters)
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
