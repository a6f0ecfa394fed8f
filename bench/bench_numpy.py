"""Every distinct layer of VGG16, ResNet50 and ResNet18 against NumPy, forward and backward, checked before it is timed.

    python bench/bench_numpy.py --json numpy.jsonl

Each layer is computed by fastcnn's kernel, by good float32 NumPy (im2col and BLAS, strided maxima, whole-array
normalisation; `fastcnn.benchmark.numpy32`) and by the readable float64 reference. Both float32 results must lie within
the bounds of the tests (`fastcnn.reference.error`); a row that does not shows FAIL, and the exit status is 1.

Forward is timed at --batch, with weights packed beforehand; batch normalisation, which needs a batch, and the backward
pass at --train-batch, with weights packed at every call, as in training. Times are medians, taken in turn; a reference
that takes over half a second is run once. NumPy has as many threads as fastcnn, and variables that force OpenBLAS to
other kernels or blocks than it would choose are dropped: the script starts itself again in such an environment.

A rate is GFLOP/s of the direct formula or, where moving bytes is all the work, GB/s of inputs and outputs once each.
"of roof" is the time that the machine's peak or its memory needs at least, whichever is longer, over fastcnn's time:
Winograd, which multiplies less, and layers that fit into a cache can be above 100 %. "error" is fastcnn's largest error
as a share of what is allowed, "f32 err" NumPy's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from commit import commit
from networks import NETWORKS

import fastcnn
from fastcnn.benchmark import roof
from fastcnn.benchmark.against_numpy import Row, compare
from fastcnn.benchmark.environment import restart_for_numpy
from fastcnn.benchmark.layers import Convolution, Normalization, Shape, distinct_layers

HEADER = (
    f"{'layer':34} {'operation':26} {'batch':>5} {'fastcnn ms':>10} {'float32 ms':>10} {'float64 ms':>10}"
    f" {'f32/ours':>8} {'f64/ours':>8} {'rate':>14} {'of roof':>8} {'error':>6} {'f32 err':>7}"
)


def line(row: Row) -> str:
    """Return a row of the table."""
    rate, unit = row.rate
    label = row.layer + (" winograd" if row.algorithm == "winograd" else "")
    verdict = "" if row.passed else "  FAIL"
    return (
        f"{label:34} {row.operation.replace('global_average_pool2d', 'global_average'):26} {row.batch:5d}"
        f" {1e3 * row.seconds:10.3f} {1e3 * row.numpy_seconds:10.3f} {1e3 * row.reference_seconds:10.2f}"
        f" {row.numpy_seconds / row.seconds:7.2f}x {row.reference_seconds / row.seconds:7.1f}x {rate:6.1f} {unit:7}"
        f" {100 * row.roof_share:7.0f}% {row.our_error:6.2f} {row.numpy_error:7.2f}{verdict}"
    )


def plan(layers: dict[Shape, dict[str, int]], options: argparse.Namespace) -> Iterator[tuple[Shape, str, int]]:
    """Yield what is timed: layer, direction and batch."""
    for direction in options.direction:
        for shape in layers:
            training = direction == "backward" or isinstance(shape, Normalization)
            yield shape, direction, options.train_batch if training else options.batch


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=sorted(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--direction", nargs="+", choices=("forward", "backward"), default=["forward", "backward"])
    parser.add_argument("--batch", type=int, default=1, help="of the forward pass (default 1)")
    parser.add_argument("--train-batch", type=int, default=8, help="of normalisation and backward pass (default 8)")
    parser.add_argument("--size", type=int, default=224, help="picture size in pixels")
    parser.add_argument("--threads", type=int, default=fastcnn.num_threads())
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (default 3)")
    parser.add_argument("--seconds", type=float, default=0.05, help="of a side in a turn, at least (default 0.05)")
    parser.add_argument("--json", type=Path, help="append one JSON line a row to this file")
    options = parser.parse_args()
    if options.batch < 1 or options.train_batch < 2:
        parser.error("--batch must be at least 1, --train-batch at least 2: normalisation needs two values")
    restart_for_numpy(options.threads)
    fastcnn.set_num_threads(options.threads)
    roofs = roof.measured()
    about = roof.machine() | {"commit": commit(), "size": options.size, "roof": asdict(roofs)}
    print(json.dumps(about))
    layers = distinct_layers({name: NETWORKS[name](options.size) for name in options.model})
    layers = dict(sorted(layers.items(), key=lambda item: not isinstance(item[0], Convolution)))
    print(HEADER)
    rows: list[Row] = []
    for shape, direction, batch in plan(layers, options):
        for row in compare(
            shape, layers[shape], batch, direction, roofs, rounds=options.rounds, seconds=options.seconds
        ):
            print(line(row), flush=True)
            rows.append(row)
            if options.json:
                with options.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"bench": "numpy"} | about | asdict(row)) + "\n")
    print(f"\n{roof.steadiness(roofs)}")
    slower, wrong = [row for row in rows if not row.faster], [row for row in rows if not row.passed]
    print(f"{len(rows) - len(slower)} of {len(rows)} rows are faster than both forms of NumPy")
    for row in slower:
        times = f"{1e3 * row.seconds:.3f} ms, float32 NumPy {1e3 * row.numpy_seconds:.3f} ms"
        print(f"  not {row.layer}, {row.operation}: {times}")
    for row in wrong:
        print(f"  FAIL {row.layer}, {row.operation}: {row.our_error:.3g} and {row.numpy_error:.3g} of the bound")
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
