"""Plain networks against residual ones, at growing depth: their loss, and the gradients that reach their layers.

    apt-get install dataset-fashion-mnist
    python examples/plain_and_residual.py --out depths            # depths 20, 56 and 110: about 40 minutes on two cores

After He, Zhang, Ren and Sun 2015, figure 6 and section 4.2: networks of depth 6n+2 with and without shortcuts, SGD with
momentum 0.9, weight decay 1e-4, batches of 128. For depth 110 the paper starts with a rate of 0.01; here every net
warms up over half an epoch. The record of each net is written when it is done, so that a run cut short goes on; one
that was made with other arguments is refused.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from fashion_mnist import SOURCE, read_idx

from fastcnn import applications, layers, optimizers, plots, set_random_seed
from fastcnn.callbacks import LambdaCallback
from fastcnn.formats.atomic import atomic_open
from fastcnn.models import Model

BATCH = 128
WARMUP = 0.5  # epochs
SMOOTHING = 0.9  # of the curves


def build(depth: int, residual: bool) -> Model:
    """Return the network for pictures [28,28,1] of 0..255."""
    inputs = layers.Input((28, 28, 1))
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    return applications.cifar_resnet(depth, residual=residual, input_tensor=x, classes=10)


def kernels(norms: dict[str, float]) -> dict[str, float]:
    """Return the norms of convolution kernels alone."""
    return {path: norm for path, norm in norms.items() if path.endswith("/kernel")}


def record(depth: int, residual: bool, x: Any, y: Any, epochs: int, rate: float) -> dict[str, Any]:
    """Train one network; return its losses step by step and its gradients before, in the middle and after."""
    set_random_seed(0)
    model = build(depth, residual)
    steps = -(-len(x) // BATCH)
    warmup = round(WARMUP * steps)
    schedule = optimizers.schedules.CosineDecay(0.0, epochs * steps - warmup, warmup_target=rate, warmup_steps=warmup)
    optimizer = optimizers.SGD(schedule, momentum=0.9, weight_decay=1e-4)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    sums = [0.0]

    def note(batch: int, logs: Any) -> None:  # logs are running means: of their sums the differences are the losses
        sums.append(logs["loss"] * min(len(x), (batch + 1) * BATCH))
        size = min(len(x), (batch + 1) * BATCH) - batch * BATCH
        losses.append((sums[-1] - (sums[-2] if batch else 0.0)) / size)

    losses: list[float] = []
    norms = {"before": kernels(model.gradient_norms(x[:BATCH], y[:BATCH]))}
    began = time.perf_counter()
    history = model.fit(
        x, y, batch_size=BATCH, epochs=epochs, verbose=2, callbacks=[LambdaCallback(on_train_batch_end=note)]
    )
    seconds = time.perf_counter() - began
    norms["after"] = kernels(model.gradient_norms(x[:BATCH], y[:BATCH]))
    return {
        "depth": depth,
        "residual": residual,
        "seconds": seconds,
        "losses": losses,
        "history": dict(history.history),
        "norms": norms,
    }


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """Draw losses and gradients, plain networks left and residual ones right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 11), layout="constrained")
    grid = figure.subplots(3, 2, sharey="row")
    for column, (residual, kind) in enumerate(((False, "plain"), (True, "residual"))):
        chosen = [r for r in records if r["residual"] == residual]
        for r in chosen:
            losses = np.array(r["losses"])
            smooth = losses.copy()
            for i in range(1, len(smooth)):
                smooth[i] = SMOOTHING * smooth[i - 1] + (1 - SMOOTHING) * losses[i]
            grid[0, column].plot(range(1, len(smooth) + 1), smooth, label=f"{r['depth']} layers")
        grid[0, column].set(title=f"{kind} networks", xlabel="step", ylabel="loss", yscale="log")
        grid[0, column].legend()
        grid[0, column].grid(alpha=0.3)
        for row, moment in ((1, "before"), (2, "after")):
            lines = {f"{r['depth']} layers": r["norms"][moment] for r in chosen}
            plots.gradient_norms(lines, axes=grid[row, column])
            grid[row, column].set(title=f"gradients of the kernels {moment} training", xlabel="convolution")
    with atomic_open(path) as file:
        figure.savefig(file, format="png", dpi=110)


def recorded(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Return the record of a net that was trained before, None if there is none."""
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    if found.get("settings") != settings:
        raise SystemExit(
            f"{path}: was made with {found.get('settings')}, these are {settings}; remove it or choose another --out"
        )
    return found


def at_least_one(text: str) -> int:
    """Return an argument that is a number of things."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=SOURCE, help="folder of the four .gz files")
    parser.add_argument("--out", type=Path, required=True, help="gets a record per network and depths.png")
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 56, 110])
    parser.add_argument("--epochs", type=at_least_one, default=3)
    parser.add_argument("--pictures", type=at_least_one, default=10_000)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    options: Any = parser.parse_args()
    x = read_idx(options.source / "train-images-idx3-ubyte.gz")[: options.pictures, :, :, None]
    y = read_idx(options.source / "train-labels-idx1-ubyte.gz")[: options.pictures].astype(np.int64)
    if len(x) < options.pictures:
        parser.error(f"--pictures: {options.source} has {len(x)} for training, got {options.pictures}")
    settings = {name: getattr(options, name) for name in ("epochs", "pictures", "learning_rate")}
    options.out.mkdir(parents=True, exist_ok=True)
    records = []
    for depth in options.depths:
        for residual in (False, True):
            path = options.out / f"{'residual' if residual else 'plain'}{depth}.json"
            found = recorded(path, settings)
            if found is None:
                print(f"{path.stem}:", flush=True)
                found = {"settings": settings}
                found |= record(depth, residual, x, y, options.epochs, options.learning_rate)
                with atomic_open(path) as file:
                    file.write(json.dumps(found).encode())
            records.append(found)
    print("network        loss    accuracy  first/last gradient before  after")
    for r in records:
        ratios = [next(iter(line.values())) / list(line.values())[-1] for line in r["norms"].values()]
        name = f"{'residual' if r['residual'] else 'plain'}{r['depth']}"
        history = r["history"]
        print(
            f"{name:<12}  {history['loss'][-1]:.4f}  {history['accuracy'][-1]:.4f}    {ratios[0]:>12.3g}"
            f"                {ratios[1]:.3g}   {r['seconds']:.0f} s"
        )
    draw(records, options.out / "depths.png")
    print(f"wrote {options.out / 'depths.png'}")


if __name__ == "__main__":
    main()
