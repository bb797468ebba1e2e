"""One effect from its plan to its end, and the order that it came from."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from agent.faults.base import Effect, Injected, OnLost, Receipt, Undo

Json = dict[str, Any]
_UNKNOWN: Final = "the agent died while it was in force"


@dataclass(slots=True)
class Asked:
    """An order to inject: what its effects have in common."""

    run_id: str
    injection: str
    kind: str
    spec: Json
    duration_s: float
    on_lost: OnLost = "revert"
    follow: bool = False  # whether a target that comes back is joined again
    deadline_ns: int = 0  # CLOCK_MONOTONIC
    targets_max: int = 0  # the blast radius: effects in force at once
    called_off: str = ""  # why it is not to be carried out any more, while it is being planned


@dataclass(slots=True)
class Active:
    """One effect, from its plan to its end."""

    effect: Effect
    asked: Asked
    state: str = "planned"  # injected, reverted, failed, stranded
    injected: Injected | None = None
    receipt: Receipt | None = None
    reverted_ns: int = 0
    residue: list[str] = field(default_factory=list)
    note: str = ""
    timer: asyncio.TimerHandle | None = None
    retry_s: float = 0.0  # loop time at which a stranded effect is tried again
    pause_s: float = 1.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def in_force(self) -> bool:
        return self.state in ("injected", "stranded") and self.effect.undo is not Undo.SELF_HEALING

    @property
    def may_hold(self) -> bool:
        """In force, or about to be."""
        return self.in_force or self.state == "planned"

    def document(self, remedy: str) -> Json:
        """EFFECT of docs/architecture.md."""
        effect, receipt = self.effect, self.receipt
        return {
            "id": effect.id, "run_id": effect.run_id, "injection": effect.injection, "fault": effect.fault,
            "description": effect.description,
            "undo": str(effect.undo), "resource": effect.resource, "state": self.state,
            "confirmed": bool(receipt and receipt.confirmed), "receipt": receipt.text if receipt else "",
            "injected_lo_ns": receipt.lo_ns if receipt else 0, "injected_hi_ns": receipt.hi_ns if receipt else 0,
            "reverted_ns": self.reverted_ns, "residue": self.residue, "remedy": remedy if self.residue else "",
            "note": self.note or effect.facts.get("ended", ""), "follows": effect.follows,
        }  # fmt: skip


def adopted(effect: Effect) -> Active:
    """Of what an agent before this one left in force."""
    asked = Asked(effect.run_id, effect.injection, effect.fault, {}, effect.duration_s, effect.on_lost_controller)
    receipt = Receipt(confirmed=False, text=_UNKNOWN, lo_ns=0, hi_ns=0)
    return Active(effect, asked, state="injected", receipt=receipt)


def leftover(effect: Effect, left: list[str], remedy: str, now_ns: int) -> Json:
    """EFFECT of what an agent before this one left: not confirmed, for how long it was in force is not known."""
    return {
        "id": effect.id, "run_id": effect.run_id, "injection": effect.injection, "fault": effect.fault,
        "description": effect.description, "undo": str(effect.undo), "resource": effect.resource,
        "state": "stranded" if left else "reverted", "confirmed": False,
        "receipt": _UNKNOWN, "reverted_ns": now_ns,
        "residue": left, "remedy": remedy if left else "", "note": "", "follows": effect.follows,
    }  # fmt: skip
