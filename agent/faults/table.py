"""An effect's own nftables table, `inet blackstart_ID`, as the `nft` program sees it: not as its holder does."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any, Final

from agent.faults import scope
from agent.faults.base import Effect
from protos.error import FaultError

_FOLDERS: Final = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin"


def missing() -> str:
    """Which program is missing for looking at tables; empty when none is."""
    lacks = [name for name in ("nft", "nsenter") if not _program(name)]
    return f"{' and '.join(lacks)} (install nftables and util-linux)" if lacks else ""


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
    nft, nsenter = _program("nft"), _program("nsenter")
    if not nft or (network and not nsenter):
        raise FaultError(f"{missing()}: gone; whether the table stands cannot be told")
    inside = [nsenter, f"--net={network}"] if network else []
    command = [*inside, nft, "--json", "list", "table", family, name_of(effect)]
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


def _program(name: str) -> str:
    """Where a program is, also for an agent whose PATH has no sbin."""
    return shutil.which(name) or shutil.which(name, path=_FOLDERS) or ""


def dropped(rows: list[dict[str, Any]], chains: tuple[str, ...] = ()) -> int:
    """Packets that the counters of the table's rules have seen; of *chains*, if some are named."""
    return sum(
        expression["counter"]["packets"]
        for row in rows
        if not chains or row.get("rule", {}).get("chain") in chains
        for expression in row.get("rule", {}).get("expr", [])
        if "counter" in expression
    )
