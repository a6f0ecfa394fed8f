"""What the regularizers of trained weights add to the loss."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np

from fastcnn import _core
from fastcnn.parameters import Parameter


class Penalties:
    """The sum of the penalties of some weights; costs one pass over those that have one."""

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        self._penalized = [(w, w.regularizer) for w in parameters if w.regularizer is not None]
        self._total = np.zeros(1)
        self._program: _core.Program | None = None
        self._lock = threading.Lock()

    def total(self) -> float:
        """Return the sum for the weights as they are now."""
        if not self._penalized:
            return 0.0
        with self._lock:
            if self._program is None:
                self._program = _core.Program()
                for parameter, penalty in self._penalized:
                    self._program.penalty_forward(parameter.memory, self._total, l1=penalty.l1, l2=penalty.l2)
            self._total[0] = 0.0
            self._program.run()
            return float(self._total[0])
