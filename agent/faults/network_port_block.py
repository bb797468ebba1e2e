"""`network.port_block`: nobody reaches a service's port any more, or this node reaches nobody's."""

from __future__ import annotations

import asyncio
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from agent.faults import reach, scope, table, target
from agent.faults.base import Effect, Injected, Page, Receipt, Touched
from agent.faults.packet import PacketFault
from protos.error import Problem, SpecError

_ANSWER_TIMEOUT_S = 0.3


class PortBlockSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    ports: Annotated[list[scope.Port], Meta(min_length=1, description="ports that are shut")]
    protocol: Annotated[Literal["tcp", "udp"], Meta(description="protocol of the ports")] = "tcp"
    side: Annotated[
        Literal["here", "there"], Meta(description="here: this node's services; there: the peers' services")
    ] = "here"
    action: Annotated[Literal["drop", "reject"], Meta(description="drop: silence; reject: refused at once")] = "drop"
    peers: Annotated[list[str], Meta(description="addresses and networks; empty: everyone")] = []
    network_of: Annotated[
        target.ProcessSpec | None, Meta(description="the process whose network namespace is meant; null: the agent's")
    ] = None


class NetworkPortBlock(PacketFault):
    """Confirmed by a connection that fails and a counter that moves."""

    kind: ClassVar[str] = "network.port_block"
    spec: ClassVar[type[msgspec.Struct]] = PortBlockSpec
    grip: ClassVar[str] = "ports"
    probe: ClassVar[str] = (
        "chain input { type filter hook input priority -300; tcp dport { 9 } counter reject with tcp reset; }"
    )
    page: ClassVar[Page] = Page(
        does="Ports are shut: packets to them vanish, or are refused at once.",
        mechanism="An nftables table of the effect's own on input (this node's services) or output (the peers'), with "
        "the peers in sets whose elements expire at the deadline.",
        proof="A process that knows no rules fails to connect, and the table's counter moves.",
        ends="The table is owned by its holder's socket: the kernel removes it when the holder dies. If the holder "
        "hangs, "
        "the elements expire.",
        limits="Established connections to the ports stall or are reset as well: their packets go to the port, too. A "
        "UDP port gives no proof that it was open before. Forwarded traffic is not touched.",
        example={"ports": [5432], "action": "reject"},
        source="nft(8), reject statement",
    )

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[str, str] = {}

    def plan(self, spec: PortBlockSpec) -> list[Effect]:
        if spec.side == "there" and not spec.peers:
            raise SpecError(Problem("spec.peers", "is empty", "name whose services are meant"))
        direction: scope.Direction = "in" if spec.side == "here" else "out"
        meant = scope.Scope(
            peers=spec.peers, direction=direction, protocol=spec.protocol, ports=spec.ports, network_of=spec.network_of
        )
        facts = scope.resolve(meant, everyone=True)
        facts["hook"] = "input" if spec.side == "here" else "output"
        facts["verdict"] = "drop" if spec.action == "drop" else "reset" if spec.protocol == "tcp" else "reject"
        effect = self.effect(facts, f"{spec.action} of {scope.words(facts)}")
        if scope.own_network(facts):
            effect.touches = Touched(ports=spec.ports, addresses=facts["peers"] if spec.peers else [])
        return [effect]

    async def inject(self, effect: Effect) -> Injected:
        self._before[effect.id] = await self._ask(effect)
        return await super().inject(effect)

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        before, after = self._before.pop(effect.id), await self._ask(effect)
        counted = table.dropped(await asyncio.to_thread(table.listing, effect))
        port = effect.facts["ports"][0]
        text = f"a connection to port {port}: {after or 'not asked'} (before: {before}), {counted} packets stopped"
        shut = after != reach.ANSWERS or effect.facts["verdict"] != "drop"  # a refusal answers, too
        confirmed = bool(after) and shut and counted > 0
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)

    async def _ask(self, effect: Effect) -> str:
        facts = effect.facts
        everyone = set(facts["peers"]) == set(scope.EVERYONE)
        peer = "127.0.0.1" if everyone else facts["peers"][0].partition("/")[0]
        found = await reach.look(facts["network"], [peer], facts["ports"][0], facts["protocol"], _ANSWER_TIMEOUT_S)
        return found.get(peer, "")
