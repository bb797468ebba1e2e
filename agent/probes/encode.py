"""`encode`: whether the encode workload of this node is as fast as it was when this probe began.

Invariant: a rate is judged over the whole of its window, so a recovery is never told too early: it may be told up to
*window_s* late. Pictures of jobs that are lost afterwards count, as the node did the work.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from pathlib import Path
from typing import ClassVar, Final

from agent.probes.base import ProbeSpec
from agent.probes.record import Record
from agent.system import board
from protos.figure import Figure, Measured
from protos.recovery import Code

_LOOKS_A_WINDOW: Final = 1000  # that are kept; more often is not looked back to


class EncodeProbeSpec(ProbeSpec):
    """Good: in the last *window_s* the node encoded at *at_least_fraction* of its rate at the beginning.

    That rate is the mean over the first *reference_s* in which pictures came; until then attempts give no data. Start
    this probe when the encoding is at its speed.
    """

    at_least_fraction: float = 0.95
    window_s: float = 5.0
    reference_s: float = 10.0

    def problems(self) -> list[tuple[str, str]]:
        found = []
        if not 0 < self.at_least_fraction <= 1:
            found.append(("at_least_fraction", f"{self.at_least_fraction:g} is not above 0 and up to 1"))
        for name in ("window_s", "reference_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0.2 <= value <= 3600):
                found.append((name, f"{value:g} is not between 0.2 and 3600 seconds"))
        return found


class EncodeProbe:
    """BAD: slower. ERROR, no data: no encoding here, or not long enough. *folder*: where this agent encodes."""

    kind: ClassVar[str] = "encode"
    spec_type: ClassVar[type[ProbeSpec]] = EncodeProbeSpec

    def __init__(self, spec: EncodeProbeSpec) -> None:
        self._spec = spec
        self.folder: Path | None = None
        self._looks: deque[tuple[float, int]] = deque()  # when, pictures so far
        self._first: tuple[float, int] | None = None
        self.reference: float | None = None  # pictures/s
        self._least = math.inf  # of the windows, over the reference

    @staticmethod
    def missing() -> str:
        return ""

    async def open(self) -> None:
        self._forget()

    async def attempt(self, timeout_s: float) -> Code:
        pictures = await self._pictures(timeout_s)
        now = time.monotonic()
        if pictures is None:
            self._forget()
            return Code.ERROR
        if self._looks and pictures < self._looks[-1][1]:  # another workload has begun
            self._forget()
        if not self._looks or now - self._looks[-1][0] >= self._spec.window_s / _LOOKS_A_WINDOW:
            self._looks.append((now, pictures))
        if self._first is None:
            self._first = self._begun(pictures)
        if self._first is None:
            return Code.ERROR
        if self.reference is None:
            if now - self._first[0] < self._spec.reference_s:
                return Code.ERROR
            self.reference = (pictures - self._first[1]) / (now - self._first[0])
        return self._judged(now, pictures)

    async def _pictures(self, timeout_s: float) -> int | None:
        """In a thread: the board lies on the disk of the outputs, which may hang."""
        if self.folder is None:
            return None
        try:
            return await asyncio.wait_for(asyncio.to_thread(board.pictures, self.folder / "board"), timeout_s)
        except TimeoutError:
            return None

    async def close(self) -> None:
        self._forget()

    def _begun(self, pictures: int) -> tuple[float, int] | None:
        """The last look before pictures came; None as long as none do. Older ones are of no use."""
        if len(self._looks) > 1 and self._looks[0][1] == self._looks[1][1]:
            self._looks.popleft()
        return self._looks[0] if self._looks[0][1] < pictures else None

    def _judged(self, now: float, pictures: int) -> Code:
        while len(self._looks) > 1 and self._looks[1][0] <= now - self._spec.window_s:
            self._looks.popleft()
        begin, seen = self._looks[0]
        if now - begin < 0.5 * self._spec.window_s:
            return Code.ERROR
        assert self.reference is not None
        share = (pictures - seen) / (now - begin) / self.reference
        self._least = min(self._least, share)
        return Code.OK if share >= self._spec.at_least_fraction else Code.BAD

    def figures(self, record: Record) -> list[Figure]:
        """How slow it was at its slowest."""
        if math.isinf(self._least):
            return []
        method = f"pictures over {self._spec.window_s:g} s beside those of the first {self._spec.reference_s:g} s"
        found = Measured(method, len(record), self._least, self._least)
        return [Figure("speed at its least, of that at first", self._least, "fraction", found)]

    def _forget(self) -> None:
        self._looks.clear()
        self._first, self.reference = None, None
