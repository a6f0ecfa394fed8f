"""ResNet50 at the path where Keras scripts look for it."""

from __future__ import annotations

from fastcnn.applications.imagenet_utils import decode_predictions, preprocess_input
from fastcnn.applications.resnet import ResNet50

__all__ = ["ResNet50", "decode_predictions", "preprocess_input"]
