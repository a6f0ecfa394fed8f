"""Several callbacks behind the hooks of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

from fastcnn.callbacks.base import Callback, Logs
from fastcnn.callbacks.history import History
from fastcnn.callbacks.names import Named
from fastcnn.callbacks.progress import ProgressBar

if TYPE_CHECKING:
    from fastcnn.models.model import Model


class CallbackList(Callback):
    """Several callbacks behind the hooks of one, called in order (those marked `last` last), with one dict of logs.

    With `add_history` a History is appended unless the callbacks hold one, and is `self.history`; with `add_progress` a
    ProgressBar. Raises TypeError for what is not a Callback.
    """

    def __init__(
        self,
        callbacks: Callback | Iterable[Callback] | None = None,
        *,
        add_history: bool = False,
        add_progress: bool = False,
        model: Model | None = None,
        **params: Any,
    ) -> None:
        if callbacks is None:
            callbacks = ()
        self.callbacks = [callbacks] if isinstance(callbacks, Callback) else list(callbacks)
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks must be Callback instances, got {callback!r}")
        if add_progress and not any(isinstance(callback, ProgressBar) for callback in self.callbacks):
            self.callbacks.append(ProgressBar())
        self.history: History | None = next((c for c in self.callbacks if isinstance(c, History)), None)
        if add_history and self.history is None:
            self.history = History()
            self.callbacks.append(self.history)
        self.callbacks.sort(key=lambda callback: callback.last)
        if model is not None:
            self.set_model(model)
        self.set_params(params)

    def set_params(self, params: dict[str, Any]) -> None:
        """Hand the parameters to every callback."""
        names = params.get("metrics")
        if names is not None:
            added = chain.from_iterable(callback.adds or () for callback in self.callbacks)
            others = any(callback.adds is None and _sees_epochs_end(callback) for callback in self.callbacks)
            params |= {"metrics": [*names, *added], "others": others}
        self.params = params
        for callback in self.callbacks:
            callback.set_params(params)

    def set_model(self, model: Model) -> None:
        """Hand the model to every callback."""
        self.model = model
        for callback in self.callbacks:
            callback.set_model(model)


def _sees_epochs_end(callback: Callback) -> bool:
    """Return whether a callback has a hook of its own where it could add to an epoch's logs."""
    return "on_epoch_end" in vars(callback) or type(callback).on_epoch_end is not Callback.on_epoch_end


def _forward(hook: str) -> Callable[..., None]:
    def forward(self: CallbackList, logs: Logs | None = None) -> None:
        logs = logs if isinstance(logs, Named) else Named(logs or {})
        for callback in self.callbacks:
            getattr(callback, hook)(logs)

    def forward_numbered(self: CallbackList, number: int, logs: Logs | None = None) -> None:
        logs = logs if isinstance(logs, Named) else Named(logs or {})
        for callback in self.callbacks:
            getattr(callback, hook)(number, logs)

    return forward_numbered if "batch" in hook or "epoch" in hook else forward


for _hook in [name for name in vars(Callback) if name.startswith("on_")]:
    setattr(CallbackList, _hook, _forward(_hook))
