"""The engine: kernels, programs, instruction sets and threads. Private; every array is float32, C-contiguous, NHWC."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

_F = NDArray[np.float32]
_U8 = NDArray[np.uint8]
_I64 = NDArray[np.int64]
_F64 = NDArray[np.float64]
_Pair = tuple[int, int]
_Padding = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))

_Gradient = _F | "DenseGradient"

compiler: str

# -- runtime -----------------------------------------------------------------------------------------------------------
def isas() -> list[str]: ...
def isa() -> str: ...
def lanes() -> int: ...
def set_isa(name: str) -> None: ...
def num_threads() -> int: ...
def default_num_threads() -> int: ...
def set_num_threads(threads: int) -> None: ...
def forked() -> bool: ...
def multiply_add_loop(iterations: int) -> int: ...

class Arena:
    def __init__(self, nbytes: int = 0) -> None: ...
    @property
    def nbytes(self) -> int: ...
    def bytes(self) -> _U8: ...

class DenseGradient:
    """The gradient x^T dy of a dense layer's weights, in the place of `grads`: made in blocks that the rule takes."""

    def __init__(self, x: _F, dy: _F) -> None: ...
    @property
    def x(self) -> _F: ...
    @property
    def dy(self) -> _F: ...

class PackedConv2D:
    """Weights w[R,S,C,K] packed for one pass of one convolution, packed again when a version counter has changed.

    `batch_norm` = (gamma, beta, moving_mean, moving_variance, epsilon) is folded into the weights and into `bias` at
    packing (forward only; gamma and beta may be None); `bias` given without it is the plain bias. `batched`: many
    images share the weights each time they are packed. Without `kept` each run packs them into its scratch.
    """

    def __init__(
        self,
        w: _F,
        input_size: _Pair,
        *,
        strides: _Pair = (1, 1),
        padding: _Padding = ((0, 0), (0, 0)),
        dilation: _Pair = (1, 1),
        backward_data: bool = False,
        batched: bool = False,
        algorithm: str | None = None,
        bias: _F | None = None,
        batch_norm: tuple[_F | None, _F | None, _F, _F, float] | None = None,
        versions: Sequence[_I64] = (),
        kept: bool = True,
    ) -> None: ...
    @property
    def algorithm(self) -> str: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def output_size(self) -> _Pair: ...
    def statistics_blocks(self, batch: int) -> int: ...

def conv2d_algorithms(
    input_size: _Pair,
    w_shape: tuple[int, int, int, int],
    *,
    strides: _Pair = (1, 1),
    padding: _Padding = ((0, 0), (0, 0)),
    dilation: _Pair = (1, 1),
    backward_data: bool = False,
    backward_weights: bool = False,
    batched: bool = False,
) -> list[str]:
    """The algorithms that can compute this convolution, the one that would be chosen first."""

def set_winograd(enabled: bool) -> None: ...
def winograd() -> bool: ...
def batchnorm_blocks(rows: int, channels: int) -> int:
    """The blocks that batchnorm_statistics makes of N*H*W rows: statistics [blocks, 2, C], counts [blocks]."""

# -- operations: Program.<op> appends a step, _core.<op> runs it at once -----------------------------------------------
class _Operations:
    def conv2d_forward(
        self,
        x: _F,
        w: PackedConv2D,
        y: _F,
        *,
        residual: _F | None = None,
        relu: bool = False,
        prologue: tuple[_F, _F, _F, bool] | None = None,  # mean, scale, shift of each channel; ReLU
        statistics: _F | None = None,  # [blocks, 2, K]
        counts: _I64 | None = None,  # [blocks]
        pool: bool = False,  # y is [N, P//2, Q//2, K]
        argmax: _U8 | None = None,
    ) -> None: ...
    def conv2d_backward_data(self, dy: _F, w: PackedConv2D, dx: _F, *, accumulate: bool = False) -> None: ...
    def conv2d_backward_weights(
        self,
        x: _F,
        dy: _F,
        dw: _F,
        *,
        strides: _Pair = (1, 1),
        padding: _Padding = ((0, 0), (0, 0)),
        dilation: _Pair = (1, 1),
        accumulate: bool = False,
        prologue: tuple[_F, _F, _F, bool] | None = None,
        algorithm: str | None = None,
    ) -> None: ...
    def bias_backward(self, dy: _F, db: _F, *, accumulate: bool = False) -> None: ...
    def dense_forward(self, x: _F, w: _F, y: _F, *, bias: _F | None = None, relu: bool = False) -> None: ...
    def dense_backward_data(self, dy: _F, w: _F, dx: _F, *, accumulate: bool = False) -> None: ...
    def dense_backward_weights(self, x: _F, dy: _F, dw: _F, *, accumulate: bool = False) -> None: ...
    def max_pool2d_forward(
        self, x: _F, y: _F, *, pool_size: _Pair, strides: _Pair, padding: _Padding = ..., argmax: _U8 | None = None
    ) -> None: ...
    def max_pool2d_backward(
        self,
        dy: _F,
        argmax: _U8,
        dx: _F,
        *,
        pool_size: _Pair,
        strides: _Pair,
        padding: _Padding = ...,
        accumulate: bool = False,
    ) -> None: ...
    def average_pool2d_forward(
        self, x: _F, y: _F, *, pool_size: _Pair, strides: _Pair, padding: _Padding = ...
    ) -> None: ...
    def average_pool2d_backward(
        self, dy: _F, dx: _F, *, pool_size: _Pair, strides: _Pair, padding: _Padding = ..., accumulate: bool = False
    ) -> None: ...
    def global_average_pool2d_forward(self, x: _F, y: _F) -> None: ...
    def global_average_pool2d_backward(self, dy: _F, dx: _F, *, accumulate: bool = False) -> None: ...
    def global_max_pool2d_forward(self, x: _F, y: _F, *, argmax: _I64 | None = None) -> None: ...
    def global_max_pool2d_backward(self, dy: _F, argmax: _I64, dx: _F, *, accumulate: bool = False) -> None: ...
    def zero_pad2d_forward(self, x: _F, y: _F, *, padding: _Padding) -> None: ...
    def zero_pad2d_backward(self, dy: _F, dx: _F, *, padding: _Padding, accumulate: bool = False) -> None: ...
    def batchnorm_statistics(self, x: _F, statistics: _F, counts: _I64) -> None: ...
    def batchnorm_merge(
        self,
        statistics: _F,
        counts: _I64,
        mean: _F,
        inv_std: _F,
        *,
        epsilon: float,
        momentum: float = 0.99,
        gamma: _F | None = None,
        scale: _F | None = None,  # gamma * inv_std
        moving_mean: _F | None = None,
        moving_variance: _F | None = None,
    ) -> None: ...
    def batchnorm_forward(
        self,
        x: _F,
        mean: _F,
        inv_std: _F,
        y: _F,
        *,
        gamma: _F | None = None,
        beta: _F | None = None,
        residual: _F | None = None,
        relu: bool = False,
    ) -> None: ...
    def batchnorm_inference(
        self,
        x: _F,
        moving_mean: _F,
        moving_variance: _F,
        y: _F,
        *,
        epsilon: float,
        gamma: _F | None = None,
        beta: _F | None = None,
        residual: _F | None = None,
        relu: bool = False,
    ) -> None: ...
    def batchnorm_backward(
        self,
        x: _F,
        dy: _F,
        mean: _F,
        inv_std: _F,
        *,
        y: _F | None = None,  # the ReLU's output; None: no ReLU
        gamma: _F | None = None,
        beta: _F | None = None,
        relu: bool = False,  # make y again from x
        frozen: bool = False,
        dx: _F | None = None,
        accumulate: bool = False,
        dresidual: _F | None = None,
        accumulate_residual: bool = False,
        dgamma: _F | None = None,
        dbeta: _F | None = None,
    ) -> None: ...
    def relu_forward(self, x: _F, y: _F) -> None: ...
    def relu_backward(self, y: _F, dy: _F, dx: _F, *, accumulate: bool = False) -> None: ...
    def leaky_relu_forward(self, x: _F, y: _F, *, negative_slope: float) -> None: ...
    def leaky_relu_backward(
        self, y: _F, dy: _F, dx: _F, *, negative_slope: float, accumulate: bool = False
    ) -> None: ...
    def sigmoid_forward(self, x: _F, y: _F) -> None: ...
    def sigmoid_backward(self, y: _F, dy: _F, dx: _F, *, accumulate: bool = False) -> None: ...
    def add_forward(self, a: _F, b: _F, y: _F, *, relu: bool = False) -> None: ...
    def copy(self, x: _F, y: _F, *, accumulate: bool = False) -> None: ...
    def scale(self, x: _F, y: _F, factor: float, offset: float = 0.0) -> None: ...
    def fill(self, y: _F, value: float) -> None: ...
    def bounded_relu_forward(
        self, x: _F, y: _F, *, max_value: float, negative_slope: float, threshold: float
    ) -> None: ...
    def bounded_relu_backward(
        self,
        x: _F,
        dy: _F,
        dx: _F,
        *,
        max_value: float,
        negative_slope: float,
        threshold: float,
        accumulate: bool = False,
    ) -> None: ...
    def dropout(self, x: _F, y: _F, state: _I64, *, rate: float, accumulate: bool = False) -> None: ...
    def concatenate_forward(self, x: _F, y: _F, *, offset: int) -> None: ...
    def concatenate_backward(self, dy: _F, dx: _F, *, offset: int, accumulate: bool = False) -> None: ...
    def penalty_forward(self, w: _F, loss: _F64, *, l1: float, l2: float) -> None: ...
    def penalty_backward(self, w: _F, dw: _F, *, l1: float, l2: float) -> None: ...
    def softmax_forward(self, x: _F, y: _F) -> None: ...
    def softmax_backward(self, y: _F, dy: _F, dx: _F, *, accumulate: bool = False) -> None: ...
    def softmax_cross_entropy(
        self, x: _F, t: _F, weight: _F, p: _F, loss: _F, *, floor: float = 1e-7, dx: _F | None = None
    ) -> None: ...
    def sigmoid_cross_entropy(
        self, x: _F, t: _F, weight: _F, p: _F, loss: _F, *, floor: float = 1e-7, dx: _F | None = None
    ) -> None: ...
    def categorical_cross_entropy(
        self, x: _F, t: _F, weight: _F, loss: _F, *, floor: float = 1e-7, dx: _F | None = None
    ) -> None: ...
    def binary_cross_entropy(
        self, x: _F, t: _F, weight: _F, loss: _F, *, floor: float = 1e-7, dx: _F | None = None
    ) -> None: ...
    def squared_error(self, x: _F, t: _F, weight: _F, loss: _F, *, dx: _F | None = None) -> None: ...
    def sgd_step(self, values: _F, grads: _Gradient, settings: _F64, m: _F | None = None) -> None: ...
    def adam_step(
        self, values: _F, grads: _Gradient, m: _F, v: _F, settings: _F64, v_max: _F | None = None
    ) -> None: ...
    def rmsprop_step(
        self, values: _F, grads: _Gradient, v: _F, settings: _F64, m: _F | None = None, mean: _F | None = None
    ) -> None: ...
    def ema_step(self, values: _F, average: _F, settings: _F64) -> None: ...
    def squared_norms(self, grads: _F, offsets: _I64, sums: _F64) -> None: ...
    def warp_forward(
        self, x: _F, matrix: _F64, y: _F, fill_mode: str = "nearest", value: float = 0.0, bilinear: bool = True
    ) -> None: ...

class Program(_Operations):
    """Steps of one model at one batch size. Arrays are bound when a step is appended and kept alive."""

    def __init__(self, scratch: Arena | None = None) -> None: ...
    def __len__(self) -> int: ...
    @property
    def isa(self) -> str: ...
    @property
    def scratch_bytes(self) -> int: ...
    @property
    def steps(self) -> list[str]: ...
    def run(
        self,
        first: int = 0,
        last: int | None = None,
        *,
        interruptible: bool = True,
        feed: Sequence[tuple[_F, _F]] = ...,
        fetch: Sequence[tuple[_F, _F]] = ...,
    ) -> None: ...
    def call(self, function: Callable[[], object]) -> None: ...
    def profile(self, first: int = 0, last: int | None = None) -> list[float]: ...

def conv2d_forward(
    x: _F,
    w: PackedConv2D,
    y: _F,
    *,
    residual: _F | None = None,
    relu: bool = False,
    prologue: tuple[_F, _F, _F, bool] | None = None,  # mean, scale, shift of each channel; ReLU
    statistics: _F | None = None,  # [blocks, 2, K]
    counts: _I64 | None = None,  # [blocks]
    pool: bool = False,  # y is [N, P//2, Q//2, K]
    argmax: _U8 | None = None,
) -> None: ...
def conv2d_backward_data(dy: _F, w: PackedConv2D, dx: _F, *, accumulate: bool = False) -> None: ...
def conv2d_backward_weights(
    x: _F,
    dy: _F,
    dw: _F,
    *,
    strides: _Pair = (1, 1),
    padding: _Padding = ((0, 0), (0, 0)),
    dilation: _Pair = (1, 1),
    accumulate: bool = False,
    prologue: tuple[_F, _F, _F, bool] | None = None,
    algorithm: str | None = None,
) -> None: ...
def bias_backward(dy: _F, db: _F, *, accumulate: bool = False) -> None: ...
def dense_forward(x: _F, w: _F, y: _F, *, bias: _F | None = None, relu: bool = False) -> None: ...
def dense_backward_data(dy: _F, w: _F, dx: _F, *, accumulate: bool = False) -> None: ...
def dense_backward_weights(x: _F, dy: _F, dw: _F, *, accumulate: bool = False) -> None: ...
def max_pool2d_forward(
    x: _F, y: _F, *, pool_size: _Pair, strides: _Pair, padding: _Padding = ..., argmax: _U8 | None = None
) -> None: ...
def max_pool2d_backward(
    dy: _F,
    argmax: _U8,
    dx: _F,
    *,
    pool_size: _Pair,
    strides: _Pair,
    padding: _Padding = ...,
    accumulate: bool = False,
) -> None: ...
def average_pool2d_forward(x: _F, y: _F, *, pool_size: _Pair, strides: _Pair, padding: _Padding = ...) -> None: ...
def average_pool2d_backward(
    dy: _F, dx: _F, *, pool_size: _Pair, strides: _Pair, padding: _Padding = ..., accumulate: bool = False
) -> None: ...
def global_average_pool2d_forward(x: _F, y: _F) -> None: ...
def global_average_pool2d_backward(dy: _F, dx: _F, *, accumulate: bool = False) -> None: ...
def global_max_pool2d_forward(x: _F, y: _F, *, argmax: _I64 | None = None) -> None: ...
def global_max_pool2d_backward(dy: _F, argmax: _I64, dx: _F, *, accumulate: bool = False) -> None: ...
def zero_pad2d_forward(x: _F, y: _F, *, padding: _Padding) -> None: ...
def zero_pad2d_backward(dy: _F, dx: _F, *, padding: _Padding, accumulate: bool = False) -> None: ...
def batchnorm_statistics(x: _F, statistics: _F, counts: _I64) -> None: ...
def batchnorm_merge(
    statistics: _F,
    counts: _I64,
    mean: _F,
    inv_std: _F,
    *,
    epsilon: float,
    momentum: float = 0.99,
    gamma: _F | None = None,
    scale: _F | None = None,  # gamma * inv_std
    moving_mean: _F | None = None,
    moving_variance: _F | None = None,
) -> None: ...
def batchnorm_forward(
    x: _F,
    mean: _F,
    inv_std: _F,
    y: _F,
    *,
    gamma: _F | None = None,
    beta: _F | None = None,
    residual: _F | None = None,
    relu: bool = False,
) -> None: ...
def batchnorm_inference(
    x: _F,
    moving_mean: _F,
    moving_variance: _F,
    y: _F,
    *,
    epsilon: float,
    gamma: _F | None = None,
    beta: _F | None = None,
    residual: _F | None = None,
    relu: bool = False,
) -> None: ...
def batchnorm_backward(
    x: _F,
    dy: _F,
    mean: _F,
    inv_std: _F,
    *,
    y: _F | None = None,  # the ReLU's output; None: no ReLU
    gamma: _F | None = None,
    beta: _F | None = None,
    relu: bool = False,  # make y again from x
    frozen: bool = False,
    dx: _F | None = None,
    accumulate: bool = False,
    dresidual: _F | None = None,
    accumulate_residual: bool = False,
    dgamma: _F | None = None,
    dbeta: _F | None = None,
) -> None: ...
def relu_forward(x: _F, y: _F) -> None: ...
def relu_backward(y: _F, dy: _F, dx: _F, *, accumulate: bool = False) -> None: ...
def leaky_relu_forward(x: _F, y: _F, *, negative_slope: float) -> None: ...
def leaky_relu_backward(y: _F, dy: _F, dx: _F, *, negative_slope: float, accumulate: bool = False) -> None: ...
def sigmoid_forward(x: _F, y: _F) -> None: ...
def sigmoid_backward(y: _F, dy: _F, dx: _F, *, accumulate: bool = False) -> None: ...
def add_forward(a: _F, b: _F, y: _F, *, relu: bool = False) -> None: ...
def copy(x: _F, y: _F, *, accumulate: bool = False) -> None: ...
def scale(x: _F, y: _F, factor: float, offset: float = 0.0) -> None: ...
def fill(y: _F, value: float) -> None: ...
def bounded_relu_forward(x: _F, y: _F, *, max_value: float, negative_slope: float, threshold: float) -> None: ...
def bounded_relu_backward(
    x: _F,
    dy: _F,
    dx: _F,
    *,
    max_value: float,
    negative_slope: float,
    threshold: float,
    accumulate: bool = False,
) -> None: ...
def dropout(x: _F, y: _F, state: _I64, *, rate: float, accumulate: bool = False) -> None: ...
def concatenate_forward(x: _F, y: _F, *, offset: int) -> None: ...
def concatenate_backward(dy: _F, dx: _F, *, offset: int, accumulate: bool = False) -> None: ...
def penalty_forward(w: _F, loss: _F64, *, l1: float, l2: float) -> None: ...
def penalty_backward(w: _F, dw: _F, *, l1: float, l2: float) -> None: ...
def softmax_forward(x: _F, y: _F) -> None: ...
def softmax_backward(y: _F, dy: _F, dx: _F, *, accumulate: bool = False) -> None: ...
def softmax_cross_entropy(
    x: _F, t: _F, weight: _F, p: _F, loss: _F, *, floor: float = 1e-7, dx: _F | None = None
) -> None: ...
def sigmoid_cross_entropy(
    x: _F, t: _F, weight: _F, p: _F, loss: _F, *, floor: float = 1e-7, dx: _F | None = None
) -> None: ...
def categorical_cross_entropy(
    x: _F, t: _F, weight: _F, loss: _F, *, floor: float = 1e-7, dx: _F | None = None
) -> None: ...
def binary_cross_entropy(x: _F, t: _F, weight: _F, loss: _F, *, floor: float = 1e-7, dx: _F | None = None) -> None: ...
def squared_error(x: _F, t: _F, weight: _F, loss: _F, *, dx: _F | None = None) -> None: ...
def sgd_step(values: _F, grads: _Gradient, settings: _F64, m: _F | None = None) -> None: ...
def adam_step(values: _F, grads: _Gradient, m: _F, v: _F, settings: _F64, v_max: _F | None = None) -> None: ...
def rmsprop_step(
    values: _F, grads: _Gradient, v: _F, settings: _F64, m: _F | None = None, mean: _F | None = None
) -> None: ...
def ema_step(values: _F, average: _F, settings: _F64) -> None: ...
def squared_norms(grads: _F, offsets: _I64, sums: _F64) -> None: ...
def warp_forward(
    x: _F, matrix: _F64, y: _F, fill_mode: str = "nearest", value: float = 0.0, bilinear: bool = True
) -> None: ...
