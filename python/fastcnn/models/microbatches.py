"""Batches of `fit` cut into parts whose programs fit into a limit of memory.

The gradients of the parts are added up as an optimizer adds up those of several batches, and each part's losses carry
the weights that they have in the whole batch, so that no sample counts more because the parts are unequal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fastcnn.errors import NonFiniteError, check_finite
from fastcnn.layers.base import Array
from fastcnn.models import batches
from fastcnn.models.batches import Batch
from fastcnn.models.memory_limit import MemoryLimit
from fastcnn.models.workspace import Workspace
from fastcnn.program import BoundProgram, Share

if TYPE_CHECKING:
    from fastcnn.models.training import Trainer


class Computed:
    """A batch whose gradients are there: the mean loss, the outputs [N,K], and how it changes the weights."""

    def __init__(self, loss: float, outputs: Array, update: Callable[[str], None]) -> None:
        self.loss = loss
        self.outputs = outputs
        self.update = update


class MicroBatches:
    """Computes the batches of one `fit`, whole or in as many parts as a limit asks for."""

    def __init__(self, model: Trainer, workspace: Workspace, limit: MemoryLimit) -> None:
        self.limit = limit
        self._model = model
        self._workspace = workspace
        self._undo: Callable[[], None] | None = None  # while a batch is neither untouched nor done

    def compute(self, where: str, batch: Batch) -> Computed:
        """Run a batch forward and backward; raises NonFiniteError for a loss that is not finite, changing nothing."""
        count = self.limit.parts(batch.size)
        if count == 1:
            program, loss = self._model._compute(where, self._workspace, batch, "training")
            return Computed(loss, program.outputs[0], program.update)
        try:
            return self._in_parts(where, batch, count)
        except BaseException:
            self.abandon()
            raise

    def _in_parts(self, where: str, batch: Batch, count: int) -> Computed:
        model = self._model
        recipe, state = model._training()
        loss = model._require_compiled(where).loss
        t = batches.targets(where, loss, batch, model._classes)
        assert batch.y is not None
        factors = loss.row_weights(batch.y, batch.sample_weight, batch.size, parts=count)
        outputs = np.empty((batch.size, model._classes), np.float32)
        losses = np.empty(batch.size)
        self._undo = state.undo_parts()
        for index in range(count):
            share, begin, end = Share(index, count), *_ends(batch.size, count, index)
            program = self._workspace.program("part", end - begin, recipe, state)
            state.begin_batch(share)
            losses[begin:end] = model._run_program(program, batch.part(begin, end), t[begin:end], factors[begin:end])
            outputs[begin:end] = program.outputs[0]
            if not share.last:
                check_finite(where, float(np.dot(losses[begin:end], factors[begin:end])))
                program.update(where, share)
        total = model._total(losses, loss.row_weights(batch.y, batch.sample_weight, batch.size))
        check_finite(where, total)
        return Computed(total, outputs, lambda where: self._update(where, program, Share(count - 1, count)))

    def _update(self, where: str, program: BoundProgram, last: Share) -> None:
        try:
            program.update(where, last)
        except NonFiniteError:
            self.abandon()
            raise
        self._undo = None

    def abandon(self) -> None:
        """Undo what a batch has changed that was not finished; nothing for one that was not begun or is done."""
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    def evaluate(self, where: str, batch: Batch) -> tuple[float, Array]:
        """Return mean loss and outputs [N,K] of a batch, the same bits in any number of parts."""
        count = self.limit.evaluated_parts(batch.size)
        model = self._model
        if count == 1:
            program, loss = model._compute(where, self._workspace, batch, "evaluation")
            return loss, program.outputs[0]
        compiled = model._require_compiled(where)
        recipe = model._evaluation(compiled.loss)
        t = batches.targets(where, compiled.loss, batch, model._classes)
        outputs = np.empty((batch.size, model._classes), np.float32)
        losses = np.empty(batch.size)
        assert batch.y is not None
        factors = compiled.loss.row_weights(batch.y, batch.sample_weight, batch.size)
        for index in range(count):
            begin, end = _ends(batch.size, count, index)
            program = self._workspace.program("evaluation", end - begin, recipe)
            losses[begin:end] = model._run_program(program, batch.part(begin, end), t[begin:end], factors[begin:end])
            outputs[begin:end] = program.outputs[0]
        return model._total(losses, factors), outputs


def _ends(size: int, count: int, index: int) -> tuple[int, int]:
    """Return where a part of a batch begins and ends; the larger ones come first."""
    small, larger = divmod(size, count)
    begin = index * small + min(index, larger)
    return begin, begin + small + (index < larger)
