"""What probes of servers with a protocol of their own have in common: attempts over kept connections, and a ledger.

Invariant: a ledger's records are removed from the service only once they have been compared; those that nobody compared
stay, as evidence.
"""

from __future__ import annotations

import abc
import contextlib
import ssl
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic

from agent.probes.base import code_of
from agent.probes.limit import Limit
from agent.probes.rotation import BrokenError, ErrorAnswerError, Rotation, WireT
from protos.recovery import Code

if TYPE_CHECKING:
    from agent.probes.endpoint import Endpoint
    from agent.probes.ledger import Ledger

_GONE_MIN: Final = 3  # servers in a row that must say that the records' place is not there


class BrokerProbe(abc.ABC, Generic[WireT]):
    """REFUSED: no connection, or it broke. BAD: an error of the server.

    A probe has `_reach`, `_do`, `_numbers` and `_clear`. *missing_status*: of an error that says that the place of the
    records is gone; 0: none does.
    """

    missing_status: ClassVar[int] = 0
    clear_s: ClassVar[float] = 2.0  # for removing what the ledger wrote

    def __init__(self, servers: int, *, keep: bool, ledger: bool) -> None:
        self._rotation: Rotation[WireT] = Rotation(servers, self._reach, keep=keep)
        self._endpoints: dict[Any, Endpoint] = {}
        self.ledger: Ledger | None = None  # given by the engine where `keeps_ledger`
        self.keeps_ledger = ledger
        self._compared = False
        self._gone = 0  # times that there was no place to read

    async def attempt(self, timeout_s: float) -> Code:
        try:
            async with Limit(timeout_s):
                return await self._rotation.use(self._do, again=not self.keeps_ledger)
        except (ErrorAnswerError, ssl.SSLError):
            return Code.BAD
        except BrokenError:
            return Code.REFUSED
        except OSError as error:
            return code_of(error)

    async def close(self) -> None:
        if self.ledger is not None and self._compared:
            with contextlib.suppress(OSError, ErrorAnswerError):  # the service may be away: then its records stay there
                async with Limit(self.clear_s):
                    _, connection = await self._rotation.connect()
                    with contextlib.closing(connection):
                        await self._clear(connection)
        self._rotation.close()
        for endpoint in self._endpoints.values():
            await endpoint.close()
        if self.ledger is not None:
            self.ledger.close(keep=not self._compared)

    async def present(self, timeout_s: float) -> tuple[list[int], dict[str, list[int] | str]]:
        """Numbers of the ledger in the order of the service, and those of each member that can be read alone."""
        async with Limit(timeout_s):
            at, connection = await self._rotation.connect()
            good = False
            try:
                found = await self._numbers(connection)
                good = True
            except ErrorAnswerError as error:
                if not self.missing_status or error.status != self.missing_status:
                    raise
                self._gone += 1
                if self._gone < _GONE_MIN:  # all of them lost? A server that is not back yet may say so
                    raise
                found = self._read_before()
            finally:
                if not good:
                    self._rotation.leave(at)  # another server may have them
                connection.close()
        members = await self._members(timeout_s)
        self._compared = True
        return found, members

    async def _members(self, timeout_s: float) -> dict[str, list[int] | str]:
        """What each member alone has, or why it cannot be read; most protocols do not offer it."""
        del timeout_s
        return {}

    def _read_before(self) -> list[int]:
        """What earlier readings took out of a place that is gone."""
        return []

    @abc.abstractmethod
    async def _reach(self, at: int) -> WireT:
        """A connection to the server of that number, ready for use."""

    @abc.abstractmethod
    async def _do(self, connection: WireT) -> Code:
        """One attempt."""

    @abc.abstractmethod
    async def _numbers(self, connection: WireT) -> list[int]:
        """Numbers of the ledger in the order of the service."""

    @abc.abstractmethod
    async def _clear(self, connection: WireT) -> None:
        """Removes what the ledger wrote."""
