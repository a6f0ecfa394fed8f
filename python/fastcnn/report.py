"""Text tables about a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fastcnn.graph import Node, topological

if TYPE_CHECKING:
    from fastcnn.layers import Layer
    from fastcnn.models import Model

_GAP = "  "
_BYTES = 4  # a float32
