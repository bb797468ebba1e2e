"""An event loop whose clock jumps to the next timer: seconds of schedule in milliseconds of test."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

ResultT = TypeVar("ResultT")


class _Jumping(selectors.DefaultSelector):
    """Where the loop would sleep, the clock moves on instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            return super().select(5)  # a thread's answer
        if not ready:
            self.now_s += timeout or 0.0
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.jumping = _Jumping()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now_s

    def clock_ns(self) -> int:
        return round(self.jumping.now_s * 1e9)

    def freeze(self, duration_s: float) -> None:
        """The process got no processor for *duration_s*."""
        self.jumping.now_s += duration_s


def run(main: Coroutine[Any, Any, ResultT]) -> ResultT:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
