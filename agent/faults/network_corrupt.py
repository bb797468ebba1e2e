"""`network.corrupt`: one bit of a part of the packets is flipped."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from agent.faults.base import Page
from agent.faults.gauge import Asked, Reading
from agent.faults.mangled import LIMITS, Fraction, MangledFault, MangleSpec, percent, sample_size


class CorruptSpec(MangleSpec, forbid_unknown_fields=True, kw_only=True):
    """How many."""

    fraction: Annotated[Fraction, Meta(description="part of the packets in which one bit is flipped")]
    mechanism: Annotated[
        Literal["auto", "queue", "netem"], Meta(description="queue: per peer; netem: all that leaves by a device")
    ] = "auto"


class NetworkCorrupt(MangledFault):
    """Confirmed by packets that the kernel refuses for their checksum, or that arrive other than they were sent."""

    kind: ClassVar[str] = "network.corrupt"
    spec: ClassVar[type[msgspec.Struct]] = CorruptSpec
    mangle: ClassVar[str] = "corrupt"
    qdisc_kind: ClassVar[str] = "netem"
    page: ClassVar[Page] = Page(
        does="One bit of a part of the packets from and to peers is flipped, with the checksum left as it was.",
        mechanism="The part is drawn in the kernel (nftables numgen) and goes through an NFQUEUE, whose process flips "
        "a bit of the transport's payload, or of its header where there is none. Or netem's corrupt at the root of a "
        "device.",
        proof="The kernel's counters of refused checksums (InCsumErrors) where packets come in, and echo answers that "
        "are not what was sent, or are missing.",
        ends="Queue: rule and queue belong to sockets of the holder, so the kernel removes both when it dies. "
        "Netem: its holder outlives the agent and deletes it; the guardian stands behind it.",
        limits="The receiver's kernel finds nearly all of it by the checksum and drops the packet: services see loss, "
        "not damage, unless the checksum is off (UDP over IPv4 may do without). On the way out the receipt rests on "
        f"answers that are missing. {LIMITS}",
        example={"peers": ["10.0.0.12"], "fraction": 0.02},
        source="linux/netfilter/nfnetlink_queue.h; proc(5), /proc/net/snmp; tc-netem(8)",
    )

    def _does(self, spec: CorruptSpec) -> str:
        return f"one bit flipped in {percent(spec.fraction)}"

    def _facts(self, spec: CorruptSpec) -> dict[str, Any]:
        return {"sampled_fraction": spec.fraction}

    def _options(self, spec: CorruptSpec) -> dict[str, Any]:
        return {"corrupt_fraction": spec.fraction}

    def _asked(self, facts: dict[str, Any]) -> Asked:
        return Asked(count=sample_size(facts), interval_s=0.002, wait_s=0.3)

    def _judge(self, facts: dict[str, Any], before: Reading, after: Reading) -> tuple[bool, str]:
        text = (
            f"{after.errors} checksums refused here, {after.spoilt} answers spoilt and {after.unanswered} of"
            f" {len(after.sent)} missing, {before.errors}, {before.spoilt} and {before.unanswered} before"
        )
        seen = after.errors > before.errors or after.spoilt > before.spoilt
        lost = facts["direction"] != "in" and before.unanswered == 0 and after.unanswered > 0
        return seen or lost, f"{text}, {percent(facts['sampled_fraction'])} asked"
