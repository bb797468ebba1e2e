"""The command line on faults, on what is stranded, on approvals, and on what the controller says of a file."""

from __future__ import annotations

import json

from blackstart.cli.__main__ import run
from protos import blackstart_operator_pb2 as pb
from protos.error import Exit, Problem, SpecError


def test_faults_are_explained_without_a_controller(alone, capsys):
    assert run(["faults", "show", "process.kill"]) == 0
    captured = capsys.readouterr()
    for word in ("pidfd_send_signal", "undone by self_healing", "gone_within_s", "> 0, ≤ 60", "example:"):
        assert word in captured.out
    assert "not known: no controller" in captured.err
    assert run(["faults", "list"]) == 0
    assert "A signal, SIGKILL by default" in capsys.readouterr().out
    assert run(["faults", "list", "--json"]) == 0
    rows = {row["kind"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["process.kill"]["undo"] == "self_healing"
    assert rows["process.kill"]["agents_total"] is None
    assert run(["faults", "show", "process.kill", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["agents"] is None
    assert {"kind", "undo", "page", "schema", "fields"} <= shown.keys()


def test_an_unknown_fault_is_bad_input_with_near_matches(alone, capsys):
    assert run(["faults", "show", "proces.kill"]) == Exit.BAD_INPUT
    assert "did you mean process.kill" in capsys.readouterr().err


def test_faults_say_which_agents_can_run_them(served, script, capsys):
    rows = [{"family": "fault", "kind": "process.kill", "available": False, "missing": "pidfd", "undo": "self_healing"}]
    script.agents = [pb.Agent(id="a1", connected=True, capabilities_json=json.dumps(rows).encode())]
    assert run(["faults", "show", "process.kill"]) == 0
    assert "pidfd" in capsys.readouterr().out.partition("missing")[2]
    assert run(["faults", "list", "--json"]) == 0
    rows = {row["kind"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["process.kill"]["agents_available"], rows["resource.cpu"]["agents_available"]) == (1, 0)


def test_an_unreachable_controller_does_not_hide_the_page(served, capsys):
    assert run(["--controller", "127.0.0.1:1", "faults", "show", "process.kill"]) == 0
    assert "127.0.0.1:1 cannot be reached" in capsys.readouterr().err


def test_problems_that_the_controller_finds_have_their_lines(served, script, experiment, capsys):
    where = f"{experiment}: configuration.port"
    script.errors["Submit"] = SpecError(Problem(where, "is odd", "even it"), Problem("profile", "is away"))
    assert run(["run", str(experiment)]) == Exit.BAD_INPUT
    told = capsys.readouterr().err
    assert f"{experiment}:5: configuration.port: is odd (even it)" in told
    assert "profile: is away" in told


def test_what_is_stranded_is_shown_with_its_command(served, script, capsys):
    effect = {"id": "e1", "state": "stranded", "description": "a cut", "remedy": "nft destroy table inet b_1"}
    script.agents = [pb.Agent(id="a1", connected=True, stranded_json=json.dumps([effect]).encode(), residue=["file x"])]
    for command in (["agents", "list"], ["agents", "show", "a1"]):
        assert run(command) == 0
        shown = capsys.readouterr().out
        assert "stranded on a1: a cut; by hand: nft destroy table inet b_1" in shown
        assert "left behind on a1: file x" in shown
    assert run(["doctor"]) == Exit.STRANDED
    assert "nft destroy table" in " ".join(capsys.readouterr().out.split())
    certificate = {"words": "1 trace left behind.", "clean": False, "left": ["a1: a cut; by hand: nft destroy"]}
    row = dict.fromkeys(("name", "fault", "target", "receipt", "outage", "recovery", "rto", "residue"), "x")
    summary = [row | {"verdict": "inconclusive", "reasons": []}]
    script.document = {"summary": summary, "injections": [{}], "zero_residue": certificate}
    assert run(["runs", "show", "r1"]) == 0
    assert "a1: a cut; by hand: nft destroy" in capsys.readouterr().out
    script.run.MergeFrom(pb.Run(stranded=True))
    assert run(["runs", "abort", "r1"]) == Exit.STRANDED


def test_a_second_person_approves_what_is_in_the_file(served, script, experiment, capsys):
    assert run(["approve", str(experiment), "--var", "port=81"]) == 0
    assert "approved 't' (dddddddddddd) for one run by somebody else" in capsys.readouterr().out
    (request,) = script.called("Approve")
    assert (dict(request.run.variables), request.run.source) == ({"port": "81"}, str(experiment))
    assert request.valid_s == 86400


def test_a_dry_run_shows_that_the_approval_is_missing(served, script, experiment, capsys):
    script.plan = {"title": "t", "steps": [], "problems": ["x"], "approval": {"needed": True, "missing": "ask bob"}}
    assert run(["run", str(experiment), "--dry-run"]) == Exit.BAD_INPUT
    assert "refused as it stands: ask bob" in capsys.readouterr().out
