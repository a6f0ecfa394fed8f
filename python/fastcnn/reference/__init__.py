"""Every operation in readable float64 NumPy, and the units its float32 twin is judged in; the engine never calls it.

Activations are NHWC, convolution weights HWIO [R,S,C,K], dense weights [C,K]; an operation is named `<op>_<pass>`.
"""

from __future__ import annotations

from fastcnn.reference.conv import (
    conv2d_backward_bias,
    conv2d_backward_data,
    conv2d_backward_weights,
    conv2d_forward,
)
from fastcnn.reference.dense import dense_backward_bias, dense_backward_data, dense_backward_weights, dense_forward
from fastcnn.reference.error import (
    SMALLEST_FLOAT32,
    UNIT_ROUNDOFF,
    batchnorm_gate,
    conv2d_magnitude,
    error_ulps,
    error_units,
    finite_difference,
    gate,
    hard_bound,
    magnitude,
    winograd_gate,
)
from fastcnn.reference.loss import (
    binary_cross_entropy,
    categorical_cross_entropy,
    sigmoid_cross_entropy,
    squared_error,
)
from fastcnn.reference.norm import (
    batchnorm_backward,
    batchnorm_backward_alt,
    batchnorm_backward_magnitude,
    batchnorm_forward,
    batchnorm_forward_magnitude,
    batchnorm_inference,
    batchnorm_inference_backward,
    batchnorm_moving_average,
    batchnorm_statistics,
)
from fastcnn.reference.optim import adam_step, amsgrad_step, ema_step, rmsprop_step, sgd_step, squared_norms
from fastcnn.reference.pointwise import (
    add_forward,
    leaky_relu_backward,
    leaky_relu_forward,
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    zero_pad_backward,
    zero_pad_forward,
)
from fastcnn.reference.pool import (
    average_pool_backward,
    average_pool_forward,
    global_average_pool_backward,
    global_average_pool_forward,
    global_max_pool_backward,
    global_max_pool_forward,
    max_pool_backward,
    max_pool_forward,
)
from fastcnn.reference.softmax import (
    categorical_crossentropy,
    log_softmax,
    softmax_backward,
    softmax_cross_entropy_forward,
    softmax_forward,
)
from fastcnn.reference.warp import warp_forward, warp_magnitude
from fastcnn.reference.window import same_padding
from fastcnn.reference.winograd import (
    conv2d_winograd_backward_data,
    conv2d_winograd_backward_weights,
    conv2d_winograd_forward,
    winograd_matrices,
)

__all__ = [
    "SMALLEST_FLOAT32",
    "UNIT_ROUNDOFF",
    "adam_step",
    "add_forward",
    "amsgrad_step",
    "average_pool_backward",
    "average_pool_forward",
    "batchnorm_backward",
    "batchnorm_backward_alt",
    "batchnorm_backward_magnitude",
    "batchnorm_forward",
    "batchnorm_forward_magnitude",
    "batchnorm_gate",
    "batchnorm_inference",
    "batchnorm_inference_backward",
    "batchnorm_moving_average",
    "batchnorm_statistics",
    "binary_cross_entropy",
    "categorical_cross_entropy",
    "categorical_crossentropy",
    "conv2d_backward_bias",
    "conv2d_backward_data",
    "conv2d_backward_weights",
    "conv2d_forward",
    "conv2d_magnitude",
    "conv2d_winograd_backward_data",
    "conv2d_winograd_backward_weights",
    "conv2d_winograd_forward",
    "dense_backward_bias",
    "dense_backward_data",
    "dense_backward_weights",
    "dense_forward",
    "ema_step",
    "error_ulps",
    "error_units",
    "finite_difference",
    "gate",
    "global_average_pool_backward",
    "global_average_pool_forward",
    "global_max_pool_backward",
    "global_max_pool_forward",
    "hard_bound",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "log_softmax",
    "magnitude",
    "max_pool_backward",
    "max_pool_forward",
    "relu_backward",
    "relu_forward",
    "rmsprop_step",
    "same_padding",
    "sgd_step",
    "sigmoid_backward",
    "sigmoid_cross_entropy",
    "sigmoid_forward",
    "softmax_backward",
    "softmax_cross_entropy_forward",
    "softmax_forward",
    "squared_error",
    "squared_norms",
    "warp_forward",
    "warp_magnitude",
    "winograd_gate",
    "winograd_matrices",
    "zero_pad_backward",
    "zero_pad_forward",
]
