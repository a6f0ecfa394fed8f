"""RMSprop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastcnn.optimizers.base import Array, Optimizer, Rate, number, takes_old_arguments

if TYPE_CHECKING:
    from fastcnn._core import Program
    from fastcnn.optimizers.base import Gradient


class RMSprop(Optimizer):
    """v = rho*v + (1-rho)*g^2, m = momentum*m + learning_rate*g / sqrt(v + epsilon), w -= m (Keras' formulas).

    `centered` takes the square of the gradients' own moving average off v under the root, never below 0.
    """

    arguments = ("learning_rate", "rho", "momentum", "epsilon", "centered")

    @takes_old_arguments
    def __init__(
        self,
        learning_rate: Rate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
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
        self.rho = number("RMSprop", "rho", rho, 0, 1)
        self.momentum = number("RMSprop", "momentum", momentum, 0, 1)
        self.epsilon = number("RMSprop", "epsilon", epsilon, 0, math.inf)
        self.centered = bool(centered)
        momentum_slot = ("momentum",) if self.momentum else ()
        self.rule_slots = ("velocity", *momentum_slot, *(("average_gradient",) if self.centered else ()))

    def settings(self) -> list[float]:
        """Return [learning_rate, rho, momentum, epsilon]."""
        return [self.step_size, self.rho, self.momentum, self.epsilon]

    def emit_update(
        self,
        program: Program,
        values: Array,
        grads: Gradient,
        slots: Mapping[str, Array],
        settings: NDArray[np.float64],
    ) -> None:
        """Append one rmsprop_step."""
        program.rmsprop_step(
            values,
            grads,
            slots["velocity"],
            settings,
            m=slots.get("momentum"),
            mean=slots.get("average_gradient"),
        )
