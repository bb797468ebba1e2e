"""`http`: GET answers with an expected status, and body where one is asked for."""

from __future__ import annotations

from typing import ClassVar

from agent.probes.base import ProbeSpec
from agent.probes.limit import Limit
from agent.probes.message import MalformedError
from agent.probes.web import Web, WebSpec, failure
from protos.recovery import Code


class HttpSpec(WebSpec):
    """The body is read only for *body_contains* or *keepalive*."""

    status_min: int = 200
    status_max: int = 299
    body_contains: str = ""

    def problems(self) -> list[tuple[str, str]]:
        found = super().problems()
        if not 100 <= self.status_min <= self.status_max <= 599:
            found.append(("status_min", f"{self.status_min}..{self.status_max} is not a range within 100..599"))
        return found


class HttpProbe:
    kind: ClassVar[str] = "http"
    spec_type: ClassVar[type[ProbeSpec]] = HttpSpec

    def __init__(self, spec: HttpSpec) -> None:
        self._spec, self._web = spec, Web(spec)
        self._body = spec.body_contains.encode()

    @staticmethod
    def missing() -> str:
        return ""

    async def open(self) -> None:
        await self._web.open()

    async def attempt(self, timeout_s: float) -> Code:
        try:
            async with Limit(timeout_s):
                answer = await self._web.ask("GET", self._spec.url, body=bool(self._body))
        except MalformedError:
            return Code.BAD
        except OSError as error:
            return failure(error)
        good = self._spec.status_min <= answer.status <= self._spec.status_max and self._body in answer.body
        return Code.OK if good else Code.BAD

    async def close(self) -> None:
        await self._web.close()
