"""Names of logs: their order, and the two forms that some have had in Keras."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from fastcnn.compat import old_name

V = TypeVar("V")

_FORMS = {"acc": "accuracy", "lr": "learning_rate"}
_OTHER = _FORMS | {new: old for old, new in _FORMS.items()}
_VALIDATION = "val_"


def sorted_names(names: Iterable[str]) -> list[str]:
    """Return the names in the order Keras' History has them: sorted, training before `val_`."""
    return sorted(names, key=lambda name: (name.startswith(_VALIDATION), name))


def find_name(name: str, names: Iterable[str], tell: bool = True) -> str | None:
    """Return the one of `names` that is meant: the name itself, or its other form ("val_acc": "val_accuracy").

    An old form that stands for a new one warns once, unless `tell` is false.
    """
    names = set(names)
    if name in names:
        return name
    other = other_form(name)
    if other not in names:
        return None
    if tell and name.removeprefix(_VALIDATION) in _FORMS:
        old_name(repr(name), f"the log is named {other!r}")
    return other


def other_form(name: str) -> str:
    """Return the other form of a log's name, the name itself where there is none."""
    plain = name.removeprefix(_VALIDATION)
    return name[: len(name) - len(plain)] + _OTHER.get(plain, plain)


class Named(dict[str, V]):
    """Values by name of a log, found under the other form of the name too."""

    def __missing__(self, name: str) -> V:
        other = find_name(name, self)
        if other is None:
            raise KeyError(name)
        return self[other]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (super().__contains__(name) or super().__contains__(other_form(name)))

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of that name, or the default."""
        try:
            return self[name]
        except KeyError:
            return default
