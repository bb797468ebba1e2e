"""How much of something is let through: a bucket of tokens that fills at a steady rate."""

from __future__ import annotations

import time
from collections.abc import Callable


class Bucket:
    """*burst* at once, then *per_s* a second."""

    def __init__(self, burst: float, per_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._per_s, self._clock_s = burst, per_s, clock_s
        self._tokens, self._filled_s = burst, clock_s()

    def take(self) -> bool:
        """Takes one token; False when there is none."""
        now_s = self._clock_s()
        self._tokens = min(self._burst, self._tokens + (now_s - self._filled_s) * self._per_s)
        self._filled_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
