"""Methods that models had up to Keras 2: the `_generator` ones, `predict_classes` and `predict_proba`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn import compat
from fastcnn.callbacks import Callback, History
from fastcnn.compat import old_name
from fastcnn.models.older import set_threads
from fastcnn.models.training import Trainer


class OldMethods(Trainer):
    """Methods of Keras 2's models; each says once what took its place."""

    def fit_generator(
        self,
        generator: Any,
        steps_per_epoch: int | None = None,
        epochs: int = 1,
        verbose: str | int = 1,
        callbacks: Callback | Sequence[Callback] | None = None,
        validation_data: Any = None,
        validation_steps: int | None = None,
        validation_freq: int | Sequence[int] = 1,
        class_weight: Mapping[int, float] | None = None,
        max_queue_size: int = 10,
        workers: int | None = None,
        use_multiprocessing: bool = False,
        shuffle: bool = True,
        initial_epoch: int = 0,
        nb_epoch: int | None = None,
    ) -> History:
        """Old name of `fit`, which takes generators too; returns and raises what that does."""
        old_name("fit_generator", "fit takes generators too")
        if nb_epoch is not None:
            old_name("fit_generator(nb_epoch=)", "write epochs=")
            epochs = nb_epoch
        if workers is not None:
            for data in (generator, validation_data):
                set_threads("fit_generator", data, workers)
        return self.fit(
            generator,
            epochs=epochs,
            verbose=verbose,
            callbacks=callbacks,
            validation_data=validation_data,
            shuffle=shuffle,
            class_weight=class_weight,
            initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch,
            validation_steps=validation_steps,
            validation_freq=validation_freq,
        )

    def evaluate_generator(
        self,
        generator: Any,
        steps: int | None = None,
        callbacks: Callback | Sequence[Callback] | None = None,
        max_queue_size: int = 10,
        workers: int | None = None,
        use_multiprocessing: bool = False,
        verbose: str | int = 0,
    ) -> Any:
        """Old name of `evaluate`, which takes generators too; returns and raises what that does."""
        old_name("evaluate_generator", "evaluate takes generators too")
        if workers is not None:
            set_threads("evaluate_generator", generator, workers)
        return self.evaluate(generator, steps=steps, callbacks=callbacks, verbose=verbose)

    def predict_generator(
        self,
        generator: Any,
        steps: int | None = None,
        callbacks: Callback | Sequence[Callback] | None = None,
        max_queue_size: int = 10,
        workers: int | None = None,
        use_multiprocessing: bool = False,
        verbose: str | int = 0,
    ) -> Any:
        """Old name of `predict`, which takes generators too; returns and raises what that does."""
        old_name("predict_generator", "predict takes generators too")
        if workers is not None:
            set_threads("predict_generator", generator, workers)
        return self.predict(generator, steps=steps, callbacks=callbacks, verbose=verbose)

    def predict_classes(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int = 0,
        steps: int | None = None,
    ) -> NDArray[np.integer[Any]]:
        """Return the number of each sample's class; see fastcnn.compat.predict_classes."""
        old_name("predict_classes", "write predict(x).argmax(axis=-1), or for one output predict(x) > 0.5")
        return compat.predict_classes(self, x, batch_size, verbose, steps)

    def predict_proba(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int = 0,
        steps: int | None = None,
    ) -> NDArray[np.float32]:
        """Return what `predict` does; see fastcnn.compat.predict_proba."""
        old_name("predict_proba", "write predict")
        return compat.predict_proba(self, x, batch_size, verbose, steps)
