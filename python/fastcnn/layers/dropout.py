"""Dropout, whose random numbers follow from a key and the number of the step: no mask is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

import numpy as np

from fastcnn.graph import Shape
from fastcnn.layers.base import Layer, LayerOptions, Slots, Step, one_input
from fastcnn.random import get_seed, philox_key

if TYPE_CHECKING:
    from fastcnn.program import Emitter


class Dropout(Layer):
    """In training each element becomes 0 with probability `rate`, else x/(1-rate); otherwise y = x.

    Srivastava et al. 2014, inverted as in Keras. What is dropped follows from the seed, the number of updates made
    before and the element's place in the batch; with `seed=None` from fastcnn's seed and the layer's name. As in Keras,
    `trainable=False` changes nothing.
    """

    only_defaults = ("noise_shape",)

    def __init__(
        self, rate: float, noise_shape: None = None, seed: int | None = None, **options: Unpack[LayerOptions]
    ) -> None:
        super().__init__(**options)
        self._refuse(noise_shape=(noise_shape, None))
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise ValueError(f"Dropout: rate must be a number in [0, 1), got {rate!r}")
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int | np.integer)):
            raise ValueError(f"Dropout: seed must be an integer or None, got {seed!r}")
        self.rate = float(rate)
        self.seed = None if seed is None else int(seed)

    def build(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        return one_input(self, shapes)

    def lower(self, trainable: bool, inference: bool) -> tuple[Step, ...]:
        """Return the step in training, nothing otherwise."""
        return (DropoutStep(self),) if trainable and not inference and self.rate > 0 else ()

    def random_key(self, call: int) -> int:
        """Return the 64-bit key of the layer's random numbers in its call of that number."""
        origin = ("layer", get_seed(), self.name) if self.seed is None else ("seed", self.seed)
        return philox_key("dropout", *origin, call) >> 64


@dataclass(eq=False)
class DropoutStep(Step):
    """One call of the layer; the backward run draws the same numbers again."""

    layer: Dropout

    inplace = True
    passes_gradient = True

    def __post_init__(self) -> None:
        self.name = self.layer.name

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append dropout from x to y."""
        p.dropout(s.xs[0], s.y, p.random_state(self), rate=self.layer.rate)

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append dropout from dy to dx."""
        if s.dxs[0] is not None:
            p.dropout(s.gradient, s.dxs[0], p.random_state(self), rate=self.layer.rate, accumulate=s.accumulate[0])
