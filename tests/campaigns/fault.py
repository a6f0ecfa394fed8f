"""One fault that `planted_faults.py` plants."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One changed line of cpp/: `old` occurs once in the file."""

    file: str
    old: str
    new: str
    why: str
    isa: str = "avx2"  # the set whose engine gets it

    def line(self, text: str) -> int:
        """Return the line of the fault in the text of its file; raise ValueError unless `old` occurs exactly once."""
        if text.count(self.old) != 1:
            raise ValueError(
                f"{self.file}: {self.old!r} occurs {text.count(self.old)} times, expected once ({self.why})"
            )
        return text[: text.index(self.old)].count("\n") + 1

    def apply(self, text: str) -> str:
        self.line(text)
        return text.replace(self.old, self.new)
