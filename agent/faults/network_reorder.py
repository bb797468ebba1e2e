"""`network.reorder`: a part of the packets is held back, so that later ones overtake it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from agent.faults.base import Page
from agent.faults.gauge import Asked, Reading
from agent.faults.mangled import LIMITS, Fraction, MangledFault, MangleSpec, percent, sample_size, sides


class ReorderSpec(MangleSpec, forbid_unknown_fields=True, kw_only=True):
    """How many, and for how long."""

    fraction: Annotated[Fraction, Meta(description="part of the packets that is held back")]
    by_ms: Annotated[float, Meta(gt=0, le=10_000, description="how long: what is sent within it overtakes")] = 20.0
    mechanism: Annotated[
        Literal["auto", "queue", "netem"], Meta(description="queue: per peer; netem: all that leaves by a device")
    ] = "auto"


class NetworkReorder(MangledFault):
    """Confirmed by answers that come after the answers to later questions."""

    kind: ClassVar[str] = "network.reorder"
    spec: ClassVar[type[msgspec.Struct]] = ReorderSpec
    mangle: ClassVar[str] = "delay"
    qdisc_kind: ClassVar[str] = "netem"
    page: ClassVar[Page] = Page(
        does="A part of the packets from and to peers is held back for a while; the others overtake it.",
        mechanism="The part is drawn in the kernel (nftables numgen) and goes through an NFQUEUE that holds it; the "
        "other packets never leave the kernel. Or netem's reorder at the root of a device.",
        proof="Numbered echo requests, closer together than the packets are held: answers that come after later ones.",
        ends="Queue: rule and queue belong to sockets of the holder, so the kernel removes both when it dies. "
        "Netem: its holder outlives the agent and deletes it; the guardian stands behind it.",
        limits="What is sent further apart than by_ms is late but in order. Only ICMP echo shows order: with protocol "
        f"tcp or udp, or with ports, the receipt is not confirmed. {LIMITS}",
        example={"peers": ["10.0.0.12"], "fraction": 0.05, "by_ms": 20},
        source="nft(8), NUMGEN EXPRESSION; tc-netem(8)",
    )

    def _does(self, spec: ReorderSpec) -> str:
        return f"{percent(spec.fraction)} held back for {spec.by_ms:g} ms"

    def _facts(self, spec: ReorderSpec) -> dict[str, Any]:
        return {"delay_ms": spec.by_ms, "jitter_ms": 0.0, "sampled_fraction": spec.fraction}

    def _options(self, spec: ReorderSpec) -> dict[str, Any]:
        return {"delay_ms": spec.by_ms, "held_fraction": spec.fraction}

    def _asked(self, facts: dict[str, Any]) -> Asked:
        held_s = facts["delay_ms"] / 1e3
        interval_s = min(0.005, held_s / 4)
        return Asked(count=sample_size(facts), interval_s=interval_s, wait_s=0.3 + 2 * held_s)

    def _judge(self, facts: dict[str, Any], before: Reading, after: Reading) -> tuple[bool, str]:
        text = (
            f"{after.overtaken} of {len(after.replies)} answers overtaken, {before.overtaken} of {len(before.replies)}"
            f" before, {percent(facts['sampled_fraction'])} asked {'each way' if sides(facts) > 1 else ''}".rstrip()
        )
        return after.overtaken > 0 and before.overtaken <= after.overtaken // 4, text
