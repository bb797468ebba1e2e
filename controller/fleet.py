"""The registry of agents: who is connected, what each can do, how its clock stands. Leases decide who is lost.

Invariant: at most one link per agent id; a later connection replaces the earlier. A member that has been silent for
the lease is detached by `expire`. Times are monotonic nanoseconds and come in as arguments.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from controller.selector import Candidate
from controller.store.base import AgentRecord
from protos.clock import Offset, OffsetEstimator

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from protos import blackstart_agent_pb2 as pb


class Link(Protocol):
    """One connection of an agent."""

    def send(self, message: pb.ControllerMessage) -> None:
        """Queues *message*; in the order of the calls. Does nothing once closed."""

    def close(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Translation:
    """How to read another clock: theirs + offset_ns, give or take error_ns."""

    offset_ns: int
    error_ns: int

    def bounds(self, lo_ns: int, hi_ns: int) -> tuple[int, int]:
        """The interval on this clock that holds what *[lo_ns, hi_ns]* holds on the other."""
        return lo_ns + self.offset_ns - self.error_ns, hi_ns + self.offset_ns + self.error_ns


EXACT = Translation(0, 0)


@dataclass(slots=True)
class Member:
    """One agent, connected (*link*) or not."""

    id: str
    version: str = ""
    boot_id: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    capabilities: Sequence[dict[str, Any]] = ()
    seen_wall_ns: int = 0
    heard_ns: int = 0
    agent_ns: int = 0  # the agent's clock when it was heard last
    wall_offset_ns: int = 0  # the agent's own wall clock minus its monotonic one
    series: dict[int, tuple[str, str]] = field(default_factory=dict)  # gauges by id: name and unit
    link: Link | None = None
    address: str = ""  # where its stream comes from
    spool_id: str = ""
    effects: int = 0
    spooled: int = 0
    dropped: int = 0
    estimator: OffsetEstimator = field(default_factory=OffsetEstimator)

    @property
    def connected(self) -> bool:
        return self.link is not None

    def offset(self) -> Offset | None:
        """Controller's clock minus the agent's, as far as it is known."""
        return self.estimator.at(self.agent_ns)

    def missing(self, family: str, kind: str) -> str:
        """Why the agent cannot do *kind*, in words; empty when it can."""
        for capability in self.capabilities:
            if (capability["family"], capability["kind"]) == (family, kind):
                return "" if capability["available"] else (capability["missing"] or "not available")
        known = sorted(c["kind"] for c in self.capabilities if c["family"] == family)
        return f"knows no {family} {kind!r} (it has {', '.join(known) or 'none'})"

    def record(self) -> AgentRecord:
        return AgentRecord(self.id, self.version, self.boot_id, self.labels, self.capabilities, self.seen_wall_ns)


class Fleet:
    """See the module."""

    def __init__(self, *, boot_id: str, lease_s: float) -> None:
        self._members: dict[str, Member] = {}
        self._boot_id = boot_id
        self._lease_ns = int(lease_s * 1e9)
        self._changed = asyncio.Condition()

    def remember(self, records: Iterable[AgentRecord]) -> None:
        """Takes in agents that an earlier controller knew; they are not connected."""
        for record in records:
            self._members[record.id] = Member(
                record.id, record.version, record.boot_id, dict(record.labels), record.capabilities, record.seen_wall_ns
            )

    def members(self) -> list[Member]:
        return [self._members[key] for key in sorted(self._members)]

    def connected(self) -> list[Member]:
        return [member for member in self.members() if member.connected]

    def member(self, agent_id: str) -> Member | None:
        return self._members.get(agent_id)

    async def attach(self, hello: pb.Hello, link: Link, *, now_ns: int, wall_ns: int, address: str = "") -> Member:
        """The member that said *hello*, connected by *link* from *address*; an earlier link of the id is closed."""
        member = self._members.setdefault(hello.agent_id, Member(hello.agent_id))
        if member.link is not None:
            member.link.close("replaced by a newer connection of the same agent")
        if member.boot_id != hello.boot_id:
            member.estimator = OffsetEstimator()
        member.version, member.boot_id, member.spool_id = hello.agent_version, hello.boot_id, hello.spool_id
        member.labels = dict(hello.labels)
        member.capabilities = tuple(_capability(row) for row in hello.capabilities)
        member.series = {row.id: (row.name, row.unit) for row in hello.series}
        member.link, member.agent_ns, member.address = link, hello.monotonic_ns, address
        member.wall_offset_ns = hello.wall_ns - hello.monotonic_ns
        self.heard(member, now_ns=now_ns, wall_ns=wall_ns)
        await self._announce()
        return member

    async def detach(self, member: Member, link: Link) -> bool:
        """Forgets *link*; False when the member has another one already."""
        if member.link is not link:
            return False
        member.link = None
        await self._announce()
        return True

    def heard(self, member: Member, *, now_ns: int, wall_ns: int) -> None:
        member.heard_ns, member.seen_wall_ns = now_ns, wall_ns

    async def expire(self, now_ns: int) -> list[Member]:
        """Closes the links of the members that have been silent for the lease, and returns these members."""
        lost = [m for m in self.connected() if now_ns - m.heard_ns > self._lease_ns]
        for member in lost:
            if member.link is not None:
                member.link.close("silent for longer than the lease")
            member.link = None
        if lost:
            await self._announce()
        return lost

    async def wait_for(self, agent_ids: Iterable[str], timeout_s: float) -> set[str]:
        """Waits until all of *agent_ids* are connected, at most *timeout_s*; those that are not by then."""
        wanted = set(agent_ids)

        def absent() -> set[str]:
            return {i for i in wanted if (m := self._members.get(i)) is None or not m.connected}

        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(lambda: not absent()), timeout_s)
            except TimeoutError:
                pass
        return absent()

    def candidates(self, family: str, kind: str) -> list[Candidate]:
        """The connected agents, each with what it lacks for *kind*."""
        return [Candidate(m.id, m.labels, m.missing(family, kind)) for m in self.connected()]

    def translation(self, source: Member, target: Member | None, at_ns: int = 0) -> Translation | None:
        """From the clock of *source* to that of *target* (None: the controller's); None while that is not known.

        *at_ns*: the instant, on the clock of *source*, for which it has to hold; 0: now. Clocks drift in between.
        Two processes on one kernel read the same CLOCK_MONOTONIC: the same boot id means an offset of exactly zero,
        unless the measured offsets contradict it (a time namespace shifts the clock and keeps the boot id).
        """
        there, here = source.offset(), (target.offset() if target is not None else Offset(0, 0, 0))
        if at_ns and there is not None:
            there = source.estimator.at(at_ns)
            if target is not None and here is not None and there is not None:
                here = target.estimator.at(at_ns + there.offset_ns - here.offset_ns)
        if source is target:
            return EXACT
        same = source.boot_id == (target.boot_id if target is not None else self._boot_id) != ""
        if there is None or here is None:
            return EXACT if same else None
        measured = Translation(there.offset_ns - here.offset_ns, there.error_ns + here.error_ns)
        if same and abs(measured.offset_ns) <= measured.error_ns:
            return EXACT
        return measured

    async def _announce(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _capability(row: pb.Capability) -> dict[str, Any]:
    return {
        "family": row.family, "kind": row.kind, "available": row.available, "missing": row.missing, "undo": row.undo,
    }  # fmt: skip
