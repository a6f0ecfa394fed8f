"""fit, evaluate, predict and their single-batch forms, with Keras' arguments and numbers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.callbacks import Callback, CallbackList, History
from fastcnn.callbacks.names import find_name
from fastcnn.errors import check_finite
from fastcnn.graph import Node, Shape
from fastcnn.layers.base import Array
from fastcnn.losses import Loss
from fastcnn.losses.base import Rows
from fastcnn.models import batches, given, slices
from fastcnn.models.batches import BATCH_SIZE, Batch, Source, open_source
from fastcnn.models.compilable import Compilable
from fastcnn.models.compiled import Logs, Means
from fastcnn.models.first_batch import checked_data
from fastcnn.models.fit import FitRun
from fastcnn.models.memory_limit import MemoryLimit, parse_limit
from fastcnn.models.microbatches import MicroBatches
from fastcnn.models.network import Tensor
from fastcnn.models.older import takes_loader_arguments
from fastcnn.models.prepared import prepare_now, prepared
from fastcnn.models.workspace import Mode, Workspace
from fastcnn.program import BoundProgram
from fastcnn.random import get_seed

Callbacks = Callback | Sequence[Callback] | None
Verbose = str | int  # "auto", 0, 1, 2


class Trainer(Compilable):
    """A network that can be compiled, trained, evaluated and asked for predictions."""

    def __init__(
        self,
        inputs: Tensor | Sequence[Tensor],
        outputs: Tensor | Sequence[Tensor],
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        self._training_lock = threading.Lock()
        self._training_thread: int | None = None  # the one that holds the lock
        self._run: FitRun | None = None
        self.stop_training = False
        super().__init__(inputs, outputs, name, trainable)

    # -- one batch -----------------------------------------------------------------------------------------------------

    def _compute(self, where: str, workspace: Workspace, batch: Batch, mode: Mode) -> tuple[BoundProgram, float]:
        """Run a batch forward, in training what comes before its update too; return the program and the mean loss.

        Raises NonFiniteError for a loss in training that is not finite.
        """
        compiled = self._require_compiled(where)
        t = batches.targets(where, compiled.loss, batch, self._classes)
        assert batch.y is not None
        factors = compiled.loss.row_weights(batch.y, batch.sample_weight, batch.size)
        if mode == "evaluation":
            program = workspace.program(mode, batch.size, self._evaluation(compiled.loss))
        else:
            recipe, state = self._training()
            program = workspace.program(mode, batch.size, recipe, state)
            state.begin_batch()
        total = self._total(self._run_program(program, batch, t, factors), factors)
        if mode != "evaluation":
            check_finite(where, total)
        return program, total

    def _run_program(self, program: BoundProgram, batch: Batch, t: Array, factors: Rows) -> Rows:
        """Run a batch, or a part of one, with its targets t[N,K] and the factors [N] of its losses; return these."""
        batch.write(program.x)
        program.cache["t"][...] = t
        program.cache["weight"][...] = factors
        program.compute()
        return program.cache["loss"].astype(np.float64)

    def _total(self, losses: Rows, factors: Rows) -> float:
        """Return the loss of a batch from those of its samples: their sum with factors, and the penalties."""
        penalties = self._require_compiled("fit").penalties
        return float(np.dot(losses, factors.astype(np.float32))) + penalties.total()

    def _lone_batch(
        self,
        where: str,
        x: ArrayLike,
        y: Any,
        sample_weight: Any,
        class_weight: Mapping[int, float] | None,
        train: bool,
    ) -> Batch:
        """Return arrays as a batch that is part of no epoch, its samples prepared."""
        compiled = self._require_compiled(where)
        samples = given.checked_x(where, x, self._ready(where, x))
        if len(samples) == 0:
            raise ValueError(f"{where}: x holds no samples (x is {list(samples.shape)})")
        weights = None if sample_weight is None else given.checked_weights(where, sample_weight, len(samples))
        labels = None if y is None else np.asarray(y)
        batch = Batch(samples, slice(None), len(samples), labels, weights)
        batch = self._with_class_weight(where, batch, class_weight)
        if train:  # no epoch here: what random layers do follows from the number of the step
            batch = replace(batch, epoch=compiled.optimizer.iterations)
        recipe = self._training()[0] if train else self._evaluation(compiled.loss)
        return prepare_now(batch, recipe.preparation, train)

    def _one_batch(self, where: str, batch: Batch, train: bool) -> Logs:
        means = Means(self._require_compiled(where))
        with self._lease() as workspace:
            program, loss = self._compute(where, workspace, batch, "training" if train else "evaluation")
            if train:
                program.update(where)
            means.update(loss, batch, program.outputs[0])
        return means.result()

    def _with_class_weight(self, where: str, batch: Batch, class_weight: Mapping[int, float] | None) -> Batch:
        if class_weight is None:
            return batch
        if batch.sample_weight is not None:
            raise ValueError(f"{where}: class_weight and sample_weight exclude each other")
        loss = self._require_compiled(where).loss
        batches.targets(where, loss, batch, self._classes)
        assert batch.y is not None
        table = given.checked_class_weight(where, class_weight, loss.label_classes(self._classes))
        return replace(batch, sample_weight=given.class_weights(table, batch.y))

    def train_on_batch(
        self,
        x: ArrayLike,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Update the weights once; return the loss before the update, with metrics [loss, metric...] or a dict."""
        with self._exclusive("train_on_batch"):
            batch = self._lone_batch("train_on_batch", x, y, sample_weight, class_weight, train=True)
            logs = self._one_batch("train_on_batch", batch, train=True)
        return _returned(logs, return_dict)

    def test_on_batch(self, x: ArrayLike, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Return the loss of one batch, with metrics [loss, metric...] or a dict."""
        batch = self._lone_batch("test_on_batch", x, y, sample_weight, None, train=False)
        logs = self._one_batch("test_on_batch", batch, train=False)
        return _returned(logs, return_dict)

    def gradient_norms(self, x: ArrayLike, y: Any = None, sample_weight: Any = None) -> dict[str, float]:
        """Return the L2 norm of the loss's gradient of each trained weight by its path, as "conv1/kernel".

        The batch is run as in training (batch statistics, dropout, random layers), but nothing is changed; callbacks
        may ask during `fit`. Penalties are part of the loss; clipping and weight decay come later. Raises
        NonFiniteError for a loss that is not finite, RuntimeError before `compile` and while another thread trains.
        """
        from fastcnn.models import gradients

        return gradients.gradient_norms(self, x, y, sample_weight)

    def predict_on_batch(self, x: ArrayLike) -> Any:
        """Return the output for samples x[N,...] as float32 [N,...], a list if the model has several outputs."""
        samples = given.checked_x("predict_on_batch", x, self._ready("predict_on_batch", x))
        recipe = self._inference()
        if len(samples) == 0:
            return self._output_arrays(0)
        if recipe.preparation is not None:
            samples = prepare_now(Batch(samples, slice(None), len(samples)), recipe.preparation, False).x
        with self._lease() as workspace:
            outputs = slices.predict(workspace, recipe, samples)
        return outputs[0] if len(outputs) == 1 else outputs

    def _output_arrays(self, size: int) -> Any:
        arrays = [np.empty((size, *node.sample_shape), np.float32) for node in self._sinks]
        return arrays[0] if len(arrays) == 1 else arrays

    def __call__(self, x: Any, training: bool | None = None) -> Any:
        """Return the symbolic output for a symbolic input, or for an array the predictions."""
        if isinstance(x, Node) or (isinstance(x, list | tuple) and x and all(isinstance(node, Node) for node in x)):
            return super().__call__(x, training)
        if training:
            raise ValueError(f"{self.name}: training=True is not supported for arrays; use fit or train_on_batch")
        return self.predict_on_batch(x)

    # -- fit -----------------------------------------------------------------------------------------------------------

    @takes_loader_arguments
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Verbose = "auto",
        callbacks: Callbacks = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
        *,
        memory_limit: int | str | None = None,
    ) -> History:
        """Train for `epochs` epochs; return the History of running means per epoch, with those of validation.

        x is an array [N,...] with labels y, a dataset that gives (x, y) batches, or a generator with `steps_per_epoch`.
        The order of shuffled arrays follows from (seed, epoch). Raises ValueError and TypeError for data that do not
        fit, before the first step, NonFiniteError for a loss that is not finite, RuntimeError if the model is already
        being trained. Ctrl-C ends training before or after the batch at hand: the History so far is returned, its
        `interrupted` true, and another `fit` goes on from there.

        `memory_limit` is a number of bytes or a size such as "4GB" (1 GB = 2**30 bytes). A batch whose `memory_plan`
        takes more is cut into the fewest nearly equal micro-batches that fit; their gradients are added up, which costs
        an array as large as the gradients, and change the weights once, by the same bits as
        `gradient_accumulation_steps` of batches of that size. Without batch normalisation and dropout the result is
        that of the whole batch but for rounding, whatever the weights of samples and classes and the size of the last
        batch; with batch normalisation being trained, whose statistics become those of a micro-batch, there is a
        warning. The batches of validation are cut too, without effect on any number. The History's `micro_batches` is
        the largest number of parts. Raises ValueError, before the first step, for a limit that is none, if not even
        one sample fits, and if a batch must be cut but the optimizer accumulates gradients itself. Not counted are the
        data and what other threads and models use.
        """
        limit_bytes = parse_limit(memory_limit)
        with self._exclusive("fit"):
            compiled = self._require_compiled("fit")
            shape = self._ready("fit", x)
            self._training()
            if validation_split and validation_data is None:
                (x, y, sample_weight), validation_data = given.split("fit", (x, y, sample_weight), validation_split)
            source = open_source(
                "fit",
                shape,
                x,
                y,
                sample_weight,
                batch_size=batch_size,
                seed=get_seed() if shuffle else None,
                steps=steps_per_epoch,
                steps_name="steps_per_epoch",
                endless=True,
            )
            self._check_labels("fit: y", x, y, compiled.loss)
            validation = self._validation_source(
                shape, validation_data, validation_batch_size or batch_size, validation_steps, compiled.loss
            )
            if class_weight is not None:
                if sample_weight is not None:
                    raise ValueError("fit: class_weight and sample_weight exclude each other")
                given.checked_class_weight("fit", class_weight, compiled.loss.label_classes(self._classes))
            names = self.metrics_names + [f"val_{name}" for name in self.metrics_names if validation is not None]
            hooks = self._hooks(callbacks, verbose, source, history=True, epochs=epochs, metrics=names)
            limit = MemoryLimit(
                self,
                limit_bytes,
                validated=validation is not None,
                report=print if verbose != 0 else lambda _: None,
            )
            with self._lease_within(limit) as workspace:
                limit.begin(source.largest)
                parts = MicroBatches(self, workspace, limit)
                epochs_to_do = range(initial_epoch, epochs)
                self._run = FitRun(self, parts, source, validation, hooks, epochs_to_do, class_weight, validation_freq)
                try:
                    self._run.run()
                finally:
                    self._run = None
            assert hooks.history is not None
            hooks.history.micro_batches = limit.most
            return hooks.history

    @contextmanager
    def _lease_within(self, limit: MemoryLimit) -> Iterator[Workspace]:
        """Give a workspace as `_lease` does; with a limit it is a fresh one, and nothing is kept afterwards."""
        if limit.nbytes is None:
            with self._lease() as workspace:
                yield workspace
            return
        self._pool.clear()
        state = self._training()[1]
        try:
            with state.all_gradients(), state.weights.with_parts(), self._lease() as workspace:
                yield workspace
        finally:
            state.most_parts = 1
            self._pool.clear()

    def running_fit(self) -> FitRun:
        """Return the run of `fit` that is going on, for callbacks; raises RuntimeError if none is."""
        if self._run is None:
            raise RuntimeError(f"{self.name}: fit is not running")
        return self._run

    def metric_rises(self, name: str) -> bool | None:
        """Return whether a higher value of a compiled metric is better, None if that is not known."""
        metrics = {} if self._compiled is None else self._compiled.metrics
        found = find_name(name, metrics, tell=False)
        return None if found is None else metrics[found].rises

    def _check_labels(self, where: str, x: Any, y: Any, loss: Loss) -> None:
        """Check the labels of arrays all at once; of datasets their number of classes, and then batch by batch."""
        if given.is_array_like(x):
            if y is None:
                raise ValueError(f"{where} is missing; arrays need labels")
            loss.check(y, self._classes, where)
            return
        known, form = given.label_form(x)
        outputs, most = self._classes, loss.label_classes(self._classes)
        if known is not None and ((form == "categorical" and known != outputs) or (most is not None and known > most)):
            raise ValueError(
                f"{where}: the data have {known} classes, the model has {outputs} outputs; give its last layer as many "
                "units as there are classes, or the data fewer classes"
            )

    def _validation_source(
        self, shape: Shape, data: Any, batch_size: int | None, steps: int | None, loss: Loss
    ) -> Source | None:
        if data is None:
            return None
        where = "fit: validation_data"
        parts = data if isinstance(data, tuple | list) else (data,)
        if not 1 <= len(parts) <= 3:
            raise ValueError(f"{where} must be (x, y), (x, y, sample_weight) or a dataset, got {len(parts)} parts")
        x, y, sample_weight = (*parts, None, None)[:3]
        x = checked_data(where, x, shape, loss, self._classes)
        size = batch_size if given.is_array_like(x) else None
        source = open_source(
            where, shape, x, y, sample_weight, batch_size=size, steps=steps, steps_name="validation_steps"
        )
        self._check_labels(f"{where}: y", x, y, loss)
        return source

    @contextmanager
    def _exclusive(self, where: str, *, join: bool = False) -> Iterator[None]:
        """Keep other calls that train out; with `join` the callbacks of the one that is going on may come in."""
        if join and self._training_thread == threading.get_ident():
            yield
            return
        if not self._training_lock.acquire(blocking=False):
            raise RuntimeError(f"{where}: {self.name} is already being trained by another call")
        self._training_thread = threading.get_ident()
        try:
            yield
        finally:
            self._training_thread = None
            self._training_lock.release()

    # -- evaluate and predict ------------------------------------------------------------------------------------------

    @takes_loader_arguments
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Verbose = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Callbacks = None,
        return_dict: bool = False,
    ) -> Any:
        """Return the mean loss over the data, with metrics [loss, metric...] or a dict; prints for verbose 1 and 2."""
        compiled = self._require_compiled("evaluate")
        shape = self._ready("evaluate", x)
        source = open_source("evaluate", shape, x, y, sample_weight, batch_size=batch_size, steps=steps)
        self._evaluation(compiled.loss)
        self._check_labels("evaluate: y", x, y, compiled.loss)
        hooks = self._hooks(callbacks, _quiet(verbose), source)
        with self._lease() as workspace:

            def compute(where: str, batch: Batch) -> tuple[float, Array]:
                program, loss = self._compute(where, workspace, batch, "evaluation")
                return loss, program.outputs[0]

            return _returned(self._evaluate("evaluate", compute, source, hooks), return_dict)

    def _evaluate(
        self, where: str, compute: Callable[[str, Batch], tuple[float, Array]], source: Source, hooks: CallbackList
    ) -> Logs:
        compiled = self._require_compiled(where)
        preparation = self._evaluation(compiled.loss).preparation
        means = Means(compiled)
        logs: Logs = {}
        hooks.on_test_begin()
        for step, batch in enumerate(prepared(source.epoch(0), preparation, training=False)):
            hooks.on_test_batch_begin(step)
            loss, p = compute(where, batch)
            means.update(loss, batch, p)
            logs = means.result()
            hooks.on_test_batch_end(step, logs)
        if not logs:
            raise ValueError(f"{where}: the data hold no batches")
        hooks.on_test_end(logs)
        return logs

    @takes_loader_arguments
    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Verbose = "auto",
        steps: int | None = None,
        callbacks: Callbacks = None,
    ) -> Any:
        """Return the output for all samples as float32 [N,...], a list if there are several; prints for verbose 1.

        x is an array of any real type, or a dataset or generator whose batches are x or begin with it.
        """
        shape = self._ready("predict", x)
        recipe = self._inference()
        if given.is_array_like(x):
            given.check_count("predict", "batch_size", batch_size)
            samples = given.checked_x("predict", x, shape)
            silent = callbacks is None and steps is None and _quiet(verbose) == 0
            if silent and len(samples) <= (batch_size or BATCH_SIZE):
                return self.predict_on_batch(samples)
        source = open_source("predict", shape, x, batch_size=batch_size, steps=steps)
        hooks = self._hooks(callbacks, _quiet(verbose), source)
        parts: list[list[Array]] = []
        with self._lease() as workspace:
            hooks.on_predict_begin()
            for step, batch in enumerate(prepared(source.epoch(0), recipe.preparation, training=False)):
                hooks.on_predict_batch_begin(step)
                parts.append(slices.predict(workspace, recipe, batch.x[batch.rows]))
                hooks.on_predict_batch_end(step)
            hooks.on_predict_end()
        outputs = [np.concatenate(rows) for rows in zip(*parts, strict=True)]
        return outputs[0] if len(outputs) == 1 else outputs

    def _hooks(
        self, callbacks: Callbacks, verbose: Verbose, source: Source, history: bool = False, **params: Any
    ) -> CallbackList:
        return CallbackList(
            callbacks,
            add_history=history,
            add_progress=verbose != 0,
            model=self,  # type: ignore[arg-type]  # every Trainer that is made is a Model
            verbose=verbose,
            steps=source.steps,
            **params,
        )


def _quiet(verbose: Verbose) -> Verbose:
    """Return what "auto" means where nothing is printed unasked."""
    return 0 if verbose == "auto" else verbose


def _returned(logs: Logs, return_dict: bool) -> Any:
    """Return Keras' form of results: a dict, a list, or the loss alone where there is nothing else."""
    if return_dict:
        return logs
    return list(logs.values()) if len(logs) > 1 else logs["loss"]
