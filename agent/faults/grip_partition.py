"""Holds a network cut: one owned nftables table with its peers in sets whose elements expire.

Two ways to end by the kernel alone: the elements expire at the deadline even if this process hangs, and the table goes
when the socket closes.
"""

from __future__ import annotations

import ipaddress
import time
from typing import Any, Final

from agent.system import libc, nft

DIES_WITH_AGENT: Final = True
_tables: list[nft.Tables] = []


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Enters the namespace, if one is named, and commits the table; reports the bounds of the commit."""
    if arguments["network"]:
        libc.enter_network(arguments["network"])
    tables = nft.Tables()
    _tables.append(tables)
    left_ms = max(1, (deadline_ns - time.monotonic_ns()) // 1_000_000)
    commands = ruleset(arguments, left_ms)
    lo_ns = time.monotonic_ns()
    tables.run(commands)
    return {"lo_ns": lo_ns, "hi_ns": time.monotonic_ns()}


def ruleset(arguments: dict[str, Any], left_ms: int) -> str:
    """The table in nft's language: a set per address family, a chain per direction, one counter each."""
    peers = [ipaddress.ip_network(peer) for peer in arguments["peers"]]
    ports, protocol = arguments["ports"], arguments["protocol"]
    lines = [f"table inet {arguments['table']} {{", "flags owner;"]
    for version in (4, 6):
        elements = ", ".join(f"{peer} timeout {left_ms}ms" for peer in peers if peer.version == version)
        if elements:
            lines.append(
                f"set peers{version} {{ type ipv{version}_addr; flags interval, timeout;"
                f" elements = {{ {elements} }}; }}"
            )
    directions = {"in": ("input", "forward"), "out": ("output", "forward"), "both": ("input", "output", "forward")}
    for hook in directions[arguments["direction"]]:
        lines.append(f"chain {hook} {{ type filter hook {hook} priority -300; policy accept;")
        lines += spare(hook, arguments.get("spared_ports", []))
        sides = {"input": ("saddr",), "output": ("daddr",), "forward": _forward_sides(arguments["direction"])}[hook]
        for version, family in ((4, "ip"), (6, "ip6")):
            if any(peer.version == version for peer in peers):
                lines += [f"{family} {side} @peers{version}{match} counter drop;" for side in sides
                          for match in _matches(side, ports, protocol)]  # fmt: skip
        lines.append("}")
    return "\n".join([*lines, "}"])


def spare(hook: str, ports: list[int]) -> list[str]:
    """Rules that let this node's own protected services (SSH) through, before anything is dropped."""
    if not ports or hook == "forward":
        return []
    side = {"input": "dport", "output": "sport"}[hook]
    return [f"tcp {side} {{ {', '.join(map(str, ports))} }} accept;"]


def _forward_sides(direction: str) -> tuple[str, ...]:
    return {"in": ("saddr",), "out": ("daddr",), "both": ("saddr", "daddr")}[direction]


def _matches(side: str, ports: list[int], protocol: str) -> list[str]:
    """Matches on ports: a service is cut off whether it is the peer's or this node's own."""
    protocols = ["tcp", "udp"] if protocol == "any" else [protocol]
    if not ports:
        return [""] if protocol == "any" else [f" meta l4proto {protocol}"]
    listed = ", ".join(map(str, ports))
    return [f" {one} {port} {{ {listed} }}" for one in protocols for port in ("sport", "dport")] if side else []


def tend() -> None:
    """Nothing to do while in force."""


def let_go() -> None:
    """The end of this process closes the socket, and the kernel removes the table."""
