"""How pictures are prepared for networks trained on ImageNet, and what the networks' answers are called."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

_CAFFE_MEAN = (103.939, 116.779, 123.68)  # of blue, green, red in 0..255: the VGG authors' training set mean
_TORCH_MEAN = (0.485, 0.456, 0.406)  # of red, green, blue in 0..1, as torchvision has them
_TORCH_STDDEV = (0.229, 0.224, 0.225)
_MODES = ("caffe", "tf", "torch")

CLASSES = 1000
_CLASS_FILE = Path(__file__).with_name("imagenet_classes.txt")


def preprocess_input(x: ArrayLike, data_format: str | None = None, mode: str = "caffe") -> NDArray[np.float32]:
    """Return RGB pictures x[...,H,W,3] in 0..255 as a network expects them, always a new float32 array.

    "caffe" (VGG and ResNet of Keras): BGR minus the mean. "tf": x / 127.5 - 1. "torch" (torchvision's weights): x / 255
    minus mean, over standard deviation. `data_format="channels_first"` takes [...,3,H,W]. Raises ValueError for another
    mode or number of channels.
    """
    if mode not in _MODES:
        raise ValueError(f"preprocess_input: mode must be one of {', '.join(_MODES)}, got {mode!r}")
    if data_format not in (None, "channels_last", "channels_first"):
        raise ValueError(
            f"preprocess_input: data_format must be None, 'channels_last' or 'channels_first', got {data_format!r}"
        )
    y = np.array(x, np.float32)
    first = data_format == "channels_first"
    axis = -3 if first else -1
    if y.ndim < 3 or y.shape[axis] != 3:
        raise ValueError(
            f"preprocess_input: x must be {'[..., 3, H, W]' if first else '[..., H, W, 3]'}, got {list(y.shape)}"
        )

    def per_channel(values: tuple[float, float, float]) -> NDArray[np.float32]:
        return np.array(values, np.float32).reshape((3, 1, 1) if first else (3,))

    if mode == "tf":
        y /= 127.5
        y -= 1
    elif mode == "torch":
        y /= 255
        y -= per_channel(_TORCH_MEAN)
        y /= per_channel(_TORCH_STDDEV)
    else:
        y = np.ascontiguousarray(np.flip(y, axis))
        y -= per_channel(_CAFFE_MEAN)
    return y


def decode_predictions(preds: ArrayLike, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """Return the `top` likeliest classes of each row of preds [N,1000] as (WordNet synset, name, score), best first.

    Equal scores stay in the order of the classes. Raises ValueError for another shape, and for a `top` that is not an
    integer from 1 to 1000.
    """
    scores = np.asarray(preds)
    if scores.ndim != 2 or scores.shape[1] != CLASSES:
        raise ValueError(f"decode_predictions: preds must be [N, {CLASSES}], got {list(scores.shape)}")
    if isinstance(top, bool) or not isinstance(top, int | np.integer) or not 1 <= top <= CLASSES:
        raise ValueError(f"decode_predictions: top must be an integer from 1 to {CLASSES}, got {top!r}")
    classes = imagenet_classes()
    best = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :top]
    return [[(*classes[i], float(row[i])) for i in places] for row, places in zip(scores, best, strict=True)]


@cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """Return (WordNet synset, name) of each class, in the order of a network's outputs; the file tells the source."""
    lines = _CLASS_FILE.read_text(encoding="ascii").splitlines()
    pairs = (line.split(" ") for line in lines if not line.startswith("#"))
    return tuple((synset, name) for synset, name in pairs)
