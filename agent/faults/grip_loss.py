"""Holds a loss: a part of the packets of a scope, drawn by the kernel, is dropped by an owned table."""

from __future__ import annotations

from typing import Any, Final

from agent.faults import grip_partition, ruleset

DIES_WITH_AGENT: Final = True
_PARTS: Final = 10_000


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Commits the table; reports the bounds of the commit."""
    parts = max(1, round(arguments["loss_fraction"] * _PARTS))
    verdict = f"numgen random mod {_PARTS} < {parts} counter drop"
    return grip_partition.commit(arguments, ruleset.on_peers(arguments, grip_partition.left_ms(deadline_ns), verdict))


def tend() -> None:
    """Nothing to do while in force."""


def let_go() -> None:
    """The end of this process closes the socket, and the kernel removes the table."""
