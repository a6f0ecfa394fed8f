"""VGG19 at the path where Keras scripts look for it."""

from __future__ import annotations

from fastcnn.applications.imagenet_utils import decode_predictions, preprocess_input
from fastcnn.applications.vgg import VGG19

__all__ = ["VGG19", "decode_predictions", "preprocess_input"]
