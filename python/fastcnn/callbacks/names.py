"""Names of logs: their order, and the two forms that some have had in Keras."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_FORMS = {"acc": "accuracy", "lr": "learning_rate"}
_OTHER = _FORMS | {new: old for old, new in _FORMS.items()}
_VALIDATION = "val_"


def sorted_names(names: Iterable[str]) -> list[str]:
    """Return the names in the order Keras' History has them: sorted, training before `val_`."""
    return sorted(names, key=lambda name: (name.startswith(_VALIDATION), name))


def find_name(name: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that is meant: the name itself, or its other form ("val_acc": "val_accuracy")."""
    names = set(names)
    if name in names:
        return name
    plain = name.removeprefix(_VALIDATION)
    other = name[: len(name) - len(plain)] + _OTHER.get(plain, plain)
    return other if other in names else None


class NamedLists(dict[str, list[float]]):
    """Lists by name, found under the other form of the name too."""

    def __missing__(self, name: str) -> list[float]:
        other = find_name(name, self)
        if other is None:
            raise KeyError(name)
        return self[other]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and find_name(name, self.keys()) is not None

    def get(self, name: str, default: Any = None) -> Any:
        """Return the list of that name, or the default."""
        try:
            return self[name]
        except KeyError:
            return default
