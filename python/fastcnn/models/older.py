"""Arguments of `fit`, `evaluate` and `predict` that loaded data up to Keras 2."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from fastcnn.compat import old_name, translate
from fastcnn.models.given import is_indexed

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M")

_QUEUE = "max_queue_size"
_PROCESSES = "use_multiprocessing"
_KERAS_1 = {"max_q_size": _QUEUE, "nb_epoch": "epochs", "nb_worker": "workers", "pickle_safe": _PROCESSES}


def takes_loader_arguments(method: Callable[Concatenate[M, P], R]) -> Callable[Concatenate[M, P], R]:
    """Decorate `fit`, `evaluate` or `predict`: it also takes `workers`, `use_multiprocessing` and `max_queue_size`.

    `workers` becomes the number of threads that read the data given as `x` and `validation_data`; the others change
    nothing. `nb_epoch` and Keras 1's names of these are understood too.
    """
    name = method.__name__

    @functools.wraps(method)
    def accepting(self: M, /, *args: P.args, **given: P.kwargs) -> R:
        translate(name, _KERAS_1, given)
        options = {option: given.pop(option) for option in ("workers", _PROCESSES, _QUEUE) if option in given}
        for option in options:
            old_name(f"{name}({option}=)", "it belongs to the data, as num_threads or PyDataset(workers=)")
        if options.get("workers") is not None:
            for data in (args[0] if args else given.get("x"), given.get("validation_data")):
                set_threads(name, data, options["workers"])
        return method(self, *args, **given)

    return accepting


def set_threads(where: str, data: Any, workers: Any) -> None:
    """Let that many threads read the data, where threads do; raise ValueError for what is no number of them."""
    if isinstance(workers, bool) or not isinstance(workers, int | np.integer) or workers < 0:
        raise ValueError(f"{where}: workers must be an integer of at least 0, got {workers!r}")
    threads = max(1, int(workers))  # Keras' 0 is the calling thread
    if hasattr(data, "num_threads"):
        data.num_threads = threads
    elif is_indexed(data):
        with suppress(AttributeError):
            data.workers = threads
