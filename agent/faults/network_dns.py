"""`network.dns`: names are not found, found at wrong addresses, late or not at all, in any network namespace.

The answers of resolvers pass a packet queue, whose process changes those for the names that are meant. Rule and queue
belong to sockets of that holder: the kernel takes both back when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import json
import signal
import time
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from agent.faults import ask_dns, claim, mangle_dns, mangled, scope, table, target
from agent.faults.ask_dns import Answer
from agent.faults.base import Effect, Injected, Page, Receipt, Touched, Undo
from agent.faults.held import HeldFault, holder_of
from agent.system import dns_message, process, table_look
from agent.system.privilege import CAP_NET_ADMIN, has_capability
from protos.error import Problem, RefusedError, SpecError

_WAIT_S: Final = 1.0  # for an answer, beside the delay that is asked for
_GENTLE_S: Final = 0.2
_LATE_ENOUGH: Final = 0.9  # of the delay: the question's way to the resolver counts too
_PATTERN: Final = r"^(\*|(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?)\Z"
_NAME: Final = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?\Z"

Pattern = Annotated[str, Meta(pattern=_PATTERN, max_length=253)]
Name = Annotated[str, Meta(pattern=rf"^\Z|{_NAME}", max_length=253)]


class DnsSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which names, and what becomes of them."""

    mode: Annotated[
        Literal["nxdomain", "servfail", "wrong", "slow", "timeout"],
        Meta(description="the answer: no such name, server failure, other addresses, late, none"),
    ]
    names: Annotated[
        list[Pattern], Meta(max_length=1000, description="names, or *.zone for all below it; empty: all names")
    ] = []
    addresses: Annotated[
        list[str], Meta(max_length=16, description="for wrong: what A and AAAA questions are answered")
    ] = []
    delay_ms: Annotated[float, Meta(ge=0, le=60_000, description="for slow: how much later answers come")] = 0.0
    peers: Annotated[list[str], Meta(description="addresses of the resolvers that are meant; empty: all")] = []
    ask: Annotated[Name, Meta(description="name that the receipt asks for; empty: the first that is written out")] = ""
    resolver: Annotated[
        str, Meta(description="address that the receipt asks; empty: the first in the target's /etc/resolv.conf")
    ] = ""
    network_of: Annotated[
        target.ProcessSpec | None, Meta(description="the process whose network namespace is meant; null: the agent's")
    ] = None


class NetworkDns(HeldFault):
    """Confirmed by a question that a process which knows of no rules asks before and during the fault."""

    kind: ClassVar[str] = "network.dns"
    spec: ClassVar[type[msgspec.Struct]] = DnsSpec
    undo: ClassVar[Undo] = Undo.KERNEL
    grip: ClassVar[str] = "queue"
    page: ClassVar[Page] = Page(
        does="Names are not found, or at wrong addresses, or late, or not at all; by name.",
        mechanism="Resolvers' answers (UDP from port 53) go through an NFQUEUE, whose process rewrites, delays or "
        "drops "
        "those for the names that are meant. Addresses are given out with a TTL of 0.",
        proof="A process of its own asks the resolver for one of the names, before and during the fault.",
        ends="Rule and queue belong to sockets of the holder, so the kernel removes both when it dies.",
        limits="UDP only: DNS over TCP, TLS or HTTPS is untouched, and so is what a cache inside a program still "
        "knows. A "
        "resolver on the node may keep what it was told (not the wrong addresses), and where it asks another one, both "
        "answers are met: name the one that is meant in `peers`. Names are matched as they are asked for, search "
        "domain "
        "included. With patterns only, `ask` must name one that exists if the mode is nxdomain.",
        example={"mode": "servfail", "names": ["db.example.internal", "*.cache.example.internal"]},
        source="RFC 1035; RFC 6891; linux/netfilter/nfnetlink_queue.h",
    )

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[str, Answer] = {}
        self._in_force: dict[str, Effect] = {}

    def missing(self) -> str:
        return mangled.queue_lacks() if has_capability(CAP_NET_ADMIN) else "root (CAP_NET_ADMIN)"

    def plan(self, spec: DnsSpec) -> list[Effect]:
        facts = scope.resolve(scope.Scope(peers=spec.peers, network_of=spec.network_of), everyone=True)
        names = [name.lower().rstrip(".") for name in spec.names]
        packed, ask, resolver = _checked(spec, names, facts)
        facts |= {
            "direction": "in", "protocol": "udp", "ports": [mangle_dns.PORT], "mangle": "dns", "mark": 0,
            "mode": spec.mode, "names": names, "addresses": packed, "delay_ms": spec.delay_ms,
            "ask": ask, "resolver": resolver, "ask_kind": _kind(packed),
        }  # fmt: skip
        whom = hashlib.sha256(json.dumps(facts["peers"]).encode()).hexdigest()[:12]
        effect = Effect(
            fault=self.kind, resource=f"dns:{facts['inode']}:{whom}", description=_words(spec, facts), undo=self.undo,
            touches=Touched(ports=[mangle_dns.PORT]) if scope.own_network(facts) else Touched(), facts=facts,
        )  # fmt: skip
        facts["table"] = table.name_of(effect)
        return [effect]

    def prepare(self, effect: Effect) -> None:
        for other in self._in_force.values():
            if claim.overlap(other.facts, effect.facts) and scope.there(other.facts):
                raise RefusedError(f"these answers are held already by {other.injection} ({other.description})")
        self._in_force[effect.id] = effect
        super().prepare(effect)

    async def inject(self, effect: Effect) -> Injected:
        left_s = (effect.deadline_ns - time.monotonic_ns()) / 1e9
        with contextlib.suppress(TimeoutError):  # a short effect is not to be spent on asking what was before
            self._before[effect.id] = await asyncio.wait_for(ask_dns.ask(effect.facts, _WAIT_S), left_s / 2)
        return await super().inject(effect)

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        facts, before = effect.facts, self._before.pop(effect.id, Answer())
        wait_s = _WAIT_S + 2 * facts["delay_ms"] / 1e3  # a resolver of the node that asks another one is late twice
        after = await ask_dns.ask(facts, wait_s, 1 if facts["mode"] == "timeout" else 2)
        met = (await asyncio.to_thread(table_look.counters, facts["network"], facts["table"]))[0]
        confirmed = before.code >= 0 and met > 0 and _proves(facts, before, after)
        text = (
            f"{facts['resolver']}, asked for {facts['ask']}: {after.words} ({before.words} before); {met} answers met"
        )
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)

    async def revert(self, effect: Effect) -> None:
        self._before.pop(effect.id, None)
        self._in_force.pop(effect.id, None)
        if (one := holder_of(effect)) is not None:
            process.send(one, signal.SIGUSR1)  # it lets go of the answers that it holds; killed, it takes them along
            await process.gone([one], _GENTLE_S)
        await super().revert(effect)

    def _left(self, effect: Effect) -> list[str]:
        facts = effect.facts
        families = table_look.standing(facts["network"], facts["table"]) if scope.there(facts) else []
        return [f"nftables table {family} {facts['table']} still stands" for family in families]

    def remedy(self, effect: Effect) -> str:
        return super().remedy(effect) or f"nft delete table ip {effect.facts['table']}"


def _checked(spec: DnsSpec, names: list[str], facts: dict[str, Any]) -> tuple[list[str], str, str]:
    """Addresses packed, the name and the resolver of the receipt; SpecError with all that bounds cannot say."""
    problems, packed = [], []
    for at, text in enumerate(spec.addresses):
        try:
            packed.append(ipaddress.ip_address(text).packed.hex())
        except ValueError:
            problems.append(Problem(f"spec.addresses[{at}]", f"{text!r} is not an IP address"))
    if bool(spec.addresses) != (spec.mode == "wrong"):
        problems.append(Problem("spec.addresses", f"{spec.mode} {'takes none' if spec.addresses else 'needs some'}"))
    if bool(spec.delay_ms) != (spec.mode == "slow"):
        problems.append(Problem("spec.delay_ms", f"{spec.mode} {'takes none' if spec.delay_ms else 'needs one'}"))
    plain = [name for name in names if not name.startswith("*")]
    ask = spec.ask.lower().rstrip(".") or next(iter(plain), "")
    if not ask:
        if spec.mode == "nxdomain":
            problems.append(Problem("spec.ask", "is empty: no such name is no proof", "give a name that exists"))
        zone = next((name.removeprefix("*").strip(".") for name in names), "")
        ask = f"blackstart-probe.{zone}".rstrip(".")
    elif not mangle_dns.matcher(names)(ask):
        problems.append(Problem("spec.ask", f"{ask} is none of the names that are meant"))
    resolver = spec.resolver or _resolver(facts, spec.peers)
    try:
        ipaddress.ip_address(resolver)
    except ValueError:
        problems.append(Problem("spec.resolver", f"{resolver!r} is not an IP address", "name one: resolver: 10.0.0.2"))
    if problems:
        raise SpecError(*problems)
    return packed, ask, resolver


def _resolver(facts: dict[str, Any], peers: list[str]) -> str:
    """The first of *peers* that is one address, else the first nameserver of the target's resolv.conf; "" if none."""
    for peer in peers:
        with contextlib.suppress(ValueError):
            return str(ipaddress.ip_address(peer))
    root = f"/proc/{facts['root']['pid']}/root" if facts["root"] else ""
    try:
        lines = Path(f"{root}/etc/resolv.conf").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    words = (line.split() for line in lines)
    return next((row[1] for row in words if len(row) > 1 and row[0] == "nameserver"), "")


def _kind(packed: list[str]) -> int:
    """What the receipt asks for: addresses of a family that is answered."""
    return dns_message.AAAA if packed and all(len(one) == 32 for one in packed) else dns_message.A


def _proves(facts: dict[str, Any], before: Answer, after: Answer) -> bool:
    mode, delay_ms = facts["mode"], facts["delay_ms"]
    if mode == "timeout":
        return after.code < 0
    if mode == "slow":
        return after.code == before.code and after.took_ms - before.took_ms >= delay_ms * _LATE_ENOUGH
    if mode == "wrong":
        wanted = [str(ipaddress.ip_address(bytes.fromhex(one))) for one in facts["addresses"]]
        family = {address for address in wanted if (":" in address) == (facts["ask_kind"] == dns_message.AAAA)}
        return set(after.addresses) == family != set(before.addresses)
    wanted_code = dns_message.NXDOMAIN if mode == "nxdomain" else dns_message.SERVFAIL
    return after.code == wanted_code != before.code


def _words(spec: DnsSpec, facts: dict[str, Any]) -> str:
    which = (
        ", ".join(facts["names"][:5]) + (", …" if len(facts["names"]) > 5 else "") if facts["names"] else "all names"
    )
    whose = "any resolver" if set(facts["peers"]) == set(scope.EVERYONE) else ", ".join(facts["peers"])
    what = {
        "nxdomain": "no such name", "servfail": "server failure", "wrong": f"at {', '.join(spec.addresses)}",
        "slow": f"{spec.delay_ms:g} ms later", "timeout": "no answer",
    }[spec.mode]  # fmt: skip
    return f"answers of {whose} for {which}: {what} (by a packet queue)"
