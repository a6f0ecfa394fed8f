"""Compare fastcnn with Keras: logits, gradients, training, losses, metrics, callbacks, signatures, behaviours.

    python bench/compare_keras.py --out docs/keras_parity.md
    python bench/compare_keras.py --gradients whole         # with every entry of ResNet50's gradients

Reads what `peers/keras_parity.py` recorded, in tests/vectors/keras_parity; prints a page of tables. The exit status is
1 if a bound is missed or a difference is not listed. tests/keras/test_parity.py asserts the same.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "bench" / "peers"), str(ROOT / "tests" / "keras")]

import parity_networks as networks  # noqa: E402
import signatures  # noqa: E402
from keras_parity_rows import (  # noqa: E402
    LOGITS,
    NAMES,
    RESNET,
    TRAINED,
    VALUES,
    VECTORS,
    Recorded,
    Row,
    behaviours,
    gradients,
    logits,
    training,
    values,
)

import fastcnn  # noqa: E402


def callbacks() -> dict[str, int]:
    """Return how many decisions of each callback tests/callbacks/test_keras_decisions.py compares."""
    recorded = json.loads((VECTORS.parent / "keras_callbacks.json").read_text())
    return {name: len(cases) for name, cases in recorded.items()}


def table(head: str, rows: list[tuple[Any, ...]]) -> list[str]:
    """Return lines of a Markdown table: columns but the first are numbers where the first row's are."""
    names = [name.strip() for name in head.split("|")]
    right = [isinstance(value, float | int) for value in rows[0]]
    cells = [[f"{v:.1e}" if isinstance(v, float) else f"{v}" for v in row] for row in rows]
    rule = " | ".join("---:" if number else "---" for number in right)
    return [f"| {' | '.join(names)} |", f"| {rule} |", *(f"| {' | '.join(row)} |" for row in cells), ""]


def report(recorded: Recorded) -> tuple[list[str], list[str]]:
    """Return the page's lines, and those that say what fails."""
    lines = [HEAD.format(isa=fastcnn.isa(), keras=recorded.values["keras"], backend=recorded.values["backend"])]
    failed: list[str] = []

    def compared(rows: list[Row]) -> list[tuple[Any, ...]]:
        failed.extend(
            f"{row.part}, {row.what}: {row.difference:.1e} above {row.bound:.0e}" for row in rows if not row.ok
        )
        return [(row.what, row.difference, f"{row.bound:.0e}", row.keras, row.fastcnn, row.verdict) for row in rows]

    columns = "| difference | bound | Keras' error | fastcnn's error | holds"
    found = [row for name in networks.APPLICATIONS for row in logits(recorded, name)]
    lines += [LOGITS_TEXT, *table(f"network {columns}", compared(found))]
    found = [row for which in NAMES for allowed in LOGITS for row in gradients(recorded, which, allowed)]
    entries = int(recorded.gradients["samples"])
    text = GRADIENTS_TEXT.format(entries if entries < 1 << 40 else "all", RESNET)
    lines += [text, *table(f"network {columns}", compared(found))]
    lines.append(TRAINING_TEXT)
    cases = {case: training(recorded, case) for case in networks.training_cases()}
    for i, title in enumerate(TRAINED.values()):
        lines += [
            f"### {title.capitalize()}\n",
            *table(f"training {columns}", compared([r[i] for r in cases.values()])),
        ]
    lines.append(VALUES_TEXT.format(bound=VALUES))
    for what in ("losses", "metrics"):
        worst: dict[str, list[float]] = {}
        for case, difference in values(recorded, what):
            worst.setdefault(case.split()[0], []).append(difference)
            if not difference <= VALUES:
                failed.append(f"{what}, {case}: {difference:.1e} above {VALUES:.0e}")
        lines += table(f"{what} | combinations | largest difference", [(n, len(d), max(d)) for n, d in worst.items()])
    lines += ["## Callbacks\n", *table("callback | recorded decisions, all the same", list(callbacks().items()))]
    names, arguments, differences = signatures.compare()
    failed.extend(f"signature: {difference}" for difference in differences if not difference.why)
    listed = sum(bool(difference.why) for difference in differences)
    lines.append(SIGNATURES_TEXT.format(names, arguments, len(differences), len(differences) - listed))
    points = behaviours(recorded)
    failed.extend(f"behaviour, {name}: {verdict}" for name, verdict in points if verdict.startswith("UNEXPLAINED"))
    other = sum(verdict != "same" for _, verdict in points)
    lines += [BEHAVIOURS_TEXT.format(len(points), other), *table("point | fastcnn", points)]
    return lines, failed


HEAD = """# Compared with Keras

Numbers of fastcnn (instruction set {isa}) beside those of Keras {keras} on {backend}, from the same weights and data.
Made by

```sh
python bench/peers/keras_parity.py --out tests/vectors/keras_parity      # in an environment with Keras
python bench/compare_keras.py --out docs/keras_parity.md                 # in one with fastcnn
```

The recorded numbers are in `tests/vectors/keras_parity`, so the second line runs without Keras;
`tests/keras/test_parity.py` asserts the same figures. A difference is that from Keras in float32; errors are those
against Keras in float64: where fastcnn's is no larger than Keras' own, what lies between the two is rounding.
"""
LOGITS_TEXT = """## Logits

`applications` with random weights, two pictures of 64 x 64, ten classes, no softmax; relative to the largest logit.
"""
GRADIENTS_TEXT = """## Gradients

Of every weight for one batch in training: a network of all layers that are not random, 8 pictures of 15 x 14, and
ResNet50, 8 pictures of 64 x 64. In Euclidean norms, relative to the gradient's own; of ResNet50's tensors {} entries
each. In so deep a network 1e-5 is out of reach in float32, for Keras as well: a ReLU whose input rounds to the other
side of 0 switches a path on or off, and batch statistics of few values spread that. The bound there is {:.0f} times
Keras' own error.
"""
TRAINING_TEXT = """## Training

50 steps on one batch of 24 pictures: a network of two convolutions with batch normalisation, sigmoids, average pooling
and an L2 penalty. Losses of all steps, and the moving statistics and weights after the last, each relative to its
largest value. It is smooth because a ReLU on the other side of 0 by rounding makes another course of the training, for
Keras as for fastcnn. What Adam differs in is Keras' error: it makes beta_2 float32 before it takes 1 - beta_2^t, which
changes the first rates by 6e-6. "no: Keras' error" says that the bound is missed, that fastcnn's error is within it and
Keras' own is not.
"""
VALUES_TEXT = """## Losses and metrics

Called on arrays, with all labels, options and reductions, with and without sample weights; relative to what is above 1,
the bound is {bound:.0e}. Metrics get three batches, then a reset and one more.
"""
SIGNATURES_TEXT = """## Signatures

`python tests/keras/signatures.py`: {} names, {} arguments and attributes; {} differ, {} without a listed reason.
"""
BEHAVIOURS_TEXT = """## Behaviours

`bench/peers/parity_behaviours.py` asks both: {} points, {} of them listed as different, with the reason. Formulas of
optimizers are in the tables above. Not compared: `decode_predictions`, whose names Keras downloads.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gradients", type=Path, help="a folder with a gradients.npz of all entries")
    parser.add_argument("--out", type=Path, help="write the page there")
    options = parser.parse_args()
    lines, failed = report(Recorded(options.gradients))
    text = "\n".join(lines).rstrip("\n") + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)
    for line in failed:
        print(f"FAIL {line}", file=sys.stderr)
    own = text.count("| no: Keras' error |")
    print(f"{len(failed)} bounds missed or differences unexplained; {own} missed by Keras' own error", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
