"""`tcp`: the port accepts, and says what is expected."""

from __future__ import annotations

from typing import ClassVar

from agent.probes.base import ProbeSpec, code_of
from agent.probes.endpoint import Endpoint
from agent.probes.limit import Limit
from protos.recovery import Code


class TcpSpec(ProbeSpec):
    """*expect* is what the service must say first, of itself or in answer to *send*; empty: to accept is enough.

    A frozen process still accepts, by its kernel: where that matters, name what it says.
    """

    host: str
    port: int
    send: str = ""
    expect: str = ""

    def problems(self) -> list[tuple[str, str]]:
        found = [("host", "is empty")] if not self.host else []
        return found if 0 < self.port < 65_536 else [*found, ("port", f"{self.port} is not in 1..65535")]


class TcpProbe:
    kind: ClassVar[str] = "tcp"
    spec_type: ClassVar[type[ProbeSpec]] = TcpSpec

    def __init__(self, spec: TcpSpec) -> None:
        self._endpoint = Endpoint(spec.host, spec.port)
        self._send, self._expect = spec.send.encode(), spec.expect.encode()

    @staticmethod
    def missing() -> str:
        return ""

    async def open(self) -> None:
        await self._endpoint.open()

    async def attempt(self, timeout_s: float) -> Code:
        try:
            async with Limit(timeout_s):
                return await self._ask()
        except OSError as error:
            return code_of(error)

    async def close(self) -> None:
        await self._endpoint.close()

    async def _ask(self) -> Code:
        stream = await self._endpoint.connect()
        try:
            if self._send:
                await stream.send(self._send)
            said = b""
            while len(said) < len(self._expect) and self._expect.startswith(said):
                part = await stream.receive()
                if not part:
                    return Code.BAD
                said += part
            return Code.OK if said.startswith(self._expect) else Code.BAD
        finally:
            stream.close()
