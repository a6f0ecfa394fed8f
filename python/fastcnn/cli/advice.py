"""What a user should hear about a training run that has learned nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastcnn.callbacks import History

_MARGIN = 0.02  # of the constant answer's loss
_SIGMAS = 3  # by which an accuracy may exceed guessing by chance


def advice(history: History, counts: Sequence[int], weighted: bool = False) -> str | None:
    """Return a sentence if training did no better than the best constant answer, None otherwise.

    `counts` are the classes' numbers of training pictures: answering their shares for every picture has their entropy
    as loss, ln 2 = 0.693 for two balanced classes, and the largest share as accuracy. An epoch's mean loss can stay
    above that while the network learns, after wild first steps or with smoothed labels, so the accuracy decides too.
    `weighted` says that the loss counted all classes alike; then guessing has that of equal shares, and the accuracy
    tells nothing.
    """
    total = sum(counts)
    shares = [count / total for count in counts if count]
    constant = math.log(len(shares)) if weighted else -sum(share * math.log(share) for share in shares)
    losses = history.history.get("loss", [])
    if not losses or min(losses) < constant * (1 - _MARGIN):
        return None
    chance = max(shares)
    noise = _SIGMAS * math.sqrt(chance * (1 - chance) / total)
    if not weighted and max(history.history.get("accuracy", [0.0])) > chance + noise:
        return None
    return (
        f"the loss never fell below {constant:.3f}, that of giving every picture the same answer: the network has "
        "learned nothing yet. Another learning rate, mostly a ten times smaller one, batch normalisation (vgg16_bn, "
        "resnet18) or more epochs may help"
    )
