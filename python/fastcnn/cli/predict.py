"""`fastcnn predict`: the classes of pictures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastcnn.cli.arguments import whole
from fastcnn.cli.classifier import class_count, class_scores, picture_options
from fastcnn.cli.files import find_pictures
from fastcnn.data import ImageFileError
from fastcnn.data.prefetch import default_threads, prefetch
from fastcnn.models import load_model

HELP = "classify pictures with a saved model that takes them as 0..255, as `fastcnn train` makes it"

_BATCH = 32  # pictures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="a model file (.safetensors)")
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help="a picture file, a folder (all pictures below it) or a pattern in quotes such as 'a/**/*.jpg'",
    )
    parser.add_argument("--top", type=whole(1), default=5, metavar="N", help="classes shown per picture (default 5)")


def run(options: argparse.Namespace) -> int:
    """Print a line per picture; return 1 if any cannot be read or found, after an error line for each on stderr."""
    model = load_model(options.model, compile=False)
    pictures = picture_options(model)
    class_count(model)  # refuses what is no classifier
    paths, problems = find_pictures(options.images)
    for problem in problems:
        _complain(problem)
    failed = bool(problems)

    def read(x: NDArray[np.float32], row: int, path: str) -> ImageFileError | None:
        try:
            pictures.read_into(path, x[row])
        except ImageFileError as error:
            return error
        return None

    def allocate(items: Sequence[str]) -> NDArray[np.float32]:
        return np.empty((len(items), *pictures.image_shape), np.float32)

    plan = (paths[begin : begin + _BATCH] for begin in range(0, len(paths), _BATCH))
    for items, x, errors in prefetch(plan, allocate, read, threads=default_threads()):
        for error in filter(None, errors):
            _complain(error)
            failed = True
        rows = [row for row, error in enumerate(errors) if error is None]
        if rows:
            scores = class_scores(model.predict(x[rows], verbose=0))
            for row, picture_scores in zip(rows, scores, strict=True):
                _show(items[row], _top(picture_scores, model.class_names, options.top), options.json)
    return 1 if failed else 0


def _complain(problem: object) -> None:
    print(f"fastcnn predict: {problem}", file=sys.stderr)


def _top(scores: NDArray[np.float32], names: Sequence[str] | None, count: int) -> list[tuple[str, float]]:
    order = np.argsort(-scores, kind="stable")[:count]
    return [(names[i] if names else str(i), float(scores[i])) for i in order]


def _show(path: str, top: list[tuple[str, float]], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"path": path, "label": top[0][0], "score": top[0][1], "top": top}))
    else:
        print(f"{path}: {', '.join(f'{label} {score:.4f}' for label, score in top)}")
