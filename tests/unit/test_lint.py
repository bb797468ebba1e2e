from __future__ import annotations

import copy
import inspect

import pytest

import blackstart.chaos
from controller.run import signature
from controller.run.lint import Allowed, lint, lint_faults
from protos.error import SpecError

GOOD = {
    "version": "1.0.0",
    "title": "t",
    "description": "d",
    "configuration": {"farm": {"type": "env", "key": "FARM", "default": "x"}},
    "controls": [{"name": "abort", "provider": {"type": "python", "module": "blackstart.chaos.abort"}}],
    "steady-state-hypothesis": {
        "title": "up",
        "probes": [
            {
                "type": "probe", "name": "up", "tolerance": {"type": "range", "range": [0.99, 1]},
                "provider": {
                    "type": "python", "module": "blackstart.chaos", "func": "observe", "arguments": {"probe": "web"},
                },
            }
        ],
    },
    "method": [
        {
            "type": "action", "name": "kill",
            "provider": {
                "type": "python", "module": "blackstart.chaos", "func": "inject",
                "arguments": {
                    "fault": "process.kill", "targets": {"labels": {"role": "web"}, "pick": "one"},
                    "spec": {"pid_file": "${farm}/x.pid"}, "duration_s": 5,
                },
            },
        }
    ],
}  # fmt: skip


def problems(change, **allowed):
    document = copy.deepcopy(GOOD)
    change(document)
    try:
        lint(document, Allowed(**allowed), "x.yaml")
    except SpecError as error:
        return [str(problem) for problem in error.problems]
    return []


def probe(document):
    return document["steady-state-hypothesis"]["probes"][0]


def provider(document):
    return document["method"][0]["provider"]


def arguments(document):
    return provider(document)["arguments"]


def test_a_good_experiment_has_no_problem():
    assert problems(lambda d: None, faults={"process.kill"}) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("method"), "x.yaml: method: is missing"),
        (lambda d: d.update(method=[]), "method: is empty"),
        (lambda d: d.update(metod=[]), "metod: is not a part"),
        (lambda d: d.pop("title"), "title: is missing"),
        (lambda d: probe(d).update(tolerance=0.99), "probes[0].tolerance: a float such as 0.99"),
        (lambda d: probe(d).update(tolerance=1), "compared with a measured number"),
        (lambda d: probe(d).update(tolerance=[1, 2, 3]), "never equal to one of a list"),
        (lambda d: probe(d).update(tolerance={"type": "regex", "pattern": "1"}), "a regex raises on a number"),
        (lambda d: probe(d).update(tolerance={"type": "jsonpath", "path": "$"}), "a jsonpath raises on a number"),
        (lambda d: probe(d).update(tolerance={"type": "probe", "provider": {}}), "can raise"),
        (lambda d: probe(d).update(tolerance={"type": "range", "range": [1, 0]}), "nothing lies in it"),
        (lambda d: probe(d).update(tolerance={"type": "range", "range": ["a", 0]}), "not a pair of numbers"),
        (lambda d: probe(d).pop("tolerance"), "tolerance: is missing"),
        (lambda d: provider(d).update(type="process", path="rm", arguments="-rf /"), "process providers run"),
        (lambda d: provider(d).update(type="http", url="http://x"), "timeout: is missing"),
        (lambda d: provider(d).update(module="os"), "'os' is not allowed"),
        (lambda d: provider(d).update(module="blackstart.chaosx"), "is not allowed"),
        (lambda d: d["controls"][0]["provider"].update(module="evil"), "controls[0].provider.module: 'evil'"),
        (lambda d: provider(d).update(func="explode"), "no function 'explode'"),
        (lambda d: arguments(d).update(fautl=1), "inject has no such argument"),
        (lambda d: arguments(d).pop("targets"), "targets: is missing"),
        (lambda d: arguments(d).update(duration_s="long"), "'long' is not a number"),
        (lambda d: arguments(d).update(duration_s=0), "every fault ends"),
        (lambda d: arguments(d).update(on_lost_controller="x"), "neither revert nor hold"),
        (lambda d: arguments(d).update(targets={"pick": "few"}), "'few' is not a pick"),
        (lambda d: arguments(d).update(fault="process.kil"), "no agent knows 'process.kil'"),
        (lambda d: arguments(d).update(fault="process.kil"), "did you mean process.kill?"),
        (lambda d: arguments(d).update(spec={"pidfile": "x"}), "spec.pidfile: process.kill has no such field"),
        (lambda d: arguments(d).update(spec={"gone_within_s": 0}), "spec.gone_within_s: 0 is not above 0"),
        (lambda d: arguments(d).update(follow="yes"), "follow: 'yes' is not true or false"),
        (lambda d: d.update(secrets={"db": {"password": "x"}}), "secrets.db.password: is a secret in clear text"),
        (lambda d: d.update(configuration={"api_token": "abc"}), "configuration.api_token: is a secret"),
        (
            lambda d: d.update(configuration={"x": {"type": "probe", "provider": {"type": "python", "module": "os"}}}),
            "configuration.x.provider.module: 'os'",
        ),
    ],
)  # fmt: skip
def test_each_rule_says_where_and_what(change, said):
    found = problems(change, faults={"process.kill"})
    assert len(found) == 1
    assert said in found[0]


def test_a_kind_is_looked_up_in_the_catalogue_where_no_agent_is_known():
    assert problems(lambda d: None) == []
    (found,) = problems(lambda d: arguments(d).update(fault="process.kil"))
    assert "there is no kind of fault 'process.kil' (did you mean process.kill" in found


def test_a_kind_that_only_the_fleet_knows_is_not_judged_by_the_catalogue():
    def change(d):
        arguments(d).update(fault="test.fault", spec={"anything": 1})

    assert problems(change, faults={"test.fault"}) == []


def test_specs_are_judged_once_more_with_the_variables_in_place():
    document = copy.deepcopy(GOOD)
    arguments(document)["spec"] = {"gone_within_s": 90}
    with pytest.raises(SpecError, match=r"x.yaml: method\[0\].provider.arguments.spec.gone_within_s: 90 is above 60"):
        lint_faults(document, Allowed(), "x.yaml")


def test_all_problems_at_once():
    def change(d):
        d.pop("title")
        probe(d).update(tolerance=1.5)
        provider(d).update(func="explode")

    assert len(problems(change)) == 3


def test_a_secret_from_its_source_is_no_problem():
    assert problems(lambda d: d.update(secrets={"db": {"password": {"type": "env", "key": "PW"}}})) == []


def test_what_an_external_driver_runs_on_its_own_machine_is_its_own_business():
    assert problems(lambda d: provider(d).update(module="mine"), external=True) == []
    assert problems(lambda d: d.update(method=[]), external=True) == []
    assert problems(lambda d: probe(d).update(tolerance=0.5), external=True)


@pytest.mark.parametrize("document", [None, [], "x", {"method": 3}, {"method": [3]}, {"steady-state-hypothesis": []}])
def test_no_document_breaks_the_linter(document):
    with pytest.raises(SpecError):
        lint(document, Allowed())


def test_the_signatures_are_those_of_the_extension():
    for name, known in signature.FUNCTIONS.items():
        parameters = inspect.signature(getattr(blackstart.chaos, name)).parameters
        assert list(parameters) == list(known) or set(parameters) == set(known), name
        assert {p for p, v in parameters.items() if v.default is v.empty} == {p for p, a in known.items() if a.required}


@pytest.mark.parametrize(
    ("function", "arguments", "said"),
    [
        ("recovery", {"probe": "reads", "after": "kill"}, r"arguments\.probe.*'reads'.*there are: writes"),
        ("recovery", {"probe": "writes", "after": "kil"}, r"arguments\.after.*'kil'.*there are: kill"),
        ("phases", {"probe": "writes", "events": ["logs"], "order": ["a"]}, r"arguments\.events.*'logs'"),
        ("revert", {"name": "freeze"}, r"arguments\.name.*'freeze'"),
        ("recovery", {"probe": "writes", "after": "${which}"}, ""),
        ("recovery", {"probe": "writes"}, ""),
    ],
)
def test_what_was_never_started_is_found_before_the_run(function, arguments, said):
    def call(func, **more):
        provider = {"type": "python", "module": "blackstart.chaos", "func": func, "arguments": more}
        return {"type": "action", "name": func, "provider": provider}

    targets = {"labels": {"role": "db"}}
    document = {
        "title": "t", "description": "d", "runtime": {"rollbacks": {"strategy": "always"}}, "rollbacks": [],
        "method": [
            call("start_probe", name="writes", kind="tcp", targets=targets, spec={"host": "h", "port": 1}),
            call("inject", name="kill", fault="process.kill", targets=targets, spec={"pid": 4}),
            call(function, **arguments),
        ],
    }  # fmt: skip
    if said:
        with pytest.raises(SpecError, match=said):
            lint(document, Allowed())
    else:
        lint(document, Allowed())


def test_injections_without_a_name_are_known_as_the_driver_names_them():
    def call(func, **more):
        provider = {"type": "python", "module": "blackstart.chaos", "func": func, "arguments": more}
        return {"type": "action", "name": func, "provider": provider}

    targets = {"labels": {"role": "db"}}
    kill = call("inject", fault="process.kill", targets=targets, spec={"pid": 4})
    probe = call("start_probe", name="writes", kind="tcp", targets=targets, spec={"host": "h", "port": 1})
    document = {
        "title": "t", "description": "d", "runtime": {"rollbacks": {"strategy": "always"}}, "rollbacks": [],
        "method": [probe, kill, kill, call("recovery", probe="writes", after="process.kill-2")],
    }  # fmt: skip
    lint(document, Allowed())
    document["method"][-1] = call("recovery", probe="writes", after="process.kill-3")
    with pytest.raises(SpecError, match=r"'process\.kill-3'"):
        lint(document, Allowed())
    lint(document, Allowed(external=True))  # its own code may have injected the third
