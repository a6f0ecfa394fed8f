"""Times engines against each other: same weights, images and threads, one process each, called in turn in one run.

Engines are the `peers/*_peer.py`; each is given with the Python that has it, the models come from `peers/export.py`:

    python bench/compare_peers.py --models models --model resnet50 vgg16 --batch 1 8 --json results.jsonl \\
        --peer fastcnn=python --peer onnxruntime=ort/bin/python \\
        --peer ncnn=ncnn/bin/python --peer torch:compile=torch/bin/python

Outputs must agree before anything is timed; an engine that disagrees or fails gets FAIL and no number, and the exit
status is 1. In each round every engine makes some untimed calls, then the timed ones; then a pause lets its spinning
worker threads fall asleep.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "peers"))

import contest
from client import disagreement
from protocol import MODES, Workload
from seeded import Array

LOGITS_TOLERANCE = 1e-3  # of max |logit|
# relative, before and after the first update: Adam turns the noise of small gradients into whole steps
LOSS_TOLERANCES = (1e-3, 2e-2)


def wrong(values: Array, reference: Array, mode: str) -> tuple[float, str]:
    """Returns the largest disagreement and, if it is too large, what is wrong."""
    pairs = [(values, reference, LOGITS_TOLERANCE)]
    if mode == "train":
        pairs = [(values[i : i + 1], reference[i : i + 1], LOSS_TOLERANCES[i]) for i in range(len(LOSS_TOLERANCES))]
    errors = [(disagreement(got, expected), tolerance) for got, expected, tolerance in pairs]
    excess = [f"outputs differ by {error:.1e} > {tolerance:.0e}" for error, tolerance in errors if error > tolerance]
    return max(error for error, _ in errors), "; ".join(excess)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    contest.add_arguments(parser, rounds=10, repeats=3, warmup=1)
    parser.add_argument("--models", type=Path, required=True, help="directory written by export.py")
    parser.add_argument("--model", nargs="+", required=True)
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--size", type=int, default=224, help="rows and columns of an image")
    parser.add_argument("--mode", choices=MODES, default="infer")
    return parser


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    specs = contest.checked_specs(parser, options)
    about = contest.settings(options)
    failed = False
    for model in options.model:
        for batch in options.batch:
            workload = Workload(model=model, batch=batch, size=options.size, threads=options.threads, mode=options.mode)
            results = contest.compare(specs, workload, "peer", options.models, wrong, options)
            print(contest.table(workload.title, batch, results), flush=True)
            if options.json:
                contest.record(options.json, workload, results, about)
            failed |= any(result.failure for result in results)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
