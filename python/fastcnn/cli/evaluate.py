"""`fastcnn evaluate`: how well a saved model does on labelled pictures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn.cli.arguments import whole
from fastcnn.cli.pictures import open_for_model
from fastcnn.cli.predict import picture_options
from fastcnn.losses import SparseCategoricalCrossentropy
from fastcnn.metrics import SparseCategoricalAccuracy, SparseTopKCategoricalAccuracy, confusion_matrix
from fastcnn.models import Model, load_model

HELP = "measure a saved model on a folder with one folder of pictures per class, or on a CSV list of path,label"

_TOP = 5  # of top-k accuracy, where there are more classes
_SHOWN = 12  # classes, up to which the confusion matrix is printed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="a model file (.safetensors)")
    parser.add_argument("data", metavar="DATA", help="the folder of class folders, or LIST.csv with lines path,label")
    parser.add_argument("--batch-size", type=whole(1), default=32, metavar="N", help="pictures at once (default 32)")
    parser.add_argument("--confusion", metavar="FILE", help="draw the confusion matrix to this picture file")


def run(options: argparse.Namespace) -> int:
    """Print what was found; return the exit code."""
    model = load_model(options.model, compile=False)
    pictures = picture_options(model)
    outputs = model.output_shape[-1]
    data = open_for_model(
        options.data,
        pictures.image_size,
        options.batch_size,
        model.class_names,
        outputs,
        color_mode=pictures.color_mode,
    )
    labels = np.concatenate([y for _, y in data.epoch(0)]) if data.labels is None else data.labels
    scores: NDArray[np.float32] = model.predict(data, verbose=0)
    result = _measure(model, labels, scores)
    matrix = confusion_matrix(labels, scores.argmax(axis=1), outputs)
    names = model.class_names or data.class_names
    if options.confusion:
        from fastcnn import plots

        plots.confusion_matrix(matrix, names, options.confusion)
    classes = [_class_row(name, matrix, i) for i, name in enumerate(names)]
    if options.json:
        print(json.dumps(result | {"classes": classes, "confusion_matrix": matrix.tolist()}))
        return 0
    print(f"{len(labels)} pictures: " + ", ".join(f"{name} {value:.4f}" for name, value in result.items()))
    for line in _table(classes, matrix, names):
        print(line)
    return 0


def _measure(model: Model, labels: NDArray[Any], scores: NDArray[np.float32]) -> dict[str, float]:
    """Return mean loss and accuracies of probabilities [N,K]."""
    loss = SparseCategoricalCrossentropy().per_sample("evaluate", labels, scores)
    found = {"loss": float(np.mean(loss)), "accuracy": SparseCategoricalAccuracy()(labels, scores)}
    if scores.shape[1] > _TOP:
        found[f"top_{_TOP}_accuracy"] = SparseTopKCategoricalAccuracy(_TOP)(labels, scores)
    return found


def _class_row(name: str, matrix: NDArray[Any], i: int) -> dict[str, Any]:
    """Return how a class fares: precision and recall are None where nothing was taken for it, or nothing is it."""
    right, taken, there = int(matrix[i, i]), int(matrix[:, i].sum()), int(matrix[i].sum())
    return {
        "class": name,
        "pictures": there,
        "precision": right / taken if taken else None,
        "recall": right / there if there else None,
    }


def _table(classes: Sequence[dict[str, Any]], matrix: NDArray[Any], names: Sequence[str]) -> list[str]:
    width = max(len("class"), *(len(name) for name in names))
    lines = [f"{'class':<{width}}  pictures  precision  recall"]
    for row in classes:
        shares = ("-" if row[key] is None else f"{row[key]:.4f}" for key in ("precision", "recall"))
        precision, recall = shares
        lines.append(f"{row['class']:<{width}}  {row['pictures']:>8}  {precision:>9}  {recall:>6}")
    if len(names) <= _SHOWN:
        cell = max(len(str(matrix.max())), *(len(name) for name in names))
        lines += ["", "how often the class of a row was taken for that of a column:"]
        lines.append(" " * width + "".join(f"  {name:>{cell}}" for name in names))
        for name, row in zip(names, matrix.tolist(), strict=True):
            lines.append(f"{name:<{width}}" + "".join(f"  {count:>{cell}}" for count in row))
    return lines
