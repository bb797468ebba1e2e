"""An objective that a workload was held against. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class GoalEntry:
    """*hi* None: given up before it was reached."""

    workload: str
    name: str
    agent_id: str
    at_most: float | None  # exactly one of this and *at_least*
    lo: float
    hi: float | None
    unit: str
    result: str  # met, missed, inconclusive
    at_least: float | None = None
    note: str = ""  # what it was measured on, where that is not the real thing

    def sentence(self) -> str:
        """One for a human."""
        if self.hi is None:
            seen = f"not reached within {self.lo:.3g} {self.unit}"
        elif self.hi == self.lo:
            seen = f"{self.lo:.3g} {self.unit}"
        else:
            seen = f"between {self.lo:.3g} and {self.hi:.3g} {self.unit}"
        head = f"{self.workload} on {self.agent_id}: {self.name} {seen}"
        note = f" ({self.note})" if self.note else ""
        bound = f"at most {self.at_most:g}" if self.at_most is not None else f"at least {self.at_least:g}"
        return f"{head}, objective {bound} {self.unit}: {self.result}{note}."


def goal_from(document: dict[str, Any]) -> GoalEntry:
    """As the store has it; an answer of another version may have more fields."""
    return GoalEntry(**{name: document[name] for name in GoalEntry.__slots__ if name in document})
