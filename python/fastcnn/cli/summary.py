"""`fastcnn summary`: the layers of a saved model or of an architecture."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict

from fastcnn.cli.architectures import NAMES, build
from fastcnn.cli.arguments import whole
from fastcnn.models import load_model

HELP = "show the layers and parameter counts of a saved model or of an architecture"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help=f"a model file, or one of {', '.join(NAMES)}")
    parser.add_argument(
        "--image-size", type=whole(1), metavar="N", help="of an architecture: pixels (default 224; seed 64)"
    )
    parser.add_argument("--classes", type=whole(1), default=1000, metavar="N", help="of an architecture (default 1000)")
    parser.add_argument("--variant", choices=("keras", "torchvision"), default="keras", help="of an architecture")
    parser.add_argument(
        "--algorithms", action="store_true", help="show which algorithm computes each convolution, and which could"
    )


def run(options: argparse.Namespace) -> int:
    """Print the table; return the exit code."""
    if options.model in NAMES and not os.path.exists(options.model):
        size = options.image_size or (64 if options.model.endswith("-seed") else 224)
        model = build(options.model, size, options.classes, options.variant)
    else:
        model = load_model(options.model)
    if not options.json:
        model.summary()
        if options.algorithms:
            print(f"\n{model.algorithms()}")
        return 0
    total = model.count_params()
    trainable = sum(parameter.size for parameter in model.trainable_weights)
    layers = [
        {"name": layer.name, "class": type(layer).__name__, "parameters": layer.count_params()}
        for layer in model.layers
    ]
    counts = {"parameters": total, "trainable": trainable, "non_trainable": total - trainable}
    found = {"name": model.name} | counts | {"class_names": model.class_names, "layers": layers}
    if options.algorithms:
        found |= {"algorithms": [asdict(row) for row in model.algorithms()]}
    print(json.dumps(found))
    return 0
