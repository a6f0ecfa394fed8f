"""What a user should hear about a training run that has learned nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fastcnn.callbacks import History

_MARGIN = 0.02  # of the constant answer's loss
_SIGMAS = 3  # by which an accuracy may exceed guessing by chance
_ROUNDING = 1e-5  # by which logarithms of probabilities may differ; those of a new VGG16 differ by some 1e-4
_SATURATED = 1 - 1e-6  # probabilities beyond look alike whatever is behind them


def advice(
    history: History,
    counts: Sequence[int],
    weighted: bool = False,
    answers: Callable[[], NDArray[np.float32]] | None = None,
) -> str | None:
    """Return a sentence if training did no better than the best constant answer, None otherwise.

    `counts` are the classes' numbers of training pictures: answering their shares for every picture has their entropy
    as loss, ln 2 = 0.693 for two balanced classes, and the largest share as accuracy. An epoch's mean loss can stay
    above that while the network learns, after wild first steps or with smoothed labels, so the accuracy decides too.
    `weighted` says that the loss counted all classes alike; then guessing has that of equal shares, and the accuracy
    tells nothing. `answers`, called only then, returns the probabilities [N,K] of a few pictures.
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
    found = f"the loss never fell below {constant:.3f}, that of giving every picture the same answer"
    if answers is not None and is_dead(answers()):
        return (
            f"{found}, which is what the network does: nothing of a picture reaches its output any more, and more "
            "epochs will not change that. Start again with a ten times smaller learning rate, or with batch "
            "normalisation (vgg16_bn, resnet18)"
        )
    return (
        f"{found}: the network has learned nothing yet. Another learning rate, mostly a ten times smaller one, batch "
        "normalisation (vgg16_bn, resnet18) or more epochs may help"
    )


def is_dead(answers: NDArray[np.float32]) -> bool:
    """Return whether probabilities [N,K] are the same for all pictures but for rounding, as behind dead ReLUs."""
    if len(answers) < 2 or answers.max() > _SATURATED:
        return False
    logarithms = np.log(np.maximum(answers.astype(np.float64), np.finfo(np.float32).tiny))
    return bool(np.ptp(logarithms, axis=0).max() < _ROUNDING)
