"""Batch normalisation, alone or with the addition and the ReLU that follow it.

    y = relu((x - mean) * inv_std * gamma + beta + residual),   inv_std = 1 / sqrt(variance + epsilon)

In training, mean and (biased) variance are the batch's, and the moving ones become momentum*moving + (1-momentum)*batch
with the optimizer's update, so that a step is applied whole or not at all. The gradient for one channel of n values,
g = dy where y > 0 and xhat = (x - mean) * inv_std:

    dbeta = sum g,   dgamma = sum g*xhat,   dx = gamma*inv_std/n * (n*g - dbeta - xhat*dgamma)

A frozen layer (trainable=False) uses the moving statistics, which are then constants: dx = gamma*inv_std*g.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Unpack

import numpy as np

from fastcnn import initializers, regularizers
from fastcnn.graph import Shape
from fastcnn.layers.base import (
    Array,
    Bounds,
    InitializerLike,
    Layer,
    LayerOptions,
    RegularizerLike,
    Slots,
    Step,
    one_input,
)
from fastcnn.liveness import CacheSpec, Lifetime
from fastcnn.parameters import Parameter

if TYPE_CHECKING:
    from fastcnn.program import Emitter


class BatchNormalization(Layer):
    """Batch normalisation of the last axis (Ioffe and Szegedy 2015) with Keras' definitions."""

    only_defaults: ClassVar[tuple[str, ...]] = (
        "beta_constraint",
        "gamma_constraint",
        "synchronized",
    )

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        momentum: float = 0.99,
        epsilon: float = 0.001,
        center: bool = True,
        scale: bool = True,
        beta_initializer: InitializerLike = "zeros",
        gamma_initializer: InitializerLike = "ones",
        moving_mean_initializer: InitializerLike = "zeros",
        moving_variance_initializer: InitializerLike = "ones",
        beta_regularizer: RegularizerLike = None,
        gamma_regularizer: RegularizerLike = None,
        beta_constraint: None = None,
        gamma_constraint: None = None,
        synchronized: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self._refuse(
            beta_constraint=(beta_constraint, None),
            gamma_constraint=(gamma_constraint, None),
            synchronized=(synchronized, False),
        )
        if not 0 <= momentum <= 1:
            raise ValueError(f"BatchNormalization: momentum must lie in [0, 1], got {momentum!r}")
        if not epsilon > 0:
            raise ValueError(f"BatchNormalization: epsilon must be positive, got {epsilon!r}")
        self.axis = axis if isinstance(axis, int) else axis[0]
        self.momentum = float(momentum)
        self.epsilon = float(epsilon)
        self.center = bool(center)
        self.scale = bool(scale)
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)

    def build(self, *shapes: Shape) -> Shape:
        """Return the input's shape; makes gamma, beta, moving_mean and moving_variance, each [C]."""
        shape = self._checked(*shapes)
        C = shape[-1:]
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self.add_weight("gamma", C, self.gamma_initializer, regularizer=self.gamma_regularizer)
        if self.center:
            self.beta = self.add_weight("beta", C, self.beta_initializer, regularizer=self.beta_regularizer)
        self.moving_mean = self.add_weight("moving_mean", C, self.moving_mean_initializer, trainable=False)
        self.moving_variance = self.add_weight("moving_variance", C, self.moving_variance_initializer, trainable=False)
        return shape

    def _checked(self, *shapes: Shape) -> Shape:
        """Return the only input's shape; raises ValueError for another axis than its last."""
        shape = one_input(self, shapes)
        if self.axis not in (-1, len(shape)):
            raise ValueError(f"{self.name}: axis must be the last, -1 or {len(shape)}, got {self.axis!r}")
        return shape

    def lower(self, trainable: bool, inference: bool) -> tuple[Step, ...]:
        """Return the step, with the batch's statistics if it is trained outside inference mode."""
        return (FusedBatchNormalization(self, trainable=trainable, batch_statistics=trainable and not inference),)


@dataclass(frozen=True)
class Merged:
    """The statistics of a whole batch, each [C]; `scale` is gamma * inv_std."""

    mean: Array
    inv_std: Array
    scale: Array | None = None


@dataclass(eq=False)
class FusedBatchNormalization(Step):
    """BatchNormalization with what was fused behind it; with a residual, that is the first of two inputs.

    `left_to_reader` means that it only makes the statistics: the convolution that reads its input normalises it.
    """

    layer: BatchNormalization
    trainable: bool
    batch_statistics: bool
    residual: bool = False
    relu: bool = False
    left_to_reader: bool = False

    saves = "x"

    def __post_init__(self) -> None:
        self.name = self.layer.name
        self.nonnegative = self.relu

    def keeps_x(self, index: int) -> bool:
        """The normalised input is read again, the residual is not."""
        return index == int(self.residual)

    def keeps_y(self) -> bool:
        """With a residual the output tells where the ReLU let the gradient through, else x does."""
        return self.relu and self.residual

    def overwrites(self) -> tuple[int, ...]:
        """Return all inputs: each element is read before it is written."""
        return (0, 1) if self.residual else (0,)

    def passes_gradient_to(self) -> tuple[int, ...]:
        """Return the normalised input."""
        return (int(self.residual),)

    def trained(self) -> tuple[Parameter, ...]:
        """Return gamma and beta while they are trained."""
        return tuple(w for w in (self.layer.gamma, self.layer.beta) if w is not None and self.trainable)

    def cache(self, bounds: Bounds, p: Emitter) -> dict[str, CacheSpec]:
        """Keep statistics: of blocks of rows until they are merged, of the batch until the backward run."""
        rows = bounds.batch
        for size in bounds.y[:-1]:
            rows *= size
        blocks = p.batchnorm_blocks(rows, bounds.y[-1]) if self.batch_statistics else 1
        return self.statistics_cache(blocks, rows, bounds)

    def statistics_cache(self, blocks: int, rows: int, bounds: Bounds) -> dict[str, CacheSpec]:
        """As `cache`, for the blocks that a convolution makes; raises ValueError for a single value per channel."""
        if not self.batch_statistics and not bounds.backward:
            return {}
        if self.batch_statistics and rows < 2:
            raise ValueError(
                f"{self.name}: training needs at least 2 values per channel, got {rows} "
                f"(batch of {bounds.batch}, samples {list(bounds.y)})"
            )
        C = bounds.y[-1]
        specs = {
            "statistics": CacheSpec((blocks, 2, C), lifetime="forward"),
            "counts": CacheSpec((blocks,), "int64", "forward"),
        }
        if not self.left_to_reader:
            lifetime: Lifetime = "both" if bounds.backward else "forward"
            specs |= {name: CacheSpec((C,), lifetime=lifetime) for name in ("mean", "inv_std")}
        return specs

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append the statistics and the normalisation."""
        x, residual = (s.xs[1], s.xs[0]) if self.residual else (s.xs[0], None)
        if self.batch_statistics:
            p.batchnorm_statistics(x, s.cache["statistics"], s.cache["counts"])
        self.emit_normalisation(x, residual, s, p)

    def emit_normalisation(self, x: Array, residual: Array | None, s: Slots, p: Emitter) -> None:
        """Append what follows once `statistics` and `counts` are there, of which a reader does the last."""
        norm = self.layer
        gamma, beta = _memory(norm.gamma), _memory(norm.beta)
        mean, variance = norm.moving_mean.memory, norm.moving_variance.memory
        if not s.cache:
            p.batchnorm_inference(
                x,
                mean,
                variance,
                s.y,
                epsilon=norm.epsilon,
                gamma=gamma,
                beta=beta,
                residual=residual,
                relu=self.relu,
            )
            return
        statistics = s.cache["statistics"]
        if self.batch_statistics:
            counts = s.cache["counts"]
            momentum, new_mean, new_variance = p.moving_statistics(norm)
        else:  # merging one block of one row gives back its statistics, and inv_std
            p.copy(mean, statistics[0, 0])
            p.copy(variance, statistics[0, 1])
            counts = np.ones(1, np.int64)
            momentum, new_mean, new_variance = 1.0, None, None
        merged = self._merged(s, p)
        p.batchnorm_merge(
            statistics,
            counts,
            merged.mean,
            merged.inv_std,
            epsilon=norm.epsilon,
            momentum=momentum,
            gamma=gamma,
            scale=merged.scale,
            moving_mean=new_mean,
            moving_variance=new_variance,
        )
        if self.left_to_reader:
            return
        p.batchnorm_forward(
            x,
            merged.mean,
            merged.inv_std,
            s.y,
            gamma=gamma,
            beta=beta,
            residual=residual,
            relu=self.relu,
        )

    def _merged(self, s: Slots, p: Emitter) -> Merged:
        return p.merged(self) if self.left_to_reader else Merged(s.cache["mean"], s.cache["inv_std"])

    def prologue(self, p: Emitter) -> tuple[Array, Array, Array, bool]:
        """Return what a convolution needs that normalises what it reads: mean, scale, shift, whether ReLU follows."""
        merged = p.merged(self)
        assert merged.scale is not None
        beta = _memory(self.layer.beta)
        return merged.mean, merged.scale, np.zeros_like(merged.mean) if beta is None else beta, self.relu

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append batchnorm_backward."""
        x = s.xs[-1]
        residual = (s.dxs[0], s.accumulate[0]) if self.residual else (None, False)
        self.emit_gradients(x, s.dxs[-1], s.accumulate[-1], residual, s, p)

    def emit_gradients(
        self,
        x: Array,
        dx: Array | None,
        accumulate: bool,
        residual: tuple[Array | None, bool],
        s: Slots,
        p: Emitter,
    ) -> None:
        """Append the gradients of x (None: not wanted), the residual, gamma and beta."""
        norm = self.layer
        trained = (norm.gamma, norm.beta) if self.trainable else (None, None)
        merged = self._merged(s, p)
        with p.fresh_gradients(*trained) as (dgamma, dbeta):
            p.batchnorm_backward(
                x,
                s.gradient,
                merged.mean,
                merged.inv_std,
                y=s.y if self.keeps_y() else None,
                gamma=_memory(norm.gamma),
                beta=_memory(norm.beta),
                relu=self.relu and not self.keeps_y(),
                frozen=not self.batch_statistics,
                dx=dx,
                accumulate=accumulate,
                dresidual=residual[0],
                accumulate_residual=residual[1],
                dgamma=dgamma,
                dbeta=dbeta,
            )


def _memory(parameter: Parameter | None) -> Array | None:
    return None if parameter is None else parameter.memory
