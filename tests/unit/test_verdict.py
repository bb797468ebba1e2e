"""The verdict: what each part of the evidence can do to it, and that no bad part can ever improve it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.finding import Verdict, worst
from controller.report.document import Interval
from controller.report.engine_journal import cause
from controller.verdict import judge, stranded
from tests.unit.report_sample import T0_NS, certified, effect, injection, recovery

OWN = {"type": "python", "module": "blackstart.chaos", "func": "observe"}
HTTP = {"type": "http", "url": "http://127.0.0.1/"}


def probed(*, status: str = "succeeded", met: bool = True, provider: dict[str, Any] = OWN) -> dict[str, Any]:
    row = {
        "activity": {"name": "share of good answers", "type": "probe", "provider": provider, "tolerance": [0.9, 1.0]},
        "output": 1.0 if met else 0.4,
        "status": status,
        "tolerance_met": met,
    }
    if status == "failed":
        row["exception"] = ["Traceback:\n", "chaoslib.exceptions.ActivityFailed: no answer from worker-1\n"]
    return row


def state(**probe: Any) -> dict[str, Any]:
    row = probed(**probe)
    return {"steady_state_met": row["tolerance_met"] and row["status"] == "succeeded", "probes": [row]}


def step(name: str = "kill", status: str | None = "succeeded") -> dict[str, Any]:
    row: dict[str, Any] = {"activity": {"name": name, "type": "action"}, "start": "2026-01-01T10:00:00+00:00"}
    row |= {"status": status} if status else {}
    return row | ({"exception": ["RefusedError: policy says no\n"]} if status == "failed" else {})


def journal(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "experiment": {"steady-state-hypothesis": {"title": "served", "probes": [{}]}, "method": [{}]},
        "status": "completed",
        "deviated": False,
        "steady_states": {"before": state(), "during": [], "after": state()},
        "run": [step()],
        "rollbacks": [],
    }
    states = {**made["steady_states"], **changes.pop("states", {})}
    return {**made, "steady_states": states, **changes}


def verdict_on(**parts: Any) -> tuple[Verdict, str]:
    given_parts: dict[str, Any] = {"outcome": "completed", "journal": journal(), "residue_checked": True, **parts}
    found, reasons = judge(**given_parts)
    assert reasons
    assert all(reason == " ".join(reason.split()) and reason[-1] in ".!?…" for reason in reasons)
    return found, " ".join(reasons)


def test_order_is_by_severity_not_by_alphabet():
    assert Verdict.HELD < Verdict.INCONCLUSIVE < Verdict.DEVIATED
    assert Verdict.DEVIATED >= "inconclusive"
    assert sorted(Verdict) == [Verdict.HELD, Verdict.INCONCLUSIVE, Verdict.DEVIATED]
    assert max(Verdict) is Verdict.DEVIATED
    assert worst([]) is Verdict.HELD
    assert worst([Verdict.INCONCLUSIVE, Verdict.DEVIATED, Verdict.HELD]) is Verdict.DEVIATED


def test_a_pure_steady_state_check_can_hold():
    assert verdict_on() == (
        Verdict.HELD,
        "The steady state held before the method. The steady state held after the method.",
    )


def test_a_proven_fault_with_a_recovery_in_time_holds():
    found, told = verdict_on(injections=[injection()], recoveries=[recovery()])
    assert found is Verdict.HELD
    assert "recovered in 1.41 s [1.39, 1.43] after kill-worker, within the objective of 60 s." in told
    assert "1 effect confirmed by receipt" in told


UNPROVEN = injection(effects=(effect(T0_NS), effect(T0_NS, agent_id="worker-9", confirmed=False)))
BROKEN_OFF: dict[str, Any] = {"steady_state_met": None, "probes": []}
PROVEN = [injection()]
BAD_PARTS: list[tuple[dict[str, Any], Verdict, str]] = [
    ({"injections": [UNPROVEN]}, Verdict.INCONCLUSIVE, "kill-worker (process.kill) on worker-9 has no proof of effect"),
    ({"injections": [injection(effects=())]}, Verdict.INCONCLUSIVE, "reached no target"),
    ({"injections": [injection(effects=(effect(T0_NS, state="failed"),))]}, Verdict.INCONCLUSIVE, "failed"),
    ({"injections": [injection(effects=(effect(T0_NS, state="stranded"),))]}, Verdict.INCONCLUSIVE, "not be reverted"),
    ({"injections": [injection(effects=(effect(T0_NS, residue=("pid 7",)),))]}, Verdict.INCONCLUSIVE, "pid 7"),
    ({"residue": ["worker-1: table blackstart_x"]}, Verdict.INCONCLUSIVE, "table blackstart_x"),
    ({"injections": [injection()], "residue_checked": False}, Verdict.INCONCLUSIVE, "audit for residue"),
    ({"recoveries": [recovery(result="missed", rto_s=1.0)]}, Verdict.DEVIATED, "past the objective of 1 s"),
    ({"recoveries": [recovery(result="met", rto_s=1.0)]}, Verdict.DEVIATED, "past the objective of 1 s"),
    ({"recoveries": [recovery(result="met", rto_s=1.41)]}, Verdict.INCONCLUSIVE, "lies between these bounds"),
    ({"recoveries": [recovery(result="inconclusive", recovery=None)]}, Verdict.INCONCLUSIVE, "not be measured"),
    ({"recoveries": [recovery(result="not tested", recovery=None)]}, Verdict.DEVIATED, "did not recover"),
    ({"recoveries": [recovery(result="surprise")]}, Verdict.INCONCLUSIVE, "surprise"),
    ({"recoveries": [recovery(recovery=Interval(1.0, float("nan"), 2.0))]}, Verdict.INCONCLUSIVE, "not known"),
    ({"outcome": "aborted"}, Verdict.INCONCLUSIVE, "was aborted"),
    ({"outcome": "failed"}, Verdict.INCONCLUSIVE, "broke"),
    ({"outcome": "lost"}, Verdict.INCONCLUSIVE, "was lost"),
    ({"outcome": "odd"}, Verdict.INCONCLUSIVE, "'odd'"),
    ({"journal": None}, Verdict.INCONCLUSIVE, "no journal"),
    ({"journal": {}}, Verdict.INCONCLUSIVE, "Nothing was checked"),
    ({"journal": journal(run=[step(status="failed")])}, Verdict.INCONCLUSIVE, "Step 'kill' failed: policy says no"),
    ({"journal": journal(run=[step(status=None)])}, Verdict.INCONCLUSIVE, "did not finish"),
    ({"journal": journal(run=[])}, Verdict.INCONCLUSIVE, "Only 0 of 1 steps"),
    ({"journal": journal(rollbacks=[step("heal", "failed")])}, Verdict.INCONCLUSIVE, "Rollback 'heal' failed"),
    ({"journal": journal(deviated=True)}, Verdict.DEVIATED, "reported a deviation"),
    ({"journal": journal(status="interrupted")}, Verdict.INCONCLUSIVE, "'interrupted'"),
    ({"journal": journal(status=None)}, Verdict.INCONCLUSIVE, "'unknown'"),
    ({"journal": journal(states={"before": state(met=False)})}, Verdict.INCONCLUSIVE, "nothing was tested"),
    ({"journal": journal(states={"before": BROKEN_OFF})}, Verdict.INCONCLUSIVE, "broke off"),
    ({"journal": journal(states={"before": None, "after": None})}, Verdict.INCONCLUSIVE, "never evaluated"),
    ({"journal": journal(states={"after": None}), "injections": PROVEN}, Verdict.INCONCLUSIVE, "after the faults"),
    ({"journal": journal(states={"after": state(met=False)})}, Verdict.DEVIATED, "was 0.4, tolerated is [0.9, 1.0]"),
    ({"journal": journal(states={"during": [state(), state(met=False)]})}, Verdict.DEVIATED, "1 of 2 checks"),
    ({"journal": journal(states={"after": state(status="failed", met=False)}, deviated=True, status="failed")},
     Verdict.INCONCLUSIVE, "could not be read: no answer from worker-1"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "expected", "said"), BAD_PARTS, ids=lambda value: value if value in BAD_PARTS else None
)
def test_what_a_bad_part_makes_of_a_good_run(parts: dict[str, Any], expected: Verdict, said: str):
    found, told = verdict_on(**parts)
    assert found is expected
    assert said in told


def test_a_foreign_probe_that_answered_before_and_not_after_shows_a_deviation():
    lost = journal(states={"before": state(provider=HTTP), "after": state(provider=HTTP, status="failed", met=False)})
    assert verdict_on(journal=lost)[0] is Verdict.DEVIATED
    never = journal(states={"before": None, "after": state(provider=HTTP, status="failed", met=False)})
    assert verdict_on(journal=never)[0] is Verdict.INCONCLUSIVE


def test_a_hypothesis_without_probes_checks_nothing():
    empty = {"steady-state-hypothesis": {"title": "served", "probes": []}, "method": [{}]}
    met = {"steady_state_met": True, "probes": []}
    found, told = verdict_on(journal=journal(experiment=empty, states={"before": met, "after": met}))
    assert (found, told) == (
        Verdict.INCONCLUSIVE,
        "Nothing was checked: no hypothesis was declared and no recovery was measured.",
    )


def test_a_cause_is_told_without_the_classes_around_it_and_whole():
    wrapped = "chaoslib.exceptions.ActivityFailed: "
    said = "inject: spec.pid: 'x' is wrong\nspec.signal: is wrong"
    assert cause({"exception": ["Traceback:\n", f"{wrapped}{wrapped}{said}\n"]}) == " ".join(said.split())
    assert cause({"exception": ["ValueError: no: really\n"]}) == "no: really"
    assert cause({"exception": ["KeyError: \n"]}) == "KeyError:"
    assert cause({}) == "the engine recorded no cause"


def test_stranded_is_what_a_human_must_clean_up():
    assert not stranded([injection()], [])
    assert stranded([], ["worker-1: a rule"])
    assert stranded([injection(effects=(effect(T0_NS, state="stranded"),))], [])
    assert stranded([injection(effects=(effect(T0_NS, residue=("pid 7",)),))], [])
    assert not stranded([injection()], [], [certified(), certified(given=False)])
    assert stranded([injection()], [], [certified(ours=("+ tables: b_7",))])
    assert not stranded([injection()], [], [certified(ours=("+ tables: b_7",), cleared=True)])


EFFECTS = st.builds(
    lambda confirmed, state, residue: effect(T0_NS, confirmed=confirmed, state=state, residue=residue),
    st.booleans(),
    st.sampled_from(["injected", "reverted", "failed", "stranded"]),
    st.sampled_from([(), ("pid 7",)]),
)
INJECTIONS = st.lists(
    st.builds(lambda effects: injection(effects=tuple(effects)), st.lists(EFFECTS, max_size=2)), max_size=2
)
RECOVERIES = st.lists(
    st.builds(
        lambda result, took, rto_s: recovery(result=result, recovery=took, rto_s=rto_s),
        st.sampled_from(["met", "missed", "inconclusive", "not tested", "?"]),
        st.sampled_from([None, Interval(1.0, 0.9, 1.1), Interval(5.0, 4.9, 5.1)]),
        st.sampled_from([None, 1.0, 3.0]),
    ),
    max_size=2,
)
STATES = st.sampled_from([None, state(), state(met=False), state(status="failed", met=False), state(provider=HTTP)])
JOURNALS = st.builds(
    lambda before, after, run, status, deviated: journal(
        states={"before": before, "after": after}, run=run, status=status, deviated=deviated
    ),
    STATES, STATES, st.lists(st.sampled_from([step(), step(status="failed"), step(status=None)]), max_size=2),
    st.sampled_from(["completed", "failed", "aborted", None]), st.booleans(),
)  # fmt: skip
RUNS = st.fixed_dictionaries(
    {
        "outcome": st.sampled_from(["completed", "aborted", "failed", "lost"]),
        "journal": st.one_of(st.none(), JOURNALS),
        "injections": INJECTIONS,
        "recoveries": RECOVERIES,
        "residue": st.sampled_from([[], ["worker-1: a rule"]]),
        "residue_checked": st.booleans(),
        "certificates": st.sampled_from([[], [certified()], [certified(given=False)], [certified(ours=("a rule",))]]),
    }
)
WORSEN = {
    "an unproven effect": lambda run: {**run, "injections": [*run["injections"], UNPROVEN]},
    "an injection without target": lambda run: {**run, "injections": [*run["injections"], injection(effects=())]},
    "a missed objective": lambda run: {**run, "recoveries": [*run["recoveries"], recovery(result="missed", rto_s=1.0)]},
    "an unmeasured recovery": lambda run: {**run, "recoveries": [*run["recoveries"], recovery(result="inconclusive")]},
    "residue": lambda run: {**run, "residue": [*run["residue"], "a process"]},
    "an unclean node": lambda run: {**run, "certificates": [*run["certificates"], certified(ours=("+ tables: b_7",))]},
    "no audit": lambda run: {**run, "residue_checked": False},
    "a lost run": lambda run: {**run, "outcome": "lost"},
    "a failed step": lambda run: {**run, "journal": _with_step(run["journal"])},
    "an engine that gave up": lambda run: {
        **run,
        "journal": run["journal"] and {**run["journal"], "status": "aborted"},
    },
}


def _with_step(found: dict[str, Any] | None) -> dict[str, Any] | None:
    return found and {**found, "run": [*found["run"], step("extra", "failed")]}


@given(RUNS, st.sampled_from(sorted(WORSEN)))
def test_adding_a_bad_part_never_improves_the_verdict(run: dict[str, Any], part: str):
    assert judge(**WORSEN[part](run)).verdict >= judge(**run).verdict


@given(RUNS)
def test_held_means_proof_of_every_effect_and_nothing_left(run: dict[str, Any]):
    found, reasons = judge(**run)
    assert reasons
    if found is Verdict.HELD:
        effects = [one for entry in run["injections"] for one in entry.effects]
        assert all(one.confirmed and one.state != "failed" for one in effects)
        assert not stranded(run["injections"], run["residue"], run["certificates"])
        assert run["outcome"] == "completed"
        assert all(entry.recovery is not None for entry in run["recoveries"])


@given(RUNS)
def test_order_of_parts_does_not_matter(run: dict[str, Any]):
    turned = {**run, "injections": run["injections"][::-1], "recoveries": run["recoveries"][::-1]}
    assert judge(**turned).verdict is judge(**run).verdict


def test_a_reason_is_one_line_however_the_fault_puts_it():
    shouting = replace(effect(T0_NS), confirmed=False, receipt="line one\nline two\t" + "x" * 900)
    _, told = verdict_on(injections=[injection(effects=(shouting,))])
    assert "line one line two" in told
    assert len(told) < 320
