"""What a model takes for a batch, counted before anything is filled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastcnn.models import given, slices
from fastcnn.models.workspace import Workspace
from fastcnn.program import Packer

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
    packed: int  # convolution weights in the engine's order
    scratch: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(int(getattr(self, part)) for part in PARTS)

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
    constants = Packer(shared=False)
    workspace = Workspace(constants)
    gradients = optimizer = 0
    if training:
        model._require_compiled(where)
        recipe, state = model._training()
        workspace.program("training", batch, recipe, state)
        gradients, optimizer = state.nbytes
    else:
        slices.programs(workspace, model._inference(), batch)
    activations, scratch, variables = workspace.nbytes
    return MemoryPlan(
        batch,
        training,
        weights=4 * model.count_params(),
        gradients=gradients,
        optimizer=optimizer,
        activations=activations,
        packed=constants.nbytes + variables,
        scratch=scratch,
    )
