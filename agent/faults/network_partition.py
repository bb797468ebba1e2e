"""`network.partition`: packets to and from peers are dropped, both ways or one way, in any network namespace.

The cut is an nftables table owned by a holder's socket: the kernel removes it when the holder ends, and its elements
expire at the deadline even if the holder hangs.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import ClassVar

import msgspec

from agent.faults import reach, scope, table
from agent.faults.base import Effect, Injected, Page, Receipt
from agent.faults.packet import PacketFault

_ANSWER_TIMEOUT_S = 0.3
_ASKED_MAX = 3  # peers that the receipt asks: the table is one transaction, so one cut peer stands for all


class PartitionSpec(scope.Scope, forbid_unknown_fields=True, kw_only=True):
    """All of it is scope."""


class NetworkPartition(PacketFault):
    """Confirmed by a drop counter that moves *and* a peer that no longer answers a process that knows of no rules."""

    kind: ClassVar[str] = "network.partition"
    spec: ClassVar[type[msgspec.Struct]] = PartitionSpec
    grip: ClassVar[str] = "partition"
    page: ClassVar[Page] = Page(
        does="Packets between this node and its peers are dropped: a cut, both ways or one way.",
        mechanism="An nftables table of the effect's own, with the peers in sets whose elements expire at the "
        "deadline. Protected ports of the node's policy (SSH) are spared in the agent's own namespace.",
        proof="The table's counters move, and up to three peers no longer answer a process that knows of no rules.",
        ends="The table is owned by its holder's socket: the kernel removes it when the holder dies, with the agent or "
        "alone. If the holder hangs, the elements expire.",
        limits="Up to three peers are asked. A peer that answered neither before the cut makes the receipt rest on our "
        "own packets being dropped. Established connections stall and are not reset.",
        example={"peers": ["10.0.0.12", "10.0.1.0/24"], "direction": "both"},
        source="nft(8), flags owner; Linux 5.12",
    )

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[str, dict[str, str]] = {}

    def plan(self, spec: PartitionSpec) -> list[Effect]:
        facts = scope.resolve(spec)
        return [self.effect(facts, f"drop of {scope.words(facts)}")]

    async def inject(self, effect: Effect) -> Injected:
        self._before[effect.id] = await self._ask(effect)
        return await super().inject(effect)

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        before = self._before.pop(effect.id, {})
        after = await self._ask(effect)
        dropped = table.dropped(await asyncio.to_thread(table.listing, effect))
        silent = {peer: how for peer, how in after.items() if how != reach.ANSWERS}
        confirmed = bool(after) and len(silent) == len(after) and dropped > 0
        answered = sum(how == reach.ANSWERS for how in before.values())
        text = (
            f"{dropped} packets dropped; {len(silent)} of {len(after)} peers asked gave no answer"
            f" ({answered} of {len(before)} did before)"
        )
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)

    async def _ask(self, effect: Effect) -> dict[str, str]:
        facts = effect.facts
        networks = [ipaddress.ip_network(peer) for peer in facts["peers"][:_ASKED_MAX]]
        hosts = [str(next(iter(network.hosts()), network.network_address)) for network in networks]
        port = facts["ports"][0] if facts["ports"] else 0
        return await reach.look(facts["network"], hosts, port, facts["protocol"], _ANSWER_TIMEOUT_S)
