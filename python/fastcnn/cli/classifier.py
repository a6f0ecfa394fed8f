"""What a saved classifier wants of pictures, and what its outputs say of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastcnn.data.dataset import PictureOptions
from fastcnn.data.picture import CHANNELS
from fastcnn.models import Model


def picture_options(model: Model) -> PictureOptions:
    """Return how pictures are read for the model's input; raises ValueError if it does not take pictures."""
    shape = model.input.sample_shape
    modes = {channels: mode for mode, channels in CHANNELS.items()}
    if len(shape) != 3 or shape[2] not in modes:
        raise ValueError(f"the model takes samples {list(shape)}, not pictures with 1, 3 or 4 channels")
    return PictureOptions(color_mode=modes[shape[2]], image_size=(shape[0], shape[1]))


def class_count(model: Model) -> int:
    """Return how many classes a model tells apart, two with one output; raises ValueError if it is no classifier."""
    shape = model.output_shape
    if not isinstance(shape, tuple) or len(shape) != 2:
        raise ValueError(f"the model has outputs {shape}, not one value per class")
    return max(int(shape[1]), 2)


def class_scores(outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return outputs [N,K] as a score per class: a single output is the probability of the second of two classes."""
    return np.concatenate([1 - outputs, outputs], axis=1) if outputs.shape[1] == 1 else outputs
