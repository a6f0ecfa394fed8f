"""What all callbacks have: Keras' Callback protocol, and the state that a backup keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from fastcnn.models.model import Model

Logs = dict[str, float]


class Callback:
    """Base of all callbacks: override any hook; `self.model` and `self.params` are set before the first one.

    `logs` maps names such as "loss" and "val_accuracy" to numbers; what a callback adds to it the later ones see.
    `self.model.stop_training = True` ends `fit` after the batch or epoch.

    A callback that decides by what it has seen tells it in `get_state`, so that a run resumed from a backup decides
    alike; `set_state` is called after `on_train_begin`.
    """

    model: Model
    params: dict[str, Any]
    last: ClassVar[bool] = False  # whether its hooks run after those of all others
    adds: ClassVar[tuple[str, ...] | None] = None  # names of the logs that it adds, None where that is not known

    def set_params(self, params: dict[str, Any]) -> None:
        """Receive {"verbose", "epochs", "steps", "metrics", "others"}.

        `steps` is None when the number of batches is unknown; `metrics` are the names that will be logged as far as
        known, and `others` says whether a callback may add more.
        """
        self.params = params

    def set_model(self, model: Model) -> None:
        """Receive the model."""
        self.model = model

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Run before epoch `epoch`, counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Run after epoch `epoch` and its validation."""

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Run when `fit` begins."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Run when `fit` ends."""

    def on_train_interrupt(self, logs: Logs | None = None) -> None:
        """Run when Ctrl-C ends `fit`, before `on_train_end`; the weights are those after the last whole batch."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before training batch `batch`, counted from 0 in each epoch; by default what `on_batch_begin` does."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after training batch `batch`; logs are the epoch's running means; by default as `on_batch_end`."""
        self.on_batch_end(batch, logs)

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before a training batch: the older name of that hook."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after a training batch: the older name of that hook."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Run when `evaluate`, or the validation of an epoch, begins."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Run when `evaluate`, or the validation of an epoch, ends."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before evaluation batch `batch`."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after evaluation batch `batch`."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Run when `predict` begins."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Run when `predict` ends."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before prediction batch `batch`."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after prediction batch `batch`."""

    def get_state(self) -> dict[str, Any]:
        """Return numbers, strings, lists, dicts with string keys, and at the top level arrays: what a backup keeps."""
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` returned."""


class LambdaCallback(Callback):
    """A callback made of functions, each with its hook's arguments."""

    def __init__(
        self,
        on_epoch_begin: Callable[[int, Logs | None], Any] | None = None,
        on_epoch_end: Callable[[int, Logs | None], Any] | None = None,
        on_train_begin: Callable[[Logs | None], Any] | None = None,
        on_train_end: Callable[[Logs | None], Any] | None = None,
        on_train_batch_begin: Callable[[int, Logs | None], Any] | None = None,
        on_train_batch_end: Callable[[int, Logs | None], Any] | None = None,
    ) -> None:
        hooks = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
        }
        for name, function in hooks.items():
            if function is not None:
                setattr(self, name, function)
