"""`network.delay`: packets arrive later, by a fixed time and a jitter, in any network namespace."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from agent.faults.base import Page
from agent.faults.gauge import Asked, Reading
from agent.faults.mangled import LIMITS, MangledFault, MangleSpec, sides
from protos.error import Problem, SpecError

_NOISE_MS = 0.5
_LAST = -140  # after our other tables: what is sent again is spared by all of them


class DelaySpec(MangleSpec, forbid_unknown_fields=True, kw_only=True):
    """How much later."""

    delay_ms: Annotated[float, Meta(gt=0, le=60_000, description="added to each packet, once each way")]
    jitter_ms: Annotated[
        float, Meta(ge=0, le=60_000, description="each packet's delay is uniform within this of delay_ms; reorders")
    ] = 0.0
    mechanism: Annotated[
        Literal["auto", "queue", "netem"], Meta(description="queue: per peer; netem: all that leaves by a device")
    ] = "auto"


class NetworkDelay(MangledFault):
    """Confirmed by round trips that take longer by what was added."""

    kind: ClassVar[str] = "network.delay"
    spec: ClassVar[type[msgspec.Struct]] = DelaySpec
    mangle: ClassVar[str] = "delay"
    qdisc_kind: ClassVar[str] = "netem"
    page: ClassVar[Page] = Page(
        does="Packets from and to peers arrive later, by a fixed time and a uniform jitter around it.",
        mechanism="An NFQUEUE in a process of its own, to which an nftables table of the effect's own sends packets. "
        "They stay in the kernel and go on when their time has come; only what this node's own TCP sends is dropped "
        "and sent again by a raw socket, since TCP would take what is held for unsent. Or netem at the root of a "
        "device.",
        proof="Round trips to the first peer that answers, before and after, by a process that knows of no rules, and "
        "the rules' counters.",
        ends="Queue: rule and queue belong to sockets of the holder, so the kernel removes both when it dies, and "
        "packets pass. Its packets in flight go on at once when it is ended, and are lost when it is killed. "
        "Netem: its holder outlives the agent and deletes it; the guardian stands behind it.",
        limits="With direction both, a round trip grows by twice the delay. On the way out, this node's own TCP goes "
        "through the process packet by packet, some hundred Mbit/s, and rules of the output hook see it twice, the "
        "second time with mark 0xb1ad0000/0xffff0000. UDP that waits counts against its sender's socket buffer. The "
        f"kernel drops what waits when anybody removes a netfilter chain in the namespace. {LIMITS}",
        example={"peers": ["10.0.0.12"], "delay_ms": 80, "jitter_ms": 10},
        source="linux/netfilter/nfnetlink_queue.h; tc-netem(8)",
    )

    def plan(self, spec: Any) -> Any:
        if spec.jitter_ms > spec.delay_ms:
            raise SpecError(Problem("spec.jitter_ms", "is more than delay_ms: no packet arrives before it was sent"))
        return super().plan(spec)

    def _does(self, spec: DelaySpec) -> str:
        jitter = f" ± {spec.jitter_ms:g} ms" if spec.jitter_ms else ""
        return f"{spec.delay_ms:g} ms{jitter} later"

    def _facts(self, spec: DelaySpec) -> dict[str, Any]:
        return {"delay_ms": spec.delay_ms, "jitter_ms": spec.jitter_ms, "resent": True, "priority": _LAST}

    def _options(self, spec: DelaySpec) -> dict[str, Any]:
        return {"delay_ms": spec.delay_ms, "jitter_ms": spec.jitter_ms}

    def _asked(self, facts: dict[str, Any]) -> Asked:
        added_s = sides(facts) * (facts["delay_ms"] + facts["jitter_ms"]) / 1e3
        return Asked(count=7, interval_s=0.01, wait_s=min(5.0, 0.5 + 2 * added_s))

    def _judge(self, facts: dict[str, Any], before: Reading, after: Reading) -> tuple[bool, str]:
        was_ms, is_ms = before.round_trip_ms, after.round_trip_ms
        wanted_ms = sides(facts) * facts["delay_ms"]
        least_ms = max(0.3 * wanted_ms, 0.9 * wanted_ms - sides(facts) * facts["jitter_ms"]) - _NOISE_MS
        text = f"round trips of {is_ms:.2f} ms, {was_ms:.2f} ms before; {wanted_ms:g} ms more asked"
        return is_ms - was_ms >= max(least_ms, 0.2 * wanted_ms), text
