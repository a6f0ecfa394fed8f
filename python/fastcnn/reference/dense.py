"""Dense layer: y = x w + b with x [N,C], w [C,K], b [K], y [N,K]."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastcnn.reference.arrays import Array, check_shape, float64, special_values, sum_over


@special_values
def dense_forward(x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None) -> Array:
    """Return y [N,K] for x [N,C], w [C,K] and b [K]; raise ValueError when the shapes disagree."""
    x = float64("dense_forward", "x", x, 2)
    w = float64("dense_forward", "w", w, 2)
    if w.shape[0] != x.shape[1]:
        raise ValueError(
            f"dense_forward: w has {w.shape[0]} input channels but x has {x.shape[1]} "
            f"(x is {list(x.shape)}, w is {list(w.shape)})"
        )
    y: Array = x @ w
    if b is None:
        return y
    b = float64("dense_forward", "b", b, 1)
    check_shape("dense_forward", "b", b.shape, (w.shape[1],))
    return y + b


@special_values
def dense_backward_data(dy: ArrayLike, w: ArrayLike) -> Array:
    """Return dx [N,C] for dy [N,K] and w [C,K]; raise ValueError when the shapes disagree."""
    dy = float64("dense_backward_data", "dy", dy, 2)
    w = float64("dense_backward_data", "w", w, 2)
    check_shape("dense_backward_data", "dy", dy.shape, (dy.shape[0], w.shape[1]))
    dx: Array = dy @ w.T
    return dx


@special_values
def dense_backward_weights(x: ArrayLike, dy: ArrayLike) -> Array:
    """Return dw [C,K] for x [N,C] and dy [N,K]; raise ValueError when the shapes disagree."""
    x = float64("dense_backward_weights", "x", x, 2)
    dy = float64("dense_backward_weights", "dy", dy, 2)
    check_shape("dense_backward_weights", "dy", dy.shape, (x.shape[0], dy.shape[1]))
    dw: Array = x.T @ dy
    return dw


@special_values
def dense_backward_bias(dy: ArrayLike) -> Array:
    """Return db [K], the sum of dy [N,K] over the batch."""
    return sum_over(float64("dense_backward_bias", "dy", dy, 2), 0)
