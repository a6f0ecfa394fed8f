"""`fastcnn predict`: the classes of pictures."""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from fastcnn.cli.arguments import whole
from fastcnn.data import ImageFileError
from fastcnn.data.dataset import PictureOptions
from fastcnn.data.folder import FORMATS, scan_flat
from fastcnn.data.picture import CHANNELS
from fastcnn.models import Model, load_model

HELP = "classify pictures with a saved model that takes them as 0..255, as `fastcnn train` makes it"

_BATCH = 32  # pictures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="a model file (.safetensors)")
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help="a picture file, a folder of them, or a pattern such as 'holiday/**/*.jpg'",
    )
    parser.add_argument("--top", type=whole(1), default=5, metavar="N", help="classes shown per picture (default 5)")


def run(options: argparse.Namespace) -> int:
    """Print a line per picture; return 1 if any cannot be read, after an error line for each on stderr."""
    paths_asked = list(find_pictures(options.images))
    model = load_model(options.model, compile=False)
    pictures = picture_options(model)
    x = np.empty((_BATCH, *pictures.image_shape), np.float32)
    code = 0
    for begin in range(0, len(paths_asked), _BATCH):
        paths: list[str] = []
        for path in paths_asked[begin : begin + _BATCH]:
            try:
                pictures.read_into(path, x[len(paths)])
                paths.append(path)
            except ImageFileError as error:
                print(f"fastcnn predict: {error}", file=sys.stderr)
                code = 1
        if paths:
            for path, scores in zip(paths, model.predict(x[: len(paths)], verbose=0), strict=True):
                _show(path, _top(scores, model.class_names, options.top), options.json)
    return code


def find_pictures(given: Sequence[str]) -> Iterator[str]:
    """Yield files as they are, the pictures of folders and patterns sorted, and each path once.

    Raises FileNotFoundError for a folder or a pattern without a picture; a file that is not there is found out later.
    """
    seen = set()
    for argument in given:
        found = [argument]
        if os.path.isdir(argument):
            found = scan_flat(argument, follow_links=False, formats=FORMATS).file_paths
        elif not os.path.exists(argument) and glob.has_magic(argument):
            found = [path for path in sorted(glob.glob(argument, recursive=True)) if os.path.isfile(path)]
        if not found:
            raise FileNotFoundError(f"{argument}: no picture found")
        for path in found:
            if path not in seen:
                seen.add(path)
                yield path


def picture_options(model: Model) -> PictureOptions:
    """Return how pictures are read for the model's input; raises ValueError if it does not take pictures."""
    shape = model.input.sample_shape
    modes = {channels: mode for mode, channels in CHANNELS.items()}
    if len(shape) != 3 or shape[2] not in modes:
        raise ValueError(f"the model takes samples {list(shape)}, not pictures with 1, 3 or 4 channels")
    return PictureOptions(color_mode=modes[shape[2]], image_size=(shape[0], shape[1]))


def _top(scores: Sequence[float], names: Sequence[str] | None, count: int) -> list[tuple[str, float]]:
    order = np.argsort(-np.asarray(scores), kind="stable")[:count]
    return [(names[i] if names else str(i), float(scores[i])) for i in order]


def _show(path: str, top: list[tuple[str, float]], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"path": path, "label": top[0][0], "score": top[0][1], "top": top}))
    else:
        print(f"{path}: {', '.join(f'{label} {score:.4f}' for label, score in top)}")
