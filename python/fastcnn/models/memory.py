"""What a model takes for a batch, counted before anything is filled."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastcnn.models import given, slices
from fastcnn.models.workspace import Workspace
from fastcnn.program import Packer
from fastcnn.report import memory_size

if TYPE_CHECKING:
    from fastcnn.models.training import Trainer

PARTS = ("weights", "gradients", "optimizer", "activations", "packed", "scratch")


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that a model takes for one batch size; printing it gives a table."""

    batch: int
    training: bool
    weights: int
    gradients: int
    optimizer: int
    activations: int  # the arena: outputs, their gradients and what backward keeps
    packed: int  # convolution weights in the engine's order, as long as they do not change
    scratch: int  # where operations work, and pack weights that change

    @property
    def total(self) -> int:
        """All of it."""
        return sum(int(getattr(self, part)) for part in PARTS)

    def in_words(self) -> str:
        """Return the parts in one line, such as "weights 97.80 MB, gradients ..."."""
        return ", ".join(f"{part} {memory_size(getattr(self, part))}" for part in PARTS)

    def __str__(self) -> str:
        title = f"{'training' if self.training else 'inference'}, batch {self.batch}"
        return "\n".join(
            [title, *(f"  {part:<12}{getattr(self, part) / 2**20:10.1f} MB" for part in (*PARTS, "total"))]
        )


def memory_plan(model: Trainer, batch: int, training: bool) -> MemoryPlan:
    """Return what Model.memory_plan does."""
    where = "memory_plan"
    given.check_count(where, "batch", batch)
    if batch is None:
        raise ValueError(f"{where}: batch must be a number of samples, got None")
    if not model.built:
        raise ValueError(f"{where}: {model.name} does not know its input shape; call build(shape) first")
    if not training:
        constants = Packer(kept=True)
        workspace = Workspace(constants)
        slices.programs(workspace, model._inference(), batch)
        return _counted(model, batch, workspace, constants)
    model._require_compiled(where)
    return training_plan(model, [batch])


def training_plan(
    model: Trainer, sizes: Collection[int], in_parts: bool = False, evaluated: Collection[int] = ()
) -> MemoryPlan:
    """Return the memory that training takes with batches of these `sizes`, or with batches `in_parts` of these sizes.

    `evaluated` are the sizes of the batches that are evaluated in between.
    """
    constants = Packer(kept=True)
    workspace = Workspace(constants)
    recipe, state = model._training()
    with state.all_gradients(), state.weights.with_parts() if in_parts else nullcontext():
        for size in sorted(sizes, reverse=True):
            workspace.program("part" if in_parts else "training", size, recipe, state)
    for size in sorted(evaluated, reverse=True):
        workspace.program("evaluation", size, model._evaluation(model._require_compiled("fit").loss))
    gradients, optimizer = state.nbytes(in_parts)
    if in_parts:
        optimizer += gradients  # the sum of the parts
    return _counted(model, max(sizes), workspace, constants, gradients, optimizer, training=True)


def _counted(
    model: Trainer,
    batch: int,
    workspace: Workspace,
    constants: Packer,
    gradients: int = 0,
    optimizer: int = 0,
    training: bool = False,
) -> MemoryPlan:
    activations, scratch = workspace.nbytes
    return MemoryPlan(
        batch,
        training,
        weights=4 * model.count_params(),
        gradients=gradients,
        optimizer=optimizer,
        activations=activations,
        packed=constants.nbytes,
        scratch=scratch,
    )
