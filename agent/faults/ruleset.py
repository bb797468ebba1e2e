"""What a network fault's own nftables table looks like, in nft's language.

Invariant: every rule that does harm matches a peer in a set whose elements expire at the deadline, so that the effect
ends even if the process that owns the table hangs.

Source: nft(8), "SETS", "NUMGEN EXPRESSION".
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from agent.system import queue_sender

_SIDES: Final = {"in": ("saddr",), "out": ("daddr",), "both": ("saddr", "daddr")}
# What a packet queue sends again passes this hook twice: it was judged the first time (agent.system.queue_sender).
_RESENT: Final = f"meta mark & 0xffff0000 == {queue_sender.RESENT:#x} accept;"
_HOOKS: Final = {"in": ("input", "forward"), "out": ("output", "forward"), "both": ("input", "output", "forward")}


def on_peers(arguments: dict[str, Any], left_ms: int, verdict: str = "counter drop", before: str = "") -> str:
    """A table that gives *verdict* to the packets of a scope (`agent.faults.scope`), in its direction.

    Args:
        arguments: facts of a scope, with `table` and perhaps `spared_ports`.
        left_ms: how long the peers stay in their sets.
        verdict: the end of every rule.
        before: chains that *verdict* jumps to.
    """
    lines = [f"table inet {arguments['table']} {{", "flags owner;", *sets(arguments["peers"], left_ms), before]
    for hook in _HOOKS[arguments["direction"]]:
        sides = {"input": ("saddr",), "output": ("daddr",), "forward": _SIDES[arguments["direction"]]}[hook]
        matches = _matches(arguments["ports"], arguments["protocol"])
        lines += chain(hook, [*spare(hook, arguments.get("spared_ports", [])), *(
            f"{peer}{match} {verdict};" for side in sides for peer in of_peers(arguments["peers"], side)
            for match in matches
        )])  # fmt: skip
    return "\n".join([*lines, "}"])


def sets(peers: list[str], left_ms: int) -> list[str]:
    """A set per address family, `peers4` and `peers6`, whose elements last *left_ms*."""
    lines = []
    for version in _versions(peers):
        elements = ", ".join(
            f"{peer} timeout {left_ms}ms" for peer in peers if ipaddress.ip_network(peer).version == version
        )
        lines.append(
            f"set peers{version} {{ type ipv{version}_addr; flags interval, timeout; elements = {{ {elements} }}; }}"
        )
    return lines


def of_peers(peers: list[str], side: str) -> list[str]:
    """The matches on the sets, one per address family; *side*: saddr or daddr."""
    return [f"{'ip' if version == 4 else 'ip6'} {side} @peers{version}" for version in _versions(peers)]


def chain(hook: str, rules: list[str]) -> list[str]:
    """A base chain before everything else that filters."""
    resent = [_RESENT] if hook == "output" else []
    return [f"chain {hook} {{ type filter hook {hook} priority -300; policy accept;", *resent, *rules, "}"]


def spare(hook: str, ports: list[int]) -> list[str]:
    """Rules that let this node's own protected services (SSH) through, before anything is dropped."""
    if not ports or hook == "forward":
        return []
    side = {"input": "dport", "output": "sport"}[hook]
    return [f"tcp {side} {listed(ports)} accept;"]


def listed(ports: list[int]) -> str:
    """Ports as an anonymous set."""
    return f"{{ {', '.join(map(str, ports))} }}"


def _versions(peers: list[str]) -> list[int]:
    return sorted({ipaddress.ip_network(peer).version for peer in peers})


def _matches(ports: list[int], protocol: str) -> list[str]:
    """Matches on ports: a service is meant whether it is the peer's or this node's own."""
    if not ports:
        return [""] if protocol == "any" else [f" meta l4proto {_L4[protocol]}"]
    protocols = ["tcp", "udp"] if protocol == "any" else [protocol]
    return [f" {one} {port} {listed(ports)}" for one in protocols for port in ("sport", "dport")]


_L4: Final = {"tcp": "tcp", "udp": "udp", "icmp": "{ icmp, ipv6-icmp }"}
