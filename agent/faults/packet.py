"""What faults on packets have in common: an owned nftables table that a holder keeps, over a scope of packets."""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar

from agent.faults import claim, scope, table
from agent.faults.base import Effect, Undo
from agent.faults.held import HeldFault
from agent.system import nft
from agent.system.privilege import CAP_NET_ADMIN, has_capability


class PacketFault(HeldFault):
    """A fault adds its spec, its plan and its proof. *probe*: a table with all that its own will use."""

    kind: ClassVar[str]
    undo: ClassVar[Undo] = Undo.KERNEL
    probe: ClassVar[str] = "chain input { type filter hook input priority -300; counter drop; }"

    def missing(self) -> str:
        if not has_capability(CAP_NET_ADMIN):
            return "root (CAP_NET_ADMIN)"
        if lacks := nft.missing() or table.missing():
            return lacks
        refusal = nft.lacks(f"table inet blackstart_probe {{ {self.probe}; }}")
        return f"nftables in the kernel ({refusal})" if refusal else ""

    def prepare(self, effect: Effect) -> None:
        claim.take(effect)
        super().prepare(effect)

    async def revert(self, effect: Effect) -> None:
        await super().revert(effect)
        if not self.residue(effect):
            claim.give_up(effect)

    def effect(self, facts: dict[str, Any], description: str) -> Effect:
        """The one effect of a scope's *facts*; RefusedError when another holds some of its packets."""
        made = Effect(
            fault=self.kind, resource=resource(facts), description=description, undo=self.undo,
            touches=scope.touched(facts), facts=facts,
        )  # fmt: skip
        facts["table"] = table.name_of(made)
        claim.check(made)
        return made

    def _left(self, effect: Effect) -> list[str]:
        return [f"nftables table inet {table.name_of(effect)} still stands"] if table.listing(effect) else []

    def remedy(self, effect: Effect) -> str:
        return super().remedy(effect) or f"nft delete table inet {table.name_of(effect)}"


def resource(facts: dict[str, Any]) -> str:
    """Equal for the same peers and ports in the same namespace; `agent.faults.claim` finds those that overlap."""
    packets = json.dumps([facts["peers"], sorted(facts["ports"])]).encode()
    return f"network:{facts['inode']}:{hashlib.sha256(packets).hexdigest()[:12]}"
