from __future__ import annotations

import math

import numpy as np
import pytest

from fastcnn import initializers
from fastcnn.initializers import compute_fans
from fastcnn.utils import set_random_seed

KERNEL = (3, 3, 64, 96)  # 55,296 draws; fan_in 576, fan_out 864

# name, law, standard deviation by Keras' definition
LAWS = [
    ("glorot_uniform", "uniform", math.sqrt(2 / (576 + 864))),
    ("glorot_normal", "truncated", math.sqrt(2 / (576 + 864))),
    ("he_uniform", "uniform", math.sqrt(2 / 576)),
    ("he_normal", "truncated", math.sqrt(2 / 576)),
    ("lecun_uniform", "uniform", math.sqrt(1 / 576)),
    ("lecun_normal", "truncated", math.sqrt(1 / 576)),
    ("random_uniform", "uniform", 0.1 / math.sqrt(12)),
    ("random_normal", "normal", 0.05),
]


@pytest.mark.parametrize(("name", "law", "stddev"), LAWS)
def test_law(name: str, law: str, stddev: float) -> None:
    values = initializers.get(name)(KERNEL, (1, name))
    assert values.dtype == np.float32
    assert values.shape == KERNEL
    assert values.flags.c_contiguous
    draws = values.astype(np.float64).ravel()
    # five standard errors of the mean and of the standard deviation (kurtosis <= 3)
    assert abs(draws.mean()) < 5 * stddev / math.sqrt(draws.size)
    assert abs(draws.std() / stddev - 1) < 5 / math.sqrt(2 * draws.size)
    largest = np.abs(draws).max()
    if law == "uniform":
        limit = math.sqrt(3) * stddev
        assert 0.999 * limit < largest <= limit * (1 + 1e-6)
    elif law == "truncated":
        limit = 2 * stddev / 0.87962566103423978
        assert 0.98 * limit < largest <= limit * (1 + 1e-6)
    else:
        assert largest > 3 * stddev


def test_truncated_normal_is_cut_at_two_standard_deviations() -> None:
    draws = initializers.TruncatedNormal(mean=1.0, stddev=0.5)((50_000,), (7,))
    assert np.abs(draws - 1).max() <= 1.0 + 1e-6
    assert abs(float(draws.astype(np.float64).std()) / (0.5 * 0.87962566) - 1) < 0.02


@pytest.mark.parametrize(("name", "value"), [("zeros", 0), ("ones", 1), ("zero", 0), ("one", 1)])
def test_constants(name: str, value: float) -> None:
    assert (initializers.get(name)((3, 5), (1,)) == value).all()


def test_constant() -> None:
    assert (initializers.Constant(0.25)((7,)) == np.float32(0.25)).all()


@pytest.mark.parametrize(
    ("shape", "fans"),
    [((), (1, 1)), ((9,), (9, 9)), ((5, 7), (5, 7)), ((3, 3, 64, 128), (576, 1152)), ((7, 7, 3, 64), (147, 3136))],
)
def test_fans(shape: tuple[int, ...], fans: tuple[int, int]) -> None:
    assert compute_fans(shape) == fans


def test_stream_follows_from_the_key() -> None:
    glorot = initializers.get("glorot_uniform")
    a = glorot((40, 50), (3, 1))
    assert np.array_equal(a, glorot((40, 50), (3, 1)))
    assert not np.array_equal(a, glorot((40, 50), (3, 2)))
    assert not np.array_equal(a, glorot((40, 50), (31,)))


def test_own_seed_overrides_the_key_as_in_keras() -> None:
    glorot = initializers.glorot_uniform(seed=0)
    a = glorot((40, 50), (3, 1))
    assert np.array_equal(a, glorot((40, 50), (9,)))
    assert not np.array_equal(a, initializers.glorot_uniform(seed=1)((40, 50), (3, 1)))
    assert not np.array_equal(a.ravel(), glorot((2000,), (3, 1)))


def test_without_a_key_the_process_seed_decides() -> None:
    glorot = initializers.get("glorot_uniform")
    set_random_seed(11)
    first, second = glorot((8, 8)), glorot((8, 8))
    set_random_seed(11)
    assert np.array_equal(first, glorot((8, 8)))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("name", ["glorot_uniform", "he_normal", "random_normal"])
def test_blocks_are_one_stream(name: str) -> None:
    """An array longer than a block begins with other values than its later blocks."""
    values = initializers.get(name)((3 << 16,), (1,)).reshape(3, -1)
    assert not np.array_equal(values[0], values[1])
    assert not np.array_equal(values[1], values[2])


def test_fill_writes_in_place() -> None:
    values = np.full((4, 6), np.nan, np.float32)
    initializers.get("he_uniform").fill(values, (5,))
    assert np.array_equal(values, initializers.get("he_uniform")((4, 6), (5,)))


def test_fill_refuses_strided_memory() -> None:
    with pytest.raises(ValueError, match="C-contiguous"):
        initializers.get("he_uniform").fill(np.zeros((4, 6), np.float32)[:, ::2], (5,))


def test_empty_shape() -> None:
    assert initializers.get("glorot_uniform")((0, 4), (1,)).shape == (0, 4)


@pytest.mark.parametrize(
    "initializer",
    [
        initializers.GlorotUniform(seed=3),
        initializers.HeNormal(),
        initializers.Constant(2.0),
        initializers.Zeros(),
        initializers.RandomUniform(-1.0, 2.0, seed=4),
        initializers.TruncatedNormal(0.5, 0.1),
        initializers.VarianceScaling(3.0, "fan_out", "untruncated_normal"),
    ],
    ids=lambda initializer: type(initializer).__name__,
)
def test_config_round_trip(initializer: initializers.Initializer) -> None:
    copy = initializers.get(initializers.serialize(initializer))
    assert type(copy) is type(initializer)
    assert copy.get_config() == initializer.get_config()
    assert np.array_equal(copy((5, 6), (1,)), initializer((5, 6), (1,)))


def test_names() -> None:
    assert isinstance(initializers.get("GlorotUniform"), initializers.GlorotUniform)
    assert isinstance(initializers.get("glorot_uniform"), initializers.GlorotUniform)
    assert isinstance(initializers.get(initializers.HeNormal), initializers.HeNormal)
    assert isinstance(initializers.get("uniform"), initializers.RandomUniform)
    ones = initializers.Ones()
    assert initializers.get(ones) is ones


def test_repr() -> None:
    assert repr(initializers.GlorotUniform(seed=0)) == "GlorotUniform(seed=0)"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: initializers.get("orthogonal"), "initializer must be one of constant.*got 'orthogonal'"),
        (lambda: initializers.get({"class_name": "Lambda"}), "got {'class_name': 'Lambda'}"),
        (lambda: initializers.GlorotUniform(seed=0.5), "GlorotUniform: seed must be an integer or None, got 0.5"),
        (lambda: initializers.RandomNormal(stddev=-1), "RandomNormal: stddev must be at least 0, got -1"),
        (lambda: initializers.RandomUniform(1, 0), r"RandomUniform: maxval must be at least minval \(1\), got 0"),
        (lambda: initializers.Constant(math.nan), "Constant: value must be a finite number, got nan"),
        (lambda: initializers.VarianceScaling(0.0), "VarianceScaling: scale must be positive, got 0.0"),
        (lambda: initializers.VarianceScaling(mode="fan"), "mode must be one of fan_in, fan_out, fan_avg, got 'fan'"),
        (lambda: initializers.VarianceScaling(distribution="beta"), "distribution must be one of .*got 'beta'"),
    ],
)
def test_bad_arguments(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()
