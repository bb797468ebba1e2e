"""What a run's report says: the one model that JSON, HTML, JUnit, the CLI's table and the verdict are made from.

Invariant: nothing is computed by a renderer; what a report shows stands here. Times are wall-clock nanoseconds of the
controller (agents' times are translated by the measured offset), durations are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from controller.report.goal import GoalEntry
from controller.report.workload import WorkloadEntry

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the bounds that hold the truth."""

    value: float
    lo: float
    hi: float


@dataclass(frozen=True, slots=True)
class EffectEntry:
    """One effect on one agent."""

    id: str
    agent_id: str
    description: str  # "SIGKILL to process 4711 (encode-worker), 3 processes"
    undo: str  # kernel, guardian, journal, self_healing
    state: str  # injected, reverted, failed, stranded
    receipt: str  # what the independent observation saw; empty: none
    confirmed: bool
    injected_wall_ns: int
    reverted_wall_ns: int  # 0: nothing to revert, or not yet
    residue: tuple[str, ...]
    remedy: str = ""  # the command with which a human ends it; empty: nothing to end
    note: str = ""  # what befell it, such as a target that went away
    follows: str = ""  # id of the effect whose target came back, which this one joined after
    was_stranded: bool = False  # it could not be reverted at first


@dataclass(frozen=True, slots=True)
class InjectionEntry:
    """One call of `inject`."""

    name: str
    fault: str
    targets: str
    effects: tuple[EffectEntry, ...]

    @property
    def confirmed(self) -> bool:
        return bool(self.effects) and all(effect.confirmed for effect in self.effects)


@dataclass(frozen=True, slots=True)
class OutageEntry:
    """A span in which a probe failed, with the bounds of its two ends."""

    start_lo_wall_ns: int
    start_hi_wall_ns: int
    end_lo_wall_ns: int
    end_hi_wall_ns: int  # 0: it had not ended


@dataclass(frozen=True, slots=True)
class RecoveryEntry:
    """One measured recovery beside its objective."""

    probe: str
    agent_id: str
    after: str  # name of the injection
    recovery: Interval | None  # None: it never stayed good
    outages: tuple[OutageEntry, ...]
    flaps: int
    disturbance_s: float  # outage that followed the revert, reported apart
    objective: str  # name in the profile; empty: none
    rto_s: float | None
    result: str  # met, missed, inconclusive, not tested
    note: str


@dataclass(frozen=True, slots=True)
class LossEntry:
    """What became of the records that a ledger probe wrote."""

    probe: str
    agent_id: str
    sent: int
    acknowledged: int
    lost: int  # acknowledged, and not there
    lost_ranges: tuple[tuple[int, int], ...]
    lost_s: float  # from the first lost acknowledgement to the last
    duplicated: int
    unacknowledged_present: int
    out_of_order: int
    unknown: int
    refused: int
    members: Json  # by name, what one member alone has
    complete: bool  # False: it could not be read back
    objective: str
    rpo_s: float | None
    result: str  # met, missed, inconclusive
    note: str


@dataclass(frozen=True, slots=True)
class ShareEntry:
    """A share of good attempts: goodput while a fault was in force, or uptime."""

    kind: str  # capacity, uptime
    probe: str
    agent_id: str
    after: str  # name of the injection; empty for uptime
    share: Interval
    good: int
    attempts: int
    span_s: float
    objective: str
    at_least: float | None
    at_most: float | None
    result: str  # met, missed, inconclusive, not tested
    note: str
    period: str = ""  # month: the outages are held against a month's budget, not the share against the objective


@dataclass(frozen=True, slots=True)
class PhaseStep:
    """One phase: *at* from the injection to its end, *took_s* from the end of the one before."""

    name: str
    at: Interval
    took_s: float
    agent_id: str
    path: str  # the log or the object of Kubernetes that told; empty: the probe itself
    text: str


@dataclass(frozen=True, slots=True)
class PhasesEntry:
    """A recovery taken apart."""

    probe: str
    agent_id: str
    after: str
    steps: tuple[PhaseStep, ...]
    missing: tuple[str, ...]  # of which nothing told
    note: str


@dataclass(frozen=True, slots=True)
class CascadeStep:
    """When a probe failed and was good again, seconds from the injection; *failed* None: it did not."""

    probe: str
    agent_id: str
    failed: Interval | None
    good_again: Interval | None  # None: not while it was watched


@dataclass(frozen=True, slots=True)
class CascadeEntry:
    """In which order probes failed after an injection, beside what was expected."""

    after: str
    steps: tuple[CascadeStep, ...]  # in the order of their failures
    order: tuple[tuple[str, ...], ...]  # each group before the next one; empty: nothing was expected
    result: str  # met, missed, inconclusive, not tested
    note: str


@dataclass(frozen=True, slots=True)
class ProbeEntry:
    """What one probe saw over the run."""

    name: str
    kind: str
    agent_id: str
    interval_ms: float
    attempts: int
    failures: int
    overruns: int
    dropped: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    timeline: tuple[tuple[int, int], ...]  # (wall_ns, state) at each change; state 0 good, 1 failing, 2 no data


@dataclass(frozen=True, slots=True)
class GaugeEntry:
    """One gauge of a node, from the moment at which the run first used it until its end."""

    name: str
    unit: str
    agent_id: str
    samples: int
    least: float
    mean: float
    most: float
    timeline: tuple[tuple[int, float], ...]  # (wall_ns, value), thinned


@dataclass(frozen=True, slots=True)
class HypothesisEntry:
    """The steady-state hypothesis at one moment of the run."""

    when: str  # before, during, after
    title: str
    result: str  # held, inconclusive, deviated
    checks: int  # how often it was evaluated
    detail: str  # the probe that did not hold or could not be read, and what it said; empty: held


@dataclass(frozen=True, slots=True)
class StepEntry:
    """One step of the method or the rollbacks, as the engine recorded it."""

    name: str
    kind: str  # action, probe, rollback
    status: str  # succeeded, failed, unfinished
    started_wall_ns: int  # 0: not known
    duration_s: float
    detail: str  # why it failed


@dataclass(frozen=True, slots=True)
class CertificateEntry:
    """An agent's node before the first fault beside the node after the end; *given* False: the agent made none."""

    agent_id: str
    given: bool
    ours: tuple[str, ...] = ()  # what Blackstart left
    others: tuple[str, ...] = ()  # what else changed on the node meanwhile
    taken_before_wall_ns: int = 0
    taken_after_wall_ns: int = 0
    checks: dict[str, int] = field(default_factory=dict)  # how many things of each kind were compared
    cleared: bool = False  # what was left has been reverted since

    @property
    def clean(self) -> bool:
        return self.given and not self.ours


@dataclass(frozen=True, slots=True)
class EventEntry:
    wall_ns: int
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class RunDocument:
    """One run, whole."""

    id: str
    title: str
    description: str
    state: str
    verdict: str  # held, inconclusive, deviated
    outcome: str  # completed, aborted, failed, lost
    reasons: tuple[str, ...]  # why the verdict is what it is, a sentence each
    actor: str
    source: str
    seed: int
    started_wall_ns: int
    ended_wall_ns: int
    injections: tuple[InjectionEntry, ...] = ()
    recoveries: tuple[RecoveryEntry, ...] = ()
    probes: tuple[ProbeEntry, ...] = ()
    figures: tuple[Json, ...] = ()  # protos.figure.Figure.document
    residue: tuple[str, ...] = ()
    residue_checked: bool = False  # False: the residue audit could not be made
    events: tuple[EventEntry, ...] = ()
    skipped: str = ""  # not tested: what is missing
    variables: Json = field(default_factory=dict)
    hypotheses: tuple[HypothesisEntry, ...] = ()
    steps: tuple[StepEntry, ...] = ()
    gauges: tuple[GaugeEntry, ...] = ()
    losses: tuple[LossEntry, ...] = ()
    shares: tuple[ShareEntry, ...] = ()
    phases: tuple[PhasesEntry, ...] = ()
    cascades: tuple[CascadeEntry, ...] = ()
    goals: tuple[GoalEntry, ...] = ()
    workloads: tuple[WorkloadEntry, ...] = ()
    certificates: tuple[CertificateEntry, ...] = ()  # of every agent on which something was injected


def skipped(title: str, source: str, missing: str) -> RunDocument:
    """What was never run, since *missing*: it has a row and no verdict."""
    return RunDocument(
        id="", title=title, description="", state="", verdict="", outcome="", reasons=(), actor="", source=source,
        seed=0, started_wall_ns=0, ended_wall_ns=0, skipped=missing,
    )  # fmt: skip
