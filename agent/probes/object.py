"""`object`: an object store over HTTP gives an object, takes one, gives back what it took, or a ledger of objects.

PUT and GET of whole objects by url, as S3 and WebDAV have them; requests are not signed (a proxy may do it).
Source: RFC 9110, section 9.3.4 (PUT); Amazon S3, "PutObject": an answer of 200 means that the object is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import msgspec

from agent.probes.base import ProbeSpec
from agent.probes.limit import Limit
from agent.probes.message import MalformedError
from agent.probes.web import Web, WebSpec, failure, usable
from protos.recovery import Code

if TYPE_CHECKING:
    from agent.probes.ledger import Ledger

SIZE_MAX: Final = 4 << 20
_TOGETHER: Final = 8  # requests at a time, when a ledger is read back
_CLEAN_S: Final = 5.0  # for taking away what the probe had put


class ObjectSpec(WebSpec):
    """*url*: of the object, for `get`; else a prefix that names are put behind, such as `http://store/bucket/`.

    put: overwrites one object; verify: and gets it back. ledger numbers its objects, one an attempt, so that losses can
    be counted: lost is what was acknowledged and is answered by 404, or with another content. *members*: prefixes of
    further servers that a ledger is read back from. *size_bytes*: of an object.
    """

    mode: Literal["get", "put", "verify", "ledger"] = "get"
    size_bytes: int = 64
    members: dict[str, str] = msgspec.field(default_factory=dict)

    def problems(self) -> list[tuple[str, str]]:
        found = super().problems()
        if not 64 <= self.size_bytes <= SIZE_MAX:
            found.append(("size_bytes", f"{self.size_bytes} is not in 64..{SIZE_MAX}"))
        found += [
            ("members", f"{name}: {url!r} is not http:// or https:// with a host")
            for name, url in self.members.items()
            if not usable(url)
        ]
        if self.members and self.mode != "ledger":
            found.append(("members", "are read only by mode ledger"))
        return found


class ObjectProbe:
    """REFUSED: no connection, or it broke. BAD: another status than 2xx, or another content.

    Of a ledger, 4xx is a refusal; after a 5xx nobody knows: a proxy may say it for a store that took the object.
    """

    kind: ClassVar[str] = "object"
    spec_type: ClassVar[type[ProbeSpec]] = ObjectSpec

    def __init__(self, spec: ObjectSpec) -> None:
        self._spec = spec
        self._web = Web(spec, *spec.members.values())
        self._name = f"blackstart-{secrets.token_hex(6)}"
        self._count = self._put = 0
        self.ledger: Ledger | None = None  # given by the engine where `keeps_ledger`
        self.keeps_ledger = spec.mode == "ledger"
        self._compared = False

    @staticmethod
    def missing() -> str:
        return ""

    async def open(self) -> None:
        if self.ledger is not None:
            self._name = f"blackstart-{self.ledger.name}"
        await self._web.open()

    async def attempt(self, timeout_s: float) -> Code:
        try:
            async with Limit(timeout_s):
                return await self._ask()
        except MalformedError:
            return Code.BAD
        except OSError as error:
            return failure(error)

    async def close(self) -> None:
        await self._clean()
        await self._web.close()
        if self.ledger is not None:
            self.ledger.close(keep=not self._compared)

    async def present(self, timeout_s: float) -> tuple[list[int], dict[str, list[int] | str]]:
        """Numbers whose objects are there as they were put, and those of each member, or why not.

        *timeout_s* is for each object: a ledger may have thousands.
        """
        main = await self._numbers(self._spec.url, timeout_s)
        members: dict[str, list[int] | str] = {}
        for name, url in self._spec.members.items():
            try:
                members[name] = await self._numbers(url, timeout_s)
            except (OSError, MalformedError) as error:  # a member may be away; the service is not
                members[name] = str(error) or type(error).__name__
        self._compared = True
        return main, members

    async def _ask(self) -> Code:
        if self._spec.mode == "get":
            answer = await self._web.ask("GET", self._spec.url)
            return Code.OK if 200 <= answer.status <= 299 else Code.BAD
        if self._spec.mode == "ledger":
            return await self._enter()
        self._count += 1
        # Attempts overlap: each has an object of its own to verify, out of a few that are overwritten.
        url = self._url(self._spec.url, self._count % 64 if self._spec.mode == "verify" else 0)
        content = self._content(self._count)
        self._put = max(self._put, self._count)
        answer = await self._web.ask("PUT", url, content, body=False)
        if not 200 <= answer.status <= 299:
            return Code.BAD
        if self._spec.mode == "put":
            return Code.OK
        found = await self._web.ask("GET", url)
        return Code.OK if (found.status, found.body) == (200, content) else Code.BAD

    async def _enter(self) -> Code:
        assert self.ledger is not None
        if self.ledger.full:
            return Code.ERROR
        number = self.ledger.send()
        url, content = self._url(self._spec.url, number), self._content(number)
        self._put = max(self._put, number + 1)
        answer = await self._web.ask("PUT", url, content, body=False)
        if 200 <= answer.status <= 299:
            self.ledger.acknowledged(number)
            return Code.OK
        if 400 <= answer.status <= 499:
            self.ledger.refused(number)
        return Code.BAD

    async def _numbers(self, prefix: str, timeout_s: float) -> list[int]:
        waiting, found = iter(range(self._put)), set[int]()

        async def read() -> None:
            for number in waiting:
                async with Limit(timeout_s):
                    answer = await self._web.ask("GET", self._url(prefix, number))
                if answer.status == 200 and answer.body == self._content(number):
                    found.add(number)
                elif answer.status not in (200, 404, 410):
                    raise MalformedError(f"an object is answered by {answer.status}")

        readers = [asyncio.ensure_future(read()) for _ in range(_TOGETHER)]
        try:
            await asyncio.gather(*readers)
        finally:  # the others end with the first that fails
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
        return sorted(found)

    async def _clean(self) -> None:
        """Takes the objects away, but for a ledger that was never compared: it is evidence."""
        if not self._put or (self.keeps_ledger and not self._compared):
            return
        count = {"put": 1, "verify": 64}.get(self._spec.mode, self._put)
        waiting = iter(range(count))

        async def delete() -> None:
            for number in waiting:
                await self._web.ask("DELETE", self._url(self._spec.url, number), body=False)

        with contextlib.suppress(OSError, MalformedError):
            async with Limit(_CLEAN_S):
                await delete()

    def _url(self, prefix: str, number: int) -> str:
        return f"{prefix}{self._name}-{number}"

    def _content(self, number: int) -> bytes:
        line = f"{self._name} {number}\n".encode()
        return (line * (self._spec.size_bytes // len(line) + 1))[: self._spec.size_bytes]
