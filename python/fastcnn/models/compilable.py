"""A network with how it is trained, and the programs that follow from it: compile and what depends on it."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from fastcnn import losses, metrics, optimizers
from fastcnn.fuse import lower
from fastcnn.graph import Shape
from fastcnn.layers.pointwise import Sigmoid, Softmax
from fastcnn.losses import Loss
from fastcnn.models import slices
from fastcnn.models.compiled import Compiled
from fastcnn.models.network import Network, Tensor
from fastcnn.models.state import TrainingState
from fastcnn.models.workspace import Lease
from fastcnn.optimizers import Optimizer
from fastcnn.parameters import Parameter
from fastcnn.program import Recipe

# compile()'s arguments that change nothing here, with the value that needs no warning
_WITHOUT_EFFECT = {"run_eagerly": False, "steps_per_execution": 1, "jit_compile": "auto", "auto_scale_loss": True}


class Compilable(Network):
    """A network that can be compiled."""

    def __init__(
        self,
        inputs: Tensor | Sequence[Tensor],
        outputs: Tensor | Sequence[Tensor],
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        self._compiled: Compiled | None = None
        self._filled = False  # whether every weight has its first value
        super().__init__(inputs, outputs, name, trainable)

    def _connect(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        super()._connect(inputs, outputs)
        self._filled = False
        if self._compiled is not None:
            self._compiled.note_trained(self)

    # -- compile -------------------------------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: str | Mapping[str, Any] | Optimizer = "rmsprop",
        loss: object = None,
        loss_weights: None = None,
        metrics: Sequence[Any] | None = None,
        weighted_metrics: Sequence[Any] | None = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: str | bool = "auto",
        auto_scale_loss: bool = True,
        *,
        recompute: bool = False,
    ) -> None:
        """Set how the model is trained; which layers are trainable counts as it is now.

        Compiling again with the same optimizer object keeps its slots. `metrics` and `weighted_metrics`, which count
        each sample with its weight, are names or Metric objects. Raises ValueError for what fastcnn does not have.

        With `recompute` training keeps the activations at a few borders of the graph alone and computes those between
        them again on the way back: less memory (`memory_plan` tells how much: a third of ResNet50's activations, a
        fifth of ResNet152's) for at most one more forward run (ResNet50: a step takes 14 % longer). No bit changes.
        Where it would save nothing, as in VGG16, nothing is computed again. Functions of a PythonLayer are called once
        as ever.
        """
        self._refuse(loss_weights=(loss_weights, None))
        without = {
            "run_eagerly": run_eagerly,
            "steps_per_execution": steps_per_execution,
            "jit_compile": jit_compile,
            "auto_scale_loss": auto_scale_loss,
        }
        for argument, value in without.items():
            if value != _WITHOUT_EFFECT[argument]:
                warnings.warn(f"compile: {argument} has no effect in fastcnn", stacklevel=2)
        if loss is None:
            raise ValueError("compile: loss must be given, such as 'categorical_crossentropy'")
        before = self._compiled
        if not isinstance(recompute, bool):
            raise ValueError(f"compile: recompute must be True or False, got {recompute!r}")
        compiled = Compiled(
            optimizers.get(optimizer), losses.get(loss), metrics or [], weighted_metrics or [], recompute
        )
        self._compiled = compiled
        if self.built:
            compiled.note_trained(self)
        if before is not None and before.state is not None and before.optimizer is compiled.optimizer:
            self._training()[1].carry_over(before.state)

    @property
    def built(self) -> bool:
        """Whether the input shape is known and the weights exist."""
        return True

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimizer given to `compile`, None before."""
        return None if self._compiled is None else self._compiled.optimizer

    @property
    def loss(self) -> Loss | None:
        """The loss given to `compile`, None before."""
        return None if self._compiled is None else self._compiled.loss

    @property
    def metrics_names(self) -> list[str]:
        """Names of what `evaluate` returns, the loss first; empty before `compile`."""
        return [] if self._compiled is None else ["loss", *self._compiled.metrics]

    def get_compile_config(self) -> dict[str, Any] | None:
        """Return what `compile` was given in JSON's types, None before."""
        compiled = self._compiled
        if compiled is None:
            return None
        config = {
            "optimizer": optimizers.serialize(compiled.optimizer),
            "loss": losses.serialize(compiled.loss),
            "metrics": metrics.serialize_all(compiled.given_metrics),
            "weighted_metrics": metrics.serialize_all(compiled.given_weighted),
        }
        return config | ({"recompute": True} if compiled.recompute else {})

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """Compile with what `get_compile_config` returned."""
        weighted = config.get("weighted_metrics")
        self.compile(
            config["optimizer"],
            config["loss"],
            metrics=config["metrics"],
            weighted_metrics=weighted,
            recompute=config.get("recompute", False),
        )

    def trained_layers(self) -> list[str] | None:
        """Return the names of the layers with weights that training changes as `compile` fixed it, None before."""
        compiled = self._compiled
        if compiled is None or not self.built:
            return None
        return sorted(layer.name for layer in compiled.trained if layer.weights)

    def fix_trained_layers(self, names: Collection[str]) -> None:
        """Train these layers whatever their `trainable` says now; raises ValueError for a name that is not there."""
        self._require_compiled("fix_trained_layers").note_trained(self, names)

    @property
    def trained_weights(self) -> list[Parameter]:
        """The parameters that training changes as `compile` fixed it; empty before."""
        return [] if self._compiled is None else list(self._compiled.parameters)

    def optimizer_state(self) -> dict[str, NDArray[Any]]:
        """Return the optimizer's slots as views "<slot>/<layer>/<weight>" and its "iterations"; empty if uncompiled."""
        return self._training()[1].arrays() if self._compiled is not None else {}

    def load_optimizer_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore what `optimizer_state` returned; raises ValueError naming what does not fit."""
        self._require_compiled("load_optimizer_state")
        self._training()[1].load(arrays)

    def _require_compiled(self, where: str) -> Compiled:
        if self._compiled is None:
            raise RuntimeError(f"{where}: call compile first")
        return self._compiled

    def _ready(self, where: str, x: Any) -> Shape:
        """Return the shape of one sample; a model that waits for its input shape takes it from x."""
        return self._source.sample_shape

    # -- programs ------------------------------------------------------------------------------------------------------

    def _training(self) -> tuple[Recipe, TrainingState]:
        """Return the training recipe with its arrays, made at the first call after `compile`."""
        compiled = self._require_compiled("fit")
        if compiled.recipe is None or compiled.state is None:
            self._check_output(compiled.loss)
            recipe = Recipe(self._sinks, trained=compiled.trained, loss=compiled.loss, recompute=compiled.recompute)
            parameters = [parameter for parameter in self.weights if parameter in recipe.trained_parameters]
            compiled.state = TrainingState(
                compiled.optimizer, parameters, recipe.norms, recipe.repeated_norms, recipe.kernels
            )
            compiled.recipe = recipe
        return compiled.recipe, compiled.state

    def _evaluation(self, loss: Loss) -> Recipe:
        key = ("evaluation", loss.formula)
        if key not in self._recipes:
            self._check_output(loss)
            self._recipes[key] = Recipe(self._sinks, loss=loss)
        return self._recipes[key]

    def _inference(self) -> Recipe:
        recipe = self._recipes.get("inference")
        if recipe is None:
            recipe = self._recipes["inference"] = Recipe(self._sinks)
            recipe.slice_size = slices.longest(recipe, 4 * self.count_params())
        return recipe

    def _lease(self) -> Lease:
        """Return a context that gives this thread a workspace to run programs in; weights get their first values."""
        if not self._filled:
            self._initialize()
            self._filled = True
        return self._pool.lease()

    def _check_output(self, loss: Loss) -> None:
        if len(self._sinks) != 1 or len(self._sinks[0].sample_shape) != 1:
            shapes = ", ".join(str(node.shape) for node in self._sinks)
            raise ValueError(f"{self.name}: {loss.name} needs one output (None, classes), the model has {shapes}")
        last = lower(self._sinks, frozenset())[0].layer
        ends = {Softmax: "a softmax", Sigmoid: "a sigmoid"}.get(type(last))
        if loss.kind != "squared" and (ends is not None) == loss.from_logits:
            end = f"ends with {ends}" if ends else "does not end with a softmax or sigmoid"
            raise ValueError(
                f"{self.name}: the model {end} but the loss has from_logits={loss.from_logits}; change one of them"
            )
        if self._classes == 1 and (loss.kind == "categorical" or ends == "a softmax"):
            raise ValueError(
                f"{self.name}: one output with {loss.name} is the same for every sample; use a sigmoid with "
                "binary_crossentropy, or an output per class"
            )

    @property
    def _classes(self) -> int:
        return self._sinks[0].sample_shape[0]
