"""Old names of Keras that fastcnn still understands: each says once, in a DeprecationWarning, what took its place.

`renamed` lets a function take keywords of former days without showing them in its signature, which stays Keras 3's.
"""

from __future__ import annotations

import functools
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fastcnn.models.training import Trainer

__all__ = ["caller_level", "old_name", "predict_classes", "predict_proba", "renamed"]

P = ParamSpec("P")
R = TypeVar("R")

_PACKAGE = __name__.partition(".")[0]
_told: set[str] = set()
_told_lock = threading.Lock()


def old_name(old: str, advice: str) -> None:
    """Warn that `old` is an old name, once in the life of the process, at the line that used it."""
    with _told_lock:
        if old in _told:
            return
        _told.add(old)
    warnings.warn(f"{old} is an old name: {advice}", DeprecationWarning, stacklevel=caller_level())


def caller_level() -> int:
    """Return the stack level, as `warnings.warn` counts it for who asks, of the first frame that is not fastcnn's."""
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and (_imports(frame) or _ours(frame)):
        level += not _imports(frame)
        frame = frame.f_back
    return level


def _ours(frame: FrameType) -> bool:
    name: str = frame.f_globals.get("__name__", "")
    return name == _PACKAGE or name.startswith(f"{_PACKAGE}.")


def _imports(frame: FrameType) -> bool:
    """Return whether a frame is of the import system: `warnings.warn` does not count those."""
    return "importlib" in frame.f_code.co_filename and "_bootstrap" in frame.f_code.co_filename


def renamed(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator: the function also takes the keywords `names`, each in place of the one it stands for.

    An old keyword warns once. Given together with the new one it is a TypeError.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        owner = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]

        @functools.wraps(function)
        def accepting(*args: P.args, **given: P.kwargs) -> R:
            if not names.keys().isdisjoint(given):
                translate(owner, names, given)
            return function(*args, **given)

        return accepting

    return decorate


def translate(owner: str, names: Mapping[str, str], given: dict[str, Any]) -> None:
    """Replace the old keywords among those given to `owner`, with a warning; raise TypeError for one given twice."""
    for old, new in names.items():
        if old not in given:
            continue
        if new in given:
            raise TypeError(f"{owner}: {old} is the old name of {new}; both were given")
        old_name(f"{owner}({old}=)", f"write {new}=")
        given[new] = given.pop(old)


def predict_classes(
    model: Trainer, x: Any, batch_size: int | None = None, verbose: int = 0, steps: int | None = None
) -> NDArray[np.integer[Any]]:
    """Return class numbers [N] of the largest outputs; for a model with one output 0 or 1, as int32 [N,1].

    Takes and raises what `Model.predict` does. Source: Sequential.predict_classes of Keras 2.
    """
    p: NDArray[np.float32] = model.predict(x, batch_size=batch_size, verbose=verbose, steps=steps)
    if p.shape[-1] > 1:
        numbers: NDArray[np.integer[Any]] = p.argmax(axis=-1)
        return numbers
    return (p > 0.5).astype(np.int32)


def predict_proba(
    model: Trainer, x: Any, batch_size: int | None = None, verbose: int = 0, steps: int | None = None
) -> NDArray[np.float32]:
    """Return what `Model.predict` does. Source: Sequential.predict_proba of Keras 2."""
    p: NDArray[np.float32] = model.predict(x, batch_size=batch_size, verbose=verbose, steps=steps)
    return p
