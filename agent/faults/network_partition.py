"""`network.partition`: packets to and from peers are dropped, both ways or one way, in any network namespace.

The cut is an nftables table owned by a holder's socket: the kernel removes it when the holder ends, and its elements
expire at the deadline even if the holder hangs.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import subprocess
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from agent.faults import reach, target
from agent.faults.base import Effect, Injected, Receipt, Undo
from agent.system import nft, proc
from agent.system.holder import Holder, engage, release
from agent.system.privilege import CAP_NET_ADMIN, has_capability
from protos.error import FaultError, Problem, SpecError

_ANSWER_TIMEOUT_S = 0.3
_ASKED_MAX = 3  # peers that the receipt asks: the table is one transaction, so one cut peer stands for all


class PartitionSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    peers: list[str]  # addresses and networks, IPv4 and IPv6
    direction: Literal["both", "in", "out"] = "both"  # in: what comes from the peers is dropped
    protocol: Literal["any", "tcp", "udp", "icmp"] = "any"
    ports: list[int] = []  # empty: all; else the peers' or this node's service ports
    network_of: target.ProcessSpec | None = None  # whose network namespace; None: the agent's


class NetworkPartition:
    """Confirmed by a drop counter that moves *and* a peer that no longer answers a process that knows of no rules."""

    kind: ClassVar[str] = "network.partition"
    spec: ClassVar[type[msgspec.Struct]] = PartitionSpec
    undo: ClassVar[Undo] = Undo.KERNEL

    def __init__(self) -> None:
        self._holders: dict[str, Holder] = {}
        self._before: dict[str, dict[str, str]] = {}

    def missing(self) -> str:
        lacks = [] if has_capability(CAP_NET_ADMIN) else ["root (CAP_NET_ADMIN)"]
        return ", ".join([*lacks, *filter(None, [nft.missing()])])

    def plan(self, spec: PartitionSpec) -> list[Effect]:
        problems = [problem for at, peer in enumerate(spec.peers) if (problem := _wrong(at, peer))]
        if not spec.peers:
            problems.append(Problem("spec.peers", "is empty", "name the addresses to cut off"))
        if spec.ports and spec.protocol == "icmp":
            problems.append(Problem("spec.ports", "icmp has no ports"))
        problems += [Problem("spec.ports", f"{port} is not in 1..65535") for port in spec.ports if not 0 < port < 65536]
        if problems:
            raise SpecError(*problems)
        peers = sorted({str(ipaddress.ip_network(peer, strict=False)) for peer in spec.peers})
        roots = target.resolve(spec.network_of) if spec.network_of else []
        network = f"/proc/{roots[0].pid}/ns/net" if roots else ""
        inode = os.stat(network or "/proc/self/ns/net").st_ino
        words = {"both": "to and from", "in": "from", "out": "to"}[spec.direction]
        ports = f", ports {', '.join(map(str, spec.ports))}" if spec.ports else ""
        effect = Effect(
            fault=self.kind,
            resource=f"network:{inode}",
            description=f"drop of packets {words} {', '.join(peers)}{ports}",
            undo=self.undo,
            facts={
                "network": network, "inode": inode, "peers": peers, "direction": spec.direction,
                "protocol": spec.protocol, "ports": spec.ports,
            },
        )  # fmt: skip
        effect.facts["table"] = f"blackstart_{effect.id}"
        return [effect]

    def prepare(self, effect: Effect) -> None:
        arguments = {key: effect.facts[key] for key in ("network", "peers", "direction", "protocol", "ports", "table")}
        holder = Holder("partition", arguments, effect.deadline_ns)
        self._holders[effect.id] = holder
        effect.facts["holder"] = msgspec.to_builtins(holder.identity)

    async def inject(self, effect: Effect) -> Injected:
        self._before[effect.id] = await self._ask(effect)
        report = await engage(self._holders.get(effect.id))
        return Injected(report["lo_ns"], report["hi_ns"])

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        before = self._before.pop(effect.id, {})
        after = await self._ask(effect)
        dropped = await asyncio.to_thread(_dropped, effect)
        silent = {peer: how for peer, how in after.items() if how != reach.ANSWERS}
        confirmed = bool(after) and len(silent) == len(after) and dropped > 0
        answered = sum(how == reach.ANSWERS for how in before.values())
        text = (
            f"{dropped} packets dropped; {len(silent)} of {len(after)} peers asked gave no answer"
            f" ({answered} of {len(before)} did before)"
        )
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)

    async def _ask(self, effect: Effect) -> dict[str, str]:
        facts = effect.facts
        networks = [ipaddress.ip_network(peer) for peer in facts["peers"][:_ASKED_MAX]]
        hosts = [str(next(iter(network.hosts()), network.network_address)) for network in networks]
        port = facts["ports"][0] if facts["ports"] else 0
        return await reach.look(facts["network"], hosts, port, facts["protocol"], _ANSWER_TIMEOUT_S)

    async def revert(self, effect: Effect) -> None:
        if holder := effect.facts.get("holder"):
            await release(msgspec.convert(holder, proc.Identity))
        self._holders.pop(effect.id, None)
        for _ in range(100):  # the kernel removes an owned table from a worker of its own, a moment later
            if not self.residue(effect):
                return
            await asyncio.sleep(0.005)

    def residue(self, effect: Effect) -> list[str]:
        left = []
        holder = effect.facts.get("holder")
        if holder and proc.alive(msgspec.convert(holder, proc.Identity)):
            left.append(f"the holder of the cut (pid {holder['pid']}) still runs")
        if _listing(effect):
            left.append(f"nftables table inet {effect.facts['table']} still stands")
        return left

    def remedy(self, effect: Effect) -> str:
        holder = effect.facts.get("holder")
        return f"kill -KILL {holder['pid']}" if holder else f"nft delete table inet {effect.facts['table']}"


def _wrong(at: int, peer: str) -> Problem | None:
    try:
        ipaddress.ip_network(peer, strict=False)
    except ValueError as error:
        return Problem(f"spec.peers[{at}]", str(error), "give an address or a network, not a name")
    return None


def _listing(effect: Effect) -> list[dict[str, Any]]:
    """The effect's table as the `nft` program sees it; empty when the table, or its namespace, is gone."""
    network = effect.facts["network"] or "/proc/self/ns/net"
    try:
        if os.stat(network).st_ino != effect.facts["inode"]:
            return []  # a recycled pid: that namespace is not the one we cut
    except FileNotFoundError:
        return []
    inside = ["nsenter", f"--net={network}"] if effect.facts["network"] else []
    command = [*inside, "nft", "--json", "list", "table", "inet", effect.facts["table"]]
    if not any(Path(folder, "nft").exists() for folder in ("/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin")):
        return []
    try:
        listed = subprocess.run(command, capture_output=True, check=False, timeout=5)
    except subprocess.TimeoutExpired as error:
        raise FaultError("nft does not answer: whether the cut stands cannot be told") from error
    rows: list[dict[str, Any]] = json.loads(listed.stdout)["nftables"] if listed.returncode == 0 else []
    return rows


def _dropped(effect: Effect) -> int:
    return sum(
        expression["counter"]["packets"]
        for row in _listing(effect)
        for expression in row.get("rule", {}).get("expr", [])
        if "counter" in expression
    )
