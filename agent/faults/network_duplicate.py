"""`network.duplicate`: a part of the packets arrives twice."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from agent.faults.base import Page
from agent.faults.gauge import Asked, Reading
from agent.faults.mangled import LIMITS, Fraction, MangledFault, MangleSpec, percent, sample_size


class DuplicateSpec(MangleSpec, forbid_unknown_fields=True, kw_only=True):
    """How many."""

    fraction: Annotated[Fraction, Meta(description="part of the packets that arrives twice")]
    mechanism: Annotated[
        Literal["auto", "queue", "netem"], Meta(description="queue: per peer; netem: all that leaves by a device")
    ] = "auto"


class NetworkDuplicate(MangledFault):
    """Confirmed by echo requests that are answered twice."""

    kind: ClassVar[str] = "network.duplicate"
    spec: ClassVar[type[msgspec.Struct]] = DuplicateSpec
    mangle: ClassVar[str] = "duplicate"
    qdisc_kind: ClassVar[str] = "netem"
    page: ClassVar[Page] = Page(
        does="A part of the packets from and to peers arrives twice.",
        mechanism="The part is drawn in the kernel (nftables numgen) and goes through an NFQUEUE, whose process sends "
        "a copy by a raw socket. The copy bears a mark and is not drawn again. Or netem's duplicate at the root of a "
        "device.",
        proof="Echo requests that get a second answer, by a process that knows of no rules.",
        ends="Queue: rule and queue belong to sockets of the holder, so the kernel removes both when it dies. "
        "Netem: its holder outlives the agent and deletes it; the guardian stands behind it.",
        limits="TCP discards second copies; UDP services see them. A copy of what comes in arrives by the loopback "
        "device; packets longer than the way's MTU are not copied. Only ICMP echo shows copies: with protocol tcp or "
        f"udp, or with ports, the receipt is not confirmed. {LIMITS}",
        example={"peers": ["10.0.0.12"], "fraction": 0.1},
        source="raw(7), IP_HDRINCL; tc-netem(8)",
    )

    def _does(self, spec: DuplicateSpec) -> str:
        return f"{percent(spec.fraction)} twice"

    def _facts(self, spec: DuplicateSpec) -> dict[str, Any]:
        return {"sampled_fraction": spec.fraction}

    def _options(self, spec: DuplicateSpec) -> dict[str, Any]:
        return {"duplicate_fraction": spec.fraction}

    def _asked(self, facts: dict[str, Any]) -> Asked:
        return Asked(count=sample_size(facts), interval_s=0.002, wait_s=0.3)

    def _judge(self, facts: dict[str, Any], before: Reading, after: Reading) -> tuple[bool, str]:
        text = f"{after.copies} second answers to {len(after.sent)} echo requests, {before.copies} before"
        return after.copies > 0 and before.copies == 0, f"{text}, {percent(facts['sampled_fraction'])} asked"
