"""The effects in force on this node, and the order of steps that every one goes through.

plan, policy, journal the intent, arm the guardian, inject, observe, (deadline, abort or revert), revert, audit,
journal the end. Invariant: an effect is in the journal and the guardian knows of it before it is injected; a
failure at any step leaves nothing in force.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import structlog

from agent import remote, undo
from agent.active import Active, Asked, adopted
from agent.faults import registry
from agent.faults.base import Effect, Fault, OnLost, Receipt, Undo
from agent.faults.held import holder_of
from agent.guardian import Guardian
from agent.journal import Journal, Step
from agent.planning import Planning
from agent.policy import Policy
from agent.system import clock, proc
from agent.tend import Tender
from protos.error import BlackstartError, Problem, RefusedError, SpecError

Json = dict[str, Any]
STOPPED: Final = "the emergency stop is in force: `blackstart stop --lift` ends it"
_EARLY_NS: Final = 50_000_000  # a holder ends at its deadline by itself, at about the time at which the agent acts
_KEPT: Final = 1000  # ended effects that `revert` can still tell about


class Effects:
    """All effects of one agent.

    `notify(kind, run_id, body)` is told of ends that nobody asked for; `before(run_id, effects)` may look at the node
    before anything is done to it. *faults*: all that there are, if not told.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        guardian: Guardian,
        policy: Callable[[], Policy],
        controller: Callable[[], Sequence[str]],
        notify: Callable[[str, str, Json], None],
        before: Callable[[str, list[Effect]], Awaitable[None]] | None = None,
        faults: Mapping[str, Fault[Any]] | None = None,
    ) -> None:
        self.faults: Mapping[str, Fault[Any]] = faults or registry.all_faults()
        self.stopped = False
        self._journal, self._guardian, self._before = journal, guardian, before
        self._policy, self._controller, self._notify = policy, controller, notify
        self._planning = Planning(self.faults, policy, controller)
        self._active: dict[str, Active] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._tender = Tender(self)
        self._log = structlog.get_logger("agent.effect")

    async def plan(self, kind: str, spec: Json, duration_s: float) -> list[Effect]:
        """The effects that the order means, checked against the policy; touches nothing."""
        return await self._planning.plan(kind, spec, duration_s)

    async def inject(
        self, *, run_id: str, injection: str, kind: str, spec: Json, duration_s: float, on_lost: OnLost,
        follow: bool = False,
    ) -> list[Json]:  # fmt: skip
        """Puts a fault in force; returns its effects with their receipts, or raises and leaves nothing."""
        if self.stopped:
            raise RefusedError(STOPPED)
        if not (duration_s > 0 and math.isfinite(duration_s)):
            raise SpecError(Problem("duration_s", f"{duration_s:g} is not a number of seconds above 0"))
        if follow and _bare_pid(spec):
            raise SpecError(Problem("spec.pid", "a pid does not come back", "to follow, name a pid_file or a pattern"))
        asked = Asked(run_id, injection, kind, spec, duration_s, on_lost, follow)
        effects = await self._planning.plan_for(asked)
        self.refuse_conflicts(effects)
        asked.targets_max = len(effects)
        asked.deadline_ns = time.monotonic_ns() + int(duration_s * 1e9)
        return await self.put_in_force(asked, effects)

    async def put_in_force(self, asked: Asked, effects: list[Effect]) -> list[Json]:
        """Takes planned effects through the steps from the intent to the receipt; leaves nothing if one fails."""
        fresh = [self._begin(effect, asked) for effect in effects]
        try:
            if self._before is not None:
                await self._before(asked.run_id, effects)
            await self._put_in_force(fresh)
        except BaseException:  # a cancellation, too: whatever comes, nothing stays in force
            await asyncio.shield(self._abandon(fresh))
            raise
        self._tender.wake()
        await asyncio.gather(*(self._observe(active) for active in fresh))
        return [self.document(active) for active in fresh]

    def refuse_conflicts(self, effects: list[Effect]) -> None:
        """RefusedError for a resource that is held already, and for more effects at once than the policy allows."""
        held = {
            active.effect.resource: active.effect
            for active in self._active.values()
            if active.in_force or active.state == "planned"
        }
        for effect in effects:
            if first := held.get(effect.resource):
                raise RefusedError(f"{effect.resource} is held already by {first.injection} ({first.description})")
        if len(held) + len(effects) > (most := self._policy().effects_max):
            raise RefusedError(f"{len(held)} effects in force and {len(effects)} more: the policy allows {most}")

    def _begin(self, effect: Effect, asked: Asked) -> Active:
        effect.run_id, effect.injection, effect.boot_id = asked.run_id, asked.injection, proc.boot_id()
        effect.duration_s, effect.on_lost_controller = asked.duration_s, asked.on_lost
        effect.suspended_ns = clock.suspended_ns()
        if effect.undo is not Undo.SELF_HEALING:
            effect.deadline_ns = asked.deadline_ns
        active = self._active[effect.id] = Active(effect, asked)
        return active

    async def _put_in_force(self, fresh: list[Active]) -> None:
        for active in fresh:
            self.faults[active.effect.fault].prepare(active.effect)
            undo.record(self._journal, "intent", active.effect, "agent")
        await self._guardian.arm()
        for active in fresh:
            duration_s = active.effect.duration_s if active.effect.deadline_ns else 0.0
            self._policy().check(active.effect, duration_s, self._controller())
        await asyncio.gather(*(self._inject(active) for active in fresh))

    async def _inject(self, active: Active) -> None:
        effect = active.effect
        self._refuse_if_ended(active)
        active.injected = await self.faults[effect.fault].inject(effect)
        if self.stopped or active.state != "planned":
            active.state = "injected"  # so that it is ended once more, now that it took hold
            self._refuse_if_ended(active, late=True)
        active.state = "injected"
        undo.record(self._journal, "injected" if effect.deadline_ns else "reverted", effect, "agent")
        if effect.deadline_ns:
            left_s = (effect.deadline_ns - time.monotonic_ns()) / 1e9
            active.timer = asyncio.get_running_loop().call_later(max(0.0, left_s), self._expire, active)
        self._log.info("effect injected", effect=effect.id, run=effect.run_id, what=effect.description)

    def _refuse_if_ended(self, active: Active, *, late: bool = False) -> None:
        if self.stopped or late or active.state != "planned":
            why = "the emergency stop came in between" if self.stopped else "it was reverted before it took hold"
            raise RefusedError(f"{active.effect.injection}: {why}")

    async def _observe(self, active: Active) -> None:
        assert active.injected is not None
        try:
            active.receipt = await self.faults[active.effect.fault].observe(active.effect, active.injected)
        except (BlackstartError, OSError, ValueError) as error:
            lo_ns, hi_ns = active.injected.lo_ns, active.injected.hi_ns
            text = f"could not be observed: {error}"
            active.receipt = Receipt(confirmed=False, text=text, lo_ns=lo_ns, hi_ns=hi_ns)

    async def _abandon(self, fresh: list[Active]) -> None:
        """Ends what an injection that failed half way has put in force."""
        for active in fresh:
            await self._end(active)
            if active.state == "reverted":
                active.state = "failed"

    def _expire(self, active: Active) -> None:
        self._later(self.end_and_tell(active))

    async def end_and_tell(self, active: Active) -> None:
        """Ends an effect that nobody asked to be ended now, and tells the controller."""
        before = active.state
        await self._end(active)
        if active.state != before:
            self.tell("effect.stranded" if active.state == "stranded" else "effect.reverted", active)

    def tell(self, kind: str, active: Active) -> None:
        """Sends an event about an effect."""
        self._notify(kind, active.effect.run_id, self.document(active))

    async def _end(self, active: Active) -> None:
        async with active.lock:
            if active.timer is not None:
                active.timer.cancel()
                active.timer = None
            if active.state in ("reverted", "failed") or (active.state == "injected" and not active.effect.deadline_ns):
                return
            self._check_it_held(active)
            active.residue = await undo.revert(self.faults[active.effect.fault], active.effect)
            active.reverted_ns = time.monotonic_ns()
            was, active.state = active.state, "stranded" if active.residue else "reverted"
            if was == active.state:
                return  # stranded as before: it is in the journal already
            try:
                step: Step = "stranded" if active.residue else "reverted"
                undo.record(self._journal, step, active.effect, "agent", "; ".join(active.residue))
            except BlackstartError as error:  # ended all the same; the next start ends it once more, harmlessly
                self._log.warning("the end of an effect could not be journalled", error=str(error))
            self._compact()
        self._tender.wake()
        self._log.info("effect ended", effect=active.effect.id, run=active.effect.run_id, state=active.state)

    def _compact(self) -> None:
        try:
            self._journal.compact()
        except (BlackstartError, OSError) as error:
            self._log.warning("the journal could not be compacted", error=str(error))

    def _check_it_held(self, active: Active) -> None:
        """A fault whose holder died before its time was not in force for as long as the receipt would make believe."""
        holder = holder_of(active.effect)
        early = time.monotonic_ns() < active.effect.deadline_ns - _EARLY_NS
        if active.injected and active.receipt and holder and early and not proc.alive(holder):
            receipt, text = active.receipt, f"{active.receipt.text}; but it ended by itself before it was reverted"
            active.receipt = Receipt(confirmed=False, text=text, lo_ns=receipt.lo_ns, hi_ns=receipt.hi_ns)

    def call_off(self, run_id: str, injection: str | None) -> None:
        """What is still being planned of a run, or of one of its injections, is not put in force."""
        whole = injection is None
        self._planning.call_off(
            "it was reverted before it took hold",
            lambda asked: asked.run_id == run_id and (whole or asked.injection == injection),
        )  # fmt: skip

    async def revert(self, chosen: Iterable[Active]) -> list[Json]:
        """Ends effects at the same time; harmless for those that have ended."""
        chosen = list(chosen)
        for active in chosen:
            active.asked.follow = False  # over: what comes back now is left alone
        await asyncio.gather(*(self._end(active) for active in chosen))
        self._forget()
        return [self.document(active) for active in chosen]

    def of(self, *, run_id: str | None = None, injection: str | None = None) -> list[Active]:
        """Effects of a run, of one of its injections, or all."""
        return [
            active for active in self._active.values()
            if (run_id is None or active.effect.run_id == run_id)
            and (injection is None or active.effect.injection == injection)
        ]  # fmt: skip

    async def lose_controller(self) -> None:
        """Ends what asked to be ended when the controller is lost."""
        self._planning.call_off("the controller was lost meanwhile", lambda asked: asked.on_lost == "revert")
        for active in self._active.values():
            active.asked.follow &= active.effect.on_lost_controller == "hold"
        lost = [a for a in self._active.values() if a.may_hold and a.effect.on_lost_controller == "revert"]
        await asyncio.gather(*map(self.end_and_tell, lost))  # together: one that hangs holds no other up

    async def stop(self) -> list[Json]:
        """The emergency stop: ends all and refuses more until lifted."""
        self.stopped = True
        self._planning.call_off("the emergency stop came in between", lambda _: True)
        for active in self._active.values():
            active.asked.follow = False
        return await self.revert(active for active in self._active.values() if active.may_hold)

    async def adopt(self, effects: Sequence[Effect]) -> list[Json]:
        """Takes over what an agent before this one left in force: ends each, and goes on trying where that fails."""
        taken = [adopted(effect) for effect in effects]
        self._active.update((active.effect.id, active) for active in taken)
        await asyncio.gather(*map(self._end, taken))
        return [self.document(active) for active in taken]

    def in_force(self) -> list[Json]:
        return [self.document(active) for active in self._active.values() if active.in_force]

    async def residue(self, run_id: str) -> list[str]:
        """A fresh look at what the run's ended effects may have left."""
        mine = self.of(run_id=run_id)
        found = await asyncio.gather(*(remote.look(self.faults[one.effect.fault], one.effect) for one in mine))
        return [f"{one.effect.description}: {left}" for one, rest in zip(mine, found, strict=True) for left in rest]

    async def close(self) -> None:
        await self._tender.close()
        await self.revert(list(self._active.values()))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def document(self, active: Active) -> Json:
        """EFFECT, with the remedy where something is left."""
        remedy = undo.remedy(self.faults[active.effect.fault], active.effect) if active.residue else ""
        return active.document(remedy)

    def _forget(self) -> None:
        ended = [key for key, active in self._active.items() if not active.in_force and active.state != "planned"]
        for key in ended[: max(0, len(ended) - _KEPT)]:
            del self._active[key]

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _bare_pid(spec: Json) -> bool:
    named = [spec, *(part for part in spec.values() if isinstance(part, dict))]
    return any(part.get("pid") for part in named)
