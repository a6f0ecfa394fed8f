"""What a user should hear about a training run that has learned nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastcnn.callbacks import History

_MARGIN = 0.02  # of the constant answer's loss


def advice(history: History, counts: Sequence[int]) -> str | None:
    """Return a sentence if the loss never fell below that of the best constant answer, None otherwise.

    `counts` are the classes' numbers of training pictures: answering their shares for every picture has their entropy
    as loss, ln 2 = 0.693 for two balanced classes.
    """
    total = sum(counts)
    constant = -sum(count / total * math.log(count / total) for count in counts if count)
    losses = history.history.get("loss", [])
    if not losses or min(losses) < constant * (1 - _MARGIN):
        return None
    return (
        f"the loss never fell below {constant:.3f}, that of giving every picture the same answer: the network has "
        "learned nothing yet. Another learning rate, mostly a ten times smaller one, batch normalisation (vgg16_bn, "
        "resnet18) or more epochs may help"
    )
