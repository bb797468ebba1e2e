"""Whether an injection may happen now: emergency stop, freeze calendar, conflicts, blast radius over all runs together.

Invariant: `admit` checks and reserves in one step without awaiting, so two runs can never both take the last place.
What is reserved stays so until its effect is known to be over, or could not be in force any more: its deadline and a
grace have passed. Roles are checked in `controller.rpc.auth`; that targets resolve, in `controller.selector`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from protos.error import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

GRACE_S: Final = 30.0  # after the deadline, by which agent and guardian have ended what they hold
UNKNOWN_S: Final = 3600.0  # an effect that only its agent told of, and whose deadline is not known here


@dataclass(frozen=True, slots=True)
class Domain:
    """What may be under fault at once by failure domain, such as the values of the label `zone`.

    *targets_max* and *targets_fraction* (of the connected agents of the domain; rounds down, but allows one agent
    always) hold in each domain; *domains_max* is how many domains may be hit at once.
    """

    targets_max: int | None = None
    targets_fraction: float = 1.0
    domains_max: int | None = None

    def limit(self, connected: int) -> int:
        """Agents of one domain that may be under fault at once, of *connected* there."""
        share = max(1, int(connected * self.targets_fraction + 1e-9))
        return share if self.targets_max is None else min(self.targets_max, share)


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be under fault at once, over all runs; *domains* by label."""

    targets_max: int = 100
    targets_fraction: float = 0.5  # of the connected agents; rounds down, but allows one agent always
    domains: Mapping[str, Domain] = field(default_factory=dict)

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
        self._held: dict[Reservation, int] = {}  # and until when it may be in force, monotonic
        self._labels: dict[str, Mapping[str, str]] = {}  # of agents that hold something: they may be away meanwhile
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

    def admit(
        self, wanted: Iterable[Reservation], *, connected: Mapping[str, Mapping[str, str]], now: datetime,
        lasts_s: float = UNKNOWN_S,
    ) -> None:  # fmt: skip
        """Reserves all of *wanted* or none; RefusedError says which rule, with its numbers.

        Args:
            wanted: the effects that are about to be.
            connected: labels of the agents that are there, by id.
            now: the moment, for the calendar.
            lasts_s: after how long none of them can be in force any more; the grace comes on top.
        """
        asked = set(wanted)
        self.check_open(now)
        for one in sorted(asked, key=lambda r: (r.agent_id, r.resource)):
            self._check_conflict(one)
        before = {held.agent_id for held in self._held}
        fresh = {one.agent_id for one in asked} - before
        if fresh:
            self._check_total(before, fresh, len(connected))
            for label, domain in self._budget.domains.items():
                self._check_domain(label, domain, before, fresh, connected)
        for one in asked:
            self.note(one, connected.get(one.agent_id, {}), lasts_s)

    def note(self, reservation: Reservation, labels: Mapping[str, str], lasts_s: float | None = None) -> None:
        """Takes in what is in force, unchecked: because it was admitted, or because its agent says so.

        Without *lasts_s*, as long as what is held of the same injection.
        """
        if lasts_s is None:
            same = (reservation.run_id, reservation.injection)
            until_ns = max((u for r, u in self._held.items() if (r.run_id, r.injection) == same), default=0)
            until_ns = until_ns or time.monotonic_ns() + int((UNKNOWN_S + GRACE_S) * 1e9)
        else:
            until_ns = time.monotonic_ns() + int((lasts_s + GRACE_S) * 1e9)
        self._held[reservation] = max(until_ns, self._held.get(reservation, 0))
        self._labels[reservation.agent_id] = dict(labels)

    def _check_total(self, before: set[str], fresh: set[str], connected: int) -> None:
        limit = self._budget.limit(connected)
        if len(before | fresh) > limit:
            raise RefusedError(
                f"blast radius: {len(before | fresh)} agents would be under fault ({len(before)} are, over all runs); "
                f"budget is {limit} of {connected} connected (at most {self._budget.targets_max}, and "
                f"{self._budget.targets_fraction:.0%}); pick fewer targets or wait for other runs to end"
            )

    def _check_domain(
        self, label: str, domain: Domain, before: set[str], fresh: set[str], connected: Mapping[str, Mapping[str, str]]
    ) -> None:
        """Counts the agents that carry the label, value by value."""
        hit: dict[str, set[str]] = defaultdict(set)
        for agent in before | fresh:
            if value := connected.get(agent, self._labels.get(agent, {})).get(label):
                hit[value].add(agent)
        grown = sorted(value for value, agents in hit.items() if agents & fresh)
        for value in grown:
            total = sum(labels.get(label) == value for labels in connected.values())
            if len(hit[value]) > (limit := domain.limit(total)):
                raise RefusedError(
                    f"blast radius: {len(hit[value])} agents of {label}={value} would be under fault "
                    f"({len(hit[value] & before)} are, over all runs); budget is {limit} of {total} connected there; "
                    "pick fewer targets or wait for other runs to end"
                )
        more = any(not hit[value] & before for value in grown)
        if more and domain.domains_max is not None and len(hit) > domain.domains_max:
            raise RefusedError(
                f"blast radius: {len(hit)} values of {label} would be under fault ({', '.join(sorted(hit))}); budget "
                f"is {domain.domains_max} at once; pick targets of one {label}, or wait for other runs to end"
            )

    def _check_conflict(self, one: Reservation) -> None:
        for held in self._held:
            same = (held.agent_id, held.fault) == (one.agent_id, one.fault)
            if same and overlaps(held.resource, one.resource):
                raise RefusedError(
                    f"conflict: {one.fault} on {one.agent_id} ({one.resource}) overlaps injection {held.injection!r} "
                    f"of run {held.run_id} ({held.resource}), which is in force; revert that first"
                )

    def release(
        self, *, run_id: str, injection: str = "", agent_id: str = "", resource: str = "",
        unless: Callable[[Reservation], bool] = lambda _held: False,
    ) -> int:  # fmt: skip
        """Frees what matches every argument that is not empty, *unless* it is still to be held; how many."""
        return self._drop(
            held
            for held in self._held
            if held.run_id == run_id
            and injection in ("", held.injection)
            and agent_id in ("", held.agent_id)
            and resource in ("", held.resource)
            and not unless(held)
        )

    def expire(self, now_ns: int, unless: Callable[[Reservation], bool]) -> int:
        """Frees what cannot be in force any more by its deadline, *unless* it is known to be; how many."""
        return self._drop(held for held, until_ns in self._held.items() if until_ns <= now_ns and not unless(held))

    def _drop(self, chosen: Iterable[Reservation]) -> int:
        gone = list(chosen)
        for one in gone:
            del self._held[one]
        left = {held.agent_id for held in self._held}
        for agent in {one.agent_id for one in gone} - left:
            self._labels.pop(agent, None)
        return len(gone)


def overlaps(one: str, other: str) -> bool:
    """Whether two resources ("network:4026531840:10.0.0.2") share something: equal, or one is a part of the other."""
    first, second = one.split(":"), other.split(":")
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]
