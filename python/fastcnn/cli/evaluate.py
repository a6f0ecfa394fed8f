"""`fastcnn evaluate`: how well a saved model does on labelled pictures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.cli.arguments import whole
from fastcnn.cli.classifier import class_count, picture_options
from fastcnn.cli.pictures import open_for_model
from fastcnn.data import ImageDataset
from fastcnn.formats.atomic import check_writable
from fastcnn.losses import BinaryCrossentropy, Loss, SparseCategoricalCrossentropy
from fastcnn.metrics import Metric, SparseTopKCategoricalAccuracy, confusion_matrix
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
    if options.confusion:
        check_writable(options.confusion)
    model = load_model(options.model)
    class_count(model)  # refuses what is no classifier
    loss = _loss(model)
    data = _open(model, loss, options.data, options.batch_size)
    confusion = Confusion(data.num_classes, loss.from_logits)
    metrics: list[Metric] = [confusion]
    if data.num_classes > _TOP:
        metrics.append(SparseTopKCategoricalAccuracy(_TOP, name=f"top_{_TOP}_accuracy"))
    model.compile(optimizer="sgd", loss=loss, metrics=metrics)  # without the slots that training needs
    result = model.evaluate(data, verbose=0 if options.json else 1, return_dict=True)
    matrix, names, count = confusion.matrix, data.class_names, len(data.file_paths)
    if options.confusion:
        from fastcnn import plots

        plots.confusion_matrix(matrix, names, options.confusion)
    classes = [_class_row(name, matrix, i) for i, name in enumerate(names)]
    if options.json:
        found = {"pictures": count} | result | {"classes": classes, "confusion_matrix": matrix.tolist()}
        print(json.dumps(found | {"files": [options.confusion] if options.confusion else []}))
        return 0
    print(f"{count} pictures: " + ", ".join(f"{name} {value:.4f}" for name, value in result.items()))
    for line in _table(classes, matrix, names):
        print(line)
    if options.confusion:
        print(f"saved {options.confusion}")
    return 0


class Confusion(Metric):
    """Accuracy, from `matrix` [K,K]: how often class i (row) was taken for class j (column)."""

    state = ("matrix",)
    rises = True

    def __init__(self, classes: int, from_logits: bool) -> None:
        self.classes = classes
        self.threshold = 0.0 if from_logits else 0.5  # of a single output, above which it means the second class
        super().__init__("accuracy")

    def update_state(self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """Count a batch: class numbers or one value per output, and outputs; weights are for the loss alone."""
        y, p = np.asarray(y_true), np.asarray(y_pred)
        truth = y.argmax(axis=1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(-1).astype(np.int64)
        taken = p.argmax(axis=1) if p.shape[1] > 1 else (p[:, 0] > self.threshold).astype(np.int64)
        self.matrix += confusion_matrix(truth, taken, self.classes)

    def result(self) -> float:
        """Return the share on the diagonal."""
        return float(np.trace(self.matrix) / max(self.matrix.sum(), 1))

    def reset_state(self) -> None:
        """Forget all batches."""
        self.matrix = np.zeros((self.classes, self.classes), np.int64)


def _loss(model: Model) -> Loss:
    """Return the loss that the model was trained with, or that of its kind of output."""
    if model.loss is not None:
        return model.loss
    return BinaryCrossentropy() if model.output_shape[-1] == 1 else SparseCategoricalCrossentropy()


def _open(model: Model, loss: Loss, path: str, batch_size: int) -> ImageDataset:
    """Return the pictures as the model and its loss want them; raises ValueError for other classes than the model's."""
    options = picture_options(model)
    sparse, one_output = isinstance(loss, SparseCategoricalCrossentropy), model.output_shape[-1] == 1
    return open_for_model(
        path,
        options.image_size,
        batch_size,
        model.class_names,
        class_count(model),
        color_mode=options.color_mode,
        label_mode="binary" if one_output else "int" if sparse else "categorical",
    )


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
