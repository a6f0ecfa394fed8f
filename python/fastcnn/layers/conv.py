"""Convolution, alone or with the padding before it and the normalisation, addition, ReLU and pooling behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Unpack

from fastcnn import initializers, regularizers
from fastcnn.graph import Shape
from fastcnn.layers.base import (
    Array,
    Bounds,
    InitializerLike,
    Layer,
    LayerOptions,
    Padding,
    Pair,
    RegularizerLike,
    Slots,
    Step,
    channels_last,
    one_input,
    padding_mode,
    pair,
    window_padding,
    window_positions,
)
from fastcnn.layers.norm import FusedBatchNormalization
from fastcnn.layers.pointwise import activation_name, activation_steps
from fastcnn.liveness import CacheSpec
from fastcnn.parameters import Parameter

if TYPE_CHECKING:
    from fastcnn.program import Emitter

ALGORITHMS = {None: None, "direct": "gemm", "winograd": "winograd"}  # the user's word: the engine's

_changes = count(1)
_last_change = 0


def algorithm_changes() -> int:
    """Return how often a layer of this process was given another algorithm: programs made before do not know of it."""
    return _last_change


class Conv2D(Layer):
    """y[N,P,Q,K] = activation(sum over r,s,c of x[N, p*stride+r*dilation, q*stride+s*dilation, C] w[R,S,C,K] + b[K]).

    `algorithm` forces "direct" or "winograd" convolution (3x3, strides 1, or 2, whose gradients stay direct); None lets
    the engine choose. Another value set later counts from the next call of a model on, see `Model.set_algorithms`.
    """

    only_defaults = (
        "data_format",
        "groups",
        "activity_regularizer",
        "kernel_constraint",
        "bias_constraint",
    )

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = (1, 1),
        groups: int = 1,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        activity_regularizer: None = None,
        kernel_constraint: None = None,
        bias_constraint: None = None,
        algorithm: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        channels_last("Conv2D", data_format)
        self._refuse(
            groups=(groups, 1),
            activity_regularizer=(activity_regularizer, None),
            kernel_constraint=(kernel_constraint, None),
            bias_constraint=(bias_constraint, None),
        )
        if isinstance(filters, bool) or not isinstance(filters, int) or filters < 1:
            raise ValueError(f"Conv2D: filters must be a positive integer, got {filters!r}")
        self._algorithm = _checked_algorithm("Conv2D", algorithm)
        self.filters = filters
        self.kernel_size = pair("Conv2D", "kernel_size", kernel_size)
        self.strides = pair("Conv2D", "strides", strides)
        self.padding = padding_mode("Conv2D", padding)
        self.dilation_rate = pair("Conv2D", "dilation_rate", dilation_rate)
        self.activation = activation_name("Conv2D", activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)

    @property
    def algorithm(self) -> str | None:
        """ "direct", "winograd" or None for the engine's choice; raises ValueError for anything else."""
        return self._algorithm

    @algorithm.setter
    def algorithm(self, value: str | None) -> None:
        global _last_change
        if _checked_algorithm(self.name, value) != self._algorithm:
            self._algorithm = value
            _last_change = next(_changes)

    def engine_algorithm(self, gradient: bool = False) -> str | None:
        """Return the engine's word for the algorithm that is forced on the forward pass or on the gradients."""
        return None if gradient and self.strides != (1, 1) else ALGORITHMS[self._algorithm]

    def build(self, *shapes: Shape) -> Shape:
        """Return (P, Q, K); makes kernel [R,S,C,K] and bias [K]; raises ValueError if the window does not fit."""
        shape = one_input(self, shapes, 3, "[H, W, C]")
        P, Q = window_positions(self, shape, self.extent, self.strides, self.sides(shape))
        K, penalties = self.filters, (self.kernel_regularizer, self.bias_regularizer)
        self.kernel = self.add_weight(
            "kernel", (*self.kernel_size, shape[2], K), self.kernel_initializer, regularizer=penalties[0]
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight("bias", (K,), self.bias_initializer, regularizer=penalties[1])
        return P, Q, self.filters

    @property
    def extent(self) -> Pair:
        """Rows and columns that the window covers, dilation included."""
        R, S = ((size - 1) * rate + 1 for size, rate in zip(self.kernel_size, self.dilation_rate, strict=True))
        return R, S

    def sides(self, shape: Shape) -> Padding:
        """Return the padding of an input of that shape, in pixels."""
        return window_padding((shape[0], shape[1]), self.extent, self.strides, self.padding)

    def lower(self, trainable: bool, inference: bool) -> tuple[Step, ...]:
        """Return the plain convolution and its activation."""
        return FusedConv2D(self, trainable), *activation_steps(self.activation, self.name)


def _checked_algorithm(owner: str, algorithm: str | None) -> str | None:
    if not (algorithm is None or isinstance(algorithm, str)) or algorithm not in ALGORITHMS:
        raise ValueError(f"{owner}: algorithm must be None, 'direct' or 'winograd', got {algorithm!r}")
    return algorithm


@dataclass(eq=False)
class FusedConv2D(Step):
    """y = pool(relu(norm(conv(zero_pad(x))) + residual)), each part but conv optional.

    With a residual, that is the first of two inputs. `folds` means that `norm` lives in the packed weights and bias,
    `left_to_reader` that y is what `norm` would take: the convolution that reads y normalises it. `prologue` is the
    normalisation that was left to this one.
    """

    layer: Conv2D
    trainable: bool
    extra: Padding = ((0, 0), (0, 0))  # zero padding absorbed from the layer before
    norm: FusedBatchNormalization | None = None
    folds: bool = False
    residual: bool = False
    relu: bool = False
    pool: bool = False  # 2x2, stride 2
    left_to_reader: bool = False
    prologue: FusedBatchNormalization | None = None

    def __post_init__(self) -> None:
        self.name = self.layer.name
        self.nonnegative = self.relu and not self.pool and not self.left_to_reader
        if self.norm:
            self.norm = replace(self.norm, residual=self.residual, relu=self.relu, left_to_reader=self.left_to_reader)

    # -- declarations --------------------------------------------------------------------------------------------------

    def keeps_x(self, index: int) -> bool:
        """The convolved input is read again for the kernel's gradient."""
        return self.trainable and index == int(self.residual)

    def keeps_y(self) -> bool:
        """The output tells where the ReLU let the gradient through; that of a normalisation needs what it took."""
        if self.norm is None or self.folds:
            return self.relu
        return self.left_to_reader or self.norm.keeps_y()

    def overwrites(self) -> tuple[int, ...]:
        """Return the residual: each of its elements is read before y is written there."""
        return (0,) if self.residual else ()

    def trained(self) -> tuple[Parameter, ...]:
        """Return kernel, bias, gamma and beta, those being trained."""
        own = [self.layer.kernel, self.layer.bias] if self.trainable else []
        return (*(w for w in own if w is not None), *(self.norm.trained() if self.norm else ()))

    def own_kernel(self) -> Parameter | None:
        """Return the kernel while it is trained."""
        return self.layer.kernel if self.trainable else None

    def cache(self, bounds: Bounds, p: Emitter) -> dict[str, CacheSpec]:
        """Keep z, the convolution's output before the normalisation, if y is not, or the pooling's argmax and dx."""
        H, W, C = bounds.xs[-1]
        padding = self.padding((H, W, C))
        P, Q = window_positions(self.layer, (H, W, C), self.layer.extent, self.layer.strides, padding)
        full = (bounds.batch, P, Q, self.layer.filters)
        specs: dict[str, CacheSpec] = {}
        if self.norm and not self.folds:
            blocks = 1
            if self.norm.batch_statistics:
                blocks = p.packed_conv2d(self.layer, (H, W), padding).statistics_blocks(bounds.batch)
            specs = self.norm.statistics_cache(blocks, bounds.batch * P * Q, bounds)
            if not self.left_to_reader:
                specs["z"] = CacheSpec(full, lifetime="both" if bounds.backward else "forward")
        if self.pool and bounds.backward:
            specs["argmax"] = CacheSpec((bounds.batch, *bounds.y), "uint8")
            specs["dz"] = CacheSpec(full, lifetime="backward")
        return specs

    def padding(self, shape: Shape) -> Padding:
        """Return the padding of an input of that shape, in pixels, the absorbed one among it."""
        (top, bottom), (left, right) = self.extra
        rows, columns = self.layer.sides((shape[0] + top + bottom, shape[1] + left + right))
        return (rows[0] + top, rows[1] + bottom), (columns[0] + left, columns[1] + right)

    # -- emission ------------------------------------------------------------------------------------------------------

    def emit_forward(self, s: Slots, p: Emitter) -> None:
        """Append conv2d_forward with what its epilogue can do, and the normalisation if it is not folded."""
        x, residual = s.xs[-1], s.xs[0] if self.residual else None
        shape = x.shape[1:]
        norm = self.norm.layer if self.norm and self.folds else None
        w = p.packed_conv2d(self.layer, (shape[0], shape[1]), self.padding(shape), norm=norm)
        prologue = self.prologue.prologue(p) if self.prologue else None
        if self.norm and not self.folds:
            z = self._z(s)
            if self.norm.batch_statistics:
                p.conv2d_forward(x, w, z, prologue=prologue, statistics=s.cache["statistics"], counts=s.cache["counts"])
            else:
                p.conv2d_forward(x, w, z, prologue=prologue)
            self.norm.emit_normalisation(z, residual, s, p)
        else:
            p.conv2d_forward(
                x,
                w,
                s.y,
                residual=residual,
                relu=self.relu,
                prologue=prologue,
                pool=self.pool,
                argmax=s.cache.get("argmax"),
            )

    def _z(self, s: Slots) -> Array:
        """Return what the normalisation takes."""
        return s.y if self.left_to_reader else s.cache["z"]

    def emit_backward(self, s: Slots, p: Emitter) -> None:
        """Append the gradients through the epilogue, then those of bias, kernel and input."""
        dz: Array | None = s.gradient
        dresidual = (s.dxs[0], s.accumulate[0]) if self.residual else (None, False)
        dx, accumulate = s.dxs[-1], s.accumulate[-1]
        if self.norm and not self.folds:
            dz = dz if self.trainable or dx is not None else None
            self.norm.emit_gradients(self._z(s), dz, False, dresidual, s, p)
        else:
            if self.relu:
                p.relu_backward(s.y, s.gradient, s.gradient)
            if self.pool:
                dz = s.cache["dz"]
                p.max_pool2d_backward(s.gradient, s.cache["argmax"], dz, pool_size=(2, 2), strides=(2, 2))
            p.pass_on(s.gradient, *dresidual)
        if dz is not None:
            self._emit_convolution_gradients(s.xs[-1], dz, dx, accumulate, p)

    def _emit_convolution_gradients(self, x: Array, dz: Array, dx: Array | None, accumulate: bool, p: Emitter) -> None:
        layer, padding = self.layer, self.padding(x.shape[1:])
        if self.trainable:
            self._emit_bias_gradient(dz, p)
            dw, added = p.gradient(layer.kernel)
            p.conv2d_backward_weights(
                x,
                dz,
                dw,
                strides=layer.strides,
                padding=padding,
                dilation=layer.dilation_rate,
                accumulate=added,
                prologue=self.prologue.prologue(p) if self.prologue else None,
                algorithm=layer.engine_algorithm(gradient=True),
            )
        if dx is not None:
            size = x.shape[1], x.shape[2]
            w = p.packed_conv2d(layer, size, padding, backward_data=True)
            p.conv2d_backward_data(dz, w, dx, accumulate=accumulate)

    def _emit_bias_gradient(self, dz: Array, p: Emitter) -> None:
        if self.layer.bias is None:
            return
        db, added = p.gradient(self.layer.bias)
        if self.norm is None or not self.norm.batch_statistics:
            p.bias_backward(dz, db, accumulate=added)
        elif not added:
            p.fill(db, 0.0)  # the batch's mean takes any bias away again: the gradient is exactly zero
