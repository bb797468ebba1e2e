"""A run that is not ended: what its driver has done so far, beside what the store keeps of it.

Invariant: every change of probes, injections and touched agents is in the store before the agents are asked.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from protos.error import SpecError

if TYPE_CHECKING:
    from controller.store.base import RunRecord

Json = dict[str, Any]


@dataclass(slots=True)
class ProbeUse:
    """One probe of the run, and the agents on which it runs."""

    name: str
    agents: list[str]
    settings: Json


@dataclass(slots=True)
class Injection:
    """One call of `inject`. *effects* are EFFECT documents with `agent_id`."""

    name: str
    fault: str
    targets: str
    agents: list[str]
    effects: list[Json] = field(default_factory=list)
    until_wall_ns: int = 0  # none of it can be in force any more by then
    _places: dict[tuple[str, str], int] = field(default_factory=dict)  # of effects, by agent and id

    @property
    def confirmed(self) -> bool:
        return bool(self.effects) and all(effect.get("confirmed") for effect in self.effects)

    @property
    def in_force(self) -> bool:
        return any(lasting(effect) for effect in self.effects)

    def take(self, agent_id: str, effect: Json) -> None:
        """Takes in what an agent says of one effect: one that is known, or one that joined since."""
        if len(self._places) != len(self.effects):
            self._places = {(known["agent_id"], known["id"]): k for k, known in enumerate(self.effects)}
        place = self._places.setdefault((agent_id, str(effect.get("id"))), len(self.effects))
        if place < len(self.effects):
            self.effects[place] = merged(self.effects[place], effect, agent_id)
        else:
            self.effects.append(merged({}, effect, agent_id))

    def document(self) -> Json:
        return {
            "name": self.name, "fault": self.fault, "targets": self.targets, "agents": self.agents,
            "effects": self.effects, "confirmed": self.confirmed,
            "until_wall_ns": self.until_wall_ns,
        }  # fmt: skip


def merged(known: Json, effect: Json, agent_id: str) -> Json:
    """What is known of an effect after *effect*; that it was once stranded is never forgotten."""
    row = known | effect | {"agent_id": agent_id}
    if "stranded" in (known.get("state"), row.get("state")):
        row["was_stranded"] = True
    return row


def lasting(effect: Json) -> bool:
    """Whether the effect is still in force: injected or stranded, and not of the kind that heals by itself."""
    return effect["state"] in ("injected", "stranded") and effect.get("undo") != "self_healing"


@dataclass(slots=True)
class ActiveRun:
    """See the module. *external*: driven by a process that the controller did not start."""

    record: RunRecord
    seed: int
    external: bool
    probes: dict[str, ProbeUse] = field(default_factory=dict)
    injections: dict[str, Injection] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    figures: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    closing: bool = False  # nothing more is carried out for the driver
    outcome: str = ""  # set with *reason* by whoever ends the run first
    reason: str = ""
    journal: Json | None = None
    refusal: str = ""  # why a probe or the first fault was refused
    watchers: int = 0  # Watch streams that the driver holds
    invoking: dict[asyncio.Task[Any], str] = field(default_factory=dict)  # calls under way, by function
    heard_ns: int = field(default_factory=time.monotonic_ns)

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def nothing_injected(self) -> bool:
        """Whether no agent has told of any effect of this run."""
        return not any(injection.effects for injection in self.injections.values())

    def heard(self) -> None:
        """The driver gave a sign of life."""
        self.heard_ns = time.monotonic_ns()

    def silent_s(self, now_ns: int) -> float:
        """How long the driver of an external run has shown no sign of life."""
        return 0.0 if self.invoking or self.watchers else (now_ns - self.heard_ns) / 1e9

    def end(self, outcome: str, reason: str, journal: Json | None = None) -> None:
        """Asks for the end of the run; the first who asks says why."""
        if not self.outcome:
            self.outcome, self.reason = outcome, reason
            self.journal = journal if journal is not None else self.journal
        self.closing = True
        self.stop.set()


def check_injection(run: ActiveRun, name: str, duration_s: float, on_lost_controller: str) -> None:
    """SpecError with all that is wrong with a call of `inject`."""
    problems = []
    if name in run.injections:
        problems.append(f"injection {name!r} exists already in this run; give the second one another name")
    if not duration_s > 0:
        problems.append(f"duration_s is {duration_s:g}: every fault ends, so give more than 0 seconds")
    if on_lost_controller not in ("revert", "hold"):
        problems.append(f"on_lost_controller is {on_lost_controller!r}: write revert or hold")
    if problems:
        raise SpecError(*problems)
