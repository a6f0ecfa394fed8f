"""Model: a trainable network with its files, its summary and its memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastcnn.models import memory as planning
from fastcnn.models import slices
from fastcnn.models.batches import BATCH_SIZE
from fastcnn.models.memory import MemoryPlan
from fastcnn.models.old_methods import OldMethods

if TYPE_CHECKING:
    from fastcnn.formats import FilePath
    from fastcnn.models.algorithms import AlgorithmTable


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
        *,
        memory: bool = False,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        """Print the layers and parameter counts, with `memory` what a batch takes; see fastcnn.report.summary."""
        from fastcnn import report

        report.summary(
            self,
            line_length,
            positions,
            print_fn,
            expand_nested,
            show_trainable,
            layer_range,
            memory=memory,
            batch_size=batch_size,
        )

    # -- algorithms ----------------------------------------------------------------------------------------------------

    def algorithms(self) -> AlgorithmTable:
        """Return which algorithm each Conv2D uses for each shape of image [H, W, C] that it sees; prints as a table.

        "direct" sums over the window, "winograd" is faster for many 3x3 windows and a little less exact. Each entry
        tells what inference uses for the output and training for the gradient of the input (None where there is none),
        what could be used, and whether the layer's `algorithm` forces it; otherwise the engine chooses by the shape of
        one image, the instruction set and `set_winograd`. Raises ValueError for a model without input shape.
        """
        from fastcnn.models import algorithms

        return algorithms.algorithms(self)

    def set_algorithms(self, algorithms: Mapping[str, str | None]) -> None:
        """Force the algorithms of convolutions, {layer name: "direct", "winograd" or None for the engine's choice}.

        Layers that are not named stay as they are. Programs and packed weights are made anew at the next call; a saved
        model keeps the setting. Raises TypeError for what is no dict, ValueError for a name that is no convolution of
        the model, for another word, and for "winograd" where the window is not 3x3 with strides and dilation 1, all
        before anything has changed; RuntimeError while the model is being trained.
        """
        from fastcnn.models import algorithms as forcing

        with self._exclusive("set_algorithms"):
            forcing.set_algorithms(self, algorithms)

    # -- memory --------------------------------------------------------------------------------------------------------

    def memory_plan(self, batch: int, training: bool = True) -> MemoryPlan:
        """Return the memory that training or prediction takes with `batch` samples; prints as a table of its parts.

        Weights, gradients, the optimizer's slots, activations, packed weights and scratch are counted in bytes; the
        data themselves are not. The program is made as for use, but nothing in its memory is touched, so that this
        costs next to none. Raises ValueError for a batch that is no positive integer and for a model without input
        shape, RuntimeError for `training` before `compile`.
        """
        return planning.memory_plan(self, batch, training)

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
