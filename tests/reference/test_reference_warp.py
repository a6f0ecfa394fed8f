"""The float64 warp at whole pixels and between them."""

from __future__ import annotations

import numpy as np
import pytest
from reference_arrays import normal

from fastcnn import reference


def test_warp_by_whole_pixels_is_indexing() -> None:
    x = normal(4, 5, 2)
    for fill_mode, mode in (("nearest", "edge"), ("reflect", "symmetric"), ("wrap", "wrap"), ("constant", "constant")):
        padded = np.pad(x, ((9, 9), (9, 9), (0, 0)), mode, **({"constant_values": 7} if mode == "constant" else {}))
        for bilinear in (True, False):
            y = reference.warp_forward(x, [[1, 0, -9], [0, 1, -9]], (22, 23), fill_mode, 7, bilinear)
            assert np.array_equal(y, padded), (fill_mode, bilinear)


def test_warp_is_linear_between_pixels() -> None:
    ramp = np.arange(5.0)[:, None, None] * 2 + np.arange(6.0)[:, None] * 3
    y = reference.warp_forward(ramp, [[0.5, 0, 0.25], [0, 0.25, 1.125]], (7, 9))
    expected = (np.arange(7)[:, None] * 0.5 + 0.25) * 2 + (np.arange(9) * 0.25 + 1.125) * 3
    assert np.allclose(y[..., 0], expected, rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match="fill_mode must be"):
        reference.warp_forward(ramp, np.eye(2, 3), (1, 1), "mirror")
