"""Shares of attempts that were good: what they say of a service's uptime, and what an outage spends of a month. Pure.

Invariant: what gave no data counts for neither side; the bounds hold it both ways.
"""

from __future__ import annotations

import math
from typing import Final

MONTH_S: Final = 30 * 86_400.0
CONFIDENCE: Final = 0.95
_Z: Final = 1.959963984540054  # of CONFIDENCE, both sides


def wilson(good: int, attempts: int) -> tuple[float, float]:
    """Bounds of the probability of success behind *good* of *attempts*, with CONFIDENCE; (0, 1) for none.

    It takes attempts for independent, which those within one outage are not: it is the narrowest honest interval.
    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    if not attempts:
        return 0.0, 1.0
    share, square = good / attempts, _Z * _Z
    middle = (share + square / (2 * attempts)) / (1 + square / attempts)
    half = _Z * math.sqrt(share * (1 - share) / attempts + square / (4 * attempts**2)) / (1 + square / attempts)
    return (0.0 if not good else max(0.0, middle - half)), (1.0 if good == attempts else min(1.0, middle + half))


def attempts_needed(share: float) -> int:
    """Attempts without one failure from which `wilson` shows at least *share*; 0 < share < 1."""
    return math.ceil(_Z * _Z * share / (1 - share))


def budget_s(share: float, period_s: float = MONTH_S) -> float:
    """Seconds without service that *share* of a period allows: 2,592 s (43.2 min) of a month at 99.9 %."""
    return (1 - share) * period_s
