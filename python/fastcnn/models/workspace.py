"""Memory and programs of a model: one arena per caller at a time, programs of several batch sizes in it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Literal

from fastcnn import _core
from fastcnn.program import BoundProgram, Emitter, Packer, Placement, Recipe, Training, runtime

# part: training on a part of a batch; gradients: training that keeps all of them and is never updated
Mode = Literal["inference", "evaluation", "training", "part", "gradients"]

PROGRAMS = 8  # kept per workspace, the least recently used goes first
IDLE = 4  # workspaces kept for callers to come


class Workspace:
    """An arena with the programs bound to it; serves one caller at a time.

    The arena holds the largest program; the others lie in the same memory, since only one runs.
    """

    def __init__(self, constants: Packer) -> None:
        self.stamp = runtime()
        self._constants = constants
        self._variables = Packer(kept=False)
        self._arena = _core.Arena()
        self._scratch = _core.Arena()
        self._placements: dict[tuple[Mode, Recipe], Placement] = {}
        self._programs: OrderedDict[tuple[Mode, int], tuple[Recipe, BoundProgram]] = OrderedDict()

    def program(self, mode: Mode, batch: int, recipe: Recipe, training: Training | None = None) -> BoundProgram:
        """Return the program of a recipe for a batch size, made at the first call."""
        key = (mode, batch)
        found = self._programs.get(key)
        if found is not None and found[0] is recipe:
            self._programs.move_to_end(key)
            return found[1]
        program = self._make(mode, batch, recipe, training)
        self._programs[key] = recipe, program
        while len(self._programs) > PROGRAMS:
            self._programs.popitem(last=False)
        return program

    def _make(self, mode: Mode, batch: int, recipe: Recipe, training: Training | None) -> BoundProgram:
        repeated = recipe.repeated_norms
        packers = self._constants, self._variables
        emitter = Emitter(self._scratch, recipe.trained, *packers, training, repeated, mode == "training")
        layout = recipe.layout(batch, emitter)
        placement = self._placements.get((mode, recipe))
        if placement is None or not placement.serves(layout):
            placement = Placement(layout)
            self._placements = {key: kept for key, kept in self._placements.items() if key[0] != mode}
            self._placements[mode, recipe] = placement
        self._reserve(placement.plan.nbytes)
        return BoundProgram(recipe, layout, placement.plan, self._arena.bytes(), emitter, training, mode == "part")

    def forget(self, mode: Mode) -> None:
        """Drop the programs of a mode."""
        for key in [key for key in self._programs if key[0] == mode]:
            del self._programs[key]

    def _reserve(self, nbytes: int) -> None:
        if nbytes > self._arena.nbytes:
            self._programs.clear()  # they hold the old memory, which goes before the new one comes
            self._arena = _core.Arena()
            self._arena = _core.Arena(nbytes)

    @property
    def nbytes(self) -> tuple[int, int]:
        """Bytes of arena and scratch."""
        return self._arena.nbytes, self._scratch.nbytes

    def poison(self) -> None:
        """Fill arena and scratch with NaN, to show reads of what no step has written."""
        for arena in (self._arena, self._scratch):
            arena.bytes()[:] = 0xFF


class Lease:
    """The time for which a thread has a workspace of a pool; a class, since a generator takes a microsecond longer."""

    __slots__ = ("_before", "_pool", "_thread", "_workspace")

    def __init__(self, pool: WorkspacePool) -> None:
        self._pool = pool
        self._workspace: Workspace | None = None

    def __enter__(self) -> Workspace:
        pool, stamp = self._pool, runtime()
        self._thread = threading.get_ident()
        self._before = pool._held.get(self._thread)
        if self._before is not None and self._before.stamp == stamp:
            return self._before
        self._workspace = pool._held[self._thread] = pool._take(stamp)
        return self._workspace

    def __exit__(self, *_: object) -> None:
        if self._workspace is None:
            return
        if self._before is None:
            del self._pool._held[self._thread]
        else:
            self._pool._held[self._thread] = self._before
        self._pool._put(self._workspace)


class WorkspacePool:
    """Workspaces of one model: a thread keeps its own until its outermost `lease` ends, other threads get others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[int, Workspace] = {}
        self._reset()

    def _reset(self) -> None:
        self.stamp = runtime()
        self.constants = Packer(kept=True)
        self._idle: list[Workspace] = []

    def lease(self) -> Lease:
        """Return a context that gives this thread a workspace."""
        return Lease(self)

    def _take(self, stamp: tuple[str, bool, int]) -> Workspace:
        with self._lock:
            if self.stamp != stamp:
                self._reset()
            return self._idle.pop() if self._idle else Workspace(self.constants)

    def _put(self, workspace: Workspace) -> None:
        with self._lock:
            if workspace.stamp == self.stamp and workspace._constants is self.constants and len(self._idle) < IDLE:
                self._idle.append(workspace)

    def clear(self) -> None:
        """Give all memory back that no thread is using."""
        with self._lock:
            self._reset()

    def idle(self) -> list[Workspace]:
        """Return the workspaces that nobody is using."""
        with self._lock:
            return list(self._idle)
