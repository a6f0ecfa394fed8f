"""The part of `keras.backend` that programs around CNNs call; mostly for old ones: `from fastcnn import backend as K`.

There is one arrangement of pictures, channels last, one type, float32, and no graph or session to take care of.
"""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.compat import old_name

__all__ = [
    "backend",
    "clear_session",
    "count_params",
    "epsilon",
    "floatx",
    "get_uid",
    "get_value",
    "image_data_format",
    "image_dim_ordering",
    "int_shape",
    "learning_phase",
    "set_epsilon",
    "set_floatx",
    "set_image_data_format",
    "set_image_dim_ordering",
    "set_learning_phase",
    "set_value",
]

_EPSILON = 1e-7
_FORMAT = "channels_last"
_uids: dict[str, int] = {}


def backend() -> str:
    """Return "fastcnn"."""
    return "fastcnn"


def epsilon() -> float:
    """Return the 1e-7 that losses and optimizers keep away from zero."""
    return _EPSILON


def set_epsilon(value: float) -> None:
    """Accept 1e-7; raises ValueError for another number."""
    if value != _EPSILON:
        raise ValueError(f"set_epsilon: epsilon is {_EPSILON} in fastcnn, got {value!r}; optimizers have epsilon=")


def floatx() -> str:
    """Return "float32", the type of all weights and activations."""
    return "float32"


def set_floatx(value: str) -> None:
    """Accept "float32"; raises ValueError for another type."""
    if value != "float32":
        raise ValueError(f"set_floatx: fastcnn computes in float32, got {value!r}")


def image_data_format() -> str:
    """Return "channels_last"."""
    return _FORMAT


def set_image_data_format(data_format: str) -> None:
    """Accept "channels_last"; raises ValueError for another arrangement."""
    if data_format != _FORMAT:
        raise ValueError(
            f"set_image_data_format: fastcnn's pictures are {_FORMAT!r}, [N, H, W, C], got {data_format!r}; transpose "
            "the arrays and write shapes as (H, W, C)"
        )


def image_dim_ordering() -> str:
    """Return "tf", Keras 1's word for channels last."""
    old_name("backend.image_dim_ordering", "write image_data_format(), which returns 'channels_last'")
    return "tf"


def set_image_dim_ordering(dim_ordering: str) -> None:
    """Accept "tf", Keras 1's word for channels last; raises ValueError for "th"."""
    old_name("backend.set_image_dim_ordering", "write set_image_data_format('channels_last')")
    set_image_data_format({"tf": _FORMAT, "th": "channels_first"}.get(dim_ordering, dim_ordering))


def learning_phase() -> int:
    """Return 0: `fit` and `train_on_batch` train, `predict` and `evaluate` do not."""
    return 0


def set_learning_phase(value: int | bool) -> None:
    """Change nothing: which phase it is follows from the method; a layer called with `training=False` stays in that."""
    old_name("backend.set_learning_phase", "it has no effect; call layers with training=False instead")


def clear_session() -> None:
    """Let automatic names of layers start again, and collect models that nobody refers to."""
    from fastcnn.layers.base import forget_names

    forget_names()
    _uids.clear()
    gc.collect()


def get_uid(prefix: str = "") -> int:
    """Return 1, 2, 3... for each call with the same prefix."""
    _uids[prefix] = _uids.get(prefix, 0) + 1
    return _uids[prefix]


def int_shape(x: Any) -> tuple[int | None, ...]:
    """Return the shape of a symbolic tensor, (None, ...), of a weight or of an array."""
    return tuple(x.shape)


def count_params(p: Any) -> int:
    """Return the number of elements of a weight or array."""
    return int(np.prod(p.shape))


def get_value(x: Any) -> Any:
    """Return the value of a weight as an array, and of what is a number already, such as `optimizer.lr`, that."""
    return x.numpy() if hasattr(x, "numpy") else np.asarray(x)[()]


def set_value(x: Any, value: ArrayLike) -> None:
    """Set a weight, or the learning rate that `optimizer.lr` gave; raises TypeError for anything else."""
    from fastcnn.optimizers.base import SettableRate
    from fastcnn.parameters import Parameter

    if isinstance(x, Parameter):
        x.assign(value)
    elif isinstance(x, SettableRate):
        number: NDArray[Any] = np.asarray(value)
        x.optimizer.learning_rate = float(number)
    else:
        raise TypeError(f"set_value: takes a weight of a layer or the rate of an optimizer, got {type(x).__name__}")
