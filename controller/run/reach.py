"""What runs work with, and what they keep of agents: their clocks and what became of their effects."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from controller.admission import Reservation
from controller.run.active import Injection, lasting

if TYPE_CHECKING:
    from controller.admission import Admission
    from controller.dispatch import Dispatch
    from controller.fleet import Fleet
    from controller.leftover import Leftovers
    from controller.run.active import ActiveRun
    from controller.run.chronicle import Chronicle
    from controller.store.base import Store

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """The parts of the controller that a run touches."""

    store: Store
    fleet: Fleet
    dispatch: Dispatch
    admission: Admission
    chronicle: Chronicle
    leftovers: Leftovers
    active: dict[str, ActiveRun] = field(default_factory=dict)  # runs that are not ended, by id
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)  # of injections: a reader's change is not overwritten
    _keeping: dict[tuple[str, str], asyncio.Task[None]] = field(default_factory=dict)  # not begun yet, by run and name
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def keep_clock(self, run_id: str, agent_id: str) -> None:
        """Notes how the agent's clock stands to the controller's wall clock: reports tell all times in the latter."""
        member = self.fleet.member(agent_id)
        if member is None:
            return
        translation = self.fleet.translation(member, None)
        own_ns = time.time_ns() - time.monotonic_ns()
        offset_ns = member.wall_offset_ns if translation is None else own_ns + translation.offset_ns
        await self.store.put(run_id, "clocks", agent_id, {"wall_offset_ns": offset_ns})

    def runs_of(self, agent_id: str) -> list[str]:
        """Runs under way that use the agent."""
        return [run.id for run in self.active.values() if agent_id in run.touched]

    def is_stranded(self, reservation: Reservation) -> bool:
        """Whether the agent could not revert what was reserved so far."""
        return any(
            (effect.get("run_id"), effect.get("resource")) == (reservation.run_id, reservation.resource)
            for effect in self.leftovers.stranded(reservation.agent_id)
        )

    async def reserve_again(self, run_id: str) -> None:
        """Takes up what an earlier controller had reserved for a run that it left open."""
        for name, row in (await self.store.documents(run_id, "injections")).items():
            lasts_s = row.get("until_wall_ns", 0) / 1e9 - time.time()
            over = {effect["agent_id"] for effect in row["effects"]}
            held = [(effect["agent_id"], effect["resource"]) for effect in row["effects"] if lasting(effect)]
            held += [(agent, "") for agent in row["agents"] if agent not in over]  # asked, and not answered yet
            for agent, resource in held if lasts_s > 0 else ():
                member = self.fleet.member(agent)
                one = Reservation(run_id, name, agent, row["fault"], resource)
                self.admission.note(one, member.labels if member else {}, lasts_s)

    def expire_reservations(self) -> None:
        """Frees what cannot be in force any more; what a connected agent could not revert is held on."""
        connected = {member.id for member in self.fleet.connected()}
        self.admission.expire(
            time.monotonic_ns(), unless=lambda held: held.agent_id in connected and self.is_stranded(held)
        )

    async def keep(self, run_id: str, injection: Injection) -> None:
        """Returns once the injection is written as it is now; callers that come together share one writing."""
        key = (run_id, injection.name)
        if (task := self._keeping.get(key)) is None:
            task = self._keeping[key] = asyncio.create_task(self._keep(run_id, injection))
            self._tasks.add(task)
            task.add_done_callback(self._done)
        await asyncio.shield(task)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever was cancelled meanwhile will not ask for it

    async def _keep(self, run_id: str, injection: Injection) -> None:
        async with self.writing:
            del self._keeping[run_id, injection.name]  # who changes it from now on needs a writing of his own
            document = injection.document()
            await self.store.put(run_id, "injections", injection.name, document)
        for effect in injection.effects:
            await self.leftovers.take(str(effect["agent_id"]), effect)

    async def update_effect(self, run_id: str, agent_id: str, effect: Json) -> bool:
        """Takes in what the agent says of one effect, in memory and store; False if there is no such injection."""
        await self.leftovers.take(agent_id, effect)
        name = str(effect.get("injection") or "")
        run = self.active.get(run_id)
        if run is not None and name in run.injections:
            run.injections[name].take(agent_id, effect)
            await self.keep(run_id, run.injections[name])
            return True
        async with self.writing:
            document = (await self.store.documents(run_id, "injections")).get(name)
            if document is None:
                return False
            stored = Injection(name, document["fault"], document["targets"], document["agents"], document["effects"])
            stored.until_wall_ns = document.get("until_wall_ns", 0)
            stored.take(agent_id, effect)
            await self.store.put(run_id, "injections", name, stored.document())
        return True
