from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml

import blackstart.chaos
import experiments
from blackstart import plan, structure
from blackstart.cli.validate import problems_of
from blackstart.document import load, load_mapping
from protos.error import Problem, SpecError

ROOT = Path(next(iter(experiments.__path__)))
PLANS = sorted(ROOT.glob("gamedays/*.yaml"))
PROFILES = sorted(ROOT.glob("profiles/*.yaml"))
EXPERIMENTS = sorted(set(ROOT.glob("*/*.yaml")) - set(PLANS) - set(PROFILES))
GOOD = """\
version: 1.0.0
title: t
description: d
configuration: {port: 80}
steady-state-hypothesis:
  title: h
  probes:
    - type: probe
      name: p
      tolerance: {type: range, range: [0.99, 1]}
      provider:
        type: python
        module: blackstart.chaos
        func: observe
        arguments: {probe: "x${port}"}
method:
  - type: action
    name: a
    provider:
      type: python
      module: blackstart.chaos
      func: inject
      arguments:
        fault: process.kill
        targets: {labels: {role: db}, pick: one}
        duration_s: 5
"""


def _check(tmp_path: Path, text: str, name: str = "x.yaml") -> list[Problem]:
    path = tmp_path / name
    path.write_text(text)
    return structure.check(load_mapping(path))


def _activities(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    document = yaml.safe_load(path.read_text())
    hypothesis = document.get("steady-state-hypothesis") or {"probes": []}
    return document, [*hypothesis["probes"], *document["method"], *document.get("rollbacks", [])]


@pytest.mark.parametrize("path", [*EXPERIMENTS, *PLANS, *PROFILES], ids=lambda path: path.stem)
def test_what_we_ship_has_no_problems(path):
    assert problems_of(path) == []


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_the_engine_accepts_what_we_ship(path):
    from chaoslib.experiment import ensure_experiment_is_valid, load_experiment

    ensure_experiment_is_valid(load_experiment(str(path)))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_is_tied_to_a_run_and_undoes_what_it_does(path):
    document, activities = _activities(path)
    assert "blackstart.chaos.telemetry" in [control["provider"]["module"] for control in document["controls"]]
    assert document["runtime"] == {"rollbacks": {"strategy": "always"}}
    functions = [activity["provider"]["func"] for activity in activities]
    if "inject" in functions:
        assert document["rollbacks"][-1]["provider"]["func"] == "revert"
        assert "recovery" in functions


_FIELDS = {
    "data_loss": ("rpo_s",),
    "capacity": ("at_least_fraction", "at_most_fraction"),
    "uptime": ("at_least_fraction",),
}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_objectives_that_experiments_name_are_in_the_profile(path):
    (profile,) = PROFILES
    objectives = yaml.safe_load(profile.read_text())["objectives"]
    for activity in _activities(path)[1]:
        if name := activity["provider"].get("arguments", {}).get("objective"):
            if name.startswith("${"):  # the file's own default
                name = yaml.safe_load(path.read_text())["configuration"][name[2:-1]]
            fields = _FIELDS.get(activity["provider"]["func"], ("rto_s",))
            assert any(objectives[name].get(field) is not None for field in fields)


def test_every_objective_says_where_it_comes_from():
    for path in PROFILES:
        assert all(entry["source"] for entry in yaml.safe_load(path.read_text())["objectives"].values())


def test_the_functions_are_those_of_the_contract():
    contract = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
    for name in set(blackstart.chaos.__all__) - {"steady"}:
        assert f"{name}(" in contract
        assert inspect.getdoc(getattr(blackstart.chaos, name))


def test_a_good_experiment_has_no_problems(tmp_path):
    assert _check(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("title: t", "title: ''", 2, "text that is not empty"),
        ("version: 1.0.0", "verzion: 1", 1, "no part of an experiment"),
        ("{type: range, range: [0.99, 1]}", "0.99", 10, "plain float never matches"),
        ("range: [0.99, 1]", "range: [1, 0.5]", 10, "nothing lies between"),
        ("func: observe", "func: obsrve", 14, "no function 'obsrve'"),
        ("{probe: ", "{prob: ", 15, "takes no 'prob'"),
        ("{labels: {role: db}, pick: one}", "{pick: one}", 25, "must name labels"),
        ("pick: one", "pick: 130%", 25, "picks nothing"),
        ("duration_s: 5", "duration_s: 0", 26, "above 0"),
        ("duration_s: 5", "duration_s: soon", 26, "must be a number"),
        ("fault: process.kill", "fault: process.kil", 24, "no kind of fault 'process.kil'"),
        ("duration_s: 5", "spec: {pidfile: x}", 26, "process.kill has no such field"),
        ("duration_s: 5", "spec: {gone_within_s: 0}", 26, "0 is not above 0"),
        ("duration_s: 5", "follow: always", 26, "must be true or false"),
        ("x${port}", "x${prt}", 15, "not in configuration"),
        ("type: action", "type: acton", 17, "probe or action"),
        ("configuration: {port: 80}", "configuration: {port: 80, port: 81}", 4, "twice"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path, old, new, line, says):
    assert old in GOOD
    found = _check(tmp_path, GOOD.replace(old, new, 1))
    assert any(says in problem.what and f"x.yaml:{line}: " in problem.where for problem in found), found


def test_all_mistakes_are_told_at_once(tmp_path):
    text = GOOD.replace("title: t", "title: ''").replace("duration_s: 5", "duration_s: x").replace("[0.99, 1]", "[1]")
    assert len(_check(tmp_path, text)) == 3


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("a.yaml", b"title: [", "a.yaml:1:"),
        ("a.yaml", b"a: 1\n\tb: 2", "a.yaml:2:1"),
        ("a.json", b'{"title": \n x}', "a.json:2:2"),
        ("a.yaml", b"\xff\xfe\xfa", "a.yaml"),
        ("a.yaml", b"", "a.yaml"),
        ("a.yaml", b"!!python/object/apply:os.system [id]", "a.yaml:1:1"),
        ("a.yaml", b"[" * 5000, "a.yaml"),
    ],
)
def test_what_is_not_well_formed_is_refused_with_its_place(tmp_path, name, content, where):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        load(path)
    assert caught.value.problems[0].where.startswith(str(tmp_path / where))


@pytest.mark.parametrize("document", [{"method": 3}, {"method": [3, {"provider": 4}], "controls": 7, "rollbacks": "x"}])
def test_no_structure_breaks_the_check(tmp_path, document):
    assert _check(tmp_path, yaml.safe_dump(document))


def _plan(tmp_path: Path, text: str) -> plan.Plan:
    (tmp_path / "e.yaml").write_text(GOOD)
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    return plan.load(path)


def test_a_plan_with_parallel_groups(tmp_path):
    loaded = _plan(
        tmp_path,
        """\
version: 1
title: day
roles: {conductor: [ann, bob], owner: team}
abort_rules: [{when: deviated, then: stop, why: enough}]
sequence:
  - {experiment: e.yaml, vars: {port: 81}, needs: [root]}
  - parallel: [{experiment: e.yaml}, {experiment: e.yaml}]
""",
    )
    assert [len(group) for group in loaded.sequence] == [1, 2]
    assert loaded.steps[0].variables == {"port": "81"}
    assert loaded.steps[0].experiment.is_absolute()
    assert loaded.roles == {"conductor": ("ann", "bob"), "owner": ("team",)}
    assert loaded.stops_after("deviated").why == "enough"
    assert loaded.stops_after("inconclusive") is None
    assert loaded.stops_after("stranded") is not None


def test_all_problems_of_a_plan_are_told_at_once(tmp_path):
    text = """\
version: 2
title: day
sequence:
  - {experiment: none.yaml}
  - {experiment: e.yaml, vars: {prt: 1}, needs: [luck]}
  - {experiment: e.yaml, vars: {prt: 1}}
"""
    with pytest.raises(SpecError) as caught:
        _plan(tmp_path, text)
    places = [problem.where.removeprefix(str(tmp_path)) for problem in caught.value.problems]
    assert places == [
        "/plan.yaml:1: version",
        "/plan.yaml:4: sequence[0].experiment",
        "/plan.yaml:5: sequence[1].needs[0]",
        "/plan.yaml:6: sequence[2].vars.prt",
    ]


@pytest.mark.parametrize(
    "text", ["title: x", "version: 1\ntitle: x\nsequence: []", "version: 1\ntitle: x\nsequence: 3"]
)
def test_an_empty_plan_is_refused(tmp_path, text):
    with pytest.raises(SpecError, match="sequence"):
        _plan(tmp_path, text)
