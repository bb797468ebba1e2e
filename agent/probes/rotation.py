"""Connections to the servers of a list: kept while they serve, left with all others to a server on which one failed.

Invariant: a connection belongs to one attempt, or is idle; what an attempt was cut off from is closed with it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

from protos.recovery import Code

IDLE_MAX: Final = 8
_STALE_S: Final = 30.0  # an idle connection is not used after that: a server may ask it for signs of life


class ErrorAnswerError(Exception):
    """The server's own error, with its *status*; 0 where its protocol has none."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status} {text}" if status else text)
        self.status = status


class BrokenError(ConnectionError):
    """The connection ended within an answer, or what came is none."""


class Wire(Protocol):
    """One connection."""

    def close(self) -> None: ...


WireT = TypeVar("WireT", bound=Wire)


async def greeted(wire: WireT, greeting: Awaitable[object]) -> WireT:
    """*wire* once its *greeting* is over; closed where that fails, or where the attempt is cut off meanwhile."""
    with contextlib.ExitStack() as held:
        held.callback(wire.close)
        await greeting
        held.pop_all()
    return wire


class Rotation(Generic[WireT]):
    """*reach* connects to the server of a number below *servers*. *keep*: connections are used again."""

    def __init__(self, servers: int, reach: Callable[[int], Awaitable[WireT]], *, keep: bool) -> None:
        self._servers, self._reach, self._keep = servers, reach, keep
        self._at = 0  # the server that new connections go to
        self._idle: list[tuple[int, float, WireT]] = []

    async def use(self, work: Callable[[WireT], Awaitable[Code]], *, again: bool) -> Code:
        """What *work* says of an idle connection, or of a new one.

        *again*: it is done again where an idle connection turns out to be closed, which says nothing of the service
        now; not so for a record that may have been taken.
        """
        while self._idle:
            at, used_s, connection = self._idle.pop()
            if time.monotonic() - used_s > _STALE_S:
                connection.close()
                continue
            try:
                return await self._use(at, connection, work)
            except BrokenError:
                if not again:
                    raise
        return await self._use(*await self.connect(), work)

    async def connect(self) -> tuple[int, WireT]:
        """A connection to the first server that takes it, with its number; one that says nothing costs the attempt."""
        failure: Exception = BrokenError("no server")
        for _ in range(self._servers):
            at, reached = self._at, False
            try:
                connection = await self._reach(at)
                reached = True
                return at, connection
            except (OSError, ErrorAnswerError) as error:
                failure = error
            finally:  # also where the attempt is cut off
                if not reached:
                    self.leave(at)
        raise failure

    def leave(self, at: int) -> None:
        """An attempt failed on that server: its other connections are of no more use, and the next one may serve."""
        if at == self._at:
            self._at = (at + 1) % self._servers
        for _, _, connection in (left := [one for one in self._idle if one[0] == at]):
            connection.close()
        self._idle = [one for one in self._idle if one not in left]

    def close(self) -> None:
        while self._idle:
            self._idle.pop()[2].close()

    async def _use(self, at: int, connection: WireT, work: Callable[[WireT], Awaitable[Code]]) -> Code:
        code = Code.ERROR
        try:
            code = await work(connection)
            return code
        finally:
            if code is Code.OK and self._keep and at == self._at and len(self._idle) < IDLE_MAX:
                self._idle.append((at, time.monotonic(), connection))
            else:
                connection.close()
                if code is not Code.OK:
                    self.leave(at)
