"""Cross-entropy losses: what labels they accept, and the one-hot targets the engine's fused softmax loss reads.

The loss of one picture is -sum t*log(clip(p, 1e-7, 1-1e-7)) with p divided by its sum, as in Keras; during training the
engine computes it from the last layer's logits. The classes here hold the arguments; called, they compute the
same in NumPy float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float32]

PROBABILITY_FLOOR = 1e-7  # Keras' epsilon


class Loss:
    """A cross-entropy: `from_logits` says that the model ends without a softmax.

    `floor` is the smallest probability before the logarithm, 0 with logits.
    """

    arguments: ClassVar[tuple[str, ...]] = ("from_logits",)
    default_name: ClassVar[str]

    def __init__(self, from_logits: bool, reduction: str, axis: int, name: str | None) -> None:
        function = type(self).__name__
        if reduction != "sum_over_batch_size":
            raise ValueError(f"{function}: reduction must be 'sum_over_batch_size', got {reduction!r}")
        if axis != -1:
            raise ValueError(f"{function}: axis must be -1 (classes last), got {axis!r}")
        self.from_logits = bool(from_logits)
        self.name = name or self.default_name

    @property
    def floor(self) -> float:
        """Smallest probability the logarithm sees."""
        return 0.0 if self.from_logits else PROBABILITY_FLOOR

    def check(self, y: ArrayLike, classes: int, where: str = "y") -> NDArray[Any]:
        """Return the labels as an array after checking them all; `where` names the argument in the ValueError."""
        raise NotImplementedError

    def targets(self, y: ArrayLike, classes: int, where: str = "y") -> Array:
        """Return labels as float32 targets [N,classes]; raises ValueError as `check` does."""
        raise NotImplementedError

    def __call__(self, y_true: ArrayLike, y_pred: ArrayLike) -> float:
        """Return the mean loss of predictions [N,K]."""
        function = type(self).__name__
        p = _predictions(function, y_pred)
        t = self.targets(y_true, p.shape[1], f"{function}: y_true").astype(np.float64)
        return float(_cross_entropy(function, t, p, self.from_logits).mean())

    def get_config(self) -> dict[str, Any]:
        """Return name and arguments, enough for `from_config`."""
        return {"name": self.name} | {argument: getattr(self, argument) for argument in self.arguments}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build from what `get_config` returned."""
        return cls(**config)


class CategoricalCrossentropy(Loss):
    """Cross-entropy for one-hot or soft labels [N,K] in 0..1; smoothing s makes them t*(1-s) + s/K."""

    arguments = ("from_logits", "label_smoothing")
    default_name = "categorical_crossentropy"

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(from_logits, reduction, axis, name)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"CategoricalCrossentropy: label_smoothing must lie in [0, 1], got {label_smoothing!r}")
        self.label_smoothing = float(label_smoothing)

    def check(self, y: ArrayLike, classes: int, where: str = "y") -> NDArray[Any]:
        """Return y[N,classes]; raises ValueError for another shape and values outside 0..1."""
        labels = _numbers(y, where)
        if labels.ndim != 2 or labels.shape[1] != classes:
            hint = "; class numbers need sparse_categorical_crossentropy" if _is_column(labels) else ""
            raise ValueError(
                f"{where} must be one-hot of shape [N, {classes}] for categorical_crossentropy "
                f"(the model has {classes} outputs), got {list(labels.shape)}{hint}"
            )
        valid = (labels >= 0) & (labels <= 1)  # false for NaN too
        if not valid.all():
            row, column = np.argwhere(~valid)[0]
            raise ValueError(
                f"{where} must hold values in 0..1 for categorical_crossentropy, "
                f"got {labels[row, column]} at [{row}, {column}]"
            )
        return labels

    def targets(self, y: ArrayLike, classes: int, where: str = "y") -> Array:
        """Return y, smoothed, as float32 [N,classes]; raises ValueError as `check` does."""
        t = self.check(y, classes, where).astype(np.float32)
        if self.label_smoothing:
            t *= np.float32(1 - self.label_smoothing)
            t += np.float32(self.label_smoothing / classes)
        return t


class SparseCategoricalCrossentropy(Loss):
    """Cross-entropy for class numbers [N] or [N,1]."""

    default_name = "sparse_categorical_crossentropy"

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str = "sum_over_batch_size",
        axis: int = -1,
        name: str | None = None,
    ) -> None:
        super().__init__(from_logits, reduction, axis, name)
        if ignore_class is not None:
            raise ValueError(
                "SparseCategoricalCrossentropy: ignore_class is not supported yet and must be None, "
                f"got {ignore_class!r}"
            )

    def check(self, y: ArrayLike, classes: int, where: str = "y") -> NDArray[Any]:
        """Return y[N]; raises ValueError for another shape, fractions and numbers outside 0..classes-1."""
        labels = _numbers(y, where)
        if not _is_column(labels):
            hint = "; one-hot labels need categorical_crossentropy" if labels.ndim == 2 else ""
            raise ValueError(
                f"{where} must be class numbers of shape [N] or [N, 1] for sparse_categorical_crossentropy, "
                f"got {list(labels.shape)}{hint}"
            )
        labels = labels.reshape(-1)
        valid = (labels >= 0) & (labels < classes) & (labels == np.floor(labels))
        if not valid.all():
            position = int(np.flatnonzero(~valid)[0])
            raise ValueError(
                f"{where} must hold whole numbers in 0..{classes - 1} (the model has {classes} outputs), "
                f"got {labels[position]} at [{position}]"
            )
        return labels

    def targets(self, y: ArrayLike, classes: int, where: str = "y") -> Array:
        """Return y one-hot as float32 [N,classes]; raises ValueError as `check` does."""
        labels = self.check(y, classes, where).astype(np.int64)
        t = np.zeros((labels.size, classes), np.float32)
        t[np.arange(labels.size), labels] = 1
        return t


def categorical_crossentropy(
    y_true: ArrayLike, y_pred: ArrayLike, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> NDArray[np.float64]:
    """Return the loss of each of N predictions [N,K] for labels [N,K]; also accepted as `compile(loss=...)`."""
    return _per_sample(CategoricalCrossentropy(from_logits, label_smoothing, axis), y_true, y_pred)


def sparse_categorical_crossentropy(
    y_true: ArrayLike, y_pred: ArrayLike, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> NDArray[np.float64]:
    """Return the loss of each of N predictions [N,K] for class numbers [N]; also accepted as `compile(loss=...)`."""
    return _per_sample(SparseCategoricalCrossentropy(from_logits, ignore_class, axis=axis), y_true, y_pred)


_CLASSES: dict[str, type[Loss]] = {
    cls.default_name: cls for cls in (CategoricalCrossentropy, SparseCategoricalCrossentropy)
}
_NAMES = _CLASSES | {cls.__name__: cls for cls in _CLASSES.values()}
_FUNCTIONS: tuple[tuple[object, type[Loss]], ...] = (
    (categorical_crossentropy, CategoricalCrossentropy),
    (sparse_categorical_crossentropy, SparseCategoricalCrossentropy),
)


def get(identifier: object) -> Loss:
    """Return the loss for a name, this module's function, an instance or what `serialize` returned; else ValueError."""
    if isinstance(identifier, Loss):
        return identifier
    for function, cls in _FUNCTIONS:
        if identifier is function:
            return cls.from_config({})
    name = identifier
    config: Mapping[str, Any] = {}
    if isinstance(identifier, Mapping):
        name, config = identifier.get("class_name"), identifier.get("config") or {}
    if not isinstance(name, str) or name not in _NAMES:
        raise ValueError(f"loss must be one of {', '.join(_CLASSES)} or a Loss, got {identifier!r}")
    return _NAMES[name].from_config(config)


def serialize(loss: Loss) -> dict[str, Any]:
    """Return {"class_name": ..., "config": ...}, which `get` takes back."""
    return {"class_name": type(loss).__name__, "config": loss.get_config()}


def _numbers(y: ArrayLike, where: str) -> NDArray[Any]:
    labels = np.asarray(y)
    if labels.dtype.kind not in "biuf":
        raise ValueError(f"{where} must hold numbers, got {labels.dtype}")
    return labels


def _is_column(labels: NDArray[Any]) -> bool:
    return labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)


def _predictions(function: str, y_pred: ArrayLike) -> NDArray[np.float64]:
    p = np.asarray(y_pred, np.float64)
    if p.ndim != 2 or p.size == 0:
        raise ValueError(f"{function}: y_pred must be [N, classes] and not empty, got {list(p.shape)}")
    return p


def _per_sample(loss: Loss, y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[np.float64]:
    p = _predictions(loss.name, y_pred)
    t = loss.targets(y_true, p.shape[1], f"{loss.name}: y_true").astype(np.float64)
    return _cross_entropy(loss.name, t, p, loss.from_logits)


def _cross_entropy(
    function: str, t: NDArray[np.float64], p: NDArray[np.float64], from_logits: bool
) -> NDArray[np.float64]:
    if len(t) != len(p):
        raise ValueError(f"{function}: y_true has {len(t)} rows but y_pred has {len(p)}")
    if from_logits:
        below = p - p.max(axis=1, keepdims=True)
        log_p = below - np.log(np.exp(below).sum(axis=1, keepdims=True))
    else:
        log_p = np.log(np.clip(p / p.sum(axis=1, keepdims=True), PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR))
    loss: NDArray[np.float64] = -(t * log_p).sum(axis=1)
    return loss
