"""What `compile` fixed, and the running means that its metrics give."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

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
    """What `compile` fixed: optimizer, loss, metrics and which layers are trained; later the programs and arrays.

    `metrics` are those of both kinds by the name they are logged under; the names in `weighted` see sample weights.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        loss: Loss,
        given_metrics: Sequence[Any],
        given_weighted: Sequence[Any] = (),
        recompute: bool = False,
    ) -> None:
        self.optimizer = optimizer
        self.loss = loss
        self.recompute = recompute
        if loss.reduction is None:
            raise ValueError(f"compile: {loss.name} with reduction=None gives no number to train on; choose another")
        self.given_metrics = list(given_metrics)
        self.given_weighted = list(given_weighted)
        plain = _metrics("metrics", given_metrics, loss)
        weighted = _metrics("weighted_metrics", given_weighted, loss)
        self.metrics = {metric.name: metric for metric in plain}
        logged = [f"weighted_{m.name}" if m.name in self.metrics else m.name for m in weighted]
        self.weighted = frozenset(logged)
        self.metrics |= dict(zip(logged, weighted, strict=True))
        names = [*(metric.name for metric in plain), *logged]
        if len(self.metrics) < len(names) or "loss" in names:
            raise ValueError(f"compile: metrics must have different names other than 'loss', got {names}")
        if len({id(metric) for metric in self.metrics.values()}) < len(names):
            raise ValueError("compile: a metric object can be in metrics or in weighted_metrics, but not in both")
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


def _metrics(argument: str, given: Sequence[Any], loss: Loss) -> list[Metric]:
    if not isinstance(given, list | tuple):
        raise ValueError(f"compile: {argument} must be a list of names or Metric objects, got {given!r}")
    found: list[Metric] = [metrics.get(metric, loss) for metric in given]
    for metric in found:
        if np.ndim(metric.result()):
            raise ValueError(f"compile: {metric.name} has several thresholds and gives no single number to log")
    return found


class Means:
    """Running means of loss and metrics over batches."""

    def __init__(self, compiled: Compiled) -> None:
        self._metrics = compiled.metrics
        self._weighted = compiled.weighted
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._loss, self._count = 0.0, 0
        for metric in self._metrics.values():
            metric.reset_state()

    def get_state(self) -> dict[str, Any]:
        """Return what the batches so far have left, the metrics' parts under their names."""
        return {"loss": self._loss, "count": self._count} | {
            f"{name}/{part}": value
            for name, metric in self._metrics.items()
            for part, value in metric.get_state().items()
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` returned; raises KeyError for a part that is missing."""
        self._loss, self._count = state["loss"], state["count"]
        for name, metric in self._metrics.items():
            metric.set_state({part: state[f"{name}/{part}"] for part in metric.get_state()})

    def update(self, loss: float, batch: Batch, p: Array) -> None:
        """Add a batch with its mean loss and outputs."""
        self._loss += loss * batch.size
        self._count += batch.size
        assert batch.y is not None
        for name, metric in self._metrics.items():
            metric.update_state(batch.y, p, batch.sample_weight if name in self._weighted else None)

    def result(self) -> Logs:
        """Return the means so far."""
        means = {"loss": self._loss / self._count if self._count else 0.0}
        return means | {name: float(metric.result()) for name, metric in self._metrics.items()}
