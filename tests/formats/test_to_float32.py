"""Weights of other types become float32, or are refused."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from safetensors_files import random_array

from fastcnn.formats import ModelFileError
from fastcnn.formats.safetensors import BFLOAT16, to_float32


def test_float32_is_kept_bit_for_bit() -> None:
    array = random_array("F32", (1000,), np.random.default_rng(7))
    assert to_float32("a", array) is array
    swapped = to_float32("a", array.astype(">f4"))
    assert swapped.dtype == np.float32
    assert np.array_equal(swapped, array, equal_nan=True)


@pytest.mark.parametrize(("dtype", "name"), [("<f2", "float16"), (">f2", "float16"), ("<f8", "float64")])
def test_other_floats_are_converted_with_a_warning(dtype: str, name: str) -> None:
    array = np.array([1.5, -0.0, np.inf, -np.inf, np.nan, 65504, 6e-8], dtype)
    with pytest.warns(UserWarning, match=f"{name} weights are converted to float32"):
        got = to_float32("a", array)
    assert got.dtype == np.float32
    assert np.array_equal(got, array.astype(np.float32), equal_nan=True)
    assert np.signbit(got[1])


def test_every_bfloat16_is_the_upper_half_of_a_float32() -> None:
    bits = np.arange(65536, dtype=np.uint16)
    with pytest.warns(UserWarning, match="bfloat16 weights are converted to float32"):
        got = to_float32("a", bits.view(BFLOAT16).reshape(256, 256))
    assert got.shape == (256, 256)
    assert np.array_equal(got.ravel().view(np.uint32), bits.astype(np.uint32) << 16)
    with pytest.warns(UserWarning, match="bfloat16"):
        scalar = to_float32("a", np.array(0x3FC0, np.uint16).view(BFLOAT16))
    assert scalar.shape == ()
    assert scalar == 1.5


def test_the_warning_is_shown_once_for_many_weights() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for number in range(10):
            to_float32(f"layer{number}", np.zeros(3, np.float16))
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize("value", [1e39, -1e300])
def test_float64_beyond_the_range_is_refused(value: float) -> None:
    with pytest.raises(ModelFileError, match=re.escape(f"weight 'fc/bias' holds {value:g}, beyond the range")):
        to_float32("fc/bias", np.array([1.0, value]))
    with pytest.raises(ModelFileError, match="beyond the range"):
        to_float32("fc/bias", np.array(value))


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.bool_, np.complex64, object])
def test_other_weights_are_refused(dtype: type) -> None:
    with pytest.raises(ModelFileError, match=r"weight 'fc/bias' is .*, expected float32, float16, bfloat16 or float64"):
        to_float32("fc/bias", np.zeros(3, dtype))
