"""Model: a trainable network with its files, its summary and its memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastcnn.models import slices
from fastcnn.models.old_methods import OldMethods
from fastcnn.models.workspace import Workspace
from fastcnn.program import Packer

if TYPE_CHECKING:
    from fastcnn.formats import FilePath


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
        return self.weights + self.gradients + self.optimizer + self.activations + self.packed + self.scratch

    def __str__(self) -> str:
        parts = ("weights", "gradients", "optimizer", "activations", "packed", "scratch", "total")
        title = f"{'training' if self.training else 'inference'}, batch {self.batch}"
        return "\n".join([title, *(f"  {part:<12}{getattr(self, part) / 2**20:10.1f} MB" for part in parts)])


class Model(OldMethods):
    """Model(inputs, outputs): a graph of layers that can be trained, used and saved."""

    # -- files and tables ----------------------------------------------------------------------------------------------

    def save(self, filepath: FilePath, overwrite: bool = True, zipped: None = None) -> None:
        """Write architecture, weights and training state to one file; see fastcnn.models.saving."""
        from fastcnn.models import saving

        self._refuse(zipped=(zipped, None))
        saving.save(self, filepath, overwrite)

    def save_weights(self, filepath: FilePath, overwrite: bool = True, max_shard_size: None = None) -> None:
        """Write the weights alone; see fastcnn.models.saving."""
        from fastcnn.models import saving

        self._refuse(max_shard_size=(max_shard_size, None))
        saving.save_weights(self, filepath, overwrite)

    def load_weights(self, filepath: FilePath, by_name: bool = False, skip_mismatch: bool = False) -> None:
        """Read weights from a file into the layers of the same names; see fastcnn.models.saving."""
        from fastcnn.models import saving

        saving.load_weights(self, filepath, by_name=by_name, skip_mismatch=skip_mismatch)

    def to_json(self, **kwargs: Any) -> str:
        """Return the architecture as JSON in Keras 2's form, for `models.model_from_json` here and in Keras.

        `kwargs` go to json.dumps. Raises ValueError for a layer without configuration.
        """
        from fastcnn.models import functions

        return functions.to_json(self, **kwargs)

    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Sequence[str] | None = None,
    ) -> None:
        """Print the layers and parameter counts; see fastcnn.report.summary."""
        from fastcnn import report

        report.summary(self, line_length, positions, print_fn, expand_nested, show_trainable, layer_range)

    # -- memory --------------------------------------------------------------------------------------------------------

    def memory_plan(self, batch: int, training: bool = True) -> MemoryPlan:
        """Return the memory that training or prediction takes with `batch` samples.

        The program is made as for use, but nothing in its memory is touched, so that this costs next to none. Training
        counts the arrays of the optimizer given to `compile`.
        """
        constants = Packer(shared=False)
        workspace = Workspace(constants)
        gradients = optimizer = 0
        if training:
            recipe, state = self._training()
            workspace.program("training", batch, recipe, state)
            gradients, optimizer = state.nbytes
        else:
            slices.programs(workspace, self._inference(), batch)
        activations, scratch, variables = workspace.nbytes
        return MemoryPlan(
            batch,
            training,
            weights=4 * self.count_params(),
            gradients=gradients,
            optimizer=optimizer,
            activations=activations,
            packed=constants.nbytes + variables,
            scratch=scratch,
        )

    def warmup(self, batch: int, training: bool = False) -> None:
        """Make the program for a batch size and, for inference, run it once, so that the first use takes no longer."""
        with self._lease() as workspace:
            if training:
                recipe, state = self._training()
                workspace.program("training", batch, recipe, state)
                return
            for program in slices.programs(workspace, self._inference(), batch):
                program.x.fill(0)
                program.compute()

    def release_workspace(self) -> None:
        """Give back the memory of activations, packed weights and programs; the next use makes them again."""
        self._pool.clear()

    def _poison_arena(self) -> None:
        """Fill all memory of programs with NaN: a test for reads of what no step has written."""
        for workspace in self._pool.idle():
            workspace.poison()
