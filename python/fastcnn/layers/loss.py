"""The end of a training or evaluation program: the loss of the model's output and where its gradient begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fastcnn.layers.base import Array, Bounds, Slots, Step
from fastcnn.liveness import CacheSpec

if TYPE_CHECKING:
    from fastcnn.program import Emitter


class LossStep(Step):
    """loss[N] of the output for targets t[N,K], and dx times weight[N]; y is the model's output.

    t and weight are filled in before the program runs.
    """

    operation: ClassVar[str]
    repeatable = False

    @property
    def name(self) -> str:  # type: ignore[override]
        """Name of the operation."""
        return self.operation

    def cache(self, bounds: Bounds, p: Emitter) -> dict[str, CacheSpec]:
        """Keep what Python writes before and reads after a run."""
        rows = (bounds.batch,)
        return {
            "t": CacheSpec((*rows, *bounds.y), lifetime="whole"),
            "weight": CacheSpec(rows, lifetime="whole"),
            "loss": CacheSpec(rows, lifetime="whole"),
        }

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append the step, unless the backward run will."""
        if s.dxs[0] is None:
            self.emit(s, p)

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append the step with dx."""
        self.emit(s, p)

    def emit(self, s: Slots, p: Emitter) -> None:
        """Append the operation."""
        raise NotImplementedError


@dataclass(eq=False)
class FusedLoss(LossStep):
    """A loss with the activation before it: x are logits, y is p, or stays x where the model itself ends in logits."""

    floor: float
    logits: bool = False

    def __post_init__(self) -> None:
        self.view = self.logits

    def overwrites(self) -> tuple[int, ...]:
        """Return the input: p may take its place."""
        return (0,)

    def cache(self, bounds: Bounds, p: Emitter) -> dict[str, CacheSpec]:
        """Keep p too where nobody else does."""
        return super().cache(bounds, p) | ({"p": CacheSpec((bounds.batch, *bounds.y))} if self.logits else {})

    def probabilities(self, s: Slots) -> Array:
        """Return where p goes."""
        p: Array = s.cache["p"] if self.logits else s.y
        return p


class SoftmaxCrossEntropy(FusedLoss):
    """p = softmax(x), loss = -sum t*log(clip(p, floor, 1-floor)), dx = (p*sum(t) - t) * weight."""

    operation = "softmax_cross_entropy"

    def emit(self, s: Slots, p: Emitter) -> None:
        """Append softmax_cross_entropy."""
        t, weight, loss = (s.cache[key] for key in ("t", "weight", "loss"))
        p.softmax_cross_entropy(s.xs[0], t, weight, self.probabilities(s), loss, floor=self.floor, dx=s.dxs[0])


class SigmoidCrossEntropy(FusedLoss):
    """p = sigmoid(x), loss = -mean(t*log(p) + (1-t)*log(1-p)) with p clipped, dx = (p - t)/K * weight."""

    operation = "sigmoid_cross_entropy"

    def emit(self, s: Slots, p: Emitter) -> None:
        """Append sigmoid_cross_entropy."""
        t, weight, loss = (s.cache[key] for key in ("t", "weight", "loss"))
        p.sigmoid_cross_entropy(s.xs[0], t, weight, self.probabilities(s), loss, floor=self.floor, dx=s.dxs[0])


@dataclass(eq=False)
class OutputLoss(LossStep):
    """A loss of the output as it is."""

    floor: float

    view = True
    saves = "x"


class CategoricalCrossEntropy(OutputLoss):
    """loss = -sum t*log(q) with q = x / sum(x) clipped to [floor, 1-floor]."""

    operation = "categorical_cross_entropy"

    def emit(self, s: Slots, p: Emitter) -> None:
        """Append categorical_cross_entropy."""
        t, weight, loss = (s.cache[key] for key in ("t", "weight", "loss"))
        p.categorical_cross_entropy(s.xs[0], t, weight, loss, floor=self.floor, dx=s.dxs[0])


class BinaryCrossEntropy(OutputLoss):
    """loss = -mean(t*log(x) + (1-t)*log(1-x)) with x clipped to [floor, 1-floor]."""

    operation = "binary_cross_entropy"

    def emit(self, s: Slots, p: Emitter) -> None:
        """Append binary_cross_entropy."""
        t, weight, loss = (s.cache[key] for key in ("t", "weight", "loss"))
        p.binary_cross_entropy(s.xs[0], t, weight, loss, floor=self.floor, dx=s.dxs[0])


class SquaredError(OutputLoss):
    """loss = mean (x - t)^2."""

    operation = "squared_error"

    def emit(self, s: Slots, p: Emitter) -> None:
        """Append squared_error."""
        t, weight, loss = (s.cache[key] for key in ("t", "weight", "loss"))
        p.squared_error(s.xs[0], t, weight, loss, dx=s.dxs[0])
