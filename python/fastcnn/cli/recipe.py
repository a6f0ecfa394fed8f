"""The model and the optimizer of `fastcnn train`, made from its options."""

from __future__ import annotations

import argparse
import warnings
from typing import Any

from fastcnn import layers, losses, optimizers
from fastcnn.cli.architectures import NAMES, build_for_training
from fastcnn.cli.arguments import UsageError, fraction, not_negative, positive, whole
from fastcnn.formats import ModelFileError, safetensors
from fastcnn.models import Model
from fastcnn.models.saving import weight_shapes
from fastcnn.optimizers.schedules import CosineDecay

_MOMENTUM = 0.9  # of SGD
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")
AUGMENTATIONS = ("none", "flip", "standard")
_SHIFT, _TURN, _ZOOM = 0.1, 0.03, 0.1  # shares of the size, of a whole turn, of the scale


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what decides about the model and how it learns."""
    parser.add_argument("--model", choices=NAMES, default="resnet18", help="default resnet18")
    parser.add_argument("--image-size", type=whole(1), default=64, metavar="N", help="pixels (default 64)")
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="start from the weights of this model file; a head for other classes starts anew",
    )
    parser.add_argument(
        "--freeze", action="store_true", help="train the last layer alone; the others keep the weights of --weights"
    )
    parser.add_argument(
        "--augment",
        choices=AUGMENTATIONS,
        default="none",
        help="changes of the training pictures: flip (left to right), or standard (flips, small shifts, turns, zooms)",
    )
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adam", help="default adam")
    parser.add_argument("--learning-rate", type=positive, default=0.001, metavar="RATE", help="default 0.001")
    parser.add_argument(
        "--schedule",
        choices=("cosine", "constant"),
        default="cosine",
        help="of the learning rate: falling to 0 at the end (Loshchilov and Hutter 2017), or constant (default cosine)",
    )
    parser.add_argument(
        "--warmup", type=not_negative, default=0.0, metavar="EPOCHS", help="the rate rises from 0 first (default 0)"
    )
    parser.add_argument("--weight-decay", type=not_negative, metavar="RATE", help="per step, times the learning rate")
    parser.add_argument("--label-smoothing", type=fraction, default=0.0, metavar="F", help="default 0")
    parser.add_argument("--ema", type=fraction, metavar="MOMENTUM", help="end with a moving average of the weights")


def build(options: argparse.Namespace, classes: int) -> tuple[Model, int | None]:
    """Return the model, for pictures of 0..255, and how many of its weights come from `--weights`, None without."""
    size = options.image_size
    augmentation = [
        *([layers.RandomFlip("horizontal")] if options.augment != "none" else []),
        *(
            [layers.RandomTranslation(_SHIFT, _SHIFT), layers.RandomRotation(_TURN), layers.RandomZoom(_ZOOM)]
            if options.augment == "standard"
            else []
        ),
    ]
    model = build_for_training(options.model, size, classes, augmentation)
    taken = None if options.weights is None else take_weights(model, options.weights)
    if options.freeze:
        if options.weights is None:
            raise UsageError("--freeze needs --weights: a frozen model with random weights learns next to nothing")
        for layer in [layer for layer in model.flat_layers() if layer.weights][:-1]:
            layer.trainable = False
    return model, taken


def take_weights(model: Model, path: str) -> int:
    """Load the weights that have the same names and shapes in a file; return how many.

    Raises ModelFileError if more than the last layer's would be missing.
    """
    found = {name: info.shape for name, info in safetensors.read_header(path).tensors.items()}
    last = {weight.path for weight in [layer for layer in model.flat_layers() if layer.weights][-1].weights}
    own = weight_shapes(model)
    lost = [name for name, shape in own.items() if found.get(name) != shape and name not in last]
    if lost:
        raise ModelFileError(
            f"{path}: {len(lost)} of the model's {len(own)} weights are missing or of another shape, such as "
            f"{lost[0]}; only the last layer may differ"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the last layer's other shape is no surprise
        model.load_weights(path, by_name=True, skip_mismatch=True)
    return sum(found.get(name) == shape for name, shape in own.items())


def compile_model(model: Model, options: argparse.Namespace, steps: int) -> None:
    """Compile for `steps` batches an epoch; raises UsageError for a warm-up that takes all of training."""
    rate: Any = options.learning_rate
    total, warmup = options.epochs * steps, round(options.warmup * steps)
    if warmup and warmup >= total:
        raise UsageError(f"--warmup {options.warmup:g} must be shorter than --epochs {options.epochs}")
    alpha = 1.0 if options.schedule == "constant" else 0.0  # a cosine that ends where it begins does not fall
    if warmup:
        rate = CosineDecay(0.0, total - warmup, alpha, warmup_target=rate, warmup_steps=warmup)
    elif options.schedule == "cosine":
        rate = CosineDecay(rate, total)
    common: dict[str, Any] = {}
    if options.weight_decay is not None:
        common["weight_decay"] = options.weight_decay
    if options.ema is not None:
        common |= {"use_ema": True, "ema_momentum": options.ema}
    makers: dict[str, Any] = {
        "adam": optimizers.Adam,
        "adamw": optimizers.AdamW,
        "sgd": lambda rate, **more: optimizers.SGD(rate, momentum=_MOMENTUM, nesterov=True, **more),
        "rmsprop": optimizers.RMSprop,
    }
    model.compile(
        optimizer=makers[options.optimizer](rate, **common),
        loss=(
            losses.CategoricalCrossentropy(label_smoothing=options.label_smoothing)
            if options.label_smoothing
            else "sparse_categorical_crossentropy"
        ),
        metrics=["accuracy"],
    )


def label_mode(options: argparse.Namespace) -> str:
    """Return the form of labels that the loss takes."""
    return "categorical" if options.label_smoothing else "int"
