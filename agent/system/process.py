"""Signals and waits by pidfd: to that very process, or to none.

Source: pidfd_open(2), pidfd_send_signal(2).
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time
from collections.abc import Iterable

from agent.system import proc


def open_pidfd(identity: proc.Identity) -> int | None:
    """A descriptor of that very process; None when it is gone. The caller closes it.

    The start time is checked after opening: a descriptor never changes its process, so what is checked is what is held.
    """
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    if proc.alive(identity):
        return descriptor
    os.close(descriptor)
    return None


def send(identity: proc.Identity, number: signal.Signals) -> bool:
    """Signals that very process; False when it is gone. PermissionError when it is not ours to signal."""
    descriptor = open_pidfd(identity)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


async def gone(identities: Iterable[proc.Identity], timeout_s: float) -> list[tuple[proc.Identity, int]]:
    """Waits for processes to end: (identity, monotonic ns at which its end was seen) of those that did in time."""
    held = [(identity, open_pidfd(identity)) for identity in identities]
    try:
        ends = await asyncio.gather(*(_exited(descriptor, timeout_s) for _, descriptor in held))
    finally:
        for _, descriptor in held:
            if descriptor is not None:
                os.close(descriptor)
    return [(identity, end) for (identity, _), end in zip(held, ends, strict=True) if end is not None]


async def _exited(descriptor: int | None, timeout_s: float) -> int | None:
    """The monotonic ns at which the pidfd was seen readable; now for None; None when it did not end in time."""
    if descriptor is None:
        return time.monotonic_ns()
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def seen() -> None:
        if not ended.done():
            ended.set_result(time.monotonic_ns())

    loop.add_reader(descriptor, seen)
    try:
        return await asyncio.wait_for(ended, timeout_s)
    except TimeoutError:
        return None
    finally:
        loop.remove_reader(descriptor)


def is_exited(descriptor: int) -> bool:
    """Whether the process behind a pidfd has ended."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
