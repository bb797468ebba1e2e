"""A run's report document, from what the store keeps of it.

Invariant: reads the store only, so a run that was closed by a later controller is told in the same way. Agents' times
are put on the controller's wall clock by the offset that was noted with the run.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from controller.report.document import (
    CascadeEntry,
    CascadeStep,
    CertificateEntry,
    EffectEntry,
    EventEntry,
    InjectionEntry,
    Interval,
    LossEntry,
    OutageEntry,
    PhasesEntry,
    PhaseStep,
    ProbeEntry,
    RecoveryEntry,
    RunDocument,
    ShareEntry,
)  # fmt: skip
from controller.report.engine_journal import read_journal
from controller.report.goal import goal_from
from controller.report.workload import WorkloadEntry
from controller.telemetry.gauge import gauge_entries
from controller.telemetry.series import Series, percentile_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from controller.store.base import ChunkRecord, RunRecord, Store

Json = dict[str, Any]


async def assemble(store: Store, run: RunRecord) -> RunDocument:
    """The run as the store has it now, ended or not."""
    offsets = {agent: int(row["wall_offset_ns"]) for agent, row in (await store.documents(run.id, "clocks")).items()}
    residue = await store.documents(run.id, "residue")
    touched = await store.documents(run.id, "touched")
    engine = read_journal(run.journal) if run.journal else None
    reasons = (await store.documents(run.id, "verdict")).get("reasons", {}).get("reasons", [])
    seed = (await store.documents(run.id, "run")).get("seed", {}).get("seed", 0)
    injections = await store.documents(run.id, "injections")
    certificates = await store.documents(run.id, "certificates")
    return RunDocument(
        id=run.id, title=run.title, description=str(run.experiment.get("description") or ""), state=run.state,
        verdict=run.verdict, outcome=run.outcome, reasons=tuple(reasons) or ((run.reason,) if run.reason else ()),
        actor=run.actor, source=run.source, seed=int(seed), started_wall_ns=run.started_wall_ns,
        ended_wall_ns=run.ended_wall_ns,
        injections=tuple(_injection(d, offsets) for d in injections.values()),
        recoveries=tuple(_recovery(d, offsets) for d in (await store.documents(run.id, "recoveries")).values()),
        probes=_probes(await store.documents(run.id, "probes"), await store.chunks(run.id), offsets),
        figures=tuple((await store.documents(run.id, "figures")).values()),
        residue=tuple(f"{agent}: {text}" for agent, row in residue.items() for text in row["residue"]),
        residue_checked=set(touched) <= set(residue),
        events=tuple(EventEntry(e.wall_ns, e.kind, e.message) for e in await store.events(run.id)),
        variables=dict(run.variables),
        hypotheses=engine.hypotheses if engine else (),
        steps=engine.steps if engine else (),
        gauges=gauge_entries(await store.gauges(run.id), offsets),
        certificates=_certificates(injections.values(), certificates, offsets),
        losses=tuple(_loss(d) for d in (await store.documents(run.id, "losses")).values()),
        shares=tuple(_share(d) for d in (await store.documents(run.id, "shares")).values()),
        phases=tuple(_phases(d) for d in (await store.documents(run.id, "phases")).values()),
        cascades=tuple(_cascade(d) for d in (await store.documents(run.id, "cascades")).values()),
        workloads=tuple(_workload(d, offsets) for d in (await store.documents(run.id, "workloads")).values()),
        goals=tuple(goal_from(d) for d in (await store.documents(run.id, "goals")).values()),
    )  # fmt: skip


def _wall(agent: str, at_ns: object, offsets: Mapping[str, int]) -> int:
    """0 for what did not happen."""
    return int(at_ns) + offsets.get(agent, 0) if isinstance(at_ns, int | float) and at_ns else 0


def _injection(document: Json, offsets: Mapping[str, int]) -> InjectionEntry:
    return InjectionEntry(
        document["name"],
        document["fault"],
        document["targets"],
        tuple(_effect(e, offsets) for e in document["effects"]),
    )


def _effect(effect: Json, offsets: Mapping[str, int]) -> EffectEntry:
    agent = str(effect["agent_id"])
    lo_ns, hi_ns = effect.get("injected_lo_ns") or 0, effect.get("injected_hi_ns") or 0
    return EffectEntry(
        id=str(effect["id"]), agent_id=agent, description=str(effect.get("description", "")),
        undo=str(effect.get("undo", "")), state=str(effect["state"]), receipt=str(effect.get("receipt") or ""),
        confirmed=bool(effect.get("confirmed")), injected_wall_ns=_wall(agent, (lo_ns + hi_ns) // 2, offsets),
        reverted_wall_ns=_wall(agent, effect.get("reverted_ns"), offsets), residue=tuple(effect.get("residue") or ()),
        remedy=str(effect.get("remedy") or ""), note=str(effect.get("note") or ""),
        follows=str(effect.get("follows") or ""), was_stranded=bool(effect.get("was_stranded")),
    )  # fmt: skip


def _certificates(
    injections: Iterable[Json], given: Mapping[str, Json], offsets: Mapping[str, int]
) -> tuple[CertificateEntry, ...]:
    """One entry for every agent that was asked to inject, and for those that certified without."""
    rows = list(injections)
    agents = {*given, *(agent for row in rows for agent in row["agents"])}
    return tuple(_certificate(agent, rows, given.get(agent), offsets) for agent in sorted(agents))


def _certificate(
    agent: str, injections: list[Json], given: Json | None, offsets: Mapping[str, int]
) -> CertificateEntry:
    if given is None:
        return CertificateEntry(agent, given=False)
    mine = [effect for row in injections for effect in row["effects"] if effect["agent_id"] == agent]
    stranded = [effect for effect in mine if effect.get("was_stranded")]
    cleared = bool(stranded) and all(effect["state"] != "stranded" for effect in stranded)
    return CertificateEntry(
        agent, given=True, ours=tuple(given.get("ours") or ()), others=tuple(given.get("others") or ()),
        taken_before_wall_ns=_wall(agent, given.get("taken_before_ns"), offsets),
        taken_after_wall_ns=_wall(agent, given.get("taken_after_ns"), offsets),
        checks=dict(given.get("checks") or {}), cleared=cleared,
    )  # fmt: skip


def _recovery(entry: Json, offsets: Mapping[str, int]) -> RecoveryEntry:
    agent = str(entry["agent_id"])
    found = Interval(entry["value_s"], entry["lo_s"], entry["hi_s"]) if entry.get("recovered") else None
    outages = tuple(
        OutageEntry(
            *(_wall(agent, o.get(k), offsets) for k in ("start_lo_ns", "start_hi_ns", "end_lo_ns", "end_hi_ns"))
        )
        for o in entry.get("outages") or ()
    )
    return RecoveryEntry(
        probe=str(entry["probe"]), agent_id=agent, after=str(entry["after"]), recovery=found, outages=outages,
        flaps=int(entry.get("flaps") or 0), disturbance_s=float(entry.get("disturbance_s") or 0.0),
        objective=str(entry.get("objective") or ""), rto_s=entry.get("rto_s"), result=str(entry["result"]),
        note=str(entry.get("note") or ""),
    )  # fmt: skip


def _loss(entry: Json) -> LossEntry:
    counts = (
        "sent",
        "acknowledged",
        "lost",
        "duplicated",
        "unacknowledged_present",
        "out_of_order",
        "unknown",
        "refused",
    )
    return LossEntry(
        probe=str(entry["probe"]), agent_id=str(entry["agent_id"]),
        **{name: int(entry.get(name) or 0) for name in counts},
        lost_ranges=tuple((int(first), int(last)) for first, last in entry.get("lost_ranges") or ()),
        lost_s=float(entry.get("lost_s") or 0.0), members=dict(entry.get("members") or {}),
        complete=bool(entry.get("complete")), objective=str(entry.get("objective") or ""), rpo_s=entry.get("rpo_s"),
        result=str(entry["result"]), note=str(entry.get("note") or ""),
    )  # fmt: skip


def _share(entry: Json) -> ShareEntry:
    return ShareEntry(
        kind=entry["kind"], probe=entry["probe"], agent_id=entry["agent_id"], after=entry["after"],
        share=Interval(entry["value"], entry["lo"], entry["hi"]), good=int(entry["good"]),
        attempts=int(entry["attempts"]), span_s=float(entry["span_s"]), objective=entry["objective"],
        at_least=entry["at_least"], at_most=entry["at_most"], result=entry["result"], note=entry["note"],
        period=entry["period"],
    )  # fmt: skip


def _phases(entry: Json) -> PhasesEntry:
    steps = tuple(
        PhaseStep(
            step["name"], Interval(step["at_s"], step["lo_s"], step["hi_s"]), float(step["took_s"]),
            step["agent_id"], step["path"], step["text"],
        )
        for step in entry["steps"]
    )  # fmt: skip
    return PhasesEntry(entry["probe"], entry["agent_id"], entry["after"], steps, tuple(entry["missing"]), entry["note"])


def _workload(entry: Json, offsets: Mapping[str, int]) -> WorkloadEntry:
    agent = str(entry["agent_id"])
    return WorkloadEntry(entry["kind"], agent, offsets.get(agent, 0), str(entry["summary"]), entry["detail"])


def _cascade(entry: Json) -> CascadeEntry:
    steps = tuple(
        CascadeStep(
            step["probe"], step["agent_id"],
            _middle(step["lo_s"], step["hi_s"]) if step["failed"] else None,
            None if step["end_hi_s"] is None else _middle(step["end_lo_s"], step["end_hi_s"]),
        )
        for step in entry["steps"]
    )  # fmt: skip
    order = tuple(tuple(group) for group in entry["order"])
    return CascadeEntry(entry["after"], steps, order, entry["result"], entry["note"])


def _middle(lo: float, hi: float) -> Interval:
    return Interval((lo + hi) / 2, lo, hi)


def _probes(
    declared: Mapping[str, Json], chunks: Iterable[ChunkRecord], offsets: Mapping[str, int]
) -> tuple[ProbeEntry, ...]:
    """One entry an agent and probe: those that sent something, and those that were declared and sent nothing."""
    kept = {
        (probe, agent): Series.of(list(rows))
        for (agent, probe), rows in groupby(chunks, key=lambda chunk: (chunk.agent_id, chunk.probe))
    }
    wanted = [(name, agent) for name, row in declared.items() for agent in row.get("agents", ())]
    order = [*wanted, *(key for key in kept if key not in set(wanted))]
    return tuple(
        _probe(name, agent, declared.get(name, {}), kept.get((name, agent), Series()), offsets.get(agent, 0))
        for name, agent in order
    )


def _probe(name: str, agent: str, settings: Json, series: Series, offset_ns: int) -> ProbeEntry:
    latencies = sorted(series.latencies_ns())
    return ProbeEntry(
        name=name, kind=str(settings.get("kind", "")), agent_id=agent,
        interval_ms=float(settings.get("interval_ms", 0.0)), attempts=series.attempts, failures=series.failures,
        overruns=series.overruns, dropped=series.dropped, p50_ms=percentile_ms(latencies, 0.5),
        p99_ms=percentile_ms(latencies, 0.99), max_ms=latencies[-1] / 1e6 if latencies else 0.0,
        timeline=tuple((at_ns + offset_ns, state) for at_ns, state in series.timeline()),
    )  # fmt: skip
