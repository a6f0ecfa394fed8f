"""The end of a training or evaluation program: softmax and cross-entropy in one step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastcnn.layers.base import Bounds, Slots, Step
from fastcnn.liveness import CacheSpec

if TYPE_CHECKING:
    from fastcnn.program import Emitter


@dataclass(eq=False)
class SoftmaxCrossEntropy(Step):
    """p = softmax(x), loss[N] = -sum t*log(clip(p, floor, 1-floor)), dx = (p*sum(t) - t) * weight[N].

    y is p; targets t[N,classes] and weight are filled in before the program runs.
    """

    floor: float

    inplace = True
    name = "softmax_cross_entropy"

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
            self._emit(s, p)

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append the step with dx."""
        self._emit(s, p)

    def _emit(self, s: Slots, p: Emitter) -> None:
        t, weight, loss = (s.cache[key] for key in ("t", "weight", "loss"))
        p.softmax_cross_entropy(s.xs[0], t, weight, s.y, loss, floor=self.floor, dx=s.dxs[0])
