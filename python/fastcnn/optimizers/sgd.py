"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastcnn.optimizers.base import Array, Optimizer, Rate, number, takes_old_arguments

if TYPE_CHECKING:
    from fastcnn._core import Program
    from fastcnn.optimizers.base import Gradient


class SGD(Optimizer):
    """m = momentum*m - learning_rate*g, w += m; with Nesterov w += momentum*m - learning_rate*g (Keras' formulas)."""

    arguments = ("learning_rate", "momentum", "nesterov")

    @takes_old_arguments
    def __init__(
        self,
        learning_rate: Rate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate, name, locals())
        self.momentum = number("SGD", "momentum", momentum, 0, 1)
        self.nesterov = bool(nesterov)
        self.rule_slots = ("momentum",) if self.momentum else ()

    def settings(self) -> list[float]:
        """Return [learning_rate, momentum, nesterov]."""
        return [self.step_size, self.momentum, float(self.nesterov)]

    def emit_update(
        self,
        program: Program,
        values: Array,
        grads: Gradient,
        slots: Mapping[str, Array],
        settings: NDArray[np.float64],
    ) -> None:
        """Append one sgd_step."""
        program.sgd_step(values, grads, settings, slots.get("momentum"))
