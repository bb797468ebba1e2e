"""A time limit that does not hold the agent's own delays against the service.

When the node's processors are saturated, which is one of the faults, the agent runs late too: an answer may lie in the
socket while the timer fires. So time during which the event loop stood still is added to the limit.
Invariant: after a stall the loop looks at the sockets before any limit expires. Stalls are known as far as timers came
due in them: the schedule of the probes is such a timer, at every interval.
Source: docs/measuring-recovery.md, section 6.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

LATE_S: Final = (
    0.01  # a timer later than this was held up; less does not matter to limits, and is daily life on a busy node
)
GRACE_S: Final = 0.002  # for the loop to look at its sockets
EXTENDED_MAX: Final = 4  # a limit is extended to at most this many times itself


class StallMeter:
    """Adds up the time in which the event loop stood still, as late timers tell it."""

    def __init__(self) -> None:
        self.total_s = 0.0
        self._counted_until_s = 0.0

    def note(self, due_s: float, now_s: float) -> None:
        """A timer due at *due_s* ran at *now_s*, on the loop's clock."""
        if now_s < self._counted_until_s:
            self._counted_until_s = 0.0  # another loop, with another clock
        if now_s - due_s > LATE_S:
            self.total_s += max(0.0, now_s - max(due_s, self._counted_until_s))
            self._counted_until_s = now_s


STALLS: Final = StallMeter()  # of this process, which has one event loop


class Limit:
    """`async with Limit(s)`: as `asyncio.timeout(s)`, longer by what the agent slept through."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._expired = False

    async def __aenter__(self) -> Self:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._began_s, self._stalled_s = self._loop.time(), STALLS.total_s
        self._cancelling = self._task.cancelling() if self._task else 0
        self._wait(self._began_s + self._limit_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if not self._expired or self._task is None:
            return
        ours = self._task.uncancel() <= self._cancelling  # or somebody else cancels the task as well
        if ours and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _wait(self, until_s: float) -> None:
        self._until_s = until_s
        self._timer = self._loop.call_at(until_s, self._expire)

    def _expire(self) -> None:
        now_s = self._loop.time()
        STALLS.note(self._until_s, now_s)
        allowed_s = self._limit_s + min(STALLS.total_s - self._stalled_s, (EXTENDED_MAX - 1) * self._limit_s)
        if allowed_s > self._until_s - self._began_s + GRACE_S / 2:
            self._wait(max(self._began_s + allowed_s, now_s + GRACE_S))
        elif self._task is not None:
            self._expired = True
            self._task.cancel()
