"""Adam and AdamW."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastcnn.optimizers.base import Array, Optimizer, Rate, number, takes_old_arguments

if TYPE_CHECKING:
    from fastcnn._core import Program
    from fastcnn.optimizers.base import Gradient


class Adam(Optimizer):
    """w -= learning_rate * sqrt(1-beta_2^t)/(1-beta_1^t) * m / (sqrt(v) + epsilon) at step t = 1, 2, ...

    m = beta_1*m + (1-beta_1)*g and v = beta_2*v + (1-beta_2)*g^2 (Kingma and Ba 2015, in Keras' arrangement: epsilon is
    added before the bias correction, which makes it larger than the paper's by 1/sqrt(1-beta_2^t)). With `amsgrad` the
    largest v so far takes the place of v in the step (Reddi, Kale and Kumar 2018).
    """

    arguments: ClassVar[tuple[str, ...]] = ("learning_rate", "beta_1", "beta_2", "epsilon", "amsgrad")

    @takes_old_arguments
    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
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
        owner = type(self).__name__
        self.beta_1 = number(owner, "beta_1", beta_1, 0, 1)
        self.beta_2 = number(owner, "beta_2", beta_2, 0, 1)
        self.epsilon = number(owner, "epsilon", epsilon, 0, math.inf)
        self.amsgrad = bool(amsgrad)
        self.rule_slots = ("momentum", "velocity", "velocity_hat") if self.amsgrad else ("momentum", "velocity")

    def settings(self) -> list[float]:
        """Return [learning_rate, beta_1, beta_2, epsilon, t] with t = iterations + 1."""
        return [self.step_size, self.beta_1, self.beta_2, self.epsilon, float(self.iterations + 1)]

    def emit_update(
        self,
        program: Program,
        values: Array,
        grads: Gradient,
        slots: Mapping[str, Array],
        settings: NDArray[np.float64],
    ) -> None:
        """Append one adam_step."""
        program.adam_step(
            values, grads, slots["momentum"], slots["velocity"], settings, v_max=slots.get("velocity_hat")
        )


class AdamW(Adam):
    """Adam with `weight_decay`, which must be a number (Loshchilov and Hutter 2019)."""

    @takes_old_arguments
    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        weight_decay: float = 0.004,
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
        if weight_decay is None:
            raise ValueError("AdamW: weight_decay must be a number, got None; Adam has none")
        super().__init__(
            learning_rate,
            beta_1,
            beta_2,
            epsilon,
            amsgrad,
            weight_decay,
            clipnorm,
            clipvalue,
            global_clipnorm,
            use_ema,
            ema_momentum,
            ema_overwrite_frequency,
            loss_scale_factor,
            gradient_accumulation_steps,
            name,
        )
