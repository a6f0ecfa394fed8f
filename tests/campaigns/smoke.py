"""The instruction sets of this processor are those expected, and the self-test of the package passes on them.

    python tests/campaigns/smoke.py ISA ...

wants just these instruction sets, avx2x16 aside, and the last one to be the default.

    python tests/campaigns/smoke.py --refused

wants the extension to refuse this processor with a sentence.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def refused() -> int:
    """Load the extension alone; return 0 when it says what this processor lacks."""
    folder = Path(importlib.util.find_spec("fastcnn").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("_core", next(folder.glob("_core*.so")))
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except (ImportError, RuntimeError) as error:
        print(f"refused: {error}")
        return 0 if "below the baseline" in str(error) else 1
    print("the extension loads on a processor that it cannot run on")
    return 1


def main(wanted: list[str]) -> int:
    """Return 0 when the sets are those wanted and the self-test passes."""
    import fastcnn
    from fastcnn import selftest

    if [isa for isa in fastcnn.isas() if isa != selftest.TEST_ISA] != wanted or fastcnn.isa() != wanted[-1]:
        print(f"expected {wanted}, the last by default; got {fastcnn.isas()} and {fastcnn.isa()}")
        return 1
    checks = []
    for check in selftest.run():
        checks.append(check)
        print(f"{'ok' if check.passed else 'FAILED'} {check.name}: {check.detail}", flush=True)
    return 0 if checks and all(check.passed for check in checks) else 1


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if not arguments:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(refused() if arguments == ["--refused"] else main(arguments))
