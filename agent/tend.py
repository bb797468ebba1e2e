"""What has to be looked at again and again while effects are in force.

Four times a second: deadlines that passed while the machine was suspended, targets that went away by themselves,
targets that came back and are to be joined, and stranded effects whose next try is due. At rest there is no task.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from agent.active import Active, Asked
from agent.system import clock
from protos.error import BlackstartError

if TYPE_CHECKING:
    from agent.effect import Effects

T = TypeVar("T")
TEND_S: Final = 0.25
_PAUSE_S_MAX: Final = 60.0  # between tries of a stranded effect; doubled from 1 s
_REST_NS: Final = 50_000_000  # with less than this left, a target that came back is not joined any more


class Tender:
    """One task, while there is something to tend."""

    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        self._task: asyncio.Task[None] | None = None
        self._beside: dict[int, asyncio.Task[None]] = {}  # what may take long, by whose it is
        self._log = structlog.get_logger("agent.tend")

    def wake(self) -> None:
        """There may be something to tend from now on."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        tasks = [task for task in (self._task, *self._beside.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while living := self._living():
            await asyncio.sleep(TEND_S)
            for active in living:
                self._look_at(active)
            for asked in self._followed():
                self._run_beside(asked, self._join)

    def _run_beside(self, whose: T, work: Callable[[T], Coroutine[Any, Any, None]]) -> None:
        """Starts it unless it is under way: one that waits for a server holds up no other."""
        key = id(whose)
        if key not in self._beside:
            task = self._beside[key] = asyncio.get_running_loop().create_task(work(whose))
            task.add_done_callback(lambda _: self._beside.pop(key, None))

    def _living(self) -> list[Active]:
        """Effects in force, and ended ones of orders whose targets may still come back."""
        return [
            active for active in self._effects.of()
            if active.in_force or (active.asked.follow and _left_ns(active.asked) > 0 and active.note)
        ]  # fmt: skip

    def _look_at(self, active: Active) -> None:
        effect = active.effect
        if active.state == "stranded":
            if asyncio.get_running_loop().time() >= active.retry_s:
                self._run_beside(active, self._retry)
        elif active.state == "injected":
            if clock.left_ns(effect.deadline_ns, effect.suspended_ns) <= 0:
                self._run_beside(active, self._effects.end_and_tell)
            elif id(active) not in self._beside and self._gone(active):
                active.note = "its target went away by itself"
                self._effects.tell("effect.target_gone", active)
                self._run_beside(active, self._effects.end_and_tell)

    async def _retry(self, active: Active) -> None:
        await self._effects.end_and_tell(active)
        active.pause_s = min(_PAUSE_S_MAX, active.pause_s * 2)
        active.retry_s = asyncio.get_running_loop().time() + active.pause_s

    def _gone(self, active: Active) -> bool:
        look = getattr(self._effects.faults[active.effect.fault], "gone", None)
        return bool(look and look(active.effect))

    def _followed(self) -> list[Asked]:
        """Orders that follow their targets and have fewer effects in force than they began with."""
        asked = {id(active.asked): active.asked for active in self._effects.of() if active.asked.follow}
        return [one for one in asked.values() if _left_ns(one) > _REST_NS and self._room(one) > 0]

    def _room(self, asked: Asked) -> int:
        mine = [active for active in self._effects.of() if active.asked is asked]
        if not any(active.note for active in mine):
            return 0  # none was lost: what was reverted on request is not to be joined again
        return asked.targets_max - sum(active.may_hold for active in mine)

    async def _join(self, asked: Asked) -> None:
        """Puts the fault in force on targets that are there again, within the blast radius of the order."""
        try:
            held = {active.effect.resource for active in self._effects.of() if active.may_hold}
            planned = await self._effects.plan(asked.kind, asked.spec, _left_ns(asked) / 1e9)
            fresh = [effect for effect in planned if effect.resource not in held][: self._room(asked)]
            if not fresh or self._effects.stopped or not asked.follow:
                return
            self._effects.refuse_conflicts(fresh)
            lost = [active.effect.id for active in self._effects.of() if active.asked is asked and active.note]
            for effect, before in zip(fresh, reversed(lost), strict=False):
                effect.follows = before
            await self._effects.put_in_force(asked, fresh)
            for active in self._effects.of():
                if active.effect in fresh:
                    self._effects.tell("effect.joined", active)
        except BlackstartError as error:
            self._log.debug("not joined yet", injection=asked.injection, reason=str(error))
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(TEND_S)


def _left_ns(asked: Asked) -> int:
    return asked.deadline_ns - time.monotonic_ns()
