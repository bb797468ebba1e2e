"""The emergency stop: reverts every effect on every agent, ends every run, and refuses new ones until it is lifted.

Invariant: it is in the store before the first agent is told, so a controller that dies meanwhile comes back with it
in force; an agent that was away learns of it at its welcome.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from protos.error import BlackstartError

if TYPE_CHECKING:
    from controller.run.machine import Machine
    from controller.run.reach import Reach

SETTING: Final = "emergency_stop"
STOP_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Stopped:
    """What the stop, or its lifting, met. *stranded*: on any agent, also from before."""

    agents: int
    reverted: int
    stranded: list[str]
    unreachable: list[str]


class EmergencyStop:
    """See the module."""

    def __init__(self, reach: Reach, machine: Machine) -> None:
        self._reach, self._machine = reach, machine
        self._log = structlog.get_logger("controller.stop")

    async def restore(self) -> None:
        """What an earlier controller left in force."""
        reason = await self._reach.store.setting(SETTING)
        self._reach.admission.stop_reason = reason or None

    async def stop(self, actor: str, reason: str) -> Stopped:
        """Agents first, then the runs; both whatever becomes of the store."""
        text = f"by {actor}" + (f": {reason}" if reason else "")
        self._reach.admission.stop_reason = text
        failure: BlackstartError | None = None
        try:
            await self._reach.store.set_setting(SETTING, text)
        except BlackstartError as error:  # a full disk must not keep faults in force
            failure = error
        self._log.warning("emergency stop", actor=actor, reason=reason)
        for run in self._machine.active:
            run.end("aborted", f"emergency stop {text}")
        stopped = await self._tell("node.stop", actor)
        if failure is not None:
            raise failure
        return stopped

    async def lift(self, actor: str, reason: str) -> Stopped:
        self._log.warning("emergency stop lifted", actor=actor, reason=reason)
        await self._reach.store.set_setting(SETTING, "")
        self._reach.admission.stop_reason = None
        return await self._tell("node.lift", actor)

    async def _tell(self, kind: str, actor: str) -> Stopped:
        members = self._reach.fleet.members()
        connected = [member.id for member in members if member.connected]
        answers = await self._reach.dispatch.order_all(connected, kind, {}, actor=actor, timeout_s=STOP_S)
        unreachable = [member.id for member in members if not member.connected]
        unreachable += [agent for agent, answer in answers.items() if isinstance(answer, BlackstartError)]
        told = [
            (agent, effect)
            for agent, answer in answers.items() if not isinstance(answer, BlackstartError)
            for effect in answer.get("effects", ())
        ]  # fmt: skip
        await asyncio.gather(
            *(self._reach.update_effect(str(effect.get("run_id") or ""), agent, effect) for agent, effect in told)
        )
        for agent, effect in told:  # the run's own end may take a moment yet, and who lifts the stop may go on at once
            if effect["state"] == "reverted":
                run_id, name = str(effect.get("run_id") or ""), str(effect.get("injection") or "")
                self._reach.admission.release(
                    run_id=run_id, injection=name, agent_id=agent, unless=self._reach.is_stranded
                )
        reverted = sum(effect["state"] == "reverted" for _, effect in told)
        return Stopped(len(answers), reverted, self._reach.leftovers.words(), sorted(unreachable))
