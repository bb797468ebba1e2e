"""An effect's own nftables table, `inet blackstart_ID`, as the `nft` program sees it: not as its holder does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final

from agent.faults import scope
from agent.faults.base import Effect
from protos.error import FaultError

_FOLDERS: Final = ("/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin")


def name_of(effect: Effect) -> str:
    return f"blackstart_{effect.id}"


def listing(effect: Effect, family: str = "inet") -> list[dict[str, Any]]:
    """The table's rows in nft's JSON; empty when the table, or its namespace, is gone.

    Raises:
        FaultError: `nft` is not there, does not answer or does not understand: whether the table stands is not known.
    """
    network = effect.facts["network"]
    if not scope.there(effect.facts):
        return []
    if not any(Path(folder, "nft").exists() for folder in _FOLDERS):
        raise FaultError("the nft program is gone: whether the table stands cannot be told")
    inside = ["nsenter", f"--net={network}"] if network else []
    command = [*inside, "nft", "--json", "list", "table", family, name_of(effect)]
    try:
        listed = subprocess.run(command, capture_output=True, check=False, timeout=5)
    except subprocess.TimeoutExpired as error:
        raise FaultError("nft does not answer: whether the table stands cannot be told") from error
    if listed.returncode == 0:
        rows: list[dict[str, Any]] = json.loads(listed.stdout)["nftables"]
        return rows
    complaint = listed.stderr.decode(errors="replace").strip()
    if "No such file or directory" in complaint:
        return []
    raise FaultError(f"nft cannot tell whether the table stands: {complaint or f'exit code {listed.returncode}'}")


def dropped(rows: list[dict[str, Any]]) -> int:
    """Packets that the table's counters have seen."""
    return sum(
        expression["counter"]["packets"]
        for row in rows
        for expression in row.get("rule", {}).get("expr", [])
        if "counter" in expression
    )
