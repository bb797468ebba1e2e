"""Which packets the faults in force mean, so that two faults never mean the same ones.

The conflict check of `agent.effect` compares resources for equality, and overlap is no equality: 10.0.0.0/24
and 10.0.0.7 are different words for packets in common. So each packet fault claims its peers and ports when it is
prepared, in the agent's own memory: whatever was in force before the agent's start has ended by then.

Invariant: no two claims in one network namespace have a peer and a port in common, whatever their directions and
protocols: their receipts would disturb each other.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from agent.faults import scope
from agent.faults.base import Effect
from protos.error import RefusedError

_CLAIMS: Final[dict[str, Effect]] = {}


def check(effect: Effect) -> None:
    """RefusedError with the name of the first, if a fault in force means some of the same packets."""
    for other in _CLAIMS.values():
        if other.id != effect.id and overlap(other.facts, effect.facts) and scope.there(other.facts):
            raise RefusedError(
                f"{effect.description}: some of these packets are held already by {other.injection} "
                f"({other.description})"
            )


def take(effect: Effect) -> None:
    """Claims what *effect* means; RefusedError as `check`."""
    check(effect)
    _CLAIMS[effect.id] = effect


def give_up(effect: Effect) -> None:
    """Nothing is held any more. Harmless to repeat."""
    _CLAIMS.pop(effect.id, None)


def overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two scopes, as facts, have packets in common, directions and protocols apart."""
    if one["inode"] != other["inode"]:
        return False
    if one["ports"] and other["ports"] and not set(one["ports"]) & set(other["ports"]):
        return False
    theirs = [ipaddress.ip_network(peer) for peer in other["peers"]]
    return any(
        mine.version == peer.version and mine.overlaps(peer)
        for mine in map(ipaddress.ip_network, one["peers"])
        for peer in theirs
    )
