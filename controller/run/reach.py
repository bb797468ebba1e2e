"""What runs work with, and what they keep of agents: their clocks and what became of their effects."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from controller.admission import Admission
    from controller.dispatch import Dispatch
    from controller.fleet import Fleet
    from controller.run.chronicle import Chronicle
    from controller.store.base import Store

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reach:
    """The parts of the controller that a run touches."""

    store: Store
    fleet: Fleet
    dispatch: Dispatch
    admission: Admission
    chronicle: Chronicle

    async def keep_clock(self, run_id: str, agent_id: str) -> None:
        """Notes how the agent's clock stands to the controller's wall clock: reports tell all times in the latter."""
        member = self.fleet.member(agent_id)
        if member is None:
            return
        translation = self.fleet.translation(member, None)
        own_ns = time.time_ns() - time.monotonic_ns()
        offset_ns = member.wall_offset_ns if translation is None else own_ns + translation.offset_ns
        await self.store.put(run_id, "clocks", agent_id, {"wall_offset_ns": offset_ns})

    async def update_effect(self, run_id: str, agent_id: str, effect: Json) -> bool:
        """Writes what the agent says of one effect into its injection's document; False if there is none."""
        name = str(effect.get("injection", ""))
        document = (await self.store.documents(run_id, "injections")).get(name)
        if document is None:
            return False
        identity = (agent_id, effect.get("id"))
        known = [(row["agent_id"], row["id"]) for row in document["effects"]]
        stamped = effect | {"agent_id": agent_id}
        effects = [
            row | stamped if key == identity else row for row, key in zip(document["effects"], known, strict=True)
        ]
        if identity not in known:
            effects.append(stamped)
        await self.store.put(run_id, "injections", name, document | {"effects": effects})
        return True
