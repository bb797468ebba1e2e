"""A gameday as RunDocuments: a killed worker, a frozen one, CPU saturation, a skipped partition, one inconclusive, one
deviated. Shared by the tests of verdict, report, JUnit, page and CLI table."""

from __future__ import annotations

import random
from dataclasses import replace

from controller.report.document import (
    CertificateEntry,
    EffectEntry,
    EventEntry,
    HypothesisEntry,
    InjectionEntry,
    Interval,
    OutageEntry,
    ProbeEntry,
    RecoveryEntry,
    RunDocument,
    StepEntry,
)

T0_NS = 1_767_261_600_000_000_000  # 2026-01-01 10:00:00 UTC
MS = 1_000_000
S = 1_000_000_000


def effect(at_ns: int, **changes: object) -> EffectEntry:
    made = EffectEntry(
        id="e-1",
        agent_id="worker-1",
        description="SIGKILL to process 4711 (encode-worker), 3 processes",
        undo="self_healing",
        state="reverted",
        receipt="pidfd of 4711 became readable 0.3 ms after the signal; 3 of 3 processes gone",
        confirmed=True,
        injected_wall_ns=at_ns,
        reverted_wall_ns=0,
        residue=(),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def injection(at_ns: int = T0_NS + 10 * S, name: str = "kill-worker", **changes: object) -> InjectionEntry:
    made = InjectionEntry(name, "process.kill", "role=worker, pick one", (effect(at_ns),))
    return replace(made, **changes)  # type: ignore[arg-type]


def outage(start_ns: int, length_ns: int, width_ns: int = 20 * MS) -> OutageEntry:
    return OutageEntry(start_ns, start_ns + width_ns, start_ns + length_ns, start_ns + length_ns + width_ns)


def recovery(at_ns: int = T0_NS + 10 * S, length_ns: int = 1_410 * MS, **changes: object) -> RecoveryEntry:
    made = RecoveryEntry(
        probe="segments",
        agent_id="observer-1",
        after="kill-worker",
        recovery=Interval(length_ns / S, (length_ns - 11 * MS) / S, (length_ns + 12 * MS) / S),
        outages=(outage(at_ns + 30 * MS, length_ns - 40 * MS),),
        flaps=0,
        disturbance_s=0.0,
        objective="node_recovery",
        rto_s=60.0,
        result="met",
        note="",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def probe(timeline: tuple[tuple[int, int], ...], **changes: object) -> ProbeEntry:
    made = ProbeEntry(
        name="segments",
        kind="http",
        agent_id="observer-1",
        interval_ms=20.0,
        attempts=2_012,
        failures=70,
        overruns=2,
        dropped=0,
        p50_ms=2.31,
        p99_ms=11.8,
        max_ms=1_000.4,
        timeline=timeline,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def certified(agent: str = "worker-1", **changes: object) -> CertificateEntry:
    made = CertificateEntry(
        agent,
        given=True,
        others=("+ routes: 10.9.0.0/24 dev eth1",),
        taken_before_wall_ns=T0_NS + 9 * S,
        taken_after_wall_ns=T0_NS + 39 * S,
        checks={"qdiscs": 3, "tables": 2, "routes": 7},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def run(title: str = "A killed encode worker comes back", **changes: object) -> RunDocument:
    at = T0_NS + 10 * S
    made = RunDocument(
        id="r-01JGAM",
        title=title,
        description="Kill one of two workers with SIGKILL: the supervisor starts it again, viewers see a short gap.",
        state="ended",
        verdict="held",
        outcome="completed",
        reasons=(
            "segments on observer-1 recovered in 1.41 s [1.39, 1.43] after kill-worker, within the objective of 60 s.",
            "1 effect confirmed by receipt, no residue left.",
        ),
        actor="ada (operator)",
        source="experiments/gamedays/quickstart.yaml",
        seed=20260101,
        started_wall_ns=T0_NS,
        ended_wall_ns=T0_NS + 40 * S,
        injections=(injection(at),),
        recoveries=(recovery(at),),
        probes=(
            probe(((T0_NS + S, 0), (at + 30 * MS, 1), (at + 1_410 * MS, 0))),
            probe(
                ((T0_NS + S, 0), (at, 1), (at + 620 * MS, 0)),
                name="worker-alive", kind="process", agent_id="worker-1", attempts=4_021, failures=62,
                interval_ms=10.0, overruns=0, p50_ms=0.04, p99_ms=0.21, max_ms=1.9,
            ),
        ),
        figures=(
            {
                "name": "encode_rate", "value": 74.3, "unit": "frame/s",
                "provenance": {"kind": "measured", "method": "frames out over wall time", "samples": 2_229,
                               "lo": 73.9, "hi": 74.8},
            },
        ),
        residue_checked=True,
        events=(
            EventEntry(T0_NS, "run.started", "The run started with seed 20260101."),
            EventEntry(at, "effect.injected", "kill-worker took hold on worker-1."),
            EventEntry(T0_NS + 40 * S, "run.ended", "Every effect has ended, no residue."),
        ),
        variables={"stable_s": 3.0},
        hypotheses=(
            HypothesisEntry("before", "Segments are served", "held", 1, ""),
            HypothesisEntry("after", "Segments are served", "held", 1, ""),
        ),
        steps=(
            StepEntry("watch the origin", "action", "succeeded", T0_NS + S, 0.05, ""),
            StepEntry("kill a worker", "action", "succeeded", at, 0.02, ""),
            StepEntry("measure the recovery", "probe", "succeeded", at + S, 4.4, ""),
        ),
        certificates=(certified(),),
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def frozen_run() -> RunDocument:
    """A worker frozen for eight seconds: met, with a flap and a disturbance by the revert."""
    at, name = T0_NS + 60 * S, "freeze-worker"
    paused = effect(
        at, id="e-2", agent_id="worker-2", undo="guardian", reverted_wall_ns=at + 8 * S,
        description="SIGSTOP to the tree of process 4750 (encode-worker), 3 processes",
        receipt="state T in /proc/4750/stat, 3 of 3 processes; CPU time stood still for 100 ms",
    )  # fmt: skip
    rng = random.Random(7)
    flaps: list[tuple[int, int]] = [(T0_NS + 51 * S, 0), (at + 400 * MS, 1), (at + 8_200 * MS, 0)]
    flaps += [(at + 9_000 * MS, 1), (at + 9_000 * MS + rng.randint(100, 300) * MS, 0)]
    return run(
        "A frozen encode worker is noticed",
        id="r-02JGAM",
        description="Freeze the other worker: its process lives but does no work, as in a driver hang.",
        started_wall_ns=T0_NS + 50 * S,
        ended_wall_ns=T0_NS + 90 * S,
        injections=(InjectionEntry(name, "process.pause", "role=worker, pick one", (paused,)),),
        recoveries=(
            recovery(
                at, 9_210 * MS, after=name, flaps=1, disturbance_s=0.21,
                outages=(outage(at + 380 * MS, 7_800 * MS), outage(at + 8_990 * MS, 200 * MS)),
            ),
        ),
        probes=(probe((*flaps[:2], (at + 2 * S, 2), (at + 2_500 * MS, 1), *flaps[2:])),),
        reasons=("segments on observer-1 recovered in 9.21 s [9.19, 9.23] after freeze-worker, within 60 s.",),
        events=(EventEntry(at, "effect.injected", f"{name} took hold on worker-2."),),
        figures=(),
        certificates=(certified("worker-2"),),
    )  # fmt: skip


def cpu_run() -> RunDocument:
    """CPU saturation on two workers: the objective was missed."""
    at, name = T0_NS + 110 * S, "saturate-cpu"
    load = {"undo": "kernel", "reverted_wall_ns": at + 20 * S}
    burn = "2 processes burning 95 % of each of 2 cores (child of the agent, PDEATHSIG, own deadline)"
    effects = tuple(
        effect(at + n * MS, id=f"e-{n}", agent_id=f"worker-{n}", description=burn, **load,
               receipt=f"/proc/stat: {96 - n} % busy over 500 ms, 11 % before")
        for n in (1, 2)
    )  # fmt: skip
    return run(
        "Encode keeps up under CPU saturation",
        id="r-03JGAM",
        verdict="deviated",
        started_wall_ns=T0_NS + 100 * S,
        ended_wall_ns=T0_NS + 150 * S,
        injections=(InjectionEntry(name, "resource.cpu", "role=worker, pick all", effects),),
        recoveries=(
            recovery(at, 21_300 * MS, after=name, rto_s=15.0, result="missed", objective="encode_latency"),
        ),
        probes=(probe(((T0_NS + 101 * S, 0), (at + 30 * MS, 1), (at + 21_300 * MS, 0)), failures=1_065),),
        reasons=(
            "segments on observer-1 recovered in 21.30 s after saturate-cpu, past the objective of 15 s.",
            "The steady state did not hold after the method: p99 of segments was 412, tolerated is 100.",
        ),
        hypotheses=(
            HypothesisEntry("before", "Segments are served", "held", 1, ""),
            HypothesisEntry("after", "Segments are served", "deviated", 1, "p99 of segments was 412, tolerated is 100"),
        ),
        events=(EventEntry(at, "effect.injected", f"{name} took hold on worker-1 and worker-2."),),
        figures=(),
        certificates=(certified(), certified("worker-2", others=())),
    )  # fmt: skip


def unproven_run() -> RunDocument:
    """A kill without proof of effect."""
    at = T0_NS + 170 * S
    lone = effect(at, state="failed", confirmed=False, receipt="")
    return run(
        "A killed origin comes back",
        id="r-04JGAM",
        verdict="inconclusive",
        started_wall_ns=T0_NS + 160 * S,
        ended_wall_ns=T0_NS + 190 * S,
        injections=(injection(at, "kill-origin", targets="role=origin, pick one", effects=(lone,)),),
        recoveries=(
            recovery(at, after="kill-origin", recovery=None, outages=(), result="inconclusive", note="no outage seen"),
        ),
        probes=(
            probe(((T0_NS + 161 * S, 0),), failures=0),
            probe((), name="origin-up", kind="tcp", attempts=0, failures=0, p50_ms=float("nan"), p99_ms=float("nan"),
                  max_ms=float("nan")),
        ),
        reasons=("kill-origin (process.kill) on worker-1 has no proof of effect.",),
        events=(),
        figures=(),
    )  # fmt: skip


def skipped_run() -> RunDocument:
    return RunDocument(
        id="",
        title="The origin is cut off",
        description="Cut the origin off from its viewers, one way and both ways.",
        state="ended",
        verdict="",
        outcome="",
        reasons=(),
        actor="ada (operator)",
        source="experiments/gamedays/quickstart.yaml",
        seed=0,
        started_wall_ns=0,
        ended_wall_ns=0,
        skipped="network.partition needs root and nftables; install it with `apt-get install nftables`",
    )


def gameday() -> list[RunDocument]:
    return [run(), frozen_run(), cpu_run(), skipped_run(), unproven_run()]
