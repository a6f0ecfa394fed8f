"""Dense layers, alone or with the ReLU behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

from fastcnn import initializers, regularizers
from fastcnn.graph import Shape
from fastcnn.layers.base import InitializerLike, Layer, LayerOptions, RegularizerLike, Slots, Step, one_input
from fastcnn.layers.pointwise import activation_name, activation_steps
from fastcnn.parameters import Parameter

if TYPE_CHECKING:
    from fastcnn.program import Emitter


class Dense(Layer):
    """y[N,K] = activation(x[N,C] w[C,K] + b[K])."""

    only_defaults = (
        "activity_regularizer",
        "kernel_constraint",
        "bias_constraint",
    )

    def __init__(
        self,
        units: int,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        activity_regularizer: None = None,
        kernel_constraint: None = None,
        bias_constraint: None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self._refuse(
            activity_regularizer=(activity_regularizer, None),
            kernel_constraint=(kernel_constraint, None),
            bias_constraint=(bias_constraint, None),
        )
        if isinstance(units, bool) or not isinstance(units, int) or units < 1:
            raise ValueError(f"Dense: units must be a positive integer, got {units!r}")
        self.units = units
        self.activation = activation_name("Dense", activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)

    def build(self, *shapes: Shape) -> Shape:
        """Return (K,); makes kernel [C,K] and bias [K]; raises ValueError for samples that are not flat."""
        (C,) = one_input(self, shapes, 1, "[C] (put Flatten or GlobalAveragePooling2D before)")
        K, penalties = self.units, (self.kernel_regularizer, self.bias_regularizer)
        self.kernel = self.add_weight("kernel", (C, K), self.kernel_initializer, regularizer=penalties[0])
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight("bias", (K,), self.bias_initializer, regularizer=penalties[1])
        return (K,)

    def lower(self, trainable: bool, inference: bool) -> tuple[Step, ...]:
        """Return the product and its activation."""
        return FusedDense(self, trainable), *activation_steps(self.activation, self.name)


@dataclass(eq=False)
class FusedDense(Step):
    """y = relu(x w + b), the ReLU optional."""

    layer: Dense
    trainable: bool
    relu: bool = False

    def __post_init__(self) -> None:
        self.name = self.layer.name
        self.nonnegative = self.relu

    def keeps_x(self, index: int) -> bool:
        """The input is read again for the kernel's gradient."""
        return self.trainable

    def keeps_y(self) -> bool:
        """The output tells where the ReLU let the gradient through."""
        return self.relu

    def trained(self) -> tuple[Parameter, ...]:
        """Return kernel and bias while they are trained."""
        return tuple(w for w in (self.layer.kernel, self.layer.bias) if w is not None and self.trainable)

    def own_kernel(self) -> Parameter | None:
        """Return the kernel while it is trained."""
        return self.layer.kernel if self.trainable else None

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append dense_forward."""
        bias = None if self.layer.bias is None else self.layer.bias.memory
        p.dense_forward(s.xs[0], self.layer.kernel.memory, s.y, bias=bias, relu=self.relu)

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append the gradients of bias, kernel and input."""
        if self.relu:
            p.relu_backward(s.y, s.gradient, s.gradient)
        if self.trainable:
            if self.layer.bias is not None:
                db, added = p.gradient(self.layer.bias)
                p.bias_backward(s.gradient, db, accumulate=added)
            p.product_gradient(self.layer.kernel, s.xs[0], s.gradient)
        if s.dxs[0] is not None:
            p.dense_backward_data(s.gradient, self.layer.kernel.memory, s.dxs[0], accumulate=s.accumulate[0])
