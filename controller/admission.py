"""Whether an injection may happen now: emergency stop, freeze calendar, conflicts, blast radius over all runs together.

Invariant: `admit` checks and reserves in one step without awaiting, so two runs can never both take the last place.
What is reserved stays so until it is released by the name under which it was reserved. Roles are checked in
`controller.rpc.auth`; that targets resolve, in `controller.selector`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.error import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be under fault at once, over all runs."""

    targets_max: int = 100
    targets_fraction: float = 0.5  # of the connected agents; rounds down, but allows one agent always

    def limit(self, connected: int) -> int:
        """Agents that may be under fault at once, of *connected*: at least 1, and both of a fleet of two."""
        share = connected if connected <= 2 else int(connected * self.targets_fraction + 1e-9)
        return min(self.targets_max, max(1, share))


@dataclass(frozen=True, slots=True)
class Freeze:
    """A window in which nothing is injected; times with a zone."""

    start: datetime
    end: datetime
    why: str


@dataclass(frozen=True, slots=True)
class Reservation:
    """One effect that is, or is about to be, in force."""

    run_id: str
    injection: str
    agent_id: str
    fault: str
    resource: str


class Admission:
    """The ledger of what is under fault, and the rules for adding to it."""

    def __init__(self, budget: Budget, freezes: Sequence[Freeze] = ()) -> None:
        self._budget = budget
        self._freezes = tuple(freezes)
        self._held: set[Reservation] = set()
        self.stop_reason: str | None = None  # set while the emergency stop is in force

    @property
    def held(self) -> frozenset[Reservation]:
        return frozenset(self._held)

    def check_open(self, now: datetime) -> None:
        """RefusedError while the emergency stop is in force or a freeze window is open."""
        if self.stop_reason is not None:
            raise RefusedError(f"the emergency stop is in force ({self.stop_reason}); `blackstart stop --lift` ends it")
        for freeze in self._freezes:
            if freeze.start <= now < freeze.end:
                raise RefusedError(f"frozen until {freeze.end.isoformat()}: {freeze.why}; submit again after that")

    def admit(self, wanted: Iterable[Reservation], *, connected: int, now: datetime) -> None:
        """Reserves all of *wanted* or none; RefusedError says which rule, with its numbers."""
        asked = set(wanted)
        self.check_open(now)
        for one in sorted(asked, key=lambda r: (r.agent_id, r.resource)):
            self._check_conflict(one)
        before = {held.agent_id for held in self._held}
        after = before | {one.agent_id for one in asked}
        limit = self._budget.limit(connected)
        if len(after) > limit:
            raise RefusedError(
                f"blast radius: {len(after)} agents would be under fault ({len(before)} are, over all runs); budget "
                f"is {limit} of {connected} connected (at most {self._budget.targets_max}, and "
                f"{self._budget.targets_fraction:.0%}); pick fewer targets or wait for other runs to end"
            )
        self._held |= asked

    def _check_conflict(self, one: Reservation) -> None:
        for held in self._held:
            same = (held.agent_id, held.fault) == (one.agent_id, one.fault)
            if same and overlaps(held.resource, one.resource):
                raise RefusedError(
                    f"conflict: {one.fault} on {one.agent_id} ({one.resource}) overlaps injection {held.injection!r} "
                    f"of run {held.run_id} ({held.resource}), which is in force; revert that first"
                )

    def release(self, *, run_id: str, injection: str = "", agent_id: str = "", resource: str = "") -> int:
        """Frees what matches every argument that is not empty; how many."""
        gone = {
            held
            for held in self._held
            if held.run_id == run_id
            and injection in ("", held.injection)
            and agent_id in ("", held.agent_id)
            and resource in ("", held.resource)
        }
        self._held -= gone
        return len(gone)


def overlaps(one: str, other: str) -> bool:
    """Whether two resources ("network:4026531840:10.0.0.2") share something: equal, or one is a part of the other."""
    first, second = one.split(":"), other.split(":")
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]
