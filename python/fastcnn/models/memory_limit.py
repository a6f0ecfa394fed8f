"""Into how many parts fit cuts a batch so that its memory stays below a limit."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.compat import caller_level
from fastcnn.models.memory import MemoryPlan, training_plan
from fastcnn.report import memory_size, parse_memory_size

if TYPE_CHECKING:
    from fastcnn.models.training import Trainer


class MemoryLimit:
    """Tells for one `fit` in how many parts a batch is computed: the fewest that fit into `nbytes` (None: one).

    `validated` says that batches are evaluated in between, which needs memory too. `report` receives a line for the
    first batch, and for any that is cut into more parts.
    """

    def __init__(
        self,
        model: Trainer,
        nbytes: int | None,
        *,
        validated: bool = False,
        report: Callable[[str], Any] = print,
    ) -> None:
        self._model = model
        self.nbytes = nbytes
        self._evaluated = 1 if validated else 0
        self._report = report
        self._counts: dict[int, int] = {}  # parts of a batch by its size
        self._evaluated_counts: dict[int, int] = {}
        self._trained = 1, 1  # size and parts of the largest batch so far
        self._numbered = False  # whether it is known how many numbers dropout needs for a batch

    @property
    def most(self) -> int:
        """The largest number of parts that a batch has been cut into."""
        return max(self._counts.values(), default=1)

    def begin(self, largest: int | None) -> None:
        """Look at the limit before the first batch; `largest` is the size of the largest one, if that is known.

        Raises ValueError if not even one sample fits, and for a batch that must be cut although the optimizer adds up
        gradients itself.
        """
        if self.nbytes is None:
            self.number(1)
            return
        if largest is not None:
            self.parts(largest)
            return
        size, plan = self._smallest()
        if plan.total > self.nbytes:
            self._refuse(size, plan)

    def parts(self, size: int) -> int:
        """Return in how many parts a batch of `size` samples is computed; raises ValueError as `begin` does."""
        if self.nbytes is None:
            return 1
        if size not in self._counts:
            count = self._chosen(size)
            if not self._numbered:
                self.number(count)
            self._trained = max(self._trained, (size, count))
            if not self._counts or count > self.most:
                self._tell(size, count)
            self._counts[size] = count
        return self._counts[size]

    def number(self, parts: int) -> bool:
        """Let dropout draw from that many numbers for each batch; tell whether it did not do otherwise before.

        A resumed run is told, since it may begin at a batch that has fewer parts than others.
        """
        state = self._model._training()[1]
        if not self._numbered:
            state.most_parts, self._numbered = parts, True
        return state.most_parts == parts

    def _chosen(self, size: int) -> int:
        """Return the smallest number of parts that fits, found by halving: fewer parts never take less memory."""
        if self._fits(size, 1):
            return 1
        smallest, plan = self._smallest()
        if plan.total > (self.nbytes or 0):
            self._refuse(smallest, plan)
        steps = self._model._require_compiled("fit").optimizer.gradient_accumulation_steps
        if steps:
            self._refuse_both(size, steps)
        if size < smallest:
            return 1  # what is wrong with such a batch is told where it is trained
        few, many = 1, size // smallest
        if not self._fits(size, many):  # the smallest batch does, but parts need the sum of their gradients
            self._refuse(math.ceil(size / many), self._plan(size, many) or plan)
        while many - few > 1:
            middle = (few + many) // 2
            few, many = (few, middle) if self._fits(size, middle) else (middle, many)
        return many

    def _fits(self, size: int, count: int) -> bool:
        plan = self._plan(size, count)
        return plan is not None and plan.total <= (self.nbytes or 0)

    def _plan(self, size: int, count: int, evaluated: int | None = None) -> MemoryPlan | None:
        """Return the plan of a batch in parts, None for parts too small to be normalised and beyond all memory."""
        sizes = {math.ceil(size / count), size // count}
        between = self._evaluated if evaluated is None else evaluated
        try:
            return training_plan(self._model, sizes, count > 1, [between] if between else [])
        except (MemoryError, ValueError):
            return None

    def _smallest(self) -> tuple[int, MemoryPlan]:
        """Return the size of the smallest batch that can be trained, and its plan; raises what forbids training."""
        plan = self._plan(1, 1)
        return (1, plan) if plan is not None else (2, training_plan(self._model, [2]))

    def _refuse(self, samples: int, plan: MemoryPlan) -> None:
        what = (
            "one sample at a time takes" if samples == 1 else f"{samples} samples at a time, the fewest possible, take"
        )
        raise ValueError(
            f"fit: memory_limit: {what} {memory_size(plan.total)}, allowed are {memory_size(self.nbytes or 0)}: "
            f"{plan.in_words()}"
        )

    def _refuse_both(self, size: int, steps: int) -> None:
        largest = next(n for n in range(size - 1, 0, -1) if self._fits(n, 1))
        plan = self._plan(size, 1)
        takes = "more than there is" if plan is None else memory_size(plan.total)
        raise ValueError(
            f"fit: memory_limit: a batch of {size} takes {takes}, allowed are {memory_size(self.nbytes or 0)}, and it "
            f"cannot be cut because the optimizer adds up the gradients of gradient_accumulation_steps={steps} batches "
            f"itself: give a batch_size of at most {largest} and more steps"
        )

    def _tell(self, size: int, count: int) -> None:
        limit, plan = memory_size(self.nbytes or 0), self._plan(size, count)
        takes = memory_size(plan.total if plan else 0)
        if count == 1:
            self._report(f"memory: a batch of {size} takes {takes} of {limit} allowed")
            return
        self._report(
            f"memory: a batch of {size} is trained in {count} micro-batches of {_spoken(size, count)}: {takes} of "
            f"{limit} allowed"
        )
        recipe = self._model._training()[0]
        if (recipe.norms or recipe.repeated_norms) and self.most == 1:
            warnings.warn(
                f"fit: memory_limit: a batch of {size} is trained in {count} micro-batches, and batch normalisation "
                f"takes its statistics from each micro-batch of {_spoken(size, count)} alone; the moving ones follow "
                "each of them. Results differ from those of whole batches",
                stacklevel=caller_level(),
            )

    def evaluated_parts(self, size: int) -> int:
        """Return in how many parts a batch of validation is computed: the fewest that fit, or single samples."""
        if self.nbytes is None:
            return 1
        if size not in self._evaluated_counts:
            few, many = 0, size
            while many - few > 1:
                middle = (few + many) // 2
                plan = self._plan(*self._trained, evaluated=math.ceil(size / middle))
                few, many = (few, middle) if plan is not None and plan.total <= self.nbytes else (middle, many)
            self._evaluated_counts[size] = many
        return self._evaluated_counts[size]


def parse_limit(given: int | str | None) -> int | None:
    """Return fit's memory_limit in bytes; raises ValueError for what is neither bytes nor a size such as "4GB"."""
    expected = "fit: memory_limit must be a number of bytes above 0 or a size such as '4GB' or '512MB'"
    if given is None:
        return None
    found: object = given
    if isinstance(given, str):
        try:
            found = parse_memory_size(given)
        except ValueError as error:
            raise ValueError(f"{expected}, got {given!r}") from error
    if isinstance(found, bool) or not isinstance(found, int | np.integer) or found < 1:
        raise ValueError(f"{expected}, got {given!r}")
    return int(found)


def _spoken(size: int, count: int) -> str:
    small, larger = divmod(size, count)
    return f"{small + 1} or {small}" if larger else f"{small}"
