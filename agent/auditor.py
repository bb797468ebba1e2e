"""The auditor: while the agent lives it looks again and again for what ended effects may have left.

Invariant: it touches only what bears the mark of an effect of this agent's, by having that effect's own fault revert
it once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import structlog

from agent import undo
from agent.active import Active
from agent.certificate import is_marked, marks
from agent.effect import Effects
from agent.faults.base import Undo
from agent.faults.held import holder_of
from agent.system import nodestate, proc

Json = dict[str, Any]
AUDIT_S: Final = 60.0  # one look costs about 25 ms of one processor
_KINDS: Final = ("qdiscs", "nft tables", "cgroups", "frozen cgroups", "stopped processes", "mounts", "files")


class Auditor:
    """Tells the controller by the event `residue.found`, and the log."""

    def __init__(self, effects: Effects, folders: list[Path], tell: Callable[[str, str, Json], None]) -> None:
        self._effects, self._folders, self._tell = effects, folders, tell
        self._told = set[str]()
        self._standing = set[str]()  # effects of which something was found and has not been seen gone
        self._log = structlog.get_logger("agent.auditor")

    async def run(self) -> None:
        """Looks every minute until cancelled."""
        while True:
            await asyncio.sleep(AUDIT_S)
            await self.look()

    async def look(self) -> list[str]:
        """What ended effects have left, in words; ends it once more and tells of it, each thing once."""
        ended = [
            active for active in self._effects.of()
            if active.state in ("reverted", "failed") and active.effect.undo is not Undo.SELF_HEALING
        ]  # fmt: skip
        if not ended:
            return []
        state = await asyncio.to_thread(self._state)
        held = marks(active.effect for active in self._effects.of() if active.may_hold)
        items = [f"{kind}: {item}" for kind in _KINDS for item in state.get(kind, ()) if not is_marked(item, held)]
        found = []
        for active in ended:
            left = [item for item in items if is_marked(item, marks([active.effect]))]
            holder = holder_of(active.effect)
            if holder is not None and proc.alive(holder):
                left.append(f"the holder of {active.effect.description} (pid {holder.pid}) still runs")
            if left:
                await self._report(active, left)
                found += left
            elif active.effect.id in self._standing:
                self._standing.discard(active.effect.id)
                self._tell("residue.found", active.effect.run_id, {"ours": [], "effect": active.effect.id, "still": []})
        return found

    def _state(self) -> nodestate.State:
        return nodestate.of_node() | nodestate.of_network("") | nodestate.files_of(self._folders)

    async def _report(self, active: Active, left: list[str]) -> None:
        effect = active.effect
        self._standing.add(effect.id)
        still = await undo.attempt_revert(self._effects.faults[effect.fault], effect)
        fresh = [item for item in left if item not in self._told]
        self._told.update(fresh)
        if fresh:
            self._log.error("residue found", effect=effect.id, ours=fresh, still=still)
            self._tell("residue.found", effect.run_id, {"ours": fresh, "effect": effect.id, "still": still})
