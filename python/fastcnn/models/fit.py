"""One run of `fit`: epochs of batches with their callbacks, what Ctrl-C leaves, and where a backup goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastcnn.callbacks import CallbackList
from fastcnn.errors import NonFiniteError
from fastcnn.formats import FilePath
from fastcnn.models.batches import Batch, EndlessSource, Source
from fastcnn.models.compiled import Logs, Means
from fastcnn.models.interrupts import Interrupts
from fastcnn.models.microbatches import MicroBatches
from fastcnn.models.prepared import prepared

if TYPE_CHECKING:
    from fastcnn.models.training import Trainer


@dataclass
class Progress:
    """How far a run is: `steps` batches of `epoch` are done, all of them if `trained`; `logs` are their means."""

    first_epoch: int
    epoch: int
    steps: int = 0
    trained: bool = False
    logs: Logs = field(default_factory=dict)


class FitRun:
    """What one call of `fit` does with the model; callbacks reach it as `model.running_fit()`."""

    def __init__(
        self,
        model: Trainer,
        parts: MicroBatches,
        source: Source,
        validation: Source | None,
        hooks: CallbackList,
        epochs: range,
        class_weight: Mapping[int, float] | None,
        validation_freq: int | Sequence[int],
    ) -> None:
        self.model = model
        self.source = source
        self.hooks = hooks
        self.progress = Progress(epochs.start, epochs.start)
        self.means = Means(model._require_compiled("fit"))
        self.parts = parts
        self._validation = validation
        self._epochs = epochs
        self._class_weight = class_weight
        self._validation_freq = validation_freq
        self._interrupts = Interrupts()
        self._finish = bool(epochs)  # whether a moving average of the weights is to become the weights

    def run(self) -> None:
        """Train until the last epoch, `stop_training` or Ctrl-C."""
        self.model.stop_training = False
        with self._interrupts:
            try:
                with self._interrupts.held():
                    self.hooks.on_train_begin()
                self._train()
            except KeyboardInterrupt:
                with self._interrupts.held():
                    self.hooks.on_train_interrupt(dict(self.progress.logs))
                    self._end()
                return
            try:
                with self._interrupts.held():
                    self._end()
            except KeyboardInterrupt:  # that came when all was done: the History is whole
                assert self.hooks.history is not None
                self.hooks.history.interrupted = True

    def _end(self) -> None:
        if self._finish:
            self.model._training()[1].weights.finish()
        self.hooks.on_train_end(dict(self.progress.logs))

    def _train(self) -> None:
        progress = self.progress
        while progress.epoch < self._epochs.stop and (progress.trained or not self.model.stop_training):
            with self._interrupts.held():
                self.hooks.on_epoch_begin(progress.epoch)
            if not progress.trained:
                self._train_epoch()
            if self._validation is not None and _due(progress.epoch, self._validation_freq):
                # training's metric objects are free again: `progress.logs` holds their results
                found = self.model._evaluate("fit: validation", self.parts.evaluate, self._validation, self.hooks)
                logs = progress.logs | {f"val_{name}": value for name, value in found.items()}
            else:
                logs = dict(progress.logs)
            with self._interrupts.held():
                epoch, progress.epoch = progress.epoch, progress.epoch + 1  # a backup made by a callback is behind it
                progress.steps, progress.trained, progress.logs = 0, False, logs
                self.hooks.on_epoch_end(epoch, logs)

    def _train_epoch(self) -> None:
        progress = self.progress
        if progress.steps == 0:
            self.means.reset()
            progress.logs = {}
        preparation = self.model._training()[0].preparation
        batches = prepared(self.source.epoch(progress.epoch, progress.steps), preparation, training=True)
        for batch in batches:
            self.hooks.on_train_batch_begin(progress.steps)
            try:
                self._train_batch(batch)
            except BaseException:
                with self._interrupts.held():
                    self.parts.abandon()
                raise
            if self.model.stop_training:
                break
        progress.trained = True

    def _train_batch(self, batch: Batch) -> None:
        """Train on a batch; after Ctrl-C either nothing has changed or all, the callbacks' hooks among it."""
        model, step = self.model, self.progress.steps
        where = f"fit: epoch {self.progress.epoch + 1}, batch {step + 1}"
        batch = model._with_class_weight("fit", batch, self._class_weight)
        try:
            # a layer called several times changes its moving statistics as it computes
            with self._interrupts.held() if model._training()[0].repeated_norms else nullcontext():
                computed = self.parts.compute(where, batch)
        except NonFiniteError as error:
            self._stop_or_raise(error)
            return
        with self._interrupts.held():
            try:
                computed.update(where)
            except NonFiniteError as error:
                self._stop_or_raise(error)
                return
            self.means.update(computed.loss, batch, computed.outputs)
            self.progress.steps += 1
            self.progress.logs = self.means.result()
            self.hooks.on_train_batch_end(step, dict(self.progress.logs))

    def _stop_or_raise(self, error: NonFiniteError) -> None:
        """Show the callbacks the loss that is not finite; raise the error unless one of them ends training."""
        self.progress.logs = self.progress.logs | {"loss": error.loss}
        self.hooks.on_train_batch_end(self.progress.steps, dict(self.progress.logs))
        if not self.model.stop_training:
            raise error

    # -- backups -------------------------------------------------------------------------------------------------------

    def backup_size(self) -> int:
        """Return about how many bytes a backup takes."""
        from fastcnn.models import backup

        return backup.size(self)

    def save(self, path: FilePath) -> None:
        """Write where training stands; between batches only. Raises OSError."""
        from fastcnn.models import backup

        backup.save(self, path)

    def restore(self, path: FilePath) -> None:
        """Go on from a backup; raises ModelFileError for a damaged file, ValueError for one of another run."""
        from fastcnn.models import backup

        backup.restore(self, path)
        if isinstance(self.source, EndlessSource):
            self.source.first_epoch = self.progress.first_epoch


def _due(epoch: int, validation_freq: int | Sequence[int]) -> bool:
    if isinstance(validation_freq, int):
        return (epoch + 1) % validation_freq == 0
    return epoch + 1 in validation_freq
