"""First values of parameters: each initializer fills a float32 array from a stream that follows from a key.

Fans, limits and standard deviations are those of Keras: for a kernel [R,S,C,K] fan_in = R*S*C and fan_out = R*S*K, for
a dense kernel [C,K] they are C and K. A truncated normal keeps draws within two standard deviations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fastcnn.random import generator, next_seed

Array = NDArray[np.float32]
Key = tuple[int | str, ...]

_BLOCK = 1 << 16  # elements filled and scaled while they are in the cache
_TRUNCATION = 2.0  # standard deviations
_TRUNCATED_STDDEV = 0.87962566103423978  # of a standard normal cut there: He's and Glorot's variance is restored by it


class Initializer:
    """Fills arrays; a subclass writes `fill` and stores its arguments under their own names."""

    arguments: ClassVar[tuple[str, ...]] = ()

    def __call__(self, shape: Sequence[int], key: Key = ()) -> Array:
        """Return a new float32 array of that shape; what `key` means is said by `fill`."""
        values = np.empty(tuple(shape), np.float32)
        self.fill(values, key)
        return values

    def fill(self, values: Array, key: Key = ()) -> None:
        """Overwrite a C-contiguous array.

        An initializer with its own seed gives the same values for the same shape, as in Keras; without one they follow
        from `key`, and an empty key stands for a seed drawn from the process-wide sequence.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, enough for `from_config`."""
        return {name: getattr(self, name) for name in self.arguments}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build from what `get_config` returned."""
        return cls(**config)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


class Constant(Initializer):
    """Every element has the same value."""

    arguments = ("value",)

    def __init__(self, value: float = 0.0) -> None:
        self.value = _finite("Constant", "value", value)

    def fill(self, values: Array, key: Key = ()) -> None:
        """Set every element; `key` plays no part."""
        values.fill(self.value)


class Zeros(Initializer):
    """Every element is 0."""

    def fill(self, values: Array, key: Key = ()) -> None:
        """Set every element to 0; `key` plays no part."""
        values.fill(0)


class Ones(Initializer):
    """Every element is 1."""

    def fill(self, values: Array, key: Key = ()) -> None:
        """Set every element to 1; `key` plays no part."""
        values.fill(1)


class _Random(Initializer):
    def __init__(self, seed: int | None = None) -> None:
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int | np.integer)):
            raise ValueError(f"{type(self).__name__}: seed must be an integer or None, got {seed!r}")
        self.seed = None if seed is None else int(seed)

    def _generator(self, values: Array, key: Key) -> np.random.Generator:
        if self.seed is not None:
            return generator("initializer", self.seed, *values.shape)
        return generator("parameter", *(key or (next_seed(),)))


class RandomUniform(_Random):
    """Uniform in [minval, maxval)."""

    arguments = ("minval", "maxval", "seed")

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.minval = _finite("RandomUniform", "minval", minval)
        self.maxval = _finite("RandomUniform", "maxval", maxval)
        if self.minval > self.maxval:
            raise ValueError(f"RandomUniform: maxval must be at least minval ({minval}), got {maxval}")

    def fill(self, values: Array, key: Key = ()) -> None:
        """Draw every element; see Initializer.fill for `key`."""
        _fill_uniform(self._generator(values, key), values, self.minval, self.maxval)


class RandomNormal(_Random):
    """Normal with mean `mean` and standard deviation `stddev`."""

    arguments = ("mean", "stddev", "seed")

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        name = type(self).__name__
        self.mean = _finite(name, "mean", mean)
        self.stddev = _finite(name, "stddev", stddev)
        if self.stddev < 0:
            raise ValueError(f"{name}: stddev must be at least 0, got {stddev}")

    def fill(self, values: Array, key: Key = ()) -> None:
        """Draw every element; see Initializer.fill for `key`."""
        _fill_normal(self._generator(values, key), values, self.mean, self.stddev, truncated=False)


class TruncatedNormal(RandomNormal):
    """Normal, with draws more than two standard deviations from the mean drawn again."""

    def fill(self, values: Array, key: Key = ()) -> None:
        """Draw every element; see Initializer.fill for `key`."""
        _fill_normal(self._generator(values, key), values, self.mean, self.stddev, truncated=True)


class VarianceScaling(_Random):
    """Zero mean and variance scale / n, where n is the fan-in, the fan-out or their average.

    Glorot and Bengio 2010 (average, scale 1), He et al. 2015 (fan-in, scale 2), LeCun et al. 1998 (fan-in, scale 1).
    """

    arguments: ClassVar[tuple[str, ...]] = ("scale", "mode", "distribution", "seed")
    modes: ClassVar = ("fan_in", "fan_out", "fan_avg")
    distributions: ClassVar = ("truncated_normal", "untruncated_normal", "uniform")

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        name = type(self).__name__
        self.scale = _finite(name, "scale", scale)
        if self.scale <= 0:
            raise ValueError(f"{name}: scale must be positive, got {scale}")
        if mode not in self.modes:
            raise ValueError(f"{name}: mode must be one of {', '.join(self.modes)}, got {mode!r}")
        if distribution == "normal":
            distribution = "truncated_normal"
        if distribution not in self.distributions:
            raise ValueError(
                f"{name}: distribution must be one of {', '.join(self.distributions)}, got {distribution!r}"
            )
        self.mode = mode
        self.distribution = distribution

    def fill(self, values: Array, key: Key = ()) -> None:
        """Draw every element; see Initializer.fill for `key`."""
        fan_in, fan_out = compute_fans(values.shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        draws = self._generator(values, key)
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            _fill_uniform(draws, values, -limit, limit)
        elif self.distribution == "truncated_normal":
            _fill_normal(draws, values, 0.0, math.sqrt(variance) / _TRUNCATED_STDDEV, truncated=True)
        else:
            _fill_normal(draws, values, 0.0, math.sqrt(variance), truncated=False)


class _Named(VarianceScaling):
    """A VarianceScaling whose only argument is the seed."""

    arguments = ("seed",)
    law: ClassVar[tuple[float, str, str]]

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(*self.law, seed=seed)


class GlorotUniform(_Named):
    """Uniform within +-sqrt(6 / (fan_in + fan_out))."""

    law = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Named):
    """Truncated normal with variance 2 / (fan_in + fan_out)."""

    law = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_Named):
    """Uniform within +-sqrt(6 / fan_in)."""

    law = (2.0, "fan_in", "uniform")


class HeNormal(_Named):
    """Truncated normal with variance 2 / fan_in."""

    law = (2.0, "fan_in", "truncated_normal")


class LecunUniform(_Named):
    """Uniform within +-sqrt(3 / fan_in)."""

    law = (1.0, "fan_in", "uniform")


class LecunNormal(_Named):
    """Truncated normal with variance 1 / fan_in."""

    law = (1.0, "fan_in", "truncated_normal")


# Keras' names in lower case; scripts import both, `from keras.initializers import glorot_uniform` being a class too.
constant = Constant
zeros = Zeros
ones = Ones
random_uniform = RandomUniform
random_normal = RandomNormal
truncated_normal = TruncatedNormal
variance_scaling = VarianceScaling
glorot_uniform = GlorotUniform
glorot_normal = GlorotNormal
he_uniform = HeUniform
he_normal = HeNormal
lecun_uniform = LecunUniform
lecun_normal = LecunNormal

_CLASSES: dict[str, type[Initializer]] = {
    "constant": Constant,
    "zeros": Zeros,
    "ones": Ones,
    "random_uniform": RandomUniform,
    "random_normal": RandomNormal,
    "truncated_normal": TruncatedNormal,
    "variance_scaling": VarianceScaling,
    "glorot_uniform": GlorotUniform,
    "glorot_normal": GlorotNormal,
    "he_uniform": HeUniform,
    "he_normal": HeNormal,
    "lecun_uniform": LecunUniform,
    "lecun_normal": LecunNormal,
}
_NAMES = _CLASSES | {cls.__name__: cls for cls in _CLASSES.values()}
_NAMES |= {"zero": Zeros, "one": Ones, "uniform": RandomUniform, "normal": RandomNormal}


def get(identifier: str | Mapping[str, Any] | Initializer | type[Initializer]) -> Initializer:
    """Return the initializer for a name, a class, an instance or what `serialize` returned; raises ValueError."""
    if isinstance(identifier, Initializer):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, Initializer):
        return identifier()
    name: object = identifier
    config: Mapping[str, Any] = {}
    if isinstance(identifier, Mapping):
        name, config = identifier.get("class_name"), identifier.get("config") or {}
    if not isinstance(name, str) or name not in _NAMES:
        raise ValueError(f"initializer must be one of {', '.join(_CLASSES)} or an Initializer, got {identifier!r}")
    return _NAMES[name].from_config(config)


def serialize(initializer: Initializer) -> dict[str, Any]:
    """Return {"class_name": ..., "config": ...}, which `get` takes back."""
    return {"class_name": type(initializer).__name__, "config": initializer.get_config()}


def compute_fans(shape: Sequence[int]) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight [..., C, K]: C and K times the size of the window before them, as Keras."""
    if len(shape) < 2:
        size = int(math.prod(shape))
        return size, size
    window = math.prod(shape[:-2])
    return int(window * shape[-2]), int(window * shape[-1])


def _finite(name: str, argument: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise ValueError(f"{name}: {argument} must be a finite number, got {value!r}")
    return float(value)


def _blocks(values: Array) -> list[Array]:
    if not values.flags.c_contiguous:
        raise ValueError(f"initializer: values must be C-contiguous, got strides {values.strides}")
    flat = values.reshape(-1)
    return [flat[begin : begin + _BLOCK] for begin in range(0, flat.size, _BLOCK)]


def _fill_uniform(draws: np.random.Generator, values: Array, low: float, high: float) -> None:
    for block in _blocks(values):
        draws.random(dtype=np.float32, out=block)
        block *= np.float32(high - low)
        block += np.float32(low)


def _fill_normal(draws: np.random.Generator, values: Array, mean: float, stddev: float, *, truncated: bool) -> None:
    for block in _blocks(values):
        draws.standard_normal(dtype=np.float32, out=block)
        if truncated:
            outside = np.flatnonzero(np.abs(block) > _TRUNCATION)
            while outside.size:
                block[outside] = draws.standard_normal(outside.size, dtype=np.float32)
                outside = outside[np.abs(block[outside]) > _TRUNCATION]
        block *= np.float32(stddev)
        block += np.float32(mean)
