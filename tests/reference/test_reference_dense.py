"""The float64 dense layer: gradients, adjoints, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from reference_arrays import assert_gradient, integers, normal

from fastcnn import reference


@pytest.mark.parametrize(("N", "C", "K"), [(1, 1, 1), (3, 5, 2), (4, 1, 6)])
def test_dense_gradients_and_adjoints(N: int, C: int, K: int) -> None:
    x, w, b, dy = normal(N, C, seed=1), normal(C, K, seed=2), normal(K, seed=3), normal(N, K, seed=4)
    forward = reference.dense_forward
    assert_gradient(lambda x: forward(x, w, b), x, dy, reference.dense_backward_data(dy, w))
    assert_gradient(lambda w: forward(x, w, b), w, dy, reference.dense_backward_weights(x, dy))
    assert_gradient(lambda b: forward(x, w, b), b, dy, reference.dense_backward_bias(dy))
    x, w, dy = integers(N, C, seed=1), integers(C, K, seed=2), integers(N, K, seed=4)
    inner = np.sum(forward(x, w) * dy)
    assert (
        inner == np.sum(x * reference.dense_backward_data(dy, w)) == np.sum(w * reference.dense_backward_weights(x, dy))
    )


def test_dense_is_a_1x1_convolution() -> None:
    x, w, b = integers(3, 5), integers(5, 4), integers(4)
    y = reference.conv2d_forward(x[:, None, None, :], w[None, None], b)
    assert np.array_equal(reference.dense_forward(x, w, b), y[:, 0, 0])


def test_dense_refuses() -> None:
    with pytest.raises(ValueError, match="dense_forward: w has 4 input channels but x has 3"):
        reference.dense_forward(np.zeros((2, 3)), np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"dense_backward_weights: dy is \[3, 5\], expected \[2, 5\]"):
        reference.dense_backward_weights(np.zeros((2, 3)), np.zeros((3, 5)))
