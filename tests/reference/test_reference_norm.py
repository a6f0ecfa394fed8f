"""The float64 batch normalisation: gradients, the simplified form, statistics."""

from __future__ import annotations

import numpy as np
import pytest
from reference_arrays import Array, assert_gradient, normal, relative

from fastcnn import reference

batchnorm_shapes = pytest.mark.parametrize("shape", [(2, 1), (7, 5), (1, 2, 1, 3), (2, 3, 4, 5), (3, 5, 7, 1)], ids=str)


@batchnorm_shapes
def test_batchnorm_gradients(shape: tuple[int, ...]) -> None:
    x, dout, gamma, beta = normal(*shape, seed=1), normal(*shape, seed=2), normal(shape[-1]), normal(shape[-1], seed=3)
    eps = 0.1  # two values per channel and a small eps would leave a gradient of nearly nothing

    def out(x: Array, gamma: Array, beta: Array) -> Array:
        return reference.batchnorm_forward(x, gamma, beta, eps)[0]

    _, cache = reference.batchnorm_forward(x, gamma, beta, eps)
    for backward in (reference.batchnorm_backward, reference.batchnorm_backward_alt):
        dx, dgamma, dbeta = backward(dout, cache)
        assert_gradient(lambda x: out(x, gamma, beta), x, dout, dx)
        assert_gradient(lambda gamma: out(x, gamma, beta), gamma, dout, dgamma)
        assert_gradient(lambda beta: out(x, gamma, beta), beta, dout, dbeta)


@pytest.mark.parametrize("shape", [(7, 5), (256, 3), (2, 3, 4, 5), (4, 14, 14, 16)], ids=str)
def test_batchnorm_backward_equals_its_simplified_form(shape: tuple[int, ...]) -> None:
    x, dout, gamma = 3 * normal(*shape, seed=1) + 5, normal(*shape, seed=2), normal(shape[-1])
    _, cache = reference.batchnorm_forward(x, gamma, gamma, 1e-3)
    for long, short in zip(
        reference.batchnorm_backward(dout, cache), reference.batchnorm_backward_alt(dout, cache), strict=True
    ):
        assert relative(long, short) <= 1e-14


@batchnorm_shapes
def test_batchnorm_forward_normalises_by_biased_variance(shape: tuple[int, ...]) -> None:
    x, gamma, beta = normal(*shape), normal(shape[-1], seed=1), normal(shape[-1], seed=2)
    out, (x_norm, x_centered, std, kept) = reference.batchnorm_forward(x, gamma, beta, 1e-5)
    rows = x.reshape(-1, shape[-1])
    assert relative(std**2, rows.var(axis=0) + 1e-5) <= 1e-14
    assert relative(x_centered.reshape(rows.shape), rows - rows.mean(axis=0)) <= 1e-14
    assert relative(out, x_norm * gamma + beta) <= 1e-14
    assert np.array_equal(kept, gamma)
    mean, variance = reference.batchnorm_statistics(x)
    assert relative(reference.batchnorm_inference(x, gamma, beta, mean, variance, 1e-5), out) <= 1e-14


@batchnorm_shapes
def test_batchnorm_inference_gradients(shape: tuple[int, ...]) -> None:
    x, dout = normal(*shape, seed=1), normal(*shape, seed=2)
    gamma, beta, mean, variance = (normal(shape[-1], seed=seed) for seed in range(4))
    variance = variance**2 + 0.1
    rest = (mean, variance, 1e-3)
    dx, dgamma, dbeta = reference.batchnorm_inference_backward(dout, x, gamma, *rest)
    assert_gradient(lambda x: reference.batchnorm_inference(x, gamma, beta, *rest), x, dout, dx)
    assert_gradient(lambda gamma: reference.batchnorm_inference(x, gamma, beta, *rest), gamma, dout, dgamma)
    assert_gradient(lambda beta: reference.batchnorm_inference(x, gamma, beta, *rest), beta, dout, dbeta)


def test_batchnorm_statistics_survive_a_mean_far_above_the_deviation() -> None:
    x = 1e4 + 1e-2 * np.array([[-1.0], [1.0]] * 50)
    mean, variance = reference.batchnorm_statistics(x)
    assert abs(mean.item() - 1e4) <= 1e-10
    assert abs(variance.item() - 1e-4) <= 1e-12


def test_batchnorm_moving_average() -> None:
    assert reference.batchnorm_moving_average([4.0, 8.0], [0.0, 16.0], 0.75).tolist() == [3.0, 10.0]


def test_batchnorm_refuses() -> None:
    with pytest.raises(ValueError, match=r"x has 1 value\(s\) per channel, expected at least 2"):
        reference.batchnorm_forward(np.zeros((1, 1, 1, 3)), np.ones(3), np.zeros(3), 1e-3)
    with pytest.raises(ValueError, match=r"batchnorm_forward: beta is \[4\], expected \[3\]"):
        reference.batchnorm_forward(np.zeros((2, 3)), np.ones(3), np.zeros(4), 1e-3)
    with pytest.raises(ValueError, match="batchnorm_forward: x has rank 3, expected 2 or 4"):
        reference.batchnorm_forward(np.zeros((2, 2, 3)), np.ones(3), np.zeros(3), 1e-3)


@pytest.mark.parametrize("mean", [0, 30])
def test_batchnorm_in_float32_passes_its_gate_and_a_lost_value_does_not(mean: float) -> None:
    x, dout, gamma, beta = (
        normal(*shape, seed=seed).astype(np.float32)
        for seed, shape in enumerate([(4, 9, 9, 3), (4, 9, 9, 3), (3,), (3,)])
    )
    x += np.float32(mean)
    gate = reference.batchnorm_gate(4 * 9 * 9)
    axes = (0, 1, 2)
    expected, cache = reference.batchnorm_forward(x, gamma, beta, 1e-3)
    centered = x - x.mean(axis=axes)
    std = np.sqrt((centered**2).mean(axis=axes) + np.float32(1e-3))
    x_norm = centered / std
    out = gamma * x_norm + beta
    S = reference.batchnorm_forward_magnitude(x, gamma, beta, 1e-3)
    assert out.dtype == np.float32
    assert reference.error_units(out, expected, S).max() <= gate

    dbeta, dgamma = dout.sum(axis=axes), (dout * x_norm).sum(axis=axes)
    dx = gamma / std * (dout - (dbeta + x_norm * dgamma) / np.float32(4 * 9 * 9))
    assert dx.dtype == np.float32
    gradients = reference.batchnorm_backward(dout, cache)
    magnitudes = reference.batchnorm_backward_magnitude(dout, x, gamma, 1e-3)
    for gradient, r, S in zip((dx, dgamma, dbeta), gradients, magnitudes, strict=True):
        assert reference.error_units(gradient, r, S).max() <= gate
    lost = dout.copy()
    lost[0, 0, 0] = 0
    for gradient, r, S in zip(reference.batchnorm_backward(lost, cache), gradients, magnitudes, strict=True):
        assert reference.error_units(gradient, r, S).max() > gate
