"""What faults that change packets on their way have in common: two mechanisms, and a receipt by measurement.

`queue`: a holder decides over each packet (`agent.faults.grip_queue`); the kernel ends it with the holder. `netem` and
`tbf`: a root qdisc on a device; the guardian ends it. A fault adds its spec, what it does, and how a reading proves it.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import hashlib
import json
import signal
import time
from typing import Annotated, Any, ClassVar, Final

from msgspec import Meta

from agent.faults import claim, gauge, scope, table
from agent.faults.base import Effect, Injected, Receipt, Undo
from agent.faults.gauge import Asked, Reading
from agent.faults.held import HeldFault, holder_of
from agent.system import process, qdisc, queue_sender, queue_socket, queue_table, table_look
from agent.system.privilege import CAP_NET_ADMIN, has_capability
from protos.error import FaultError, Problem, RefusedError, SpecError

_HANDLE: Final = 0xB100  # of root qdiscs; the lower byte is of the effect
_GENTLE_S: Final = 0.2  # for the holder to let go of what it holds
_SAMPLE_MIN, _SAMPLE_MAX = 20, 600

LIMITS: Final = (  # of every page
    "The queue takes big (GSO) packets as one. Without peers all but loopback is meant. A qdisc acts on all that "
    "leaves by a device and spares no port; it wants direction out and no peers, and is refused where somebody has set "
    "the device's root."
)
Fraction = Annotated[float, Meta(ge=0.0001, le=1)]


class MangleSpec(scope.Scope, forbid_unknown_fields=True, kw_only=True):
    """The fields of all faults that change packets; the field `mechanism` is each fault's own."""

    device: Annotated[
        str, Meta(max_length=15, description="device for a qdisc, which acts on all that leaves by it; unused by queue")
    ] = ""


class MangledFault(HeldFault, abc.ABC):
    """A fault names its qdisc and `mangle_*` module, and has `_does`, `_facts`, `_options`, `_asked`, `_judge`."""

    kind: ClassVar[str]
    undo: ClassVar[Undo] = Undo.GUARDIAN
    mangle: ClassVar[str]
    qdisc_kind: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[str, Reading] = {}
        self._in_force: dict[str, Effect] = {}  # of this kind, of this agent: what another left has ended

    @abc.abstractmethod
    def _does(self, spec: Any) -> str:
        """What becomes of a packet, for a human: "20 ms later"."""

    @abc.abstractmethod
    def _facts(self, spec: Any) -> dict[str, Any]:
        """What the mangling module, and the receipt, want to know of *spec*."""

    @abc.abstractmethod
    def _options(self, spec: Any) -> dict[str, Any]:
        """Arguments of `qdisc.netem` or `qdisc.tbf`."""

    @abc.abstractmethod
    def _asked(self, facts: dict[str, Any]) -> Asked:
        """How a peer is asked, so that the effect shows."""

    @abc.abstractmethod
    def _judge(self, facts: dict[str, Any], before: Reading, after: Reading) -> tuple[bool, str]:
        """Whether the readings prove the effect, and what they say."""

    def missing(self) -> str:
        if not has_capability(CAP_NET_ADMIN):
            return "root (CAP_NET_ADMIN)"
        lacks = [queue_lacks(), qdisc.lacks(self.qdisc_kind)]
        return " and ".join(lacks) if all(lacks) else ""

    def plan(self, spec: Any) -> list[Effect]:
        facts = scope.resolve(spec, everyone=True)
        mechanism = self._mechanism(spec)
        facts |= {"mechanism": mechanism, "mangle": self.mangle, **self._facts(spec)}
        effect = Effect(
            fault=self.kind, resource="", description="", undo=Undo.GUARDIAN, touches=scope.touched(facts), facts=facts
        )
        if mechanism == "queue":
            self._queued(effect, spec)
        else:
            self._shaped(effect, spec)
        return [effect]

    def _mechanism(self, spec: Any) -> str:
        """The asked mechanism, or the best there is; SpecError when the node cannot."""
        no_queue, no_qdisc = queue_lacks(), qdisc.lacks(self.qdisc_kind)
        if spec.mechanism == "auto":
            if not no_queue:
                return "queue"
            if not spec.device:
                raise SpecError(Problem("spec.device", f"is empty, and the node lacks {no_queue}"))
        lacks = no_queue if spec.mechanism == "queue" else no_qdisc
        if lacks:
            raise SpecError(Problem("spec.mechanism", f"the node lacks {lacks}"))
        return "queue" if spec.mechanism == "queue" else self.qdisc_kind

    def _queued(self, effect: Effect, spec: Any) -> None:
        facts = effect.facts
        facts["table"] = table.name_of(effect)
        rest = int(effect.id[:4], 16) & queue_sender.REST_MASK
        facts["mark"] = (queue_sender.RESENT if facts.get("resent") else queue_sender.COPY) | rest
        facts["loopback_spared"] = set(facts["peers"]) == set(scope.EVERYONE)
        whom = json.dumps([facts["peers"], facts["ports"], facts["protocol"], facts["direction"]]).encode()
        effect.resource = f"{self.kind}:{facts['inode']}:{hashlib.sha256(whom).hexdigest()[:12]}"
        each = ", each way" if facts["direction"] == "both" else ""
        effect.description = f"{scope.words(facts)}: {self._does(spec)}{each} (by a packet queue)"
        effect.undo = Undo.KERNEL

    def _shaped(self, effect: Effect, spec: Any) -> None:
        facts, kind, wrong = effect.facts, self.qdisc_kind, []
        if not spec.device:
            wrong.append(Problem("spec.device", f"is empty: {kind} acts on a device"))
        if spec.direction != "out":
            wrong.append(Problem("spec.direction", f"{kind} acts on what leaves: direction must be out"))
        if spec.peers or spec.ports or spec.protocol != "any":
            wrong.append(Problem("spec.peers", f"{kind} acts on all that leaves by the device, not on some of it"))
        if wrong:
            raise SpecError(*wrong)
        network = facts["network"]
        try:
            number = qdisc.index(network, spec.device)
        except OSError as error:
            raise SpecError(Problem("spec.device", f"no device {spec.device}")) from error
        root = qdisc.root(network, number)
        if root is not None and root.handle:
            remedy = "it is not ours to replace"
            raise SpecError(Problem("spec.device", f"somebody has set its root qdisc: {root.kind}", remedy))
        facts |= {
            "device": spec.device, "device_index": number, "handle": _HANDLE | int(effect.id[:2], 16),
            "replaced": root.kind if root else "", "options": self._options(spec),
        }  # fmt: skip
        effect.resource = f"qdisc:{facts['inode']}:{spec.device}"
        effect.description = f"all that leaves by {spec.device}: {self._does(spec)} (by {kind} at its root)"

    def prepare(self, effect: Effect) -> None:
        """Kinds stack; two of one kind must not: what one has sent again, the other is to leave alone."""
        for other in self._in_force.values():
            if other.resource == effect.resource or _meet(other.facts, effect.facts):
                raise RefusedError(f"some of these packets are held already by {other.injection} ({other.description})")
        self._in_force[effect.id] = effect
        super().prepare(effect)

    def _grip(self, effect: Effect) -> str:
        return "queue" if effect.facts["mechanism"] == "queue" else "qdisc"

    async def inject(self, effect: Effect) -> Injected:
        left_s = (effect.deadline_ns - time.monotonic_ns()) / 1e9
        with contextlib.suppress(TimeoutError):  # a short effect is not to be spent on measuring what was before
            reading = gauge.read(effect.facts, self._asked(effect.facts))
            self._before[effect.id] = await asyncio.wait_for(reading, left_s / 2)
        return await super().inject(effect)

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        facts, before = effect.facts, self._before.pop(effect.id, Reading())
        met = await asyncio.to_thread(self._met, effect)
        after = await gauge.read(facts, self._asked(facts), before.peer)
        moved = await asyncio.to_thread(self._met, effect) - met
        if before.peer and moved:
            confirmed, text = self._judge(facts, before, after)
            text = f"{before.peer}: {text}; {moved} packets met"
        elif before.peer:
            confirmed, text = False, f"{before.peer} was asked, and the effect met none of these packets"
        else:
            confirmed, text = False, f"no peer answered, so nothing was measured; {moved} packets of ours were met"
        text += self._overflow(effect)
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)

    def _met(self, effect: Effect) -> int:
        """Packets that the kernel's own counters say the effect has met."""
        facts = effect.facts
        if facts["mechanism"] == "queue":
            return table_look.counters(facts["network"], facts["table"])[0]
        root = qdisc.root(facts["network"], facts["device_index"])
        return root.packets if root is not None and root.handle == facts["handle"] else 0

    def _overflow(self, effect: Effect) -> str:
        """Packets that the full queue let pass untouched: those that the rules sent and that never came into it."""
        facts, holder = effect.facts, holder_of(effect)
        if facts["mechanism"] != "queue" or holder is None:
            return ""
        sent = table_look.counters(facts["network"], facts["table"])[1]
        came = sum(queue.passed for queue in queue_socket.standings(str(holder.pid)).values())
        return f"; {sent - came} passed untouched, the queue being full" if sent > came > 0 else ""

    async def revert(self, effect: Effect) -> None:
        self._before.pop(effect.id, None)
        self._in_force.pop(effect.id, None)
        one = holder_of(effect)
        if one is not None and effect.facts["mechanism"] == "queue":
            process.send(one, signal.SIGUSR1)  # it lets go of the packets that it holds; killed, it takes them along
            await process.gone([one], _GENTLE_S)
        await super().revert(effect)

    async def _settled(self, effect: Effect) -> None:
        facts = effect.facts
        if facts["mechanism"] != "queue" and (inside := scope.entrance(facts)) is not None:
            try:
                qdisc.delete(inside, facts["device_index"], facts["handle"], facts["mechanism"])
            except OSError as error:
                raise FaultError(f"the root qdisc of {facts['device']}: {error}") from error
        await super()._settled(effect)

    def _left(self, effect: Effect) -> list[str]:
        facts = effect.facts
        if (inside := scope.entrance(facts)) is None:
            return []
        if facts["mechanism"] == "queue":
            families = table_look.standing(inside, facts["table"])
            return [f"nftables table {family} {facts['table']} still stands" for family in families]
        root = qdisc.root(inside, facts["device_index"])
        ours = root is not None and (root.handle, root.kind) == (facts["handle"], facts["mechanism"])
        return [f"{facts['device']} still has our root qdisc ({facts['mechanism']})"] if ours else []

    def remedy(self, effect: Effect) -> str:
        facts = effect.facts
        if facts["mechanism"] == "queue":
            return super().remedy(effect) or f"nft delete table ip {effect.facts['table']}"
        inside = f"nsenter --net={facts['network']} " if facts["network"] else ""
        return f"{inside}tc qdisc del dev {facts['device']} root handle {facts['handle']:x}:"


def queue_lacks() -> str:
    """What the kernel lacks for queues; what it was once found to have it goes on to have."""
    if not _found:
        if lacks := queue_socket.missing() or queue_table.missing():
            return lacks
        _found.add("queue")
    return ""


_found: Final[set[str]] = set()


def _meet(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two effects of a kind have packets in common."""
    if "device" in one or "device" in other:
        return (one["inode"], one.get("device")) == (other["inode"], other.get("device"))
    return claim.overlap(one, other)


def percent(fraction: float) -> str:
    """For a human: 2 %, 0.05 %."""
    return f"{fraction * 100:g} %"


def sides(facts: dict[str, Any]) -> int:
    """How often a round trip meets the effect; a datagram's refusal is an ICMP message, which is not meant by udp."""
    return 2 if facts["direction"] == "both" and facts["protocol"] != "udp" else 1


def sample_size(facts: dict[str, Any]) -> int:
    """How many questions show an effect on a part of the packets, with a probability of 95 % and more."""
    wanted: float = 4 / facts["sampled_fraction"]
    return max(_SAMPLE_MIN, min(_SAMPLE_MAX, round(wanted)))
