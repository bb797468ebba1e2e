"""`object`: an object store over HTTP gives an object, takes one, gives back what it took, or a ledger of objects.

PUT and GET of whole objects by url, as S3 and WebDAV have them; for S3 signed with a key of this node.
Source: RFC 9110, section 9.3.4 (PUT); Amazon S3, "PutObject": an answer of 200 means that the object is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import msgspec
import structlog

from agent.probes import key_file, signature
from agent.probes.base import ProbeSpec
from agent.probes.key_file import KeyFile
from agent.probes.limit import Limit
from agent.probes.message import MalformedError
from agent.probes.signature import Signer
from agent.probes.web import Answer, Web, WebSpec, failure, usable
from protos.recovery import Code

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from agent.probes.ledger import Ledger

SIZE_MAX: Final = 4 << 20
_TOGETHER: Final = 8  # requests at a time, when a ledger is read back or taken away
_CLEAN_S: Final = 5.0  # for taking away what the probe had put


class ObjectSpec(WebSpec):
    """*url*: of the object, for `get`; else a prefix that names are put behind, such as `http://store/bucket/`.

    put: overwrites one object; verify: and gets it back. ledger numbers its objects, one an attempt, so that losses can
    be counted: lost is what was acknowledged and is not there (404; of a signed request, by the store's own code), or
    has another content. *members*: prefixes of further servers that a ledger is read back from. *size_bytes*: of an
    object.

    *credentials_path*: a file on the node, as `~/.aws/credentials`, of which the section *profile* signs every request
    (AWS Signature Version 4) for the *region*; *member_regions*: of members that are in another one.
    """

    mode: Literal["get", "put", "verify", "ledger"] = "get"
    size_bytes: int = 64
    members: dict[str, str] = msgspec.field(default_factory=dict)
    credentials_path: str = ""
    profile: str = "default"
    region: str = ""
    member_regions: dict[str, str] = msgspec.field(default_factory=dict)

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
        return found + (self._signing() if self.credentials_path else self._bare())

    def _bare(self) -> list[tuple[str, str]]:
        given = [("region", self.region), ("member_regions", self.member_regions)]
        return [(name, "is of use only beside credentials_path") for name, value in given if value]

    def _signing(self) -> list[tuple[str, str]]:
        found = []
        if lacks := signature.missing() or (why if isinstance(why := self._key(), str) else ""):
            found.append(("credentials_path", lacks))
        if not signature.is_region(self.region):
            found.append(("region", f"{self.region!r} is no region, such as us-east-1"))
        for name, region in self.member_regions.items():
            if name not in self.members or not signature.is_region(region):
                found.append(("member_regions", f"{name}: {region!r} is no region of a member"))
        found += [
            ("headers", f"{name!r} belongs to the signature")
            for name in self.headers
            if name.lower() in signature.OWN_HEADERS
        ]
        return found

    def _key(self) -> key_file.Key | str:
        found = key_file.read(self.credentials_path, self.profile)
        return f"{self.credentials_path} {found}" if isinstance(found, str) else found


class ObjectProbe:
    """REFUSED: no connection, or it broke. BAD: another status than 2xx, or another content.

    Of a ledger, 4xx is a refusal; after a 5xx nobody knows: a proxy may say it for a store that took the object.
    A signature that the store does not take is BAD whatever the reason, skewed clocks too: every client of this node
    would be told the same. The log has the reason.
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
        keys = KeyFile(spec.credentials_path, spec.profile)
        self._signer = Signer(keys, spec.headers) if spec.credentials_path else None
        self._regions = {spec.members[name]: region for name, region in spec.member_regions.items()}
        self._log = structlog.get_logger("agent.probes")
        self._said = ""

    @staticmethod
    def missing() -> str:
        return ""

    async def open(self) -> None:
        if self.ledger is not None:
            self._name = f"blackstart-{self.ledger.name}"
        if self._signer is not None:
            await self._signer.open()
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
            return self._judged(await self._request("GET", self._spec.url))
        if self._spec.mode == "ledger":
            return await self._enter()
        self._count += 1
        # Attempts overlap: each has an object of its own to verify, out of a few that are overwritten.
        number = self._count % 64 if self._spec.mode == "verify" else 0
        content = self._content(self._count)
        self._put = max(self._put, self._count)
        code = self._judged(await self._request("PUT", self._spec.url, number, content, body=False))
        if code is not Code.OK or self._spec.mode == "put":
            return code
        found = await self._request("GET", self._spec.url, number)
        self._judged(found)
        return Code.OK if (found.status, found.body) == (200, content) else Code.BAD

    async def _enter(self) -> Code:
        assert self.ledger is not None
        if self.ledger.full:
            return Code.ERROR
        number = self.ledger.send()
        self._put = max(self._put, number + 1)
        answer = await self._request("PUT", self._spec.url, number, self._content(number), body=False)
        if 200 <= answer.status <= 299:
            self.ledger.acknowledged(number)
        elif 400 <= answer.status <= 499:
            self.ledger.refused(number)
        return self._judged(answer)

    async def _request(
        self, method: str, prefix: str, number: int | None = None, content: bytes | None = None, *, body: bool = True
    ) -> Answer:
        """One request for an object behind *prefix*; of a signed one the body is read for the store's reason."""
        url = prefix if number is None else f"{prefix}{self._name}-{number}"
        if self._signer is None:
            return await self._web.ask(method, url, content, body=body)
        url, headers = self._signer.sign(method, url, content, self._regions.get(prefix, self._spec.region))
        return await self._web.ask(method, url, content, headers=headers)

    def _judged(self, answer: Answer) -> Code:
        """OK for 2xx; else BAD, and the log has the reason when it is another than before."""
        good = 200 <= answer.status <= 299
        why = "" if good or self._signer is None else signature.reason(answer)
        if why and why != self._said:
            self._log.warning("a store refuses signed requests", status=answer.status, reason=why)
        self._said = why
        return Code.OK if good else Code.BAD

    async def _numbers(self, prefix: str, timeout_s: float) -> list[int]:
        waiting, found = iter(range(self._put)), set[int]()

        async def read() -> None:
            for number in waiting:
                async with Limit(timeout_s):
                    answer = await self._request("GET", prefix, number)
                if answer.status == 200:
                    if answer.body == self._content(number):
                        found.add(number)
                elif not self._is_gone(answer):
                    why = signature.reason(answer)
                    raise MalformedError(f"an object is answered by {answer.status}" + (f" ({why})" if why else ""))

        await _together(read)
        return sorted(found)

    def _is_gone(self, answer: Answer) -> bool:
        return answer.status in (404, 410) if self._signer is None else signature.is_gone(answer)

    async def _clean(self) -> None:
        """Takes the objects away, but for a ledger that was never compared: it is evidence."""
        if not self._put or (self.keeps_ledger and not self._compared):
            return
        count = {"put": 1, "verify": 64}.get(self._spec.mode, self._put)
        waiting, gone = iter(range(count)), 0

        async def delete() -> None:
            nonlocal gone
            for number in waiting:
                answer = await self._request("DELETE", self._spec.url, number, body=False)
                gone += 200 <= answer.status <= 299 or answer.status == 404

        with contextlib.suppress(OSError, MalformedError):
            async with Limit(_CLEAN_S):
                await _together(delete)
        if gone < count:
            self._log.warning("objects may be left in a store", name=self._name, objects=count - gone)

    def _content(self, number: int) -> bytes:
        line = f"{self._name} {number}\n".encode()
        return (line * (self._spec.size_bytes // len(line) + 1))[: self._spec.size_bytes]


async def _together(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Several of *work* at a time; all end with the first that fails."""
    tasks = [asyncio.ensure_future(work()) for _ in range(_TOGETHER)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
