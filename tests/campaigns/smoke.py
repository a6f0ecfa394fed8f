"""Train and run a small network on each instruction set of this processor and compare them.

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
    """Return 0 when the sets are those wanted and agree."""
    import numpy as np

    import fastcnn
    from fastcnn import layers

    tests_only = {"avx2x16"}
    if [isa for isa in fastcnn.isas() if isa not in tests_only] != wanted or fastcnn.isa() != wanted[-1]:
        print(f"expected {wanted}, the last by default; got {fastcnn.isas()} and {fastcnn.isa()}")
        return 1
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (8, 12, 12, 3)).astype(np.float32)
    t = np.arange(8) % 4
    results = {}
    for isa in fastcnn.isas():
        fastcnn.set_isa(isa)
        fastcnn.set_random_seed(1)
        model = fastcnn.Sequential(
            [
                layers.Input((12, 12, 3)),
                layers.Conv2D(16, 3, padding="same", use_bias=False),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.MaxPooling2D(2),
                layers.Conv2D(24, 1, strides=2, activation="relu"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(4, activation="softmax"),
            ]
        )
        model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        losses = model.fit(x, t, batch_size=8, epochs=5, verbose=0).history["loss"]
        results[isa] = np.concatenate([losses, model.predict(x, verbose=0).ravel()])
        print(f"{isa}: loss {losses[0]:.4f} to {losses[-1]:.4f}")
        if not losses[-1] < losses[0]:
            print(f"{isa}: the loss does not fall")
            return 1
    first = results[wanted[0]]
    worst = max(float(np.max(np.abs(result - first))) for result in results.values())
    print(f"largest difference between instruction sets: {worst:.2g}")
    return 0 if worst < 1e-3 else 1


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if not arguments:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(refused() if arguments == ["--refused"] else main(arguments))
