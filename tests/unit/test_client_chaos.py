"""The extension's functions and controls, called as the engine calls them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from chaoslib.exceptions import ActivityFailed, InterruptExecution, InvalidActivity

from blackstart import chaos
from blackstart.chaos import abort, session, telemetry
from protos import blackstart_operator_pb2 as pb
from protos.error import RefusedError, SpecError
from tests.scripted_operator import Script, Served

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGETS = {"labels": {"role": "db"}}
EXPERIMENT = {"title": "t", "description": "d", "method": []}


@pytest.fixture
def script() -> Script:
    return Script(hold_watch=True)


@pytest.fixture
def served(script: Script, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with Served(script) as running:
        for name, value in running.environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("BLACKSTART_RUN", raising=False)
        yield running
        script.errors.clear()
        script.closes_as = {"verdict": "held", "outcome": "completed"}
        session.end({})


def _activity(function: str) -> dict[str, Any]:
    return {"name": "step", "provider": {"type": "python", "module": "blackstart.chaos", "func": function}}


def test_a_run_is_opened_once_and_closed_with_the_journal(served, script):
    telemetry.before_experiment_control(EXPERIMENT | {"dry": None}, {"port": 80, "deep": {"no": 1}})
    script.results["observe"] = 1
    assert chaos.observe("p") == 1.0
    assert isinstance(chaos.observe("p"), float)
    journal: dict[str, Any] = {"status": "completed", "deviated": False}
    telemetry.after_experiment_control({}, journal)
    (opened,), (closed,) = script.called("OpenRun"), script.called("CloseRun")
    assert json.loads(opened.experiment_json) == EXPERIMENT
    assert dict(opened.variables) == {"port": "80"}
    assert json.loads(closed.journal_json)["status"] == "completed"
    assert journal["blackstart"]["verdict"] == "held"
    assert journal["status"] == "completed"
    assert not session.begun()


@pytest.mark.parametrize(
    ("verdict", "deviated", "status"), [("deviated", True, "completed"), ("inconclusive", False, "failed")]
)
def test_the_engine_ends_as_our_verdict_says(served, script, verdict, deviated, status):
    script.closes_as = {"verdict": verdict, "outcome": "completed"}
    telemetry.before_experiment_control(EXPERIMENT)
    journal: dict[str, Any] = {"status": "completed", "deviated": False}
    telemetry.after_experiment_control({}, journal)
    assert (journal["deviated"], journal["status"]) == (deviated, status)


def test_inside_a_run_nothing_is_opened_or_closed(served, script, monkeypatch):
    monkeypatch.setenv("BLACKSTART_RUN", "r7")
    telemetry.before_experiment_control(EXPERIMENT)
    script.results["observe"] = 0.25
    assert chaos.observe("p") == 0.25
    assert script.called("Invoke")[0].run_id == "r7"
    telemetry.after_experiment_control({}, {"status": "completed"})
    assert not script.called("OpenRun")
    assert not script.called("CloseRun")


def test_without_the_control_the_first_call_opens_a_run(served, script):
    chaos.revert()
    assert json.loads(script.called("OpenRun")[0].experiment_json)["title"] == "chaos run"
    session._at_exit()
    assert json.loads(script.called("CloseRun")[0].journal_json)["status"] == "aborted"


def test_a_run_that_the_controller_ended_is_no_error_at_the_end(served, script):
    telemetry.before_experiment_control(EXPERIMENT)
    script.run.MergeFrom(pb.Run(state="ended", verdict="inconclusive", outcome="aborted"))
    script.errors["CloseRun"] = RefusedError("it has ended")
    journal: dict[str, Any] = {"status": "interrupted"}
    telemetry.after_experiment_control({}, journal)
    assert journal["blackstart"]["outcome"] == "aborted"


def test_steady_starts_its_probe_once_and_observes_each_time(served, script):
    script.results["observe"] = 1.0
    for _ in range(2):
        assert chaos.steady("web", "http", TARGETS, {"url": "u"}, window_s=0.001) == 1.0
    assert [name for name, _ in script.calls if name in ("start_probe", "observe")] == [
        "start_probe", "observe", "observe",
    ]  # fmt: skip
    (arguments,) = script.called("start_probe")
    assert arguments["targets"] == TARGETS
    assert "p99_max_ms" not in arguments


def test_numbers_may_come_as_text_from_a_command_line(served, script):
    chaos.inject("process.kill", TARGETS, {"pid": 1}, duration_s="7")
    assert script.called("inject")[0]["duration_s"] == 7.0
    with pytest.raises(ActivityFailed, match="duration_s must be a number"):
        chaos.inject("process.kill", TARGETS, duration_s="soon")


def test_an_error_fails_the_activity_with_its_own_words(served, script):
    script.errors["inject"] = RefusedError("blast radius 3 of 2")
    with pytest.raises(ActivityFailed, match="inject: blast radius 3 of 2"):
        chaos.inject("process.kill", TARGETS)


def test_a_run_that_cannot_be_opened_stops_the_experiment(served, script):
    script.errors["OpenRun"] = SpecError("no such fault")
    with pytest.raises(InterruptExecution, match="no such fault"):
        telemetry.before_experiment_control(EXPERIMENT)


@pytest.mark.parametrize("function", ["inject", "start_probe"])
def test_a_broken_decisive_step_ends_the_method(served, script, function):
    telemetry.before_experiment_control(EXPERIMENT)
    with pytest.raises(InterruptExecution, match="step"):
        telemetry.after_activity_control(_activity(function), {"status": "failed"})
    telemetry.after_experiment_control({}, {"status": "interrupted"})
    assert "failed" in json.loads(script.called("CloseRun")[0].journal_json)["blackstart"]["aborted"]


def test_other_steps_do_not_end_the_method():
    telemetry.after_activity_control(_activity("inject"), {"status": "succeeded"})
    telemetry.after_activity_control(_activity("observe"), {"status": "failed"})
    telemetry.after_activity_control(_activity("inject"), {"status": "failed"}, keep_going=True)


@pytest.mark.parametrize(
    "rows",
    [
        {"probe": "p"},
        [{"probe": "p"}],
        [{"below": 1}],
        [{"probe": "p", "below": 1, "above": 2}],
        [{"probe": "p", "below": "low"}],
        [{"probe": "p", "below": 1, "for": 3}],
    ],
)
def test_a_wrong_condition_is_refused_when_the_file_is_validated(rows):
    with pytest.raises(InvalidActivity, match="conditions"):
        abort.validate_control({"provider": {"arguments": {"conditions": rows}}})


@pytest.mark.parametrize(("value", "fired"), [(0.2, True), (0.9, False)])
def test_a_condition_reverts_and_then_interrupts_once(served, script, monkeypatch, value, fired):
    order: list[str] = []
    monkeypatch.setattr(abort, "exit_gracefully", lambda: order.append(f"exit after {len(script.called('revert'))}"))
    script.results["observe"] = value
    watcher = abort.Watcher(session.begin(EXPERIMENT), abort.conditions_from([{"probe": "p", "below": 0.5}]), 0.001)
    ticks = iter([False, False, True])
    monkeypatch.setattr(watcher._over, "wait", lambda _s: next(ticks))
    watcher._ask()
    assert order == (["exit after 1"] if fired else [])
    watcher._ended("late")
    assert len(order) == 1  # by the first that asked, whichever it was


def test_nothing_is_interrupted_once_stopped(served, script, monkeypatch):
    monkeypatch.setattr(abort, "exit_gracefully", lambda: pytest.fail("interrupted"))
    watcher = abort.Watcher(session.begin(EXPERIMENT), [], 0.001)
    watcher.stop()
    watcher._ended("late")
    assert not script.called("revert")
