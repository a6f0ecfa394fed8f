"""Whether this installation computes what it should on this machine: the engine against float64, threads, files.

A sample of what the tests of the source tree look at in full, for users who have the package alone; the bounds are
those of the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from fastcnn import config
from fastcnn.selftest import engine, kernels

TEST_ISA = "avx2x16"  # sixteen lanes without AVX-512: for the tests of its loops


@dataclass(frozen=True)
class Check:
    """What was looked at, whether it is right, and the figure behind it."""

    name: str
    passed: bool
    detail: str


def run() -> Iterator[Check]:
    """Yield the checks one by one; instruction set and threads are as before at the end."""
    isa, threads = config.isa(), config.num_threads()
    try:
        for name in config.isas():
            if name == TEST_ISA:
                continue
            config.set_isa(name)
            for operation, findings in kernels.CHECKS.items():
                yield _checked(f"{name} {operation}", lambda findings=findings: _worst(findings()))  # type: ignore[misc]
            yield _checked(f"{name} training, the same bits on any number of threads", engine.threads)
        config.set_isa(isa)
        for what, look in engine.CHECKS.items():
            yield _checked(what, look)
    finally:
        config.set_isa(isa)
        config.set_num_threads(threads)


def _checked(name: str, look: Callable[[], str]) -> Check:
    """Return a check; what it raises is a failure, whatever it is, and not the end of the report."""
    try:
        return Check(name, True, look())
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {error}")


def _worst(findings: Iterable[tuple[str, float]]) -> str:
    """Return the largest of the errors, given as shares of their bounds; raises ArithmeticError for one above 1."""
    found = list(findings)
    wrong = [f"{what} {share:.3g}" for what, share in found if not share <= 1]
    if wrong or not found:
        raise ArithmeticError(f"multiples of the bound: {', '.join(wrong) or 'nothing was compared'}")
    what, share = max(found, key=lambda finding: finding[1])
    return f"{share:.2f} of the bound ({what}, the worst of {len(found)})"
