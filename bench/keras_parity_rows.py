"""What fastcnn computes and answers beside what `peers/keras_parity.py` recorded of Keras."""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "bench" / "peers"))

import parity_behaviours  # noqa: E402
import parity_networks as networks  # noqa: E402
import parity_values  # noqa: E402
from vectors import sample_indices, unpack  # noqa: E402

import fastcnn  # noqa: E402
from fastcnn.models.gradients import gradients_of  # noqa: E402

VECTORS = ROOT / "tests" / "vectors" / "keras_parity"
LOGITS = {False: 1e-5, True: 5e-5}  # of the largest logit, without and with Winograd
VALUES = 1e-6  # of losses and metrics, relative to what is above 1
GRADIENTS = 1e-5  # of a network's gradient, and of each tensor's
RESNET = 3.0  # times Keras' own error: see the page's text
LOSS = {"layers": 1e-6, "resnet": 1e-5}
TRAINING = {"loss": 1e-5, "moving": 1e-5, "weights": 2e-5}
NAMES = {"layers": "network of all layers", "resnet": "ResNet50"}
TRAINED = {"loss": "losses", "moving": "moving statistics", "weights": "weights"}


class Recorded:
    """The files of `keras_parity.py`; `whole` is another folder of which gradients are taken."""

    def __init__(self, whole: Path | None = None) -> None:
        self.values: dict[str, Any] = json.loads((VECTORS / "values.json").read_text())
        self.logits = _arrays(VECTORS / "logits.npz")
        self.training = _arrays(VECTORS / "training.npz")
        self.gradients = _arrays((whole or VECTORS) / "gradients.npz")


def _arrays(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _both(arrays: dict[str, Any], name: str, i: int | None = None) -> tuple[Any, Any]:
    """Return an array of a run in float64 and of that in float32, or one row of each."""
    found = [arrays[f"{name}/{kind}"].astype(np.float64) for kind in ("float64", "float32")]
    return (found[0], found[1]) if i is None else (found[0][i], found[1][i])


@dataclass(frozen=True)
class Row:
    """One comparison: fastcnn's difference from Keras in float32, the errors of both against Keras in float64, and the
    bound of the difference."""

    part: str
    what: str
    difference: float
    keras: float
    fastcnn: float
    bound: float

    @property
    def verdict(self) -> str:
        """Whether the bound holds, and if not, whether fastcnn's own error is within it."""
        if self.difference <= self.bound:
            return "yes"
        return "no: Keras' error" if self.fastcnn <= self.bound < self.keras else "NO"

    @property
    def ok(self) -> bool:
        return self.verdict != "NO"


def _row(part: str, what: str, ours: Any, rounded: Any, exact: Any, scale: float, bound: float) -> Row:
    found = [float(np.abs(a - b).max() / scale) for a, b in ((ours, rounded), (rounded, exact), (ours, exact))]
    return Row(part, what, *found, bound)


@contextmanager
def winograd(allowed: bool) -> Iterator[None]:
    """Allow it or not, for a while."""
    before = fastcnn.config.winograd()
    fastcnn.set_winograd(allowed)
    try:
        yield
    finally:
        fastcnn.set_winograd(before)


def logits(recorded: Recorded, name: str) -> list[Row]:
    """Compare an architecture's logits of two pictures."""
    exact, rounded = _both(recorded.logits, name)
    model = networks.application(fastcnn, name)
    x = networks.application_data(2)[0]
    rows = []
    for allowed, bound in LOGITS.items():
        with winograd(allowed):
            ours = model.predict(x, verbose=0)
        what = f"{name}, {'with' if allowed else 'without'} Winograd"
        rows.append(_row("logits", what, ours, rounded, exact, float(np.abs(rounded).max()), bound))
    return rows


def _gradients(model: Any, loss: Any, x: Any, y: Any) -> tuple[float, dict[str, Any]]:
    model.compile("sgd", loss)
    found = {weight.path: gradient.astype(np.float64) for weight, gradient in gradients_of(model, x, y)}
    return float(model.train_on_batch(x, y)), found


def gradients(recorded: Recorded, which: str, allowed: bool) -> list[Row]:
    """Compare all gradients of the network of all layers ("layers") or of ResNet50 ("resnet").

    A tensor's difference is that of the entries at hand, in the Euclidean norm, beside their own norm; one whose norm
    is below 1e-3 of the largest is measured by that, since it is mostly rounding: biases in front of a normalisation.
    """
    if which == "layers":
        model, data = networks.all_layers(fastcnn), networks.all_layers_data()
        loss: Any = fastcnn.losses.CategoricalCrossentropy(label_smoothing=0.1)
        samples = 1 << 40
    else:
        model, data = networks.application(fastcnn, "ResNet50"), networks.application_data(networks.BATCH)
        loss = fastcnn.losses.SparseCategoricalCrossentropy(from_logits=True)
        samples = int(recorded.gradients["samples"])
    with winograd(allowed):
        total, found = _gradients(model, loss, *data)
    exact, rounded = _both(recorded.gradients, f"{which}_loss")
    wanted = unpack(f"{which}_grads", recorded.gradients, samples)
    if list(wanted) != list(found):
        raise ValueError(f"compare_keras: weights of {which} differ: {sorted(wanted.keys() ^ found.keys())}")
    norms = {name: float(np.linalg.norm(sample.value64)) for name, sample in wanted.items()}
    floor = 1e-3 * max(norms.values())
    worst, squares = np.zeros(3), np.zeros(3)
    for name, sample in wanted.items():
        ours = found[name].ravel()[sample.index]
        pairs = ((ours, sample.value32[0]), (sample.value32[0], sample.value64), (ours, sample.value64))
        apart = np.array([np.linalg.norm(a - b) for a, b in pairs])
        worst = np.maximum(worst, apart / max(norms[name], floor))
        squares += apart**2
    whole = np.sqrt(squares) / math.sqrt(sum(norm**2 for norm in norms.values()))
    title = f"{NAMES[which]}, {'with' if allowed else 'without'} Winograd"
    bounds = [GRADIENTS] * 2 if which == "layers" else [RESNET * float(own) for own in (whole[1], worst[1])]
    return [
        _row("gradients", f"{title}: loss", total, rounded, exact, float(exact), LOSS[which]),
        Row("gradients", f"{title}: all of {len(norms)} tensors", *map(float, whole), bounds[0]),
        Row("gradients", f"{title}: the worst tensor", *map(float, worst), bounds[1]),
    ]


def training(recorded: Recorded, case: str) -> list[Row]:
    """Compare the losses of all steps, and what the training leaves, relative to the largest of each."""
    i = recorded.training["cases"].tolist().index(case)
    run = networks.train(fastcnn, case)
    moving, weights = networks.flat(run)
    ours = {"loss": run["loss"], "moving": moving, "weights": weights[sample_indices(weights.size, networks.WEIGHTS)]}
    rows = []
    for name, values in ours.items():
        exact, rounded = _both(recorded.training, name, i)
        scale = float(np.abs(exact).max())
        rows.append(_row(f"training: {TRAINED[name]}", case, values, rounded, exact, scale, TRAINING[name]))
    return rows


def _numbers(value: Any) -> Any:
    """Return the numbers of nested lists as one array."""
    if isinstance(value, list):
        return np.concatenate([_numbers(each) for each in value]) if value else np.zeros(0)
    return np.array([value], np.float64)


def values(recorded: Recorded, what: str) -> list[tuple[str, float]]:
    """Return name and difference of each loss or metric, relative to what is above 1."""
    ours = getattr(parity_values, what)(fastcnn)
    theirs = recorded.values[what]
    if ours.keys() != theirs.keys():
        raise ValueError(f"compare_keras: other {what} were recorded: record them again")
    found = []
    for case, wanted in theirs.items():
        a, b = _numbers(ours[case]), _numbers(wanted)
        difference = np.abs(a - b) / np.maximum(np.abs(b), 1) if a.shape == b.shape else np.array([np.inf])
        found.append((case, float(difference.max())))
    return found


def same(a: Any, b: Any) -> bool:
    """Return whether two answers are the same, floats to 1e-6."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, float) or isinstance(b, float):
        numbers = isinstance(a, int | float) and isinstance(b, int | float)
        return numbers and abs(a - b) <= VALUES * max(1.0, abs(b))
    return type(a) is type(b) and bool(a == b)


def behaviours(recorded: Recorded) -> list[tuple[str, str]]:
    """Return each point and "same", the reason why it is listed as different, or "UNEXPLAINED" and both answers."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        answers = parity_behaviours.answers(fastcnn)
    for name, ours in answers.items():
        theirs = recorded.values["behaviours"][name]
        listed = parity_behaviours.DIFFERENT.get(name)
        if same(ours, theirs):
            verdict = "same" if listed is None else "UNEXPLAINED: listed as different, but the same"
        elif listed is not None and same(ours, listed[0]):
            verdict = listed[1]
        else:
            verdict = f"UNEXPLAINED: Keras {theirs}, fastcnn {ours}"
        found.append((name, verdict))
    return found
