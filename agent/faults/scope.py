"""Which packets a network fault means: peers, direction, protocol, ports, and in whose network namespace.

Invariant: a namespace is named by a process's /proc entry *and* its inode, checked again at every use.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from agent.faults import target
from agent.faults.base import Touched
from agent.system import mount, proc
from protos.error import Problem, SpecError

Port = Annotated[int, Meta(ge=1, le=65535)]
Direction = Literal["both", "in", "out"]
EVERYONE = ("0.0.0.0/0", "::/0")


class Scope(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The fields that every fault on packets has."""

    peers: Annotated[list[str], Meta(description="addresses and networks, IPv4 and IPv6")] = []
    direction: Annotated[Direction, Meta(description="in: what comes from the peers; out: what goes to them")] = "both"
    protocol: Annotated[Literal["any", "tcp", "udp", "icmp"], Meta(description="protocol of the packets")] = "any"
    ports: Annotated[list[Port], Meta(description="service ports, the peers' or this node's; empty: all")] = []
    network_of: Annotated[
        target.ProcessSpec | None, Meta(description="the process whose network namespace is meant; null: the agent's")
    ] = None


def resolve(scope: Scope, *, everyone: bool = False, root: proc.Identity | None = None) -> dict[str, Any]:
    """The facts of *scope* here and now: network, root (its process), inode, peers, direction, protocol, ports.

    Args:
        scope: as asked.
        everyone: whether no peers mean all of them; else that is an error.
        root: the process whose namespace is meant, where *scope* does not say.

    Raises:
        SpecError: every problem at once.
    """
    problems = [problem for at, peer in enumerate(scope.peers) if (problem := _wrong(at, peer))]
    if not scope.peers and not everyone:
        problems.append(Problem("spec.peers", "is empty", "name the addresses that are meant"))
    if scope.ports and scope.protocol == "icmp":
        problems.append(Problem("spec.ports", "icmp has no ports"))
    if problems:
        raise SpecError(*problems)
    root = target.resolve(scope.network_of)[0] if scope.network_of else root
    network = f"/proc/{root.pid}/ns/net" if root else ""
    return {
        "network": network, "root": msgspec.to_builtins(root) if root else None,
        "inode": os.stat(network or "/proc/self/ns/net").st_ino,
        "peers": sorted({str(ipaddress.ip_network(peer, strict=False)) for peer in scope.peers or EVERYONE}),
        "direction": scope.direction, "protocol": scope.protocol, "ports": scope.ports,
    }  # fmt: skip


def own_network(facts: dict[str, Any]) -> bool:
    """Whether the fault acts where the agent's link or the node's SSH depends on it: its own namespace, or pid 1's."""
    own = {os.stat("/proc/self/ns/net").st_ino}
    with contextlib.suppress(OSError):
        own.add(os.stat("/proc/1/ns/net").st_ino)
    return facts["inode"] in own


def touched(facts: dict[str, Any]) -> Touched:
    """What the policy checks: in another namespace neither the controller nor the node's ports are at stake."""
    if not own_network(facts):
        return Touched(elsewhere=facts["peers"])
    return Touched(addresses=facts["peers"], ports=facts["ports"])


def there(facts: dict[str, Any]) -> bool:
    """Whether the namespace is still the one that was meant: a recycled pid's is not."""
    try:
        return bool(os.stat(facts["network"] or "/proc/self/ns/net").st_ino == facts["inode"])
    except FileNotFoundError:
        return False


def entrance(facts: dict[str, Any]) -> str | None:
    """A way into the namespace: by the process that named it, else by any other in it, or a name; None: no way.

    The process of a container may be gone while its namespace, and what was set there, lives on.
    """
    if there(facts):
        return str(facts["network"])
    for place in (*Path("/proc").glob("[0-9]*/ns/net"), *mount.namespaces("net")):
        with contextlib.suppress(OSError):  # gone meanwhile
            if place.stat().st_ino == facts["inode"]:
                return str(place)
    return None


def words(facts: dict[str, Any]) -> str:
    """For a human: `packets to and from 10.0.0.2/32, ports 5432`."""
    side = {"both": "to and from", "in": "from", "out": "to"}[facts["direction"]]
    peers = "everyone" if set(facts["peers"]) == set(EVERYONE) else ", ".join(facts["peers"])
    protocol = "" if facts["protocol"] == "any" else f"{facts['protocol']} "
    ports = f", ports {', '.join(map(str, facts['ports']))}" if facts["ports"] else ""
    return f"{protocol}packets {side} {peers}{ports}"


def _wrong(at: int, peer: str) -> Problem | None:
    try:
        ipaddress.ip_network(peer, strict=False)
    except ValueError as error:
        return Problem(f"spec.peers[{at}]", str(error), "give an address or a network, not a name")
    return None
