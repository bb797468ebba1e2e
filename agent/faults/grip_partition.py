"""Holds a network cut: one owned nftables table with its peers in sets whose elements expire.

Two ways to end by the kernel alone: the elements expire at the deadline even if this process hangs, and the table goes
when the socket closes.
"""

from __future__ import annotations

import time
from typing import Any, Final

from agent.faults import ruleset
from agent.system import libc, nft

DIES_WITH_AGENT: Final = True
_tables: list[nft.Tables] = []


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Commits the table that drops; reports the bounds of the commit."""
    return commit(arguments, ruleset.on_peers(arguments, left_ms(deadline_ns)))


def commit(arguments: dict[str, Any], commands: str) -> dict[str, Any]:
    """Enters the namespace, if one is named, and makes the table in one transaction; its bounds."""
    if arguments["network"]:
        libc.enter_network(arguments["network"])
    tables = nft.Tables()
    _tables.append(tables)
    lo_ns = time.monotonic_ns()
    tables.run(commands)
    return {"lo_ns": lo_ns, "hi_ns": time.monotonic_ns()}


def left_ms(deadline_ns: int) -> int:
    """How long an element lives that is to expire at the deadline."""
    return max(1, (deadline_ns - time.monotonic_ns()) // 1_000_000)


def tend() -> None:
    """Nothing to do while in force."""


def let_go() -> None:
    """The end of this process closes the socket, and the kernel removes the table."""
