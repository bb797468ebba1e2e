"""What faults have in common that a holder keeps in force (`agent.faults.hold`).

Invariant: the holder's identity is in the effect's facts before the fault takes hold, so that any process can end it.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Final

import msgspec

from agent.faults.base import Effect, Injected
from agent.system import proc
from agent.system.holder import Holder, engage, release

_SETTLE_S: Final = 0.5  # the kernel takes some things back from workers of its own, a moment after the death
_LOOK_S: Final = 0.004


class HeldFault:
    """prepare, inject, revert, residue and remedy by a holder; a fault adds what only it knows."""

    grip: ClassVar[str] = ""  # of module agent.faults.grip_*; or override `_grip`

    def __init__(self) -> None:
        self._holders: dict[str, Holder] = {}

    def _grip(self, effect: Effect) -> str:
        """Which kind of holder keeps *effect*."""
        del effect
        return self.grip

    def _arguments(self, effect: Effect) -> dict[str, Any]:
        """What its holder is told; JSON. All facts unless overridden."""
        return effect.facts

    def _left(self, effect: Effect) -> list[str]:
        """What else than the holder may be left, in words. Overridden where there is something."""
        del effect
        return []

    def prepare(self, effect: Effect) -> None:
        holder = Holder(self._grip(effect), self._arguments(effect), effect.deadline_ns)
        self._holders[effect.id] = holder
        effect.facts["holder"] = msgspec.to_builtins(holder.identity)

    async def inject(self, effect: Effect) -> Injected:
        report = await self._engage(effect)
        return Injected(report["lo_ns"], report["hi_ns"])

    async def _engage(self, effect: Effect) -> dict[str, Any]:
        """Says go; the holder's report, with lo_ns and hi_ns."""
        return await engage(self._holders.get(effect.id))

    async def revert(self, effect: Effect) -> None:
        await self._release(effect)
        await self._settled(effect)

    async def _release(self, effect: Effect) -> None:
        """Ends the holder. A fault that has more to undo calls this, undoes it, and then waits until all is settled."""
        if (one := holder_of(effect)) is not None:
            await release(one)
        self._holders.pop(effect.id, None)

    async def _settled(self, effect: Effect) -> None:
        """Returns when nothing is left, or after half a second."""
        until = asyncio.get_running_loop().time() + _SETTLE_S
        while self.residue(effect) and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(_LOOK_S)

    def gone(self, effect: Effect) -> bool:
        """Whether the target went away by itself: every process that the fault touches, or its namespace's."""
        root = effect.facts.get("root")
        targets = [msgspec.convert(root, proc.Identity)] if root else effect.touches.processes
        return bool(targets) and not any(map(proc.alive, targets))

    def residue(self, effect: Effect) -> list[str]:
        one = holder_of(effect)
        held = [f"the holder (pid {one.pid}) still runs"] if one is not None and proc.alive(one) else []
        return [*held, *self._left(effect)]

    def remedy(self, effect: Effect) -> str:
        one = holder_of(effect)
        return f"kill -KILL {one.pid}" if one is not None else ""


def holder_of(effect: Effect) -> proc.Identity | None:
    """The identity of the effect's holder; None when it has none."""
    row = effect.facts.get("holder")
    return msgspec.convert(row, proc.Identity) if row else None
