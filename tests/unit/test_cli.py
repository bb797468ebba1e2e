from __future__ import annotations

import json
import sys

import pytest

from blackstart.cli import live
from blackstart.cli.__main__ import run
from protos import blackstart_operator_pb2 as pb
from protos.error import DeniedError, Exit
from tests.scripted_operator import Script, certificate


def _ends(script: Script, **fields: object) -> None:
    """The run is over by the time that it is watched."""
    script.run.MergeFrom(pb.Run(state="ended", started_wall_ns=1, ended_wall_ns=2, **fields))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"verdict": "held", "outcome": "completed"}, Exit.HELD),
        ({"verdict": "deviated", "outcome": "completed"}, Exit.DEVIATED),
        ({"verdict": "inconclusive", "outcome": "completed"}, Exit.INCONCLUSIVE),
        ({"verdict": "held", "outcome": "aborted"}, Exit.INCONCLUSIVE),
        ({"verdict": "inconclusive", "outcome": "lost"}, Exit.INCONCLUSIVE),
        ({"verdict": "inconclusive", "outcome": "refused"}, Exit.BAD_INPUT),
        ({"verdict": "deviated", "outcome": "completed", "stranded": True}, Exit.STRANDED),
    ],
)
def test_the_verdict_is_the_exit_code(served, script, experiment, capsys, fields, code):
    _ends(script, **fields)
    assert run(["run", str(experiment), "--watch"]) == code
    assert "took hold" in capsys.readouterr().out


def test_an_aborted_run_proves_nothing():
    assert live.exit_of(pb.Run(verdict="deviated", outcome="aborted"), aborted=True) is Exit.INCONCLUSIVE
    assert live.exit_of(pb.Run(stranded=True), aborted=True) is Exit.STRANDED


def test_without_watching_it_prints_the_id(served, script, experiment, capsys):
    assert run(["run", str(experiment), "--no-watch", "--var", "port=81"]) == 0
    assert capsys.readouterr().out == "r1\n"
    (request,) = script.called("Submit")
    assert dict(request.variables) == {"port": "81"}
    assert request.source == str(experiment)


def test_the_environment_here_counts_not_the_runners(served, script, experiment, monkeypatch):
    monkeypatch.setenv("TEST_FARM_HOST", "here")
    assert run(["run", str(experiment), "--no-watch"]) == 0
    assert dict(script.called("Submit")[0].variables) == {"host": "here"}


def test_a_dry_run_submits_nothing(served, script, experiment, capsys):
    effect = {"agent_id": "a1", "description": "SIGKILL to worker", "undo": "self_healing"}
    step = {"name": "kill it", "function": "inject", "kind": "process.kill", "agents": ["a1"], "targets": "role=db"}
    script.plan = {"title": "t", "steps": [step | {"effects": [effect], "duration_s": 5}], "problems": []}
    assert run(["run", str(experiment), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "SIGKILL to worker, for at most 5 s; undone by self_healing" in shown
    assert not script.called("Submit")


def test_a_dry_run_that_would_be_refused_is_bad_input(served, script, experiment):
    step = {"name": "n", "function": "inject", "kind": "k", "problem": "no agent has role=db"}
    script.plan = {"title": "t", "steps": [step], "problems": ["no agent has role=db"]}
    assert run(["run", str(experiment), "--dry-run"]) == Exit.BAD_INPUT


def test_unknown_variables_are_all_named(served, script, experiment, capsys):
    assert run(["run", str(experiment), "--var", "prt=1", "--var", "port"]) == Exit.BAD_INPUT
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "prt" in told
    assert "write --var NAME=VALUE" in told
    assert not script.calls


def test_a_broken_experiment_is_not_submitted(served, script, tmp_path, capsys):
    path = tmp_path / "bad.yaml"
    path.write_text("title: [\n")
    assert run(["run", str(path)]) == Exit.BAD_INPUT
    assert "bad.yaml:2:1" in capsys.readouterr().err
    assert not script.calls


COMMANDS = [
    ["runs", "list"], ["runs", "show", "r1"], ["runs", "abort", "r1"], ["agents", "list"], ["agents", "show", "a1"],
    ["faults", "list"], ["faults", "show", "process.kill"], ["stop", "--all"], ["stop", "--lift"],
    ["approvals", "list"],
    ["schedule", "list"], ["schedule", "remove", "s"], ["audit"], ["doctor"], ["certs", "show"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_json_is_all_that_stdout_carries(served, script, command, capsys):
    rows = [{"family": "fault", "kind": "process.kill", "available": True, "missing": "", "undo": "self_healing"}]
    script.agents = [pb.Agent(id="a1", connected=True, capabilities_json=json.dumps(rows).encode())]
    assert run([*command, "--json"]) == 0
    json.loads(capsys.readouterr().out)
    assert run(command) == 0
    assert capsys.readouterr().out.strip()


def test_stop_wants_one_of_two(served, script):
    assert run(["stop"]) == run(["stop", "--all", "--lift"]) == Exit.BAD_INPUT
    assert not script.calls


def test_a_schedule_is_added_by_cron_or_by_time(served, script, experiment):
    assert run(["schedule", "add", "s", str(experiment), "--cron", "0 3 * * *"]) == 0
    assert run(["schedule", "add", "s", str(experiment), "--at", "2030-01-01T00:00:00"]) == 0
    assert run(["schedule", "add", "s", str(experiment)]) == Exit.BAD_INPUT
    assert run(["schedule", "add", "s", str(experiment), "--at", "soon"]) == Exit.BAD_INPUT
    cron, once = script.called("AddSchedule")
    assert (cron.cron, cron.at_wall_ns, once.at_wall_ns) == ("0 3 * * *", 0, 1_893_456_000_000_000_000)


def test_a_join_file_is_for_its_owner_only(served, tmp_path):
    path = tmp_path / "join.json"
    assert run(["certs", "join-token", "-o", str(path)]) == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert set(json.loads(path.read_text())) == {"token", "address", "enrol_address", "ca_pem"}


def test_a_report_goes_to_a_file(served, tmp_path, capsys):
    path = tmp_path / "r.json"
    assert run(["runs", "report", "r1", "-o", str(path)]) == 0
    assert path.read_bytes() == b"{}"


def test_an_error_is_told_once_without_a_traceback(served, script, capsys):
    script.errors["ListAgents"] = DeniedError("the role viewer may not list agents")
    assert run(["agents", "list"]) == Exit.BAD_INPUT
    captured = capsys.readouterr()
    assert captured.err == "error: the role viewer may not list agents\n"
    assert captured.out == ""


def test_debug_shows_the_traceback(served, script, capsys, monkeypatch):
    monkeypatch.setenv("BLACKSTART_DEBUG", "1")
    script.errors["ListAgents"] = DeniedError("no")
    assert run(["agents", "list"]) == Exit.BAD_INPUT
    assert "Traceback" in capsys.readouterr().err


def test_an_expired_certificate_is_bad_input(served, tmp_path, capsys, monkeypatch):
    brief = certificate(served.authority, tmp_path / "brief", valid_s=1)
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert run(["--certs", str(brief), "runs", "list"]) == Exit.BAD_INPUT
    told = capsys.readouterr().err
    assert "cert.pem: expired on" in told


def test_no_controller_is_unreachable(served, capsys):
    assert run(["--controller", "127.0.0.1:1", "agents", "list"]) == Exit.UNREACHABLE
    assert "127.0.0.1:1" in capsys.readouterr().err
    assert run(["--controller", "127.0.0.1:1", "doctor"]) == Exit.UNREACHABLE


@pytest.mark.parametrize("command", [["nonsense"], ["run"], ["runs", "list", "--most", "x"]])
def test_a_usage_error_is_bad_input(command, capsys):
    assert run(command) == Exit.BAD_INPUT
    assert capsys.readouterr().err


def test_no_settings_says_where_they_may_stand(alone, capsys):
    assert run(["doctor"]) == Exit.BAD_INPUT
    assert run(["runs", "list"]) == Exit.BAD_INPUT
    assert "blackstart up" in capsys.readouterr().err


def test_validate_tells_all_problems_of_all_files(alone, experiment, tmp_path, capsys):
    bad = tmp_path / "bad.json"
    bad.write_text('{"title": ""}')
    assert run(["validate", str(experiment), str(bad)]) == Exit.BAD_INPUT
    captured = capsys.readouterr()
    assert "x.yaml: no problems" in captured.out
    assert captured.err.count("bad.json") == 3
    assert run(["validate", str(bad), "--json"]) == Exit.BAD_INPUT
    assert len(json.loads(capsys.readouterr().out)[str(bad)]) == 3
    assert run(["validate", str(experiment)]) == 0


def test_help_imports_nothing_heavy():
    import subprocess

    code = "import sys; from blackstart.cli.__main__ import run; run(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"grpc", "chaoslib", "yaml", "cryptography", "sqlalchemy", "google.protobuf"}


def test_an_interruption_aborts_the_run_and_waits(served, script, experiment, monkeypatch, capsys):
    script.hold_watch = True
    shown: list[str] = []

    def interrupt(self: live.Followed, event: pb.RunEvent) -> None:
        shown.append(event.kind)
        if len(shown) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(live.Followed, "_show", interrupt)
    assert run(["run", str(experiment), "--watch"]) == Exit.INCONCLUSIVE
    assert len(script.called("Abort")) == 1
    assert shown[-1] == "run.closing"
    assert "aborting" in capsys.readouterr().out
