"""Holds ports shut: packets to them are dropped or refused by an owned table."""

from __future__ import annotations

from typing import Any, Final

from agent.faults import grip_partition, ruleset

DIES_WITH_AGENT: Final = True


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Commits the table; reports the bounds of the commit."""
    left_ms, hook = grip_partition.left_ms(deadline_ns), arguments["hook"]
    side = "saddr" if hook == "input" else "daddr"
    port = f"{arguments['protocol']} dport {ruleset.listed(arguments['ports'])}"
    verdict = {"drop": "drop", "reset": "reject with tcp reset", "reject": "reject"}[arguments["verdict"]]
    rules = [f"{peer} {port} counter {verdict};" for peer in ruleset.of_peers(arguments["peers"], side)]
    lines = [f"table inet {arguments['table']} {{", "flags owner;", *ruleset.sets(arguments["peers"], left_ms)]
    lines += [*ruleset.chain(hook, [*ruleset.spare(hook, arguments.get("spared_ports", [])), *rules]), "}"]
    return grip_partition.commit(arguments, "\n".join(lines))


def tend() -> None:
    """Nothing to do while in force."""


def let_go() -> None:
    """The end of this process closes the socket, and the kernel removes the table."""
