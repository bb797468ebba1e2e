"""A finding, and the three verdicts in the order of their severity."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Verdict(StrEnum):
    """Three values, ordered by severity: held < inconclusive < deviated."""

    HELD = "held"
    INCONCLUSIVE = "inconclusive"
    DEVIATED = "deviated"

    @property
    def severity(self) -> int:
        return _ORDER[self.value]

    def __lt__(self, other: str) -> bool:
        return self.severity < Verdict(other).severity

    def __le__(self, other: str) -> bool:
        return self.severity <= Verdict(other).severity

    def __gt__(self, other: str) -> bool:
        return self.severity > Verdict(other).severity

    def __ge__(self, other: str) -> bool:
        return self.severity >= Verdict(other).severity


_ORDER: Final = {"held": 0, "inconclusive": 1, "deviated": 2}


class Finding(NamedTuple):
    """What one part of the evidence says."""

    verdict: Verdict
    sentence: str


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The gravest of *verdicts*; held for none."""
    return max(verdicts, default=Verdict.HELD, key=lambda verdict: verdict.severity)
