"""`network.loss`: a part of the packets to and from peers is dropped."""

from __future__ import annotations

import asyncio
import math
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import Meta

from agent.faults import gauge, scope, table
from agent.faults.base import Effect, Injected, Page, Receipt
from agent.faults.gauge import Asked, Reading
from agent.faults.packet import PacketFault

_SURE: Final = 4.0  # standard deviations between what was lost and what was asked
_LOST_MIN: Final = 4  # losses that the sample is made large enough for


class LossSpec(scope.Scope, forbid_unknown_fields=True, kw_only=True):
    loss_fraction: Annotated[float, Meta(ge=0.0001, le=1, description="of the packets, each drawn by itself")]


class NetworkLoss(PacketFault):
    """Confirmed by a drop counter that moves and by echoes that are missing, as many as were asked for."""

    kind: ClassVar[str] = "network.loss"
    spec: ClassVar[type[msgspec.Struct]] = LossSpec
    grip: ClassVar[str] = "loss"
    probe: ClassVar[str] = (
        "chain input { type filter hook input priority -300; numgen random mod 100 < 1 counter drop; }"
    )
    page: ClassVar[Page] = Page(
        does="A part of the packets to and from peers is dropped, each drawn by itself.",
        mechanism="An nftables table of the effect's own: `numgen random` draws, the peers stand in sets whose "
        "elements "
        "expire at the deadline.",
        proof="The table's counter moves, and echo requests of a process that knows no rules go missing in a number "
        "that "
        "fits what was asked.",
        ends="The table is owned by its holder's socket: the kernel removes it when the holder dies. If the holder "
        "hangs, "
        "the elements expire.",
        limits="With direction both a round trip is lost if either way loses it. Losses are independent, not in "
        "bursts. A "
        "peer that answers no echo leaves the receipt unconfirmed unless it answers connections (`ports`).",
        example={"peers": ["10.0.0.12"], "loss_fraction": 0.05},
        source="nft(8), numgen",
    )

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[str, Reading] = {}

    def plan(self, spec: LossSpec) -> list[Effect]:
        facts = scope.resolve(spec)
        facts["loss_fraction"] = spec.loss_fraction
        return [self.effect(facts, f"loss of {spec.loss_fraction:.4g} of the {scope.words(facts)}")]

    async def inject(self, effect: Effect) -> Injected:
        self._before[effect.id] = await gauge.read(effect.facts, _asked(effect))
        return await super().inject(effect)

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        before = self._before.pop(effect.id)
        after = await gauge.read(effect.facts, _asked(effect), before.peer)
        dropped = table.dropped(await asyncio.to_thread(table.listing, effect))
        fits = bool(before.peer) and before.unanswered == 0 and _fits(effect, after)
        text = (
            f"{after.unanswered} of {len(after.sent)} requests to {before.peer or 'no peer'} unanswered"
            f" ({before.unanswered} of {len(before.sent)} before), {dropped} packets dropped"
        )
        return Receipt(confirmed=fits and dropped > 0, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)


def _chance(effect: Effect) -> float:
    """Of a request to go unanswered: on the peer's own side of a loopback, and both ways, a packet is drawn twice."""
    fraction = float(effect.facts["loss_fraction"])
    return 1 - (1 - fraction) ** 2 if effect.facts["direction"] == "both" else fraction


def _asked(effect: Effect) -> Asked:
    count = min(600, max(40, math.ceil(3 * _LOST_MIN / _chance(effect))))
    return Asked(count=count, interval_s=0.001, wait_s=0.3)


def _fits(effect: Effect, after: Reading) -> bool:
    """Whether as many are missing as the asked fraction makes likely, and one at least; up to twice per way is fine."""
    count, chance = len(after.sent), _chance(effect)
    if not count or not after.unanswered:
        return False
    most = 1 - (1 - chance) ** 2  # over loopback a packet passes output and input, so both ways are drawn twice
    least, highest = chance * count, most * count
    spread = _SURE * math.sqrt(count * 0.25) if count < 100 else _SURE * math.sqrt(highest)
    return least - spread <= after.unanswered <= highest + spread
