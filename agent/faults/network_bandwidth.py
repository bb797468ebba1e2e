"""`network.bandwidth`: packets pass at a rate, and what would wait too long is dropped."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from agent.faults import gauge
from agent.faults.base import Page
from agent.faults.gauge import Asked, Reading
from agent.faults.mangled import LIMITS, MangledFault, MangleSpec

_SIZE: Final = 1400  # bytes of content of an echo request
_LONGEST_S: Final = 3.0
_WINDOW_S: Final = 0.4
_COUNT_MAX: Final = 6000
_OVER: Final = 1.3  # how much over the rate a measured one still counts as it


class BandwidthSpec(MangleSpec, forbid_unknown_fields=True, kw_only=True):
    """How much passes."""

    rate_mbit: Annotated[float, Meta(ge=0.01, le=100_000, description="10^6 bits a second, each way on its own")]
    burst_kb: Annotated[float, Meta(ge=2, le=100_000, description="10^3 bytes that pass at once after a rest")] = 32.0
    queue_ms: Annotated[
        float, Meta(ge=1, le=10_000, description="longest wait; a packet that would wait longer is dropped")
    ] = 100.0
    mechanism: Annotated[
        Literal["auto", "queue", "tbf"], Meta(description="queue: per peer; tbf: all that leaves by a device")
    ] = "auto"


class NetworkBandwidth(MangledFault):
    """Confirmed by the rate at which a burst of echo requests is answered."""

    kind: ClassVar[str] = "network.bandwidth"
    spec: ClassVar[type[msgspec.Struct]] = BandwidthSpec
    mangle: ClassVar[str] = "pace"
    qdisc_kind: ClassVar[str] = "tbf"
    page: ClassVar[Page] = Page(
        does="Packets from and to peers pass at a rate; what comes faster waits, and is dropped when the wait is long.",
        mechanism="A token bucket each way over an NFQUEUE, in a process of its own; packets stay in the kernel. Below "
        "100 Mbit/s the kernel cuts big packets up first. Or tbf at the root of a device.",
        proof="The rate at which the first peer that answers echo requests answers a burst of them, sent at twice the "
        "rate, before and after.",
        ends="Queue: rule and queue belong to sockets of the holder, so the kernel removes both when it dies. "
        "Tbf: its holder outlives the agent and deletes it; the guardian stands behind it.",
        limits="All matching packets share one bucket a direction. The queue counts IP packets, tbf their link header "
        "too. The receipt loads the path with the rate for about half a second. Only ICMP echo shows it, and a rate "
        f"that the path had before: else the receipt is not confirmed. {LIMITS}",
        example={"peers": ["10.0.0.12"], "rate_mbit": 20, "queue_ms": 50},
        source="linux/netfilter/nfnetlink_queue.h; tc-tbf(8)",
    )

    def _does(self, spec: BandwidthSpec) -> str:
        return f"at {spec.rate_mbit:g} Mbit/s, after {spec.burst_kb:g} kB, waiting {spec.queue_ms:g} ms at most"

    def _facts(self, spec: BandwidthSpec) -> dict[str, Any]:
        return {"rate_mbit": spec.rate_mbit, "burst_kb": spec.burst_kb, "queue_ms": spec.queue_ms}

    def _options(self, spec: BandwidthSpec) -> dict[str, Any]:
        return {
            "rate_bytes": spec.rate_mbit * 1e6 / 8, "burst_bytes": int(spec.burst_kb * 1e3),
            "latency_s": spec.queue_ms / 1e3,
        }  # fmt: skip

    def _asked(self, facts: dict[str, Any]) -> Asked:
        bits = (_SIZE + gauge.HEADERS) * 8
        interval_s = bits / (2e6 * facts["rate_mbit"])
        burst = facts["burst_kb"] * 8e3 / bits
        count = min(_COUNT_MAX, int(_LONGEST_S / interval_s), max(30, int(2 * burst + _WINDOW_S / interval_s)))
        return Asked(count=count, interval_s=interval_s, wait_s=0.3 + 2 * facts["queue_ms"] / 1e3, size=_SIZE)

    def _judge(self, facts: dict[str, Any], before: Reading, after: Reading) -> tuple[bool, str]:
        if not gauge.by_echo(facts):
            return False, "only ICMP echo shows a rate, and the effect is on other packets"
        asked = facts["rate_mbit"]
        skip = int(2 * facts["burst_kb"] * 1e3)  # at twice the rate, twice as much passes until the bucket is empty
        was, now = before.rate_mbit(_SIZE, skip), after.rate_mbit(_SIZE, skip)
        text = f"echo requests answered at {now:.2f} Mbit/s, {was:.2f} Mbit/s before, {asked:g} Mbit/s asked"
        if math.isnan(now) or math.isnan(was):
            return False, f"too few answers to tell a rate ({len(before.replies)} before, {len(after.replies)} after)"
        if was < _OVER * asked:
            return False, f"{text}: the path gave no more before"
        return now <= _OVER * asked, text
